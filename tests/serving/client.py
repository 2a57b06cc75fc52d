"""A client of the MRD protocol, built on the ``ismrmrd`` package's own serialisation."""

import contextlib
import io
import logging
import multiprocessing
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from pathlib import Path

import ismrmrd
import numpy as np
import torch
from ismrmrd.serialization import ConfigFile, ProtocolDeserializer, ProtocolSerializer

from scripts.inference import ModelIdentity, VolumeWriter
from scripts.networks import VarNet, ZeroFilled
from scripts.serving import Delivery, MrdServer, Router

ROOT = Path(__file__).resolve().parents[2]


class Breaks(ZeroFilled):
    """A network that fails."""

    def forward(self, masked_kspace, mask=None):
        raise RuntimeError("out of memory, say")


class NotFinite(ZeroFilled):
    """A network whose images are NaN."""

    def forward(self, masked_kspace, mask=None):
        return super().forward(masked_kspace) * float("nan")


class Slow(ZeroFilled):
    """A network that takes its time."""

    def forward(self, masked_kspace, mask=None):
        time.sleep(0.3)
        return super().forward(masked_kspace)


class Brief(ZeroFilled):
    """A network that takes a moment, so that a kill may come in it."""

    def forward(self, masked_kspace, mask=None):
        time.sleep(0.05)
        return super().forward(masked_kspace)


def varnet() -> VarNet:
    torch.manual_seed(0)
    return VarNet(num_cascades=1, chans=4, pools=2, sens_chans=4, sens_pools=2)


NETWORKS = {
    "varnet": varnet,
    "zero": ZeroFilled,
    "breaks": Breaks,
    "not finite": NotFinite,
    "slow": Slow,
    "brief": Brief,
}


MODEL = ModelIdentity("Model", "1.0")


def make_server(
    network="zero", output_dir=None, formats=("nifti",), router=None, model=MODEL, load=None, **settings
) -> MrdServer:
    """A server on a free port; ``router`` is the address of one, ``model`` its identity or the fields of that."""
    if output_dir:
        writer = VolumeWriter(output_dir, list(formats))
        settings["deliver"] = Delivery(writer, router and Router(router, timeout_s=5), retry_s=0.1)
    identity = ModelIdentity(**model) if isinstance(model, dict) else model
    return MrdServer(load or (lambda: (NETWORKS[network](), identity)), torch.device("cpu"), port=0, **settings)


class Running:
    """Where a server listens."""

    def __init__(self, port: int, server: MrdServer | None = None) -> None:
        self.port, self.server = port, server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextlib.contextmanager
def serving(**settings):
    """A server in a thread for the time of a block; see :func:`make_server`."""
    server, ports = make_server(**settings), queue.Queue()
    thread = threading.Thread(target=lambda: server.run(ports.put))
    thread.start()
    try:
        yield Running(ports.get(timeout=60), server)
    finally:
        server.stop()
        thread.join()


def _serve(log: str, port, settings) -> None:
    """In a process of its own: serve, and say where."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(file, number)
    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(levelname)s %(message)s", force=True)
    make_server(**settings).run(port.send)


class ServerProcess(Running):
    """A server in a process of its own, so that it can be killed and its memory measured.

    It is forked from a process that has loaded everything, so that it starts at once.

    Args:
        log: file for its log, to which is added.
        settings: see :func:`make_server`.
    """

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.serving.client"])

    def __init__(self, log: Path, **settings) -> None:
        self.log = log
        os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'bundle'}:{os.environ.get('PYTHONPATH', '')}"
        os.environ["OMP_NUM_THREADS"] = "1"
        ours, theirs = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=_serve, args=(str(log), theirs, settings))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.process.start()
        theirs.close()
        with ours:
            try:
                assert ours.poll(60), log.read_text()
                super().__init__(ours.recv())
            except EOFError:
                raise AssertionError(log.read_text()) from None

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.join()

    def memory(self) -> int:
        """Resident memory in bytes."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(60)
        return self.process.exitcode


def header_message(text: bytes | str) -> bytes:
    content = text.encode() if isinstance(text, str) else text
    return struct.pack("<HI", 3, len(content)) + content


def text_message(text: bytes, kind: int = 5) -> bytes:
    return struct.pack("<HI", kind, len(text)) + text


CLOSE = struct.pack("<H", 4)


def readout_message(readout: ismrmrd.Acquisition) -> bytes:
    return struct.pack("<H", 1008) + readout.to_bytes()


def read_file(path: Path) -> tuple[bytes, list[ismrmrd.Acquisition]]:
    """Header and readouts of an ISMRMRD file."""
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=False) as dataset:
        count = dataset.number_of_acquisitions()
        return dataset.read_xml_header(), [dataset.read_acquisition(index) for index in range(count)]


def receive(stream) -> tuple[list[ismrmrd.Image], list[str]]:
    """Images and texts until the server's close message."""
    images, texts = [], []
    for item in ProtocolDeserializer(stream).deserialize():
        if isinstance(item, ismrmrd.Image):
            images.append(item)
        else:
            assert item.endswith("\0")  # as the protocol says
            texts.append(item[:-1])
    return images, texts


def talk(server: Running, *parts: bytes) -> tuple[list[ismrmrd.Image], list[str]]:
    """Send bytes and read the answer to its end."""
    with server.connect() as connection, connection.makefile("rb") as stream:

        def send() -> None:
            with contextlib.suppress(OSError):  # the server may have closed before all was sent
                for part in parts:
                    connection.sendall(part)
                connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        answer = receive(stream)
        sender.join()
    return answer


def send_scan(server: Running, header: bytes, readouts) -> tuple[list[ismrmrd.Image], list[str]]:
    """A whole session: configuration, header, readouts, close."""
    start = io.BytesIO()
    ProtocolSerializer(start).serialize(ConfigFile("default"))
    return talk(server, start.getvalue(), header_message(header), *map(readout_message, readouts), CLOSE)


def values(image: ismrmrd.Image) -> np.ndarray:
    """(h, w), rows along the readout."""
    return image.data[0, 0].T
