"""Series on their way to a router: nothing is lost, nothing waits behind another, whatever the router says or does."""

import contextlib
import os
import socket
import threading
import time

import pytest

from scripts.serving import Delivery, HandOver, Router, send
from scripts.serving.delivery import MOST_ATTEMPTS, RawStore
from scripts.serving.forward import Forward
from scripts.serving.hand_over import REFUSED, WAITING
from scripts.serving.router import AwayError, RefusedError
from tests.serving.nodes import BREAKS, FAULTS, FakeRouter, Orthanc, free_port, make_series, needs_orthanc, until


def queue(folder, router, **settings):
    """The hand-over to a router, whose waits are short."""
    return HandOver(folder, Router(router.url, timeout_s=1), retry_s=0.05, **settings)


def first_series_fails(fault):
    """The first series gets a fault for each of its images, for ever; the first image names the series."""
    victim = []

    def of(number, ds):
        victim[:] = victim or [ds.SeriesInstanceUID]
        return fault if ds.SeriesInstanceUID == victim[0] else ""

    return of


@pytest.mark.parametrize("fault", [*FAULTS, *BREAKS])
def test_a_series_that_is_not_stored_stays_is_named_and_lets_others_pass(tmp_path, fault, caplog):
    others = set()
    for number in range(4):
        uids = make_series(tmp_path / f"{number}_dicom", number, images=2)
        os.utime(tmp_path / f"{number}_dicom", (number, number))  # the order in which they wait
        others |= uids if number else set()
    handed = []
    with FakeRouter(first_series_fails(fault)) as router:
        found = queue(tmp_path, router, handed_over=handed.append)
        found.try_all()
        found.try_all()
        assert others <= router.kept.keys()
        assert [path.name for path in found.waiting()] == ["0_dicom"]
        assert len(list((tmp_path / "0_dicom").iterdir())) == 2
        assert [path.name for path in handed] == ["1_dicom", "2_dicom", "3_dicom"]
        (series,) = found.failures
        assert series.name == "0_dicom"
        named = [record for record in caplog.records if "0_dicom: not handed over" in record.getMessage()]
        assert len(named) == 1  # once, not at each attempt

        router.fault = lambda number, ds: ""  # the fault is mended
        until(lambda: (time.sleep(0.05), found.try_all(), not found.waiting())[-1])
    assert len(router.kept) == 8
    assert not found.failures


def test_a_router_that_is_away_is_waited_for_at_the_same_pace(tmp_path):
    """A new series does not make the wait longer, nor shorter; at its return all goes at once."""
    port = free_port()
    found = HandOver(tmp_path, Router(f"http://127.0.0.1:{port}", timeout_s=1), retry_s=0.2)
    found.start()
    try:
        expected = set()
        for number in range(12):
            expected |= make_series(tmp_path / f"{number}_dicom", number, images=1)
            found.wake()
            time.sleep(0.05)
        until(lambda: found.away)
        with FakeRouter(port=port) as router:
            back = time.monotonic()
            until(lambda: router.kept.keys() == expected and not found.waiting())
            assert time.monotonic() - back < 3
        assert not found.away
    finally:
        found.stop()


def test_what_lies_in_the_folder_is_handed_over_after_a_restart_and_half_written_series_are_not(tmp_path):
    expected = make_series(tmp_path / "a_dicom")
    make_series(tmp_path / ".partial-b_dicom-x1", 1)  # a kill left it
    with FakeRouter() as router:
        queue(tmp_path, router).try_all()
    assert router.kept.keys() == expected
    assert set(router.times.values()) == {1}
    assert [path.name for path in tmp_path.iterdir()] == [".partial-b_dicom-x1"]


def test_the_same_series_again_is_kept_once(tmp_path):
    with FakeRouter() as router:
        for _ in range(2):
            make_series(tmp_path / "a_dicom")
            queue(tmp_path, router).try_all()
    assert len(router.kept) == 3
    assert set(router.times.values()) == {2}


def test_a_file_that_is_no_image_is_named_and_lets_others_pass(tmp_path):
    expected = make_series(tmp_path / "a_dicom")
    (tmp_path / "b_dicom").mkdir()
    (tmp_path / "b_dicom" / "IM0001.dcm").write_bytes(b"")  # after a power cut
    with FakeRouter(lambda number, ds: "") as router:
        found = queue(tmp_path, router)
        found.try_all()
    assert router.kept.keys() == expected
    ((series, failure),) = found.failures.items()
    assert series.name == "b_dicom"
    assert failure.reason.startswith("IM0001.dcm: ") or "expected an answer" in failure.reason


def test_many_that_wait_are_found_at_once(tmp_path):
    for number in range(1000):
        folder = tmp_path / f"{number:04d}_dicom"
        folder.mkdir()
        for image in range(100):
            (folder / f"IM{image:04d}.dcm").touch()
    found = HandOver(tmp_path, Router(f"http://127.0.0.1:{free_port()}"))
    began = time.monotonic()
    assert sum(map(len, found.waiting().values())) == 100_000
    assert time.monotonic() - began < 5  # 0.3 s on a machine that does nothing else
    with pytest.raises(AwayError):
        found.try_all()


def test_the_router_is_checked_before_work(tmp_path):
    with pytest.raises(ValueError, match="'url': expected http://HOST:PORT .*, found 'localhost:8042'"):
        Router("localhost:8042")
    with pytest.raises(ValueError, match="'user' and 'password_file' together"):
        Router(user="me")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Router(user="me", password_file=tmp_path / "nowhere")
    from scripts.inference import VolumeWriter

    with pytest.raises(ValueError, match="'formats': expected dicom among them"):
        Delivery(VolumeWriter(tmp_path, ["nifti"]), Router())


def test_sending_files_keeps_them_and_its_exit_code_says_what_happened(tmp_path, capsys):
    expected = make_series(tmp_path / "out" / "scan_dicom") | make_series(tmp_path / "out" / "deep" / "b", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="'source': expected DICOM files"):
        send(tmp_path / "empty", Router())
    with pytest.raises(SystemExit) as ended:
        send(tmp_path / "out", Router(f"http://127.0.0.1:{free_port()}"), patience_s=0.05)
    assert ended.value.code == WAITING
    assert "6 images in 2 series were not handed over" in capsys.readouterr().err
    with FakeRouter(first_series_fails("full disk")) as router, pytest.raises(SystemExit) as ended:
        send(tmp_path / "out", Router(router.url), patience_s=0.05)
    assert ended.value.code == REFUSED
    said = capsys.readouterr().err
    assert "3 images in 1 series were not handed over" in said
    assert "HTTP 507" in said
    with FakeRouter() as router:
        assert send(tmp_path / "out", Router(router.url)) == 6
    assert router.kept.keys() == expected
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 6


def test_a_password_goes_to_the_router(tmp_path):
    (tmp_path / "password").write_text("secret\n")
    heard = []

    def listen():
        with listening.accept()[0] as connection:
            heard.append(connection.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=listen)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/orthanc"
        assert not Router(url, "me", tmp_path / "password", timeout_s=5).answers()
        thread.join()
    assert heard[0].startswith(b"GET /orthanc/system ")
    assert b"Authorization: Basic bWU6c2VjcmV0" in heard[0]


def test_raw_data_past_their_time_are_removed_and_others_are_not(tmp_path):
    store = RawStore(tmp_path / "raw", days=7)
    old, new, left = (store.new() for _ in range(3))
    for file in (old, new):
        file.append([b"abc"])
        file.aside("the client ended")
    os.utime(tmp_path / "raw" / f"{old.name}.aside", (1, 1))
    store.tidy()
    assert store.names_aside() == [new.name]
    assert (tmp_path / "raw" / f"{new.name}.txt").read_text() == "the client ended\n"
    assert [raw.name for raw in store.unfinished()] == [left.name]
    for attempt in range(1, MOST_ATTEMPTS + 1):
        left.again()
        (found,) = store.unfinished()
        assert (found.name, found.attempt) == (left.name, attempt)
    assert left.path.stat().st_mode & 0o777 == 0o640


@needs_orthanc
def test_orthanc_names_images_as_we_expect(tmp_path):
    """Our check of its answers does not refuse what it stored, whatever the patient is called."""
    names = ["P1", " P 2 ", "Ümläut", "", "a" * 64, "日本"]
    with Orthanc(tmp_path / "router") as router:
        for number, name in enumerate(names):
            make_series(tmp_path / f"{number}_dicom", number, images=1, patientID=name)
            Router(router.url).store(next((tmp_path / f"{number}_dicom").iterdir()))
        assert len(router.rest("/instances")) == len(names)
        with pytest.raises(RefusedError, match="HTTP 400 Bad Request: Bad file format"):
            (tmp_path / "no.dcm").write_bytes(b"no image")
            Router(router.url).store(tmp_path / "no.dcm")


@needs_orthanc
def test_a_router_with_a_full_disk_keeps_us_waiting(tmp_path):
    """Orthanc's own disk is full: what it does not confirm stays, and goes when there is room again."""
    expected = make_series(tmp_path / "out" / "a_dicom", images=6)
    router = Orthanc(tmp_path / "router")
    with router:
        pass
    size = max(path.stat().st_size for path in (tmp_path / "router").iterdir() if path.is_file())
    # no file may grow beyond what the database has now, as on a disk that is full
    router.start("prlimit", f"--fsize={size}")
    found = HandOver(tmp_path / "out", Router(router.url), retry_s=0.05)
    try:
        for _ in range(3):
            with contextlib.suppress(AwayError):  # Orthanc may end
                found.try_all()
            time.sleep(0.1)
        assert sum(map(len, found.waiting().values())) == 6
        assert found.failures or router.process.poll() is not None
    finally:
        router.kill()
    with router:
        until(lambda: (time.sleep(0.05), found.try_all(), not found.waiting())[-1])
        assert {str(ds.SOPInstanceUID) for ds in router.datasets()} == expected


@needs_orthanc
def test_what_the_archive_has_not_committed_stays_in_the_router(tmp_path, caplog):
    """Router to archive: away, refusing one series, killed in the middle; at the end each image is there once."""
    refuses = tmp_path / "refuses.lua"
    refuses.write_text('function ReceivedInstanceFilter(dicom)\n return dicom.PatientID ~= "refused"\nend\n')
    expected, kept_back = set(), make_series(tmp_path / "out" / "r_dicom", 9, images=2, patientID="refused")
    for number in range(3):
        expected |= make_series(tmp_path / "out" / f"{number}_dicom", number, images=4, patientID=str(number))
    archive = Orthanc(tmp_path / "archive", DicomAet="ARCHIVE", LuaScripts=[str(refuses)])
    nodes = {"archive": ["ARCHIVE", "127.0.0.1", archive.dicom]}
    with Orthanc(tmp_path / "router", modalities=nodes) as router:
        back = {"router": ["MRIROUTER", "127.0.0.1", router.dicom]}
        archive = Orthanc(
            tmp_path / "archive", archive.web, archive.dicom, back, DicomAet="ARCHIVE", LuaScripts=[str(refuses)]
        )
        HandOver(tmp_path / "out", Router(router.url)).try_all()
        assert len(router.rest("/instances")) == 14
        forward = Forward(Router(router.url), "archive", commitment_s=10, retry_s=0.05)
        stop = threading.Event()
        forward.try_all(stop)
        assert len(forward.failures) == 4  # the archive is away
        assert len(router.rest("/instances")) == 14
        with archive:
            thread = threading.Thread(target=forward.try_all, args=(stop,))
            time.sleep(0.2)
            thread.start()
            until(lambda: len(archive.rest("/instances")) > 2)
            archive.kill()  # in the middle
            thread.join()
            archive.start()
            until(lambda: (time.sleep(0.1), forward.try_all(stop), len(forward.failures) == 1)[-1])
            assert {str(ds.SOPInstanceUID) for ds in archive.datasets()} == expected
            assert {str(ds.SOPInstanceUID) for ds in router.datasets()} == kept_back
            assert "not in archive" in caplog.text
