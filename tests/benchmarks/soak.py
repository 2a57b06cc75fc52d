"""Memory of the MRD server over a long time, a slice a second: ``python -m tests.benchmarks.soak --minutes 60``.

One scan after the other, each over a connection of its own, is sent slice by slice; its series are written as NIfTI and
DICOM and handed over to a router in this process. Prints a line for each tenth of the time, and fails where
an image is missing or where the server's resident memory, after the first tenth, rises by more than ``--most_mb``.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import fire
import ismrmrd

from scripts.evaluation.table import Table, markdown
from tests.inference.raw_files import make_kspace, write_ismrmrd
from tests.serving.client import CLOSE, ServerProcess, header_message, read_file, readout_message, receive
from tests.serving.nodes import FakeRouter

PARTS = 10
HEADER = ["minutes", "slices", "images back", "images in the router", "resident memory [MB]"]


def main(
    minutes: float = 60,
    period_s: float = 1.0,
    network: str = "varnet",
    matrix: int = 64,
    coils: int = 4,
    slices: int = 30,
    most_mb: float = 20,
) -> None:
    """Run and print the table.

    Args:
        minutes: How long.
        period_s: From one slice to the next.
        network: One of ``tests.serving.client.NETWORKS``.
        matrix: Rows and columns of a slice, without readout oversampling.
        coils: Coils of a slice.
        slices: Slices of a scan.
        most_mb: Growth of the server's resident memory, after the first tenth of the time, that is a failure.
    """
    rows = []
    with tempfile.TemporaryDirectory() as temporary, FakeRouter(keeps=False) as router:
        folder = Path(temporary)
        header, parts = _scan(folder / "scan.h5", matrix, coils, slices)
        settings = {"output_dir": str(folder / "served"), "formats": ["nifti", "dicom"], "router": router.url}
        with ServerProcess(folder / "log", network=network, **settings) as server:
            began = time.monotonic()
            sent = back = 0
            for part in range(1, PARTS + 1):
                while time.monotonic() - began < 60 * minutes * part / PARTS:
                    back += _send(server, header, parts, period_s)
                    sent += slices
                    _tidy(folder / "served")
                megabytes = server.memory() / 1e6
                rows.append([f"{(time.monotonic() - began) / 60:.1f}", sent, back, router.asked, megabytes])
                print(*rows[-1], flush=True)
            assert server.stop() == 0, (folder / "log").read_text()[-2000:]
    print(markdown(Table("", "", HEADER, [[*map(str, row[:-1]), f"{row[-1]:.1f}"] for row in rows])))
    growth = max(row[-1] for row in rows) - rows[0][-1]
    print(f"{sent} slices of {matrix} x {matrix}, {coils} coils; memory rose by at most {growth:.1f} MB")
    if back != sent or router.asked != sent or growth > most_mb:
        raise SystemExit(f"expected {sent} images back and handed over and at most {most_mb} MB of growth")


def _scan(path: Path, matrix: int, coils: int, slices: int) -> tuple[bytes, list[bytes]]:
    """Header message and the readouts of each slice, the last of them marked."""

    def mark_last(readout: ismrmrd.Acquisition) -> None:
        if readout.idx.kspace_encode_step_1 == matrix - 1:
            readout.setFlag(ismrmrd.ACQ_LAST_IN_SLICE)

    write_ismrmrd(path, make_kspace(slices, coils, 2 * matrix, matrix), change=mark_last)
    header, readouts = read_file(path)
    parts = [b""] * slices
    for readout in readouts:
        parts[readout.idx.slice] += readout_message(readout)
    return header_message(header), parts


def _send(server: ServerProcess, header: bytes, parts: Sequence[bytes], period_s: float) -> int:
    """Send a scan, a slice each period, and return how many images came back."""
    images: list[ismrmrd.Image] = []
    with server.connect() as connection, connection.makefile("rb") as stream:
        receiver = threading.Thread(target=lambda: images.extend(receive(stream)[0]))
        receiver.start()
        connection.sendall(header)
        due = time.monotonic()
        for part in parts:
            connection.sendall(part)
            due = max(due + period_s, time.monotonic())
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
        connection.sendall(CLOSE)
        receiver.join()
    return len(images)


def _tidy(folder: Path) -> None:
    """Remove NIfTI files; wait until all is handed over."""
    for path in folder.glob("*.nii.gz"):
        path.unlink()
    while list(folder.rglob("*.dcm")):
        time.sleep(0.05)


if __name__ == "__main__":
    fire.Fire(main)
