"""The MRD server: images equal to those of files, series, fall-back, several clients, stopping."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import ismrmrd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from scripts.data.slices import prepare_batch
from scripts.inference import KspaceSlices, VolumeWriter, reconstruct, volume_writer
from scripts.inference.volume_writer import write_nifti
from scripts.networks import save_weights
from tests.inference import test_headers_and_readouts as field
from tests.inference.raw_files import make_kspace, write_ismrmrd
from tests.inference.test_preprocessing import correlated_noise
from tests.serving.client import (
    CLOSE,
    ROOT,
    Running,
    ServerProcess,
    header_message,
    read_file,
    readout_message,
    send_scan,
    serving,
    values,
    varnet,
)

NETWORK = {"num_cascades": 1, "chans": 4, "pools": 2, "sens_chans": 4, "sens_pools": 2}
COLUMNS = [0, 4, 8, 12, 14, 15, 16, 17, 18, 20, 24, 28]


def file_inference(source, output):
    """Images (slices, h, w) by the name of their series."""
    network = varnet()
    dataset, writer = KspaceSlices(network=network), VolumeWriter(output)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), DataLoader(dataset), network, prepare_batch=prepare_batch, val_handlers=[writer],
        decollate=False,
    )  # fmt: skip
    written = reconstruct(evaluator, dataset, writer, source)
    return {path.name: nib.load(path).get_fdata(dtype=np.float32).transpose(2, 1, 0) for path in written}


def last_in_slice(readout):
    """Flag the last line of each slice, as scanners do."""
    if readout.idx.kspace_encode_step_1 == COLUMNS[-1]:
        readout.setFlag(ismrmrd.ACQ_LAST_IN_SLICE)


def in_two_repetitions(readout):
    """Slices by turns of one repetition and of another."""
    readout.idx.repetition, readout.idx.slice = readout.idx.slice % 2, readout.idx.slice // 2


@pytest.fixture
def scan(tmp_path):
    """Undersampled, noisy, slices interleaved and out of order."""
    noise = [correlated_noise(np.random.default_rng(0), 3, 64)]
    write_ismrmrd(
        tmp_path / "scan.h5", make_kspace(slices=4, coils=3), columns=COLUMNS, noise=noise, change=last_in_slice
    )
    return tmp_path / "scan.h5"


def test_images_equal_those_of_the_file(scan, tmp_path):
    expected = file_inference(scan, tmp_path / "files")["scan.nii.gz"]
    header, readouts = read_file(scan)
    with serving(network="varnet", output_dir=str(tmp_path / "served")) as server:
        images, texts = send_scan(server, header, readouts)
    assert [image.getHead().slice for image in images] == [1, 3, 0, 2]  # as they were complete
    for image in images:
        np.testing.assert_array_equal(values(image), expected[image.getHead().slice])  # float32, to the last bit
    volume = next((tmp_path / "served").glob("*.nii.gz"))
    np.testing.assert_array_equal(nib.load(volume).get_fdata(dtype=np.float32).transpose(2, 1, 0), expected)
    assert texts[0] == "INFO: prewhitened"
    assert texts[-1] == f"INFO: delivered: {volume}"
    assert sum("reconstructed" in text for text in texts) == 4
    head = images[0].getHead()
    assert head.image_type == ismrmrd.IMTYPE_MAGNITUDE
    assert list(head.matrix_size) == [32, 32, 1]
    np.testing.assert_allclose(list(head.field_of_view), [16, 32, 5])
    np.testing.assert_allclose(list(head.position), [10, 20, 6])
    assert images[0].meta["ImageProcessingHistory"] == "Model 1.0"


def test_int16_images_are_those_of_the_file_to_the_last_level(scan, tmp_path):
    expected = file_inference(scan, tmp_path / "files")["scan.nii.gz"]
    with serving(network="varnet", settings={"pixels": "int16"}) as server:
        images, _ = send_scan(server, *read_file(scan))
    assert len(images) == 4
    for image in images:
        slope, plain = float(image.meta["RescaleSlope"]), expected[image.getHead().slice].astype(np.float64)
        assert image.data.dtype == np.int16
        assert image.data.max() == 32767
        assert slope == pytest.approx(plain.max() / 32767, rel=1e-8)
        np.testing.assert_array_equal(values(image), np.rint(plain / slope))
        assert np.abs(values(image) * slope - plain).max() <= slope / 2 * (1 + 1e-6)


def test_slices_without_a_last_readout_come_at_the_close(tmp_path):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace(), columns=COLUMNS + COLUMNS[:2])
    expected = file_inference(tmp_path / "scan.h5", tmp_path / "files")["scan.nii.gz"]
    with serving(network="varnet") as server:
        images, _ = send_scan(server, *read_file(tmp_path / "scan.h5"))
    for image in images:
        np.testing.assert_array_equal(values(image), expected[image.getHead().slice])
    assert len(images) == 3


def test_repetitions_are_series_of_their_own(tmp_path):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace(slices=4), change=in_two_repetitions)
    expected = file_inference(tmp_path / "scan.h5", tmp_path / "files")
    settings = {"network": "varnet", "output_dir": str(tmp_path / "served"), "formats": ["nifti", "dicom"]}
    with serving(**settings) as server:
        images, _ = send_scan(server, *read_file(tmp_path / "scan.h5"))
    assert {(i.getHead().repetition, i.getHead().image_series_index) for i in images} == {(1, 1), (0, 2)}
    for image in images:
        head = image.getHead()
        name = f"scan_repetition-{head.repetition}.nii.gz"
        np.testing.assert_array_equal(values(image), expected[name][head.slice])
    assert {path.name.partition("_")[2] for path in (tmp_path / "served").glob("*_*")} == {
        f"repetition-{number}{ending}" for number in (0, 1) for ending in (".nii.gz", ".json", "_dicom")
    }
    files = [pydicom.dcmread(path) for path in (tmp_path / "served").rglob("*.dcm")]
    assert {(ds.SeriesDescription[-1], ds.SeriesNumber) for ds in files} == {("0", 1), ("1", 2)}
    assert len({ds.StudyInstanceUID for ds in files}) == 1


def fails(times, error, monkeypatch):
    """Writing a NIfTI file fails a few times."""
    left = [error] * times

    def write(*arguments):
        if left:
            raise left.pop()
        write_nifti(*arguments)

    monkeypatch.setattr(volume_writer, "write_nifti", write)


def test_a_scan_that_cannot_be_written_is_tried_again(tmp_path, monkeypatch):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace(slices=4), change=in_two_repetitions)
    fails(2, OSError(28, "No space left on device"), monkeypatch)
    with serving(output_dir=str(tmp_path / "served"), limits={"delivery_s": 1}) as server:
        images, texts = send_scan(server, *read_file(tmp_path / "scan.h5"))
    assert len(images) == 4
    assert sum("not delivered yet" in text and "No space left" in text for text in texts) == 2
    written = sorted(path.name for path in (tmp_path / "served").glob("*.nii.gz"))
    assert [name.partition("_")[2] for name in written] == ["repetition-0.nii.gz", "repetition-1.nii.gz"]
    assert len({name.partition("_")[0] for name in written}) == 1
    assert texts[-2:] == [f"INFO: delivered: {tmp_path / 'served' / name}" for name in written]

    fails(100, OSError(28, "No space left on device"), monkeypatch)
    with serving(output_dir=str(tmp_path / "full"), limits={"delivery_s": 0.1}) as server:
        images, texts = send_scan(server, *read_file(tmp_path / "scan.h5"))
    assert len(images) == 4
    assert texts[-1].startswith("ERROR: not delivered within 0.1 s: [Errno 28]")
    assert texts[-1].endswith("its raw data are kept, and tried again")
    assert [path.suffix for path in (tmp_path / "full").rglob("*") if path.is_file()] == [".mrd"]


def test_encodings_oversampling_and_early_stops_are_those_of_the_file(tmp_path):
    """A reference scan, an image whose header has twice its samples, and a last slice that stopped early."""
    height, width = field.H, field.W
    kspace = make_kspace(slices=3, coils=3, height=height, width=width)
    text = field.header(field.encoding((height, 20), (height, 20), 10), field.encoding((2 * height, width), fov_x=96))
    lines = [*field.readouts(kspace[..., :20], range(20), flags=[field.CALIBRATION])]
    lines += field.readouts(kspace[:2], space=1)
    lines += (line for line in field.readouts(kspace, field.COLUMNS[:12], space=1) if line.idx.slice == 2)
    field.write(tmp_path / "scan.h5", lines, text)
    expected = file_inference(tmp_path / "scan.h5", tmp_path / "files")["scan.nii.gz"]
    said = json.loads((tmp_path / "files" / "scan.json").read_text())
    with serving(network="varnet", output_dir=str(tmp_path / "served"), formats=["nifti", "dicom"]) as server:
        images, texts = send_scan(server, *read_file(tmp_path / "scan.h5"))
    assert len(images) == len(expected) == 3
    for image in images:
        np.testing.assert_array_equal(values(image), expected[image.getHead().slice])
    assert json.loads(next((tmp_path / "served").glob("*.json")).read_text()) | {"model": said["model"]} == said
    assert said["slices"]["2"].startswith("incomplete: 12 of 17 columns were measured")
    assert any("slice 2 of series 1" in text and "incomplete: 12 of 17 columns" in text for text in texts)
    assert any("60 calibration readouts of encoding 0" in text for text in texts)
    found = {ds.InstanceNumber: ds for ds in map(pydicom.dcmread, (tmp_path / "served").rglob("*.dcm"))}
    assert found[3].ImageComments == said["slices"]["2"]
    assert "60 calibration readouts of encoding 0" in found[1].DerivationDescription


def test_a_slice_of_too_few_lines_is_left_out(tmp_path):
    kspace = make_kspace(slices=2, coils=3, height=field.H, width=field.W)
    lines = [*field.readouts(kspace[:1])]
    lines += (line for line in field.readouts(kspace, field.COLUMNS[8:11]) if line.idx.slice == 1)
    field.write(tmp_path / "scan.h5", lines)
    with serving(output_dir=str(tmp_path / "served")) as server:
        images, texts = send_scan(server, *read_file(tmp_path / "scan.h5"))
    reason = "slice 1 left out: expected 17 measured columns, at least 50% of them, found 3"
    assert [image.getHead().slice for image in images] == [0]
    assert f"ERROR: {reason}" in texts
    assert reason in json.loads(next((tmp_path / "served").glob("*.json")).read_text())["notes"]


def test_a_series_of_zeros_keeps_no_other_from_its_delivery(tmp_path):
    kspace = make_kspace(slices=4)
    kspace[1::2] = 0
    write_ismrmrd(tmp_path / "scan.h5", kspace, change=in_two_repetitions)
    with serving(output_dir=str(tmp_path / "served"), formats=["dicom"]) as server:
        images, texts = send_scan(server, *read_file(tmp_path / "scan.h5"))
    assert len(images) == 4
    written = [path.name for path in (tmp_path / "served").glob("*_*")]
    assert [name.partition("_")[2] for name in written] == ["repetition-0_dicom"]
    assert "repetition-1: " in texts[-1]
    assert "expected a signal, found zeros alone; delivered: " in texts[-1]


def test_a_scan_is_delivered_though_its_client_is_gone(tmp_path, caplog):
    write_ismrmrd(tmp_path / "scan.h5", make_kspace(slices=4))  # reconstructed at the close
    header, readouts = read_file(tmp_path / "scan.h5")
    with serving(network="slow", output_dir=str(tmp_path / "served")) as server:
        connection = server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
        for part in (header_message(header), *map(readout_message, readouts), CLOSE):
            connection.sendall(part)
        assert connection.recv(2)  # the first of four slices is done
        connection.close()
        while not list((tmp_path / "served").glob("*.nii.gz")):
            time.sleep(0.01)
    assert "its scan is complete and goes on without it" in caplog.text


@pytest.mark.parametrize("network", ["breaks", "not finite"])
def test_where_the_network_fails_the_image_is_zero_filled_and_says_so(scan, tmp_path, network, caplog):
    with serving(network="zero") as server:
        expected, _ = send_scan(server, *read_file(scan))
    settings = {"network": network, "output_dir": str(tmp_path / "served"), "formats": ["dicom"]}
    with serving(**settings) as server:
        images, texts = send_scan(server, *read_file(scan))
    assert len(images) == 4
    for image, plain in zip(images, expected, strict=True):
        np.testing.assert_array_equal(image.data, plain.data)
        assert image.is_flag_set(ismrmrd.IMAGE_USER1)
        assert not plain.is_flag_set(ismrmrd.IMAGE_USER1)
        assert "zero-filled" in image.meta["ImageComments"]
    assert sum(text.startswith("ERROR") and "zero-filled" in text for text in texts) == 4
    assert "the network failed; the image is zero-filled" in caplog.text


def test_readouts_that_cannot_be_used_are_left_out_and_named(scan, tmp_path):
    header, readouts = read_file(scan)
    readouts[5].data[0, 3] = np.nan
    readouts[6].idx.kspace_encode_step_1 = 99
    with serving() as server:
        images, texts = send_scan(server, header, readouts)
    assert len(images) == 4
    errors = [text for text in texts if text.startswith("ERROR")]
    assert "left out: expected finite samples, found NaN or Inf" in errors[0]
    assert "left out: 'kspace_encode_step_1': expected columns 0 to 31, found 99" in errors[1]
    assert errors[-1] == "ERROR: 2 readouts could not be used"
    assert [i.meta.get("ImageComments") for i in images].count("made without 1 readouts that could not be used") == 2


def test_clients_side_by_side(scan, tmp_path):
    header, readouts = read_file(scan)
    found = []
    with serving(network="varnet") as server:
        threads = [
            threading.Thread(target=lambda: found.append(send_scan(server, header, readouts)[0])) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 5
    for images in found:
        for image, first in zip(images, found[0], strict=True):
            np.testing.assert_array_equal(image.data, first.data)


def test_sigterm_lets_running_scans_end(scan, tmp_path):
    header, readouts = read_file(scan)
    found = []
    with ServerProcess(tmp_path / "log", network="slow") as server, server.connect():  # idle: closed at once
        client = threading.Thread(target=lambda: found.extend(send_scan(server, header, readouts)))
        client.start()
        while "begins" not in server.log.read_text():
            time.sleep(0.01)
        assert server.stop() == 0
        client.join()
    assert len(found[0]) == 4
    assert "stopped" in (tmp_path / "log").read_text()


def test_the_verb(scan, tmp_path):
    """`monai.bundle run serve` with the bundle's own configuration, in a strange folder."""
    save_weights(varnet(), tmp_path / "weights.pt")
    command = [sys.executable, "-m", "monai.bundle", "run", "serve"]
    command += ["--config_file", str(ROOT / "bundle" / "configs" / "serve.json"), "--port", "0"]
    command += ["--weights", str(tmp_path / "weights.pt"), "--output_dir", str(tmp_path / "served")]
    for name, value in NETWORK.items():
        command += [f"--network_def#{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        lines = []
        while "listening on 127.0.0.1, port" not in (line := process.stdout.readline()):
            lines.append(line)
            assert line, "".join(lines)
        port = int(line.split("port ")[1])

        images, _ = send_scan(Running(port), *read_file(scan))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdout.close()
    expected = file_inference(scan, tmp_path / "files")["scan.nii.gz"]
    for image in images:
        np.testing.assert_array_equal(values(image), expected[image.getHead().slice])
    (volume,) = (tmp_path / "served").glob("*.nii.gz")
    assert volume.stat().st_mode & 0o777 == 0o640


def test_the_shared_blocks_of_inference_and_server_are_equal():
    configs = ROOT / "bundle" / "configs"
    inference, serve = (json.loads((configs / f"{name}.json").read_text()) for name in ("inference", "serve"))
    del inference["writer"]["overwrite"]  # the server's names are new
    assert inference["initialize"][:-1] == serve["initialize"][:-1]
    for key in inference.keys() & serve.keys() - {"verb", "output_dir", "initialize"}:
        assert inference[key] == serve[key], key
