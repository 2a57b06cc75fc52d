"""Files are hashed beside the work, each once."""

from scripts.run.files import file_sha256
from scripts.training import file_hashes
from scripts.training.file_hashes import FileHashes


def test_each_file_once_and_a_missing_one_as_none(tmp_path, monkeypatch, caplog):
    read = []
    monkeypatch.setattr(file_hashes, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    (tmp_path / "a").write_text("a")
    hashes = FileHashes([tmp_path / "a", tmp_path / "a", tmp_path / "gone"])
    assert hashes[tmp_path / "a"] == file_sha256(tmp_path / "a")
    assert hashes[str(tmp_path / "gone")] is None
    assert read == [str(tmp_path / "a"), str(tmp_path / "gone")]
    assert "gone: no hash of it goes into the record" in caplog.text
