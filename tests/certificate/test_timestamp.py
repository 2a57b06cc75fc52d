"""A time stamp of the declaration, by a local authority (openssl ts), verified by rfc3161-client."""

import base64
import datetime
import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts.certificate.checks import FAILS, HOLDS, UNCHECKED
from scripts.certificate.timestamp import stamp, timestamp
from scripts.run.files import json_sha256

pytest.importorskip("rfc3161_client")
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
SETTINGS = """
[one]
serial = serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
ess_cert_id_alg = sha256
"""
PAST, FUTURE = "2020-01-01T00:00:00+0000", "2199-01-01T00:00:00+0000"


def make_authority(folder: Path) -> None:
    """A root and, signed by it, the certificate and key of an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    folder.mkdir()
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "tsa")}
    now = datetime.datetime.now(datetime.timezone.utc)
    for name, key in keys.items():
        certificate = x509.CertificateBuilder(named("root"), named(name), key.public_key())
        certificate = certificate.serial_number(x509.random_serial_number())
        certificate = certificate.not_valid_before(now - datetime.timedelta(1)).not_valid_after(
            now + datetime.timedelta(9)
        )
        certificate = certificate.add_extension(x509.BasicConstraints(name == "root", None), critical=True)
        if name == "tsa":
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            certificate = certificate.add_extension(usage, critical=True)
        pem = certificate.sign(keys["root"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(pem)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tsa.key").write_bytes(keys["tsa"].private_bytes(*form))
    (folder / "tsa.cnf").write_text(SETTINGS)
    (folder / "serial").write_text("01\n")


def answer(folder: Path, query: bytes) -> bytes:
    (folder / "query.tsq").write_bytes(query)
    command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "one", "-queryfile", "query.tsq"]
    command += ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply.tsr"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "reply.tsr").read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """(address, root certificate) of an authority that answers on this machine."""
    folder = tmp_path_factory.mktemp("authority") / "one"
    make_authority(folder)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"no time stamp" if self.path == "/nonsense" else answer(folder, query))

        def log_message(self, *arguments) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder / "root.pem"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def declaration(tmp_path) -> Path:
    declared = {"gates": [], "seed": 0}
    content = {"declared": declared, "sha256": json_sha256(declared), "created": PAST, "before": "the unlearning run"}
    path = tmp_path / "declaration.json"
    path.write_text(json.dumps(content))
    return path


def found(path: Path, root: Path | None, started: str = FUTURE) -> list[tuple[str, str]]:
    content = {"declaration": json.loads(path.read_text()), "method": {"started": started}}
    return list(timestamp(content, root))


def test_a_stamped_declaration(authority, declaration):
    address, root = authority
    assert found(declaration, None) == []
    assert found(declaration, root) == [(FAILS, "time stamp of the declaration: there is none")]
    at = stamp(declaration, address)
    assert [verdict for verdict, _ in found(declaration, root)] == [HOLDS, HOLDS]
    assert at in found(declaration, root)[0][1]
    assert [verdict for verdict, _ in found(declaration, None)] == [UNCHECKED]
    with pytest.raises(ValueError, match="there is one already"):
        stamp(declaration, address)


def test_a_stamp_after_the_run_began(authority, declaration):
    address, root = authority
    stamp(declaration, address)
    assert (FAILS, f"time stamp of the declaration: before the unlearning run began ({PAST})") in found(
        declaration, root, PAST
    )


def test_forged_stamps(authority, declaration, tmp_path):
    address, root = authority
    stamp(declaration, address)
    honest = json.loads(declaration.read_text())
    make_authority(tmp_path / "other")
    ((verdict, what),) = found(declaration, tmp_path / "other" / "root.pem")
    assert verdict == FAILS
    assert "not by that authority over what was declared" in what
    for change in ({"sha256": "0" * 64}, {"timestamp": base64.b64encode(b"x" * 50).decode()}, {"timestamp": "%"}):
        declaration.write_text(json.dumps({**honest, **change}))
        assert [verdict for verdict, _ in found(declaration, root)] == [FAILS]


def test_no_answer_that_counts(authority, declaration):
    address, root = authority
    before = declaration.read_bytes()
    with pytest.raises(ValueError, match=r"nonsense: expected a time-stamp response \(RFC 3161\)"):
        stamp(declaration, f"{address}/nonsense")
    with pytest.raises(ValueError, match="'authority': expected an address"):
        stamp(declaration, "file:///etc/passwd")
    with pytest.raises(OSError, match="expected a time stamp, found no answer"):
        stamp(declaration, "http://127.0.0.1:9")
    assert declaration.read_bytes() == before
    with pytest.raises(FileNotFoundError, match="'timestamp_root'"):
        found_with = json.loads(before) | {"timestamp": "AA=="}
        list(timestamp({"declaration": found_with, "method": {"started": FUTURE}}, root.with_name("none.pem")))
