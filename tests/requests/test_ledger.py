"""The ledger: added to, chained, locked, and what is done to it is found by line."""

import errno
import json
import logging
import os

import pytest

from scripts.requests.ledger import Ledger


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """Four lines."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number in range(3):
        ledger.append("trained", weights_out=f"{number:064x}")
    return ledger


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


def test_what_was_added_is_read_again(ledger):
    again = Ledger(ledger.path)
    assert again.lines == ledger.lines
    assert [line["number"] for line in again.lines] == [1, 2, 3, 4]
    again.append("audited", verdict="forgotten")
    assert [line["event"] for line in Ledger(ledger.path).lines] == ["begun a ledger", *["trained"] * 3, "audited"]


def test_the_key_is_its_owners_alone_and_no_patient_can_be_read(ledger):
    assert ledger.key_path.stat().st_mode & 0o077 == 0
    one, other = ledger.hash("patient", "P017"), ledger.hash("patient", "P018")
    assert one != other
    assert len(one) == 64
    assert one == Ledger(ledger.path).hash("patient", "P017")


def change(text: bytes) -> bytes:
    return text.replace(b'"trained"', b'"trainex"')


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_changed_line_is_named(ledger, number):
    found = lines(ledger)
    found[number - 1] = change(found[number - 1])
    ledger.path.write_bytes(b"".join(found))
    with pytest.raises(ValueError, match=rf"ledger.jsonl, line {number}: 'mac': .*was changed"):
        Ledger(ledger.path)


@pytest.mark.parametrize(
    ("order", "number"),
    [([0, 2, 3], 2), ([0, 2, 1, 3], 2), ([0, 1, 1, 2, 3], 3), ([1, 2, 3], 1), ([0, 1, 3], 3)],
)
def test_removed_exchanged_and_repeated_lines_are_named(ledger, order, number):
    found = lines(ledger)
    ledger.path.write_bytes(b"".join(found[i] for i in order))
    with pytest.raises(ValueError, match=f"ledger.jsonl, line {number}: "):
        Ledger(ledger.path)


@pytest.mark.parametrize("text", [b"{}\n", b"\n", b"nonsense\n", b'{"number": 3}\n', b"\xff\xfe\n", b"[]\n"])
def test_a_line_of_another_hand_is_named(ledger, text):
    ledger.path.write_bytes(b"".join([*lines(ledger)[:2], text, *lines(ledger)[2:]]))
    with pytest.raises(ValueError, match="ledger.jsonl, line 3: "):
        Ledger(ledger.path)


def test_a_line_forged_without_the_key_is_named(ledger, tmp_path):
    """Even the last one, which no later line vouches for, with a hash that fits the line before."""
    forger = Ledger(tmp_path / "other" / "ledger.jsonl")
    forger.begin()
    forged = {**ledger.lines[-1], "weights_out": "f" * 64}
    forged["mac"] = forger._mac(forged)
    found = lines(ledger)
    ledger.path.write_bytes(b"".join(found[:-1]) + json.dumps(forged, separators=(",", ":")).encode() + b"\n")
    with pytest.raises(ValueError, match="line 4: 'mac'"):
        Ledger(ledger.path)


def test_another_key_and_none_are_refused(ledger, tmp_path, monkeypatch):
    ledger.key_path.rename(tmp_path / "kept")
    with pytest.raises(ValueError, match="expected its key in .*ledger.key or in MRI_UNLEARNING_KEY, found neither"):
        Ledger(ledger.path)
    monkeypatch.setenv("MRI_UNLEARNING_KEY", "another key of enough length")
    with pytest.raises(ValueError, match="line 1: 'key_id': the key at hand is of another ledger"):
        Ledger(ledger.path)


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_that_was_cut_off_does_not_count_and_the_next_takes_its_place(ledger, kept, caplog):
    found = lines(ledger)
    ledger.path.write_bytes(b"".join(found[:3]) + found[3][:kept])
    with caplog.at_level(logging.WARNING):
        again = Ledger(ledger.path)
    assert "ledger.jsonl, line 4: cut off" in caplog.text
    assert len(again.lines) == 3
    again.append("audited", verdict="forgotten")
    assert [line["event"] for line in Ledger(ledger.path).lines][-1] == "audited"
    assert lines(ledger)[:3] == found[:3]


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_the_ledger_as_it_was(ledger, monkeypatch, failing):
    before = ledger.path.read_bytes()
    real = os.write

    def half(handle, data):
        if len(data) > 40:
            return real(handle, data[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, half if failing == "write" else full)
    with pytest.raises(OSError, match="No space left"):
        ledger.append("audited", verdict="x" * (60 - 1))
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before
    ledger.append("audited", verdict="forgotten")
    assert len(Ledger(ledger.path).lines) == 5


def test_a_second_run_is_refused_while_the_first_has_the_ledger(ledger):
    lock = ledger.lock()
    other = Ledger(ledger.path)
    with pytest.raises(RuntimeError, match="ledger.jsonl: another run works with this ledger"):
        other.lock()
    lock.release()
    with other.locked():
        other.append("audited", verdict="forgotten")
    assert len(Ledger(ledger.path).lines) == 5


def test_a_writer_who_missed_a_line_is_refused(ledger):
    other = Ledger(ledger.path)
    ledger.append("audited", verdict="forgotten")
    with pytest.raises(RuntimeError, match="found another size"):
        other.append("audited", verdict="forgotten")
    with other.locked():
        other.append("audited", verdict="undecided")
    assert [line["number"] for line in Ledger(ledger.path).lines] == [1, 2, 3, 4, 5, 6]


def test_a_line_is_remembered_by_its_hash(ledger):
    kept = ledger.line_hash(4)
    assert Ledger(ledger.path).line_hash(4) == kept
    ledger.path.write_bytes(b"".join(lines(ledger)[:3]))
    assert Ledger(ledger.path).line_hash(4) is None
