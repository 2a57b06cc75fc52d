"""``verify`` given what is no certificate: one line with the path, exit status 1, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.certificate.verify import main

WRONG: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_text(""),
    "no_json": lambda path: path.write_text("{"),
    "binary": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "deep": lambda path: path.write_text("[" * 100_000),
    "list": lambda path: path.write_text("[]"),
    "record": lambda path: path.write_text(json.dumps({"verb": "unlearn", "weights_out": {"sha256": "0" * 64}})),
    "link_loop": lambda path: path.symlink_to(path),
    "envelope_of_numbers": lambda path: path.write_text(json.dumps({"payload": 5, "payloadType": 5, "signatures": []})),
    "nan": lambda path: path.write_text('{"_type": NaN}'),
    "byte_order_mark": lambda path: path.write_text("\ufeff{}", encoding="utf-8"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_certificate(tmp_path, capsys, wrong):
    path = tmp_path / "certificate.json"
    WRONG[wrong](path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(str(path))
    said = f"{stopped.value.code} {capsys.readouterr().out}"
    assert stopped.value.code not in (0, 2, None)
    assert "certificate.json" in said or "FAILS" in said
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before
