"""What a client can do wrong: each time it is told, memory stays bounded, and the next client is served."""

import resource
import socket
import struct
import time

import ismrmrd
import numpy as np
import pytest

from tests.inference.raw_files import HEADER, make_kspace, write_ismrmrd
from tests.serving.client import CLOSE, ServerProcess, header_message, read_file, readout_message, talk, text_message

MEGABYTE = 1_000_000
LIMITS = {"idle_s": 1.5, "message_s": 1.5, "scan_s": 20, "send_s": 2, "max_scans": 3, "max_memory_mb": 60}
SIZES = {"coils": 2, "x": 32, "y": 16, "rx": 16, "ry": 16, "last": 15, "centre": 8, "trajectory": "cartesian"}
SIZES |= {"fov_x": 32, "fov_y": 16, "fov_rx": 16, "fov_ry": 16}
GOOD = header_message(HEADER.format(**SIZES))
ACQUISITION, IMAGE, WAVEFORM = (struct.pack("<H", kind) for kind in (1008, 1022, 1026))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server") / "log", limits=LIMITS) as process:
        yield process


@pytest.fixture(scope="module")
def good_scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    write_ismrmrd(path, make_kspace(slices=2, height=32, width=16))
    header, readouts = read_file(path)
    return [header_message(header), *map(readout_message, readouts), CLOSE]


@pytest.fixture(autouse=True)
def next_client_is_served(server, good_scan):
    """After each fault a scan still gives its images, and memory has not grown."""
    before = server.memory()
    yield
    images, texts = talk(server, *good_scan)
    assert len(images) == 2
    assert not [text for text in texts if text.startswith("ERROR")]
    assert server.memory() - before < 80 * MEGABYTE


def readout(coils=2, samples=32, column=8, change=None, **fields):
    """One readout's message."""
    acquisition = ismrmrd.Acquisition.from_array(np.ones((coils, samples), np.complex64))
    acquisition.center_sample = samples // 2
    acquisition.idx.kspace_encode_step_1 = column
    for name, value in fields.items():
        setattr(acquisition, name, value)
    if change is not None:
        change(acquisition)
    return readout_message(acquisition)


def head(**fields) -> bytes:
    """The head of a readout alone."""
    found = ismrmrd.AcquisitionHeader()
    for name, value in fields.items():
        setattr(found, name, value)
    return ACQUISITION + bytes(found)


def image_head(**fields) -> bytes:
    found = ismrmrd.ImageHeader()
    found.data_type, found.channels = 5, 1
    found.matrix_size[:] = (1, 1, 1)
    for name, value in fields.items():
        if name == "matrix_size":
            found.matrix_size[:] = value
        else:
            setattr(found, name, value)
    return IMAGE + bytes(found)


def with_header(**sizes) -> bytes:
    return header_message(HEADER.format(**{**SIZES, **sizes}))


def second_encoding(acquisition):
    acquisition.idx.kspace_encode_step_2 = 3


def not_a_number(acquisition):
    acquisition.data[1, 4] = np.nan


def infinite(acquisition):
    acquisition.data[0, 0] = np.inf


ENDED = {  # what is sent -> what the client is told at once; the connection ends
    "garbage": (b"GET / HTTP/1.1\r\n\r\n" * 20, "expected a number of the MRD protocol"),
    "zeros": (bytes(4000), "expected a number of the MRD protocol .* found 0"),
    "unknown message": (struct.pack("<H", 1030), "found 1030"),
    "half a number": (b"\x01", "expected its number of 2 bytes, found 1"),
    "half a configuration file": (struct.pack("<H", 1) + b"x" * 500, "configuration file message: .*found 500"),
    "half a length": (struct.pack("<H", 3) + b"\1\2", "header message: expected 4 more bytes, found 2"),
    "half a header": (struct.pack("<HI", 3, 1000) + b"<", "header message: expected 1000 more bytes, found 1"),
    "half a text": (struct.pack("<HI", 5, 99) + b"hello", "text message: expected 99 more bytes, found 5"),
    "2 GB of header": (struct.pack("<HI", 3, 2**31), "at most 4000000 bytes, found 2147483648 announced"),
    "4 GB of text": (struct.pack("<HI", 5, 2**32 - 1), "text message: expected at most 4000000 bytes"),
    "4 GB of configuration": (struct.pack("<HI", 2, 2**32 - 1), "configuration message: expected at most 4000000"),
    "text that is no UTF-8": (text_message(b"\xff\xfe"), "text message: expected UTF-8 text"),
    "header that is no UTF-8": (header_message(b"\xff\xfe"), "header message: expected UTF-8 text"),
    "header that is no XML": (header_message(b"Dummy XML header"), "header: expected XML"),
    "empty header": (header_message(b""), "header: expected XML"),
    "header of nested entities": (
        header_message(
            b'<!DOCTYPE h [<!ENTITY a "' + b"x" * 1000 + b'">'
            + b"".join(b'<!ENTITY %c "%s">' % (c + 1, b"&%c;" % c * 30) for c in range(97, 107))
            + b"]><h>&k;</h>"
        ),
        "header: expected XML",
    ),
    "radial": (with_header(trajectory="radial"), "'trajectory': expected cartesian, found radial"),
    "matrix of nothing": (with_header(x=0), "matrixSize': expected whole numbers x, y from 1, found '0', '16'"),
    "negative matrix": (with_header(y=-16), "expected whole numbers x, y from 1, found '32', '-16'"),
    "matrix without end": (with_header(x=100000), "expected at most 4096 a side, found 100000 x 16"),
    "matrix that is no number": (with_header(x="many"), "'encodedSpace/matrixSize': expected whole numbers"),
    "centre that is no number": (with_header(centre="middle"), "expected a whole number, found 'middle'"),
    "two headers": (GOOD + GOOD, "header message: expected one, found another"),
    "readout before the header": (readout(), "acquisition message: expected a header first"),
    "half a head": (GOOD + ACQUISITION + bytes(100), "acquisition message: expected 340 more bytes, found 100"),
    "half a readout": (GOOD + readout()[:-100], "acquisition message: expected 512 more bytes, found 412"),
    "readout of 34 GB": (
        GOOD + head(number_of_samples=65535, active_channels=65535),
        "acquisition message: expected at most 128000000 bytes, found 34358689800 announced",
    ),
    "trajectory of 17 GB": (
        GOOD + head(number_of_samples=65535, active_channels=1, trajectory_dimensions=65535),
        "acquisition message: expected at most 128000000 bytes",
    ),
    "readout without channels": (GOOD + readout(coils=0), "'active_channels': expected at least 1, found 0"),
    "slice beyond the memory": (with_header(x=4000, y=4000) + readout(), "memory: expected at most 60 MB"),
    "image without end": (
        GOOD + image_head(channels=65535, matrix_size=(65535, 65535, 65535)) + bytes(8),
        "image message: expected at most 128000000 bytes",
    ),
    "image of an unknown type": (GOOD + image_head(data_type=77) + bytes(8), "'data_type'.*77"),
    "attributes of an image without end": (
        GOOD + image_head() + b"\xff" * 8, "image message: expected at most 4000000 bytes, found 18446744073709551615"
    ),
    "half a waveform": (GOOD + WAVEFORM + bytes(10), "waveform message: expected 40 more bytes, found 10"),
    "waveform of 17 GB": (
        GOOD + WAVEFORM + struct.pack("<HxxxxxxQIIIHHfHxx", 1, 0, 0, 0, 0, 65535, 65535, 1.0, 0),
        "waveform message: expected at most 128000000 bytes",
    ),
    "a scan without readouts": (GOOD + CLOSE, "expected readouts of an image, found none"),
    "noise alone": (
        GOOD + readout(change=lambda a: a.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)) + CLOSE,
        "expected readouts of an image, found none",
    ),
    "an end without a close": (GOOD + readout(), "ended without a close message"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ENDED)
def test_the_connection_ends_with_a_reason(server, fault):
    import re

    sent, expected = ENDED[fault]
    images, texts = talk(server, sent)
    assert not images
    assert re.search(expected, texts[-1]), texts
    assert texts[-1].startswith("ERROR: ")
    assert re.search(expected, server.log.read_text())


LEFT_OUT = {  # a readout that cannot be used -> why; the scan goes on
    "NaN": (readout(change=not_a_number), "expected finite samples, found NaN or Inf"),
    "infinite": (readout(change=infinite), "expected finite samples, found NaN or Inf"),
    "column out of range": (readout(column=16), "'kspace_encode_step_1': expected columns 0 to 15, found 16"),
    "second phase encoding": (readout(change=second_encoding), "'kspace_encode_step_2': expected 0"),
    "too long": (readout(samples=50), "'center_sample': 50 samples centred at 25 do not fit"),
    "off centre": (readout(center_sample=3), "'center_sample': 32 samples centred at 3 do not fit"),
    "nothing kept": (readout(discard_pre=20, discard_post=20), "do not fit the encoded matrix"),
    "other channels": (readout(coils=3), "'active_channels': expected 2, found 3"),
}


@pytest.mark.parametrize("fault", LEFT_OUT)
def test_a_readout_is_left_out_and_the_scan_goes_on(server, fault):
    sent, expected = LEFT_OUT[fault]
    good = [readout(column=column) for column in range(16)]
    images, texts = talk(server, GOOD, good[0], sent, *good[1:], CLOSE)
    assert len(images) == 1
    assert any(text.startswith("ERROR: readout") and expected in text for text in texts), texts


def test_readouts_of_a_slice_that_is_complete_are_left_out(server):
    last = readout(column=15, change=lambda a: a.setFlag(ismrmrd.ACQ_LAST_IN_SLICE))
    images, texts = talk(server, GOOD, readout(), last, readout(column=3), CLOSE)
    assert len(images) == 1
    assert any("its slice was complete before" in text for text in texts)


def test_complaints_are_bounded(server):
    _, texts = talk(server, GOOD, readout(), *[readout(column=99)] * 500, CLOSE)
    assert sum("left out" in text for text in texts) == 10
    assert "ERROR: 500 readouts could not be used" in texts


def test_images_and_waveforms_are_passed_over(server):
    waveform = WAVEFORM + ismrmrd.Waveform.from_array(np.ones((2, 7), np.uint32)).to_bytes()
    image = IMAGE + ismrmrd.Image.from_array(np.ones((3, 4), np.float32)).to_bytes()
    configuration = struct.pack("<H", 1) + b"anything".ljust(1024, b"\0")
    images, texts = talk(server, configuration, GOOD, waveform, image, text_message(b"{}"), readout(), waveform, CLOSE)
    assert len(images) == 1
    assert any("an image was left out" in text for text in texts)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "expected a message within 1.5 s, found none"),
        (GOOD, "expected a message within 1.5 s, found none"),
        (struct.pack("<HI", 3, 1000) + b"<", "header message: expected whole within 1.5 s, found a part of it"),
        (GOOD + readout()[:-8], "acquisition message: expected whole within 1.5 s"),
    ],
    ids=["nothing", "after the header", "in the header", "in a readout"],
)
def test_a_client_that_stops_is_let_go(server, sent, reason):
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(sent)
        answer = stream.read()
    assert reason in answer.decode("utf-8", "replace")


def test_a_client_that_sends_byte_by_byte_is_let_go(server):
    started = time.monotonic()
    with server.connect() as connection:
        connection.sendall(struct.pack("<HI", 3, 100000))
        with pytest.raises(OSError, match=r".*"):
            for _ in range(1000):
                connection.sendall(b"<")
                time.sleep(0.1)
    assert time.monotonic() - started < 60


def test_a_client_that_does_not_read_is_let_go(server):
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        with pytest.raises(OSError, match=r".*"):
            connection.sendall(with_header(x=256, y=256, rx=256, ry=256, fov_rx=32))
            for number in range(3000):
                done = readout(samples=256, change=lambda a, n=number: last_of(a, n))
                connection.sendall(done)
        deadline = time.monotonic() + 60  # a busy machine may be slow to notice
        while "expected the client to take what it is sent" not in server.log.read_text():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.1)


def last_of(acquisition, number):
    acquisition.idx.slice = number
    acquisition.setFlag(ismrmrd.ACQ_LAST_IN_SLICE)


def test_a_reset_connection_is_survived(server):
    connection = server.connect()
    connection.sendall(GOOD + readout())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_thousand_idle_connections_keep_nobody_out(server, good_scan):
    before = server.memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    idle = [server.connect() for _ in range(1000)]
    try:
        images, _ = talk(server, *good_scan)
        assert len(images) == 2
        assert server.memory() - before < 150 * MEGABYTE
    finally:
        for connection in idle:
            connection.close()


def test_more_scans_than_the_limit_are_told_to_come_again(server):
    running = [server.connect() for _ in range(3)]
    try:
        for connection in running:
            connection.sendall(GOOD + readout())
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            _, texts = talk(server, GOOD)
            if "busy: 3 scans are running" in texts[-1]:
                break
        assert "busy: 3 scans are running" in texts[-1]
    finally:
        for connection in running:
            connection.close()
        time.sleep(0.2)


def test_many_open_slices_are_bounded_by_the_memory(server):
    def slice_number(number):
        def change(acquisition):
            acquisition.idx.slice, acquisition.idx.repetition = number % 60000, number // 60000

        return change

    many = [readout(change=slice_number(number)) for number in range(6000)]
    images, texts = talk(server, GOOD, *many, CLOSE)
    assert not images
    assert "memory: expected at most 60 MB for all scans" in texts[-1]
