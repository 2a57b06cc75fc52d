"""One scan in two files, told from scans that only look alike."""

import h5py
import numpy as np
import pytest

from scripts.data.plausibility import refuse_repacked
from scripts.data.volumes import inspect_volume


def volume(path, kspace, **storage):
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=kspace, **storage)
        file["reconstruction_rss"] = np.ones((len(kspace), 4, 4), np.float32)
        file.attrs["max"] = 1.0
    return inspect_volume(path)


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal((*shape, 2)).astype(np.float32).view(np.complex64)[..., 0]


@pytest.mark.parametrize("shape", [(3, 2, 4, 6), (3, 4, 6)], ids=["multi-coil", "single-coil"])
def test_a_repacked_scan_is_found_among_others_of_equal_maximum(tmp_path, shape):
    scans = [volume(tmp_path / f"{i}.h5", noise(i, *shape)) for i in range(4)]
    refuse_repacked(scans, "datalist.json")
    packed = volume(tmp_path / "packed.h5", noise(2, *shape), compression="gzip")
    with pytest.raises(ValueError, match=r"datalist.json: 'kspace': .*2.h5 and .*packed.h5 hold the same k-space"):
        refuse_repacked([*scans, packed], "datalist.json")


def test_scans_that_share_one_coil_are_two_scans(tmp_path):
    first, second = noise(0, 3, 2, 4, 6), noise(1, 3, 2, 4, 6)
    second[:, 0] = first[:, 0]
    refuse_repacked([volume(tmp_path / "a.h5", first), volume(tmp_path / "b.h5", second)], "datalist.json")
