"""The verbs `serve` and `send` by their config files: what they refuse, and files handed over to a router."""

import json
import signal
import socket
import subprocess
import sys

import monai.bundle
import pydicom
import pytest
import torch

from scripts.networks import save_weights
from scripts.run.errors import told
from tests.serving.client import varnet
from tests.serving.nodes import FakeRouter, free_port, make_series, until
from tests.serving.test_server import NETWORK
from tests.verbs import CONFIGS

pytestmark = [
    pytest.mark.usefixtures("contained"),
    pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"),
]
METADATA = json.loads((CONFIGS / "metadata.json").read_text())
DEMO = f"{METADATA['name']} {METADATA['version']}"
ROUTER = {"_target_": "scripts.serving.Router", "url": "http://127.0.0.1:1"}
REFUSED = [  # verb, what is set, what the error says; more in tests/hostile
    ("send", {"source": "nowhere"}, "nowhere: 'source': expected DICOM files (*.dcm), found none"),
    ("send", {"router#url": "pacs"}, "'url': expected http://HOST:PORT or https://HOST:PORT, found 'pacs'"),
    ("serve", {"pixels": "float16"}, "'pixels': expected one of float32, int16, found 'float16'"),
    ("serve", {"limits": {"delivery_s": 0}}, "'delivery_s': expected a number above 0, found 0"),
    ("serve", {"limits#max_scans": -1}, "'max_scans': expected a whole number from 1, found -1"),
    ("serve", {"router": ROUTER}, "'formats': expected dicom among them, to hand it over, found ['nifti']"),
    ("serve", {"router": {**ROUTER, "password_file": "nowhere", "user": "me"}}, "No such file or directory: 'nowhere'"),
    ("serve", {"log_format": "xml"}, "'log_format': expected one of text, json, found 'xml'"),
    (
        "serve",
        {"protocols": {"a": {"pixel": "int16"}}},
        "'protocols': expected a mapping of texts, each to a mapping of",
    ),
    ("serve", {"metrics_port": 99999}, "'metrics_port': expected a whole number from 0 to 65535"),
]


def run(verb, **settings):
    monai.bundle.run(verb, config_file=str(CONFIGS / f"{verb}.json"), logging_file=False, **settings)


@pytest.mark.parametrize(("verb", "settings", "words"), REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_written(verb, settings, words, tmp_path):
    save_weights(varnet(), tmp_path / "weights.pt")
    usual = {"weights": str(tmp_path / "weights.pt"), **{f"network_def#{name}": v for name, v in NETWORK.items()}}
    outputs = {"serve": {"output_dir": str(tmp_path / "out"), **usual}, "send": {"patience_s": 0}}
    with pytest.raises((ValueError, OSError, RuntimeError)) as error:
        run(verb, **{**outputs[verb], **settings})
    assert words in " ".join(told(error.value).split())
    assert not (tmp_path / "out").exists()


def serve_settings(tmp_path, **more):
    save_weights(varnet(), tmp_path / "weights.pt")
    settings = {"weights": str(tmp_path / "weights.pt"), **{f"network_def#{name}": v for name, v in NETWORK.items()}}
    return {**settings, "output_dir": str(tmp_path / "out"), "metrics_port": None, **more}


def test_a_port_that_is_taken_is_named(tmp_path):
    """Everything was built by then."""
    settings = serve_settings(tmp_path, formats=["nifti", "dicom"], router=ROUTER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for key in ("port", "metrics_port"):
            with pytest.raises((OSError, RuntimeError)) as error:
                run("serve", **{**settings, key: port})
            assert f"('127.0.0.1', {port}): address already in use" in " ".join(told(error.value).split()).lower()


def test_log_lines_are_json_on_request_and_those_of_others_warnings(tmp_path):
    """The verb in a process of its own: SIGHUP loads what the file holds now; what cannot be loaded changes nothing."""
    settings = serve_settings(tmp_path, port=0, log_format="json")
    command = [sys.executable, "-m", "monai.bundle", "run", "serve", "--config_file", str(CONFIGS / "serve.json")]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    output = tmp_path / "said.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT)

    def lines():
        found = [line for line in output.read_text().splitlines() if line.startswith('{"time"')]
        return [json.loads(line) for line in found]

    def said(words):
        return any(words in line["message"] for line in lines())

    try:
        until(lambda: said("listening on"), 300, output.read_text)
        with torch.no_grad():
            for parameter in (other := varnet()).parameters():
                parameter.mul_(2)
        save_weights(other, tmp_path / "weights.pt")
        process.send_signal(signal.SIGHUP)
        until(lambda: said(f"SIGHUP: from the next scan on {DEMO}"), 300, output.read_text)
        (tmp_path / "weights.pt").write_bytes(b"no weights")
        process.send_signal(signal.SIGHUP)
        until(lambda: said("stay: "), 300, output.read_text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert {line["level"] for line in lines() if not line["logger"].startswith("scripts.")} <= {"WARNING", "ERROR"}
    assert said("stopped; what waits is on disk")


def test_files_are_handed_over_and_a_router_that_is_away_is_an_exit_code(tmp_path):
    expected = make_series(tmp_path / "out" / "scan_dicom")
    port = free_port()
    settings = {"source": str(tmp_path / "out"), "router#url": f"http://127.0.0.1:{port}"}
    with pytest.raises(SystemExit) as ended:
        run("send", patience_s=0.01, **settings)
    assert ended.value.code == 75
    with FakeRouter(port=port) as router:
        run("send", **settings)
    assert router.kept.keys() == expected
    kept = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "out").rglob("*.dcm")}
    assert kept == expected  # what was sent stays where it was written
