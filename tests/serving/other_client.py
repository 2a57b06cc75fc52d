"""The client of ``python-ismrmrd-server`` beside our server: ``python -m tests.serving.other_client CHECKOUT``.

It is on neither PyPI nor Debian, so this is no test. Its images, as it writes them to a file, are compared with those
of file inference: float32 bit by bit, int16 level by level.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import fire
import h5py
import ismrmrd
import numpy as np

from tests.inference.raw_files import make_kspace, write_ismrmrd
from tests.serving.client import serving, values
from tests.serving.test_server import COLUMNS, file_inference, last_in_slice


def main(checkout: str) -> None:
    """Send a scan by its ``client.py`` and compare what it received.

    Args:
        checkout: Folder of ``python-ismrmrd-server``.
    """
    client = Path(checkout).resolve() / "client.py"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scan = folder / "scan.h5"
        write_ismrmrd(scan, make_kspace(slices=4, coils=3), columns=COLUMNS, change=last_in_slice)
        expected = file_inference(scan, folder / "files")["scan.nii.gz"]
        for pixels in ("float32", "int16"):
            output = folder / f"{pixels}.h5"
            with serving(network="varnet", settings={"pixels": pixels}) as server:
                command = [sys.executable, str(client), "-p", str(server.port), "-o", str(output), "-G", "images"]
                subprocess.run([*command, str(scan)], cwd=client.parent, check=False)
            images = _read(output)
            assert len(images) == len(expected), f"expected {len(expected)} images, found {len(images)}"
            for image in images:
                slope = float(image.meta.get("RescaleSlope", 1))
                plain = expected[image.getHead().slice]
                wanted = plain if pixels == "float32" else np.rint(plain.astype(np.float64) / slope)
                np.testing.assert_array_equal(values(image), wanted)
            print(f"{pixels}: {len(images)} images, {images[0].data.dtype}, equal to those of file inference")


def _read(path: Path) -> list[ismrmrd.Image]:
    with h5py.File(path) as file:
        groups = [name for name in file["images"] if name.startswith("image_")]
    with ismrmrd.Dataset(str(path), "images", create_if_needed=False) as dataset:
        return [dataset.read_image(name, n) for name in groups for n in range(dataset.number_of_images(name))]


if __name__ == "__main__":
    fire.Fire(main)
