"""The loop over files: images, failures, what stays behind."""

import re

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from scripts.data.slices import prepare_batch
from scripts.inference import KspaceSlices, ModelIdentity, VolumeWriter, reconstruct
from scripts.networks import ZeroFilled
from tests.conftest import CROP, write_tiny_volume
from tests.inference.raw_files import make_kspace, write_ismrmrd


def run(source, output, network=None, formats=("nifti",)):
    network = network or ZeroFilled()
    dataset = KspaceSlices(network=network)
    writer = VolumeWriter(output, formats, ModelIdentity("Model", "1.0"))
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(dataset),
        network,
        prepare_batch=prepare_batch,
        val_handlers=[writer],
        decollate=False,
    )
    return reconstruct(evaluator, dataset, writer, source)


def volume(path):
    return nib.load(path).get_fdata(dtype=np.float32).transpose(2, 1, 0)


def rss(kspace):
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    return np.sqrt((np.abs(coils) ** 2).sum(axis=-3))


def test_both_formats_of_raw_data(tmp_path):
    kspace = make_kspace()
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    write_ismrmrd(data / "sub" / "b.mrd", kspace)
    write_tiny_volume(data / "a.h5", 0, slices=3)
    written = run(data, tmp_path / "out", formats=("nifti", "dicom"))
    names = ["a.nii.gz", "a_dicom", "sub/b.nii.gz", "sub/b_dicom"]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == names
    np.testing.assert_allclose(volume(written[2]), rss(kspace)[:, 16:48], rtol=1e-4, atol=1e-9)
    assert volume(written[0]).shape == (3, *CROP)
    assert len(list(written[3].iterdir())) == 3


class Breaks(ZeroFilled):
    def forward(self, masked_kspace, mask=None):
        if masked_kspace.shape[1] == 3:
            raise RuntimeError("three coils")
        image = super().forward(masked_kspace, mask)
        return image * float("nan") if masked_kspace.shape[1] == 4 else image


def test_files_that_fail_do_not_stop_the_rest(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, coils in (("b", 2), ("c", 3), ("d", 4), ("e", 2)):
        write_tiny_volume(data / f"{name}.h5", 0, coils=coils)
    (data / "a.h5").write_text("no HDF5")
    with pytest.raises(RuntimeError) as error:
        run(data, tmp_path / "out", Breaks())
    text = str(error.value)
    for pattern in (
        "3 of 5 files failed",
        r"a.h5: not a readable HDF5",
        "c.h5: three coils",
        r"d.h5: image of slice 0",
    ):
        assert re.search(pattern, text), text
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["b.nii.gz", "e.nii.gz"]


def test_writer_wants_every_slice(tmp_path):
    from scripts.inference import open_raw

    write_tiny_volume(tmp_path / "a.h5", 0)
    writer = VolumeWriter(tmp_path / "out")
    writer.begin(open_raw(tmp_path / "a.h5")[0])
    writer.add(0, torch.zeros(1, 32, 30))
    with pytest.raises(RuntimeError, match=r"slices \[1\] are missing"):
        writer.finish("a")
    writer.discard()
    assert list((tmp_path / "out").iterdir()) == []
