"""Three requests by the real verb, killed, two at once, on a full disk: the same weights, and a whole ledger."""

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.requests.erasures import erasures
from scripts.requests.ledger import Ledger
from scripts.run.errors import own_error
from scripts.run.files import file_sha256
from tests.requests.erasing import STEPS, killed_at
from tests.verbs import SMALL, process_as_before, run

REQUESTS = {"march": {"patient_id": "P000"}, "june": {"anatomy": "knee"}, "autumn": {"patient_id": ["P001", "P002"]}}
pytestmark = pytest.mark.usefixtures("contained")


def stream(datalist: str, original: Path, root: Path, most: int = 3) -> Path:
    """The first requests, each unless the ledger says that it was carried out, by one and the same command."""
    ledger, weights = root / "ledger.jsonl", original
    for name, what in list(REQUESTS.items())[:most]:
        done = {text for erased in erasures(Ledger(ledger)) for text in erased.requests.values()}
        if name not in done:
            request = {"request_id": name, "reason": "", "forget": [what]}
            with process_as_before():
                run(
                    "unlearn", "methods/fine_tune.yaml", datalist=datalist, forget_request=request, resume=True,
                    weights=str(weights), output_dir=str(root / name), ledger=str(ledger), budget=None,
                    unlearn_epochs=2, evaluate_models=False, check_values=False, **SMALL,
                )  # fmt: skip
        weights = root / name / "unlearned.pt"
    return weights


@pytest.fixture(scope="module")
def original(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    for name in ("original.pt", "original.json"):
        shutil.copy(trained / name, folder / name)
    return folder / "original.pt"


@pytest.fixture(scope="module")
def undisturbed(tiny_datalist, original, tmp_path_factory) -> tuple[str, int]:
    """SHA-256 of the last weights of the stream that nobody stopped, and how many steps on the disk it took."""
    stream(
        tiny_datalist, original, tmp_path_factory.mktemp("before")
    )  # keeps the scans' hashes, as later runs find them
    root, count = tmp_path_factory.mktemp("undisturbed"), 0

    def counted(real: Callable) -> Callable:
        def step(*args, **kwargs):
            nonlocal count
            count += 1
            return real(*args, **kwargs)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, counted(getattr(os, name)))
        weights = stream(tiny_datalist, original, root)
    return file_sha256(weights), count


def check_whole(root: Path, expected: str) -> None:
    assert file_sha256(root / "autumn" / "unlearned.pt") == expected
    ledger = Ledger(root / "ledger.jsonl")
    assert [erased.name for erased in erasures(ledger)] == list(REQUESTS)
    events, every = [line["event"] for line in ledger.lines[1:]], ["begun", "erased"] * 3
    assert events in (every, every[:-1])  # the next run writes the last line of one that was killed before it
    assert not list(root.rglob(".partial-*"))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.66, 0.97])
def test_a_killed_stream_ends_with_the_same_bits(tiny_datalist, original, undisturbed, tmp_path, share):
    expected, steps = undisturbed
    at = max(1, int(share * steps))
    assert not killed_at(at, lambda: stream(tiny_datalist, original, tmp_path)), "it was not killed"
    stream(tiny_datalist, original, tmp_path)
    check_whole(tmp_path, expected)


def no_large_files() -> None:
    """The ledger's lines still fit, weights do not."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


def full_at(number: int) -> Callable[[], None]:
    """The disk is full half-way through the ledger's n-th line."""

    def prepare() -> None:
        real, count = os.write, 0

        def write(handle, data):
            nonlocal count
            count += 1
            if count == number:
                return real(handle, data[:30])
            if count > number:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(handle, data)

        os.write = write

    return prepare


@pytest.mark.parametrize("prepare", [no_large_files, full_at(1), full_at(2)], ids=["weights", "begun", "erased"])
def test_a_full_disk_loses_nothing_written(tiny_datalist, original, undisturbed, tmp_path, prepare):
    stream(tiny_datalist, original, tmp_path, most=1)
    ledger, first = tmp_path / "ledger.jsonl", tmp_path / "march" / "unlearned.pt"
    written, weights = ledger.read_bytes(), first.read_bytes()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            stream(tiny_datalist, original, tmp_path)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert ledger.read_bytes().startswith(written)
    assert ledger.read_bytes().endswith(b"\n")
    assert first.read_bytes() == weights
    stream(tiny_datalist, original, tmp_path)
    check_whole(tmp_path, undisturbed[0])


def test_a_second_run_on_the_ledger_is_refused_and_erases_nothing(tiny_datalist, original, tmp_path):
    stream(tiny_datalist, original, tmp_path, most=1)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    written, lock = ledger.path.read_bytes(), ledger.lock()  # as the first run holds it
    with pytest.raises(RuntimeError) as error:
        stream(tiny_datalist, original, tmp_path, most=2)
    assert "ledger.jsonl: another run works with this ledger: expected one at a time" in str(own_error(error.value))
    assert ledger.path.read_bytes() == written
    assert not (tmp_path / "june" / "unlearned.pt").exists()
    lock.release()
    assert stream(tiny_datalist, original, tmp_path, most=2).is_file()
