"""MRD server: k-space in, images out, over TCP.

python -m monai.bundle run serve --config_file <bundle>/configs/serve.json
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import torch

from scripts.inference.model_identity import ModelIdentity
from scripts.serving.connection import Connection, Service
from scripts.serving.delivery import Delivery
from scripts.serving.limits import Limits, MemoryBudget, ScanError
from scripts.serving.messages import CLOSE_MESSAGE, text_message
from scripts.serving.mrd_image import PIXELS
from scripts.serving.slice_network import SliceNetwork

LINGER_S = 5
logger = logging.getLogger(__name__)


class MrdServer:
    """Listens until SIGTERM or SIGINT, then lets running scans end.

    Slices of all scans go through the network one at a time, so it needs memory for one. A client whose slice is being
    reconstructed is not read from meanwhile: TCP holds it back.

    Args:
        network: The network with its weights.
        device: The device on which it runs.
        host: The address to listen on; the default is reached from this machine alone.
        port: The port to listen on; 0 takes a free one.
        model: Named in every image.
        deliver: Writes each finished scan; its queue sends while the server runs. None: images go to the client alone.
        remove_oversampling: As for :func:`scripts.inference.encoding.read_encodings`.
        pixels: Of the images that clients get, "float32" or "int16"; see :func:`scripts.serving.mrd_image.mrd_image`.
        limits: Fields of :class:`scripts.serving.limits.Limits` that differ from its defaults.

    Raises:
        ValueError: an unknown limit, or unknown pixels.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        model: ModelIdentity | None = None,
        deliver: Delivery | None = None,
        remove_oversampling: bool = True,
        pixels: str = "float32",
        limits: dict | None = None,
    ) -> None:
        try:
            self.limits = replace(Limits(), **(limits or {}))
        except TypeError as error:
            raise ValueError(f"'limits': {error}") from error
        if pixels not in PIXELS:
            raise ValueError(f"'pixels': expected {' or '.join(PIXELS)}, found {pixels!r}")
        self.host, self.port, self.outbox = host, port, deliver.outbox if deliver is not None else None
        threads = torch.get_num_threads()
        self.executor = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))
        self.service = Service(
            SliceNetwork(network, device),
            self.executor,
            deliver or (lambda scan: []),
            self.limits,
            MemoryBudget(self.limits.max_memory_mb),
            str(model or ModelIdentity()),
            remove_oversampling,
            pixels,
        )
        self.stop: Callable[[], object] = lambda: None
        """Asks the running server to stop, from any thread."""
        self.connections: dict[asyncio.Task, Connection] = {}
        self.scans = 0

    def run(self, ready: Callable[[int], None] | None = None) -> None:
        """Serve; return when asked to stop and drained.

        Args:
            ready: Called with the port once the server listens.
        """
        _allow_files(self.limits.max_connections + 100)
        if self.outbox is not None:
            self.outbox.start()
        try:
            asyncio.run(self._serve(ready))
        finally:
            self.executor.shutdown()
            if self.outbox is not None:
                self.outbox.stop()

    async def _serve(self, ready: Callable[[int], None] | None) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.stop = lambda: loop.call_soon_threadsafe(stop.set)
        if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
        server = await asyncio.start_server(self._accept, self.host, self.port)
        port = server.sockets[0].getsockname()[1]
        logger.info("listening on %s, port %d", self.host, port)
        if ready is not None:
            ready(port)
        await stop.wait()
        server.close()
        await self._drain()

    async def _drain(self) -> None:
        """Let scans go on, end the others."""
        for task, connection in self.connections.items():
            if connection.scan is None:
                task.cancel()
        logger.info("stopping: %d scans go on for at most %g s", self.scans, self.limits.drain_s)
        if self.connections:
            _, late = await asyncio.wait(list(self.connections), timeout=self.limits.drain_s)
            for task in late:
                logger.error("%s: stopped before its end", self.connections[task].name)
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        logger.info("stopped")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task", asyncio.current_task())
        try:
            if len(self.connections) >= self.limits.max_connections:
                logger.error("refused: %d connections are open", len(self.connections))
                writer.write(text_message("ERROR: too many connections; try again later") + CLOSE_MESSAGE)
                return
            connection = self.connections[task] = Connection(reader, writer, self.service, self._admit)
            await connection.run()
        except asyncio.CancelledError:
            writer.write(text_message("ERROR: the server is stopping") + CLOSE_MESSAGE)
        finally:
            ended = self.connections.pop(task, None)
            if ended is not None and ended.admitted:
                self.scans -= 1
            await _close(reader, writer)

    def _admit(self) -> None:
        if self.scans >= self.limits.max_scans:
            raise ScanError(f"busy: {self.scans} scans are running; try again later")
        self.scans += 1


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close so that the last words arrive: what a client still sends is read for a while, or it would be reset."""
    try:
        writer.write_eof()
        await asyncio.wait_for(_read_out(reader), LINGER_S)
    except (OSError, asyncio.TimeoutError, asyncio.CancelledError):
        pass
    writer.transport.abort()


async def _read_out(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


def _allow_files(wanted: int) -> None:
    """Raise the number of files that may be open, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
