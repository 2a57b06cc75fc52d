"""A disk that becomes full while a verb writes: one paragraph, nothing half-written, earlier results as they were."""

from __future__ import annotations

import pytest

from scripts.run.files import file_sha256
from tests.hostile.stopped import LEFT, VERBS, listing, results, start

pytestmark = pytest.mark.slow

# no file may become longer, so that writing one of the results fails as it does on a full disk, without root
MOST_BYTES = {
    "train": 20_000, "unlearn": 20_000, "evaluate": 10_000, "audit": 10_000, "declare": 1_000, "protocol": 20_000,
    "simulate": 50_000, "preview": 5_000, "ship": 20_000, "inference": 2_000,
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_no_room_for_a_file(warm, inputs, undisturbed, tmp_path, verb):
    output = tmp_path / "out"
    (tmp_path / "out-of-others").write_text("kept")
    before = {path: file_sha256(path) for path in inputs.rglob("*") if path.is_file()}
    full = start(warm, verb, inputs, output, most_bytes=MOST_BYTES[verb])
    assert full.finish() == 1
    said = full.says()
    assert "the disk is full: expected room for more than" in said
    assert "bytes, found" in said
    assert str(output) in said or "out/" in said
    assert "Traceback" not in said
    assert "Logging error" not in said
    assert not list(tmp_path.rglob(LEFT[0]))
    assert {path: file_sha256(path) for path in before} == before
    (tmp_path / "out-of-others").unlink()
    with_room = start(warm, verb, inputs, output, **VERBS[verb].again)
    assert with_room.finish() == 0, with_room.says()
    expected, files, _ = undisturbed(verb)
    assert results(verb, output) == expected
    assert listing(output) == files
