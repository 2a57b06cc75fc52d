"""From the client to the router: whatever is killed, full, lost or silent, each image arrives once, or is named."""

import contextlib
import datetime
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import h5py
import ismrmrd
import numpy as np
import pydicom
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ismrmrd.serialization import ProtocolDeserializer
from monai.engines import SupervisedEvaluator
from torch.utils.data import DataLoader

from scripts.data.slices import prepare_batch
from scripts.inference import KspaceSlices, ModelIdentity, VolumeWriter, reconstruct, volume_writer
from scripts.networks import ZeroFilled, save_weights
from scripts.run.manifest import BundleError
from scripts.serving import delivery, load_model
from scripts.serving.delivery import RawFile
from scripts.serving.forward import Forward
from scripts.serving.router import Router
from tests.inference.raw_files import make_kspace, write_ismrmrd
from tests.serving.client import (
    CLOSE,
    MODEL,
    Running,
    ServerProcess,
    header_message,
    make_server,
    read_file,
    readout_message,
    receive,
    send_scan,
    serving,
    talk,
    varnet,
)
from tests.serving.nodes import FakeRouter, Orthanc, free_port, needs_orthanc, until, wait_for
from tests.serving.test_server import COLUMNS, last_in_slice
from tests.verbs import CONFIGS

STUDY = "1.2.826.0.1.9"  # of the header
SLICES = 4


def make_scan(path, number=0, slices=SLICES):
    """Header and readouts of a scan that is like no other, in a study of its own."""
    write_ismrmrd(path, make_kspace(slices, coils=2, seed=number), columns=COLUMNS, change=last_in_slice)
    header, readouts = read_file(path)
    return header.replace(STUDY.encode(), f"{STUDY}.{number}".encode()), readouts


def messages(header, readouts):
    return [header_message(header), *map(readout_message, readouts)]


def study(number):
    return f"{STUDY}.{number}"


def of_study(router, number):
    return [ds for ds in router.datasets() if ds.StudyInstanceUID == study(number)]


def place(ds):
    return round(float(ds.ImagePositionPatient[2]), 1)


def settled(folder):
    """Whether nothing waits any more, and nothing is left half."""
    with contextlib.suppress(FileNotFoundError):  # it changes meanwhile
        return not [path for path in folder.rglob("*") if path.suffix in (".dcm", ".mrd", ".delivered")]
    return False


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def file_uids(path, folder, network=ZeroFilled):
    """SOP instance UIDs that file inference gives to a scan."""
    dataset, writer = KspaceSlices(network=network()), VolumeWriter(folder, ["dicom"], MODEL)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), DataLoader(dataset), network(), prepare_batch=prepare_batch, val_handlers=[writer],
        decollate=False,
    )  # fmt: skip
    reconstruct(evaluator, dataset, writer, path)
    return {str(pydicom.dcmread(file).SOPInstanceUID) for file in folder.rglob("*.dcm")}


def without_uids(path):
    """The file, of which the header names no study."""
    with h5py.File(path, "r+") as file:
        text = file["dataset/xml"][0]
        file["dataset/xml"][0] = re.sub(rb"<studyInstanceUID>.*</studyInstanceUID>", b"", text)


def test_file_and_server_give_the_same_uids_and_another_scan_with_the_same_header_others(tmp_path):
    studies, found = [], []
    for number in range(2):
        path = tmp_path / f"{number}.h5"
        write_ismrmrd(path, make_kspace(2, 2, seed=number), columns=COLUMNS, change=last_in_slice)
        without_uids(path)
        expected = file_uids(path, tmp_path / f"file{number}")
        with FakeRouter() as router:
            with serving(output_dir=str(tmp_path / "served"), formats=["dicom"], router=router.url) as server:
                send_scan(server, *read_file(path))
                until(lambda: settled(tmp_path / "served"))
            assert router.kept.keys() == expected
            studies += {str(ds.StudyInstanceUID) for ds in router.datasets()}
        path.rename(tmp_path / "renamed.h5")
        assert file_uids(tmp_path / "renamed.h5", tmp_path / f"again{number}") == expected
        found.append(expected)
    assert len(set(studies)) == len(studies) == 2
    assert not found[0] & found[1]


def test_raw_data_are_on_disk_before_anything_is_made_of_them(tmp_path):
    header, readouts = make_scan(tmp_path / "scan.h5")
    with serving(output_dir=str(tmp_path / "served")) as server, server.connect() as connection:
        connection.sendall(struct.pack("<H", 1) + b"default".ljust(1024, b"\0"))
        for part in messages(header, readouts[:7]):
            connection.sendall(part)
        whole = 2 + 1024 + sum(map(len, messages(header, readouts[:7])))
        until(lambda: [p.stat().st_size for p in (tmp_path / "served" / "raw").glob("*.mrd")] == [whole])
        (path,) = (tmp_path / "served" / "raw").iterdir()
        with path.open("rb") as file:  # by the package's own reader
            items = iter(ProtocolDeserializer(file).deserialize())
            assert next(items) == "default"
            assert next(items).toXML().count("encodedSpace")
            for readout in readouts[:7]:
                np.testing.assert_array_equal(next(items).data, readout.data)
        for part in (*map(readout_message, readouts[7:]), CLOSE):
            connection.sendall(part)
        with connection.makefile("rb") as stream:
            assert len(receive(stream)[0]) == SLICES
    assert not list((tmp_path / "served" / "raw").iterdir())  # delivered
    assert (tmp_path / "served").stat().st_mode & 0o777 == 0o750


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


LOST = {  # how a client is lost after two slices of four; what is said of it
    "silent": (lambda connection: time.sleep(1), "expected a message within 0.4 s"),
    "gone without a close": (lambda connection: connection.shutdown(socket.SHUT_WR), "ended without a close message"),
    "reset": (reset, "connection lost|ended without"),
    "half a message": (
        lambda connection: (connection.sendall(CLOSE[:1]), connection.shutdown(socket.SHUT_WR)),
        "expected its number of 2 bytes, found 1",
    ),
    "no message": (lambda connection: connection.sendall(b"\xff\xff"), "expected a number of the MRD protocol"),
    "another header": (lambda connection: connection.sendall(header_message(b"<h/>")), "expected one, found another"),
    "too long": (
        lambda connection: connection.sendall(struct.pack("<HI", 3, 2**31)),
        "at most 4000000 bytes, found 2147483648 announced",
    ),
}


@pytest.mark.parametrize("how", LOST)
def test_what_was_complete_of_a_lost_client_is_delivered_and_marked(tmp_path, how):
    lose, words = LOST[how]
    header, readouts = make_scan(tmp_path / "scan.h5")
    ends = [number for number, readout in enumerate(readouts) if readout.is_flag_set(ismrmrd.ACQ_LAST_IN_SLICE)]
    served = tmp_path / "served"
    with FakeRouter() as router:
        settings = {"output_dir": str(served), "formats": ["dicom"], "router": router.url, "limits": {"idle_s": 0.4}}
        with serving(**settings) as server:
            connection = server.connect()
            for part in messages(header, readouts[: ends[1] + 1]):
                connection.sendall(part)
            answer = b""
            while answer.count(b"reconstructed") < 2:  # both slices are done
                answer += connection.recv(1 << 16)
            lose(connection)
            until(lambda: len(router.kept) == 2 and list((served / "raw").glob("*.aside")))
            connection.close()
            until(lambda: settled(served))
    for ds in router.datasets():
        assert re.match(f"incomplete scan: .*({words})", ds.ImageComments)
        assert ds.SeriesDescription.endswith("_incomplete")
        assert "incomplete scan" in ds.DerivationDescription
    assert re.search(words, next((served / "raw").glob("*.txt")).read_text())
    assert len(list((served / "raw").glob("*.aside"))) == 1


def test_of_a_client_without_a_complete_slice_the_raw_data_are_kept(tmp_path):
    header, readouts = make_scan(tmp_path / "scan.h5")
    with serving(output_dir=str(tmp_path / "served")) as server:
        images, texts = talk(server, *messages(header, readouts[:5]))
        assert not images
        assert "ended without a close message" in texts[-1]
        talk(server, header_message(header))  # and of one that measured nothing, nothing
    assert len(list((tmp_path / "served" / "raw").glob("*.aside"))) == 1
    assert not list((tmp_path / "served").glob("*_*"))


def test_a_full_disk_for_raw_data_costs_no_image(tmp_path, monkeypatch):
    header, readouts = make_scan(tmp_path / "scan.h5")
    append, left = RawFile.append, [9]

    def full(self, parts):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        append(self, parts)

    monkeypatch.setattr(RawFile, "append", full)
    with FakeRouter() as router:
        with serving(output_dir=str(tmp_path / "served"), formats=["dicom"], router=router.url) as server:
            images, texts = send_scan(server, header, readouts)
            until(lambda: settled(tmp_path / "served"))
        assert len(images) == len(router.kept) == SLICES
    assert any("raw data are not kept from here on: [Errno 28]" in text for text in texts)


def test_a_full_disk_for_images_keeps_the_raw_data_until_there_is_room(tmp_path, monkeypatch):
    header, readouts = make_scan(tmp_path / "scan.h5")
    written, full = volume_writer.VolumeWriter.finish, [True]

    def finish(self, name):
        if full[0]:
            raise OSError(28, "No space left on device")
        return written(self, name)

    monkeypatch.setattr(volume_writer.VolumeWriter, "finish", finish)
    monkeypatch.setattr("scripts.serving.server.RECOVER_S", 0.2)
    served = tmp_path / "served"
    with FakeRouter() as router:
        settings = {"output_dir": str(served), "formats": ["dicom"], "router": router.url}
        with serving(**settings, limits={"delivery_s": 0.1}) as server:
            _, texts = send_scan(server, header, readouts)
            assert texts[-1].endswith("its raw data are kept, and tried again")
            time.sleep(0.5)
            assert [path.suffix for path in served.rglob("*") if path.is_file() and path.name != ".lock"] == [".mrd"]
            full[0] = False
            until(lambda: settled(served))
        assert len(router.kept) == SLICES
        assert not any("incomplete" in ds.SeriesDescription for ds in router.datasets())
    assert not list((served / "raw").iterdir())


@pytest.mark.parametrize("moment", ["before it is named", "after it is named", "before raw data go"])
def test_a_kill_at_a_bad_moment_of_delivery_loses_and_doubles_nothing(tmp_path, monkeypatch, moment):
    """Killed around the rename of a series, and between that and the removal of its raw data."""

    class Killed(BaseException):
        pass

    def kill(*arguments, **named):
        raise Killed

    header, readouts = make_scan(tmp_path / "scan.h5")
    served = tmp_path / "served"
    store = delivery.RawStore(served / "raw")
    raw = store.new()
    raw.append([*messages(header, readouts), CLOSE])
    with monkeypatch.context() as patch, FakeRouter() as router:
        settings = {"output_dir": str(served), "formats": ["dicom"]}
        if moment == "before it is named":
            patch.setattr("scripts.inference.dicom.os.chmod", kill)
        elif moment == "after it is named":
            patch.setattr(delivery, "_sync", kill)
        else:
            patch.setattr(RawFile, "delivered", kill)
        server = make_server(**settings)
        with contextlib.suppress(Killed):
            scan_of_file = delivery.FileReader(raw.path)
            import asyncio

            from scripts.serving.connection import Connection

            asyncio.run(Connection(scan_of_file, None, server.service, raw=RawFile(raw.path)).run())
        server.executor.shutdown()
        scan_of_file.close()
        patch.undo()
        assert len(store.unfinished()) == 1
        with serving(**settings, router=router.url):
            until(lambda: settled(served))
        assert len(router.kept) == SLICES
        assert {place(ds) for ds in router.datasets()} == {6.0 * index for index in range(SLICES)}
    assert not list((served / "raw").iterdir())


def dare(server, parts, got):
    """Send a scan; ``got`` gets the numbers of the slices that came back, and "close"."""
    content = b""
    with contextlib.suppress(OSError), server.connect() as connection:
        connection.settimeout(30)

        def send():
            with contextlib.suppress(OSError):
                for part in parts:
                    connection.sendall(part)

        sender = threading.Thread(target=send)
        sender.start()
        with contextlib.suppress(OSError):
            while block := connection.recv(1 << 16):
                content += block
        sender.join()
    with contextlib.suppress(Exception):  # it may end anywhere
        for item in ProtocolDeserializer(io.BytesIO(content)).deserialize():
            if isinstance(item, ismrmrd.Image):
                got.add(item.getHead().slice)
        got.add("close")


def killed_at_random(tmp_path, kills, seed):
    """Scans one after the other; the server is killed during each, and started again with what it left."""
    chance, served = random.Random(seed), tmp_path / "served"
    seen, files = {}, {}
    with FakeRouter(lambda number, ds: chance.choice(["", "", "", "cut after it is kept", "unavailable"])) as router:
        settings = {"output_dir": str(served), "formats": ["dicom"], "router": router.url, "network": "brief"}
        for number in range(kills):
            files[number] = tmp_path / f"{number}.h5"
            parts = [*messages(*make_scan(files[number], number)), CLOSE]
            seen[number] = set()
            with ServerProcess(tmp_path / "log", **settings) as server:
                client = threading.Thread(target=dare, args=(server, parts, seen[number]))
                client.start()
                time.sleep(chance.uniform(0, 0.6))
                server.kill()
                client.join()
        with ServerProcess(tmp_path / "log", **settings) as server:
            until(lambda: settled(served), what=lambda: (tmp_path / "log").read_text()[-3000:])
            assert server.stop() == 0
    log = (tmp_path / "log").read_text()
    outcomes = []
    for number, slices in seen.items():
        found = of_study(router, number)
        places = [place(ds) for ds in found]
        assert len(set(places)) == len(places), f"scan {number}: {places}\n{log}"  # none twice
        assert {6.0 * index for index in slices - {"close"}} <= set(places), f"scan {number}: {slices}\n{log}"
        marked = {"incomplete" in ds.SeriesDescription for ds in found}
        assert len(marked) < 2
        if "close" in slices:
            assert marked == {False}
        if marked == {False}:
            with h5py.File(files[number], "r+") as file:
                file["dataset/xml"][0] = file["dataset/xml"][0].replace(STUDY.encode(), study(number).encode())
            assert {ds.SOPInstanceUID for ds in found} == file_uids(files[number], tmp_path / f"file{number}")
        outcomes.append(f"{len(found)} of {SLICES}")
    asides = sorted(path.stem for path in (served / "raw").glob("*.aside"))
    incomplete = [number for number in seen if len(of_study(router, number)) < SLICES]
    assert len(asides) <= len(incomplete) + sum(not slices for slices in seen.values())
    return outcomes


def test_killed_at_random_moments_nothing_is_lost_or_doubled(tmp_path):
    outcomes = killed_at_random(tmp_path, kills=6, seed=1)
    assert len(set(outcomes)) > 1  # kills came at different moments


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_at_twenty_random_moments_nothing_is_lost_or_doubled(tmp_path, seed):
    print(killed_at_random(tmp_path, kills=20, seed=seed))


def test_a_folder_has_one_server(tmp_path):
    with serving(output_dir=str(tmp_path)), pytest.raises(OSError, match="'output_dir': .*found another server's"):
        make_server(output_dir=str(tmp_path)).run()


def test_sigterm_ends_at_once_whatever_waits_and_says_what(tmp_path):
    served = tmp_path / "served"
    for number in range(300):
        folder = served / f"20260101-000000-{number:06d}_dicom"
        folder.mkdir(parents=True)
        (folder / "IM0001.dcm").write_bytes(b"x")
    settings = {"output_dir": str(served), "formats": ["dicom"]}
    with (
        FakeRouter(lambda number, ds: "silent") as router,
        ServerProcess(tmp_path / "log", **settings, router=router.url) as server,
    ):
        time.sleep(0.3)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
    line = next(line for line in (tmp_path / "log").read_text().splitlines() if "stopped; what waits" in line)
    assert json.loads(line.partition("disk: ")[2])["hand_over"]["images"] == 300


def test_a_scan_that_is_cut_short_by_a_stop_is_finished_after_the_next_start(tmp_path):
    header, readouts = make_scan(tmp_path / "scan.h5")
    served, got = tmp_path / "served", set()
    with FakeRouter() as router:
        settings = {"output_dir": str(served), "formats": ["dicom"], "router": router.url}
        with ServerProcess(tmp_path / "log", network="slow", limits={"drain_s": 0.2}, **settings) as server:
            parts = [*messages(header, readouts), CLOSE]
            client = threading.Thread(target=dare, args=(server, parts, got))
            client.start()
            until(lambda: "1 so far" in server.log.read_text())
            assert server.stop() == 3
            client.join()
        assert not router.kept
        with ServerProcess(tmp_path / "log", **settings) as server:
            until(lambda: settled(served))
            assert server.stop() == 0
        places = [place(ds) for ds in router.datasets()]
    assert len(places) == len(set(places))
    assert {6.0 * index for index in got - {"close"}} <= set(places)
    assert places


def test_health_and_metrics(tmp_path):
    header, readouts = make_scan(tmp_path / "scan.h5")
    served, fault = tmp_path / "served", ["full disk"]
    model = {"name": "Model", "version": "1.0", "weights_sha256": "ab" * 32, "role": "original"}
    settings = {"output_dir": str(served), "formats": ["dicom"], "metrics_port": 0, "model": model}
    with FakeRouter(lambda number, ds: fault[0]) as router, serving(router=router.url, **settings) as server:
        port = server.server.page.port
        status, text = get(port, "/healthz")
        assert (status, json.loads(text)["status"], json.loads(text)["scans"]) == (200, "serving", 0)
        send_scan(server, header, readouts)
        talk(server, *messages(header, readouts[:5]))
        until(lambda: json.loads(get(port, "/healthz")[1])["hand_over"]["refused"])
        health = json.loads(get(port, "/healthz")[1])
        assert health["model"] == {
            "name": "Model 1.0", "role": "original", "weights": "ab" * 32, "audit": "not audited"
        }  # fmt: skip
        ((name, reason),) = health["hand_over"]["refused"].items()
        assert name.endswith("_original-abababab_dicom")
        assert "HTTP 507" in reason
        assert (health["hand_over"]["series"], health["hand_over"]["images"]) == (1, 4)
        assert len(health["raw_data"]["aside"]) == 1
        time.sleep(1.1)
        status, text = get(port, "/metrics")
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert status == 200
        assert float(found['mri_scans_total{outcome="complete"}']) == 1
        assert float(found['mri_scans_total{outcome="failed"}']) == 1
        assert float(found['mri_slices_total{image="network"}']) == 4
        assert float(found["mri_slice_seconds_count"]) == 4
        assert float(found["mri_hand_over_images"]) == 4
        assert float(found["mri_hand_over_failing_series"]) == 1
        assert 1 < float(found["mri_hand_over_oldest_seconds"]) < 60
        assert float(found["mri_raw_aside"]) == 1
        assert float(found["mri_errors_total"]) >= 1
        assert any(name.startswith("mri_model{") and "ab" * 32 in name for name in found)
        fault[0] = ""
        until(lambda: json.loads(get(port, "/healthz")[1])["hand_over"]["images"] == 0)
        assert json.loads(get(port, "/healthz")[1])["hand_over"]["handed_over"] == 4
        assert get(port, "/else")[0] == 404
        with pytest.raises(OSError, match=rf"'metrics_port': \('127.0.0.1', {port}\): Address already in use"):
            make_server(metrics_port=port).run()


class Gain(ZeroFilled):
    """Zero-filled images times a number, which stands for the weights."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, masked_kspace, mask=None):
        time.sleep(0.2)
        return self.gain * super().forward(masked_kspace)


def test_weights_are_loaded_between_two_scans_and_back(tmp_path, caplog):
    header, readouts = make_scan(tmp_path / "scan.h5")
    caplog.set_level("INFO")
    now = [1]

    def load():
        if now[0] == 0:
            raise BundleError("weights.pt: changed")
        return Gain(now[0]), ModelIdentity("Model", "1.0", f"{now[0]:064d}")

    def maximum(images):
        return max(float(image.data.max()) for image in images)

    with FakeRouter() as router:
        settings = {"output_dir": str(tmp_path / "served"), "formats": ["dicom"], "router": router.url}
        with serving(load=load, **settings) as server:
            expected = maximum(send_scan(server, header, readouts)[0])
            until(lambda: not server.server.service.arriving)
            during = []
            client = threading.Thread(target=lambda: during.extend(send_scan(server, header, readouts)[0]))
            client.start()
            until(lambda: server.server.service.arriving)
            now[0] = 2
            server.server.reload()
            until(lambda: "SIGHUP: from the next scan on Model 1.0" in caplog.text)
            client.join()
            assert maximum(during) == expected  # a scan has one network, to its end
            assert maximum(send_scan(server, header, readouts)[0]) == pytest.approx(2 * expected)
            now[0] = 0
            server.server.reload()
            until(lambda: "weights.pt: changed" in caplog.text)
            assert maximum(send_scan(server, header, readouts)[0]) == pytest.approx(2 * expected)
            now[0] = 1
            server.server.reload()
            until(lambda: caplog.text.count("SIGHUP: from the next scan on") == 2)
            assert maximum(send_scan(server, header, readouts)[0]) == expected
            until(lambda: settled(tmp_path / "served"))
        serials = {ds.ContributingEquipmentSequence[0].DeviceSerialNumber for ds in router.datasets()}
    assert serials == {f"{1:064d}", f"{2:064d}"}


def test_weights_that_a_certificate_does_not_name_are_refused(tmp_path, monkeypatch):
    network = varnet()
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "docs").mkdir()
    (bundle / "configs" / "metadata.json").write_text('{"name": "Model", "version": "2.0"}')
    weights = bundle / "model.pt"
    with torch.no_grad():
        for parameter in (other := varnet()).parameters():
            parameter.mul_(2)
    save_weights(other, weights)
    with pytest.raises(BundleError, match="missing"):
        load_model(network, weights, bundle)  # no manifest
    monkeypatch.setattr("scripts.serving.server.verify_shipped", lambda bundle: None)
    loaded, identity = load_model(network, weights, bundle)
    assert identity.version == "2.0"
    for ours, theirs, before in zip(
        loaded.state_dict().values(), other.state_dict().values(), network.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
        assert torch.equal(before * 2, theirs)
    (bundle / "docs" / "certificate.json").write_text('{"subject": [{"digest": {"sha256": "00"}}]}')
    with pytest.raises(ValueError, match="certificate.json: 'subject': expected the weights .*, found 00"):
        load_model(network, weights, bundle)


def test_sighup_reaches_the_server(tmp_path):
    with ServerProcess(tmp_path / "log") as server:
        os.kill(server.process.pid, signal.SIGHUP)
        until(lambda: "SIGHUP: from the next scan on" in server.log.read_text())
        assert server.stop() == 0


def test_a_protocol_has_its_settings_and_unknown_names_are_refused(tmp_path):
    header, readouts = make_scan(tmp_path / "scan.h5")

    def named(name):
        return struct.pack("<H", 1) + name.encode().ljust(1024, b"\0")

    parts = [*messages(header, readouts), CLOSE]
    with serving(protocols={"default": {}, "old scanner": {"pixels": "int16"}}) as server:
        assert {image.data.dtype for image in talk(server, named("default"), *parts)[0]} == {np.dtype("float32")}
        assert {image.data.dtype for image in talk(server, named("old scanner"), *parts)[0]} == {np.dtype("int16")}
        images, texts = talk(server, named("grappa"), *parts)
        assert not images
        assert texts == ["ERROR: configuration: expected one of default, old scanner, found 'grappa'"]


def test_scans_of_one_client_are_bounded(tmp_path):
    header, readouts = make_scan(tmp_path / "scan.h5")
    with serving(limits={"max_scans_per_client": 1}) as server, server.connect() as connection:
        for part in messages(header, readouts[:3]):
            connection.sendall(part)
        until(lambda: server.server.scans.total() == 1)
        _, texts = talk(server, header_message(header))
        assert texts == ["ERROR: busy: 1 scans of 127.0.0.1 are running; try again later"]


@needs_orthanc
def test_raw_data_in_and_pixels_out_of_the_second_archive(tmp_path):
    """Real Orthancs: client, server, router, storage commitment, archive; the router is away, then killed once."""
    header, readouts = make_scan(tmp_path / "scan.h5")
    served = tmp_path / "served"
    archive = Orthanc(tmp_path / "archive", DicomAet="ARCHIVE")
    router = Orthanc(tmp_path / "router", modalities={"archive": ["ARCHIVE", "127.0.0.1", archive.dicom]})
    archive = Orthanc(
        tmp_path / "archive", archive.web, archive.dicom, {"router": ["MRIROUTER", "127.0.0.1", router.dicom]},
        DicomAet="ARCHIVE",
    )  # fmt: skip
    settings = {"network": "varnet", "output_dir": str(served), "formats": ["nifti", "dicom"], "router": router.url}
    with archive, serving(**settings) as server:
        images, _ = send_scan(server, header, readouts)  # the router is away
        assert len(list(served.rglob("*.dcm"))) == SLICES
        with router:
            until(lambda: settled(served))
            router.kill()
            router.start()
            forward, stop = Forward(Router(router.url), "archive", retry_s=0.05), threading.Event()
            until(lambda: (time.sleep(0.1), forward.try_all(stop), not router.rest("/instances"))[-1])
        found = {place(ds): ds for ds in archive.datasets()}
        assert len(found) == len(archive.datasets()) == SLICES
    for image in images:
        ds = found[round(float(image.getHead().position[2]), 1)]
        slope = ds.RealWorldValueMappingSequence[0].RealWorldValueSlope
        levels = np.rint(image.data[0, 0].T.astype(np.float64) / slope)
        # rows were along y, now columns are along x: the plane lies as radiologists expect it
        np.testing.assert_array_equal(ds.pixel_array, levels)


def make_certificate(folder, name, signer=None):
    """A key with a certificate in one file; returns what signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing = signer or (names, key)
    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder().subject_name(names).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .sign(signing, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    path.chmod(0o600)
    return names, key


@pytest.mark.skipif(shutil.which("stunnel") is None, reason="stunnel is not installed (Debian package stunnel4)")
def test_a_scan_through_the_tunnel_and_none_without_a_certificate(tmp_path):
    """The tunnel's configuration as it is shipped, but for ports and paths."""
    authority = make_certificate(tmp_path, "ca")
    for name in ("server", "scanner"):
        make_certificate(tmp_path, name, authority)
    make_certificate(tmp_path, "stranger")
    header, readouts = make_scan(tmp_path / "scan.h5")
    with serving() as server:
        port = free_port()
        text = (CONFIGS / "router" / "stunnel.conf").read_text()
        text = text.replace("0.0.0.0:9102", f"127.0.0.1:{port}").replace("127.0.0.1:9002", f"127.0.0.1:{server.port}")
        (tmp_path / "stunnel.conf").write_text(text.replace("/etc/stunnel", str(tmp_path)))
        with (tmp_path / "log").open("wb") as log:
            tunnel = subprocess.Popen(["stunnel", str(tmp_path / "stunnel.conf")], stdout=log, stderr=log)
        try:
            wait_for(port, tunnel)
            secure = Running(port)

            def connect(name):
                context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
                context.check_hostname = False
                # TLS has no half-closed connection: Python would read what is encrypted as it is
                context.sslsocket_class = type("Whole", (ssl.SSLSocket,), {"shutdown": lambda self, how: None})
                if name:
                    context.load_cert_chain(tmp_path / f"{name}.pem")
                return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30))

            secure.connect = lambda: connect("scanner")
            images, _ = send_scan(secure, header, readouts)
            plain, _ = send_scan(server, header, readouts)
            for ours, theirs in zip(images, plain, strict=True):
                np.testing.assert_array_equal(ours.data, theirs.data)
            assert len(images) == SLICES
            for name in ("stranger", ""):
                with pytest.raises(OSError, match=".*"), connect(name) as connection:
                    connection.sendall(header_message(header))
                    assert not connection.recv(1)
                    raise OSError("closed")
            assert server.server.service.metrics.scans.labels("complete")._value.get() == 2
        finally:
            tunnel.terminate()
            tunnel.wait()
