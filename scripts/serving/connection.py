"""The conversation with one client, from its first message to the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from scripts.serving.limits import Limits, MemoryBudget, ScanError
from scripts.serving.messages import (
    ACQUISITION,
    CLOSE,
    CLOSE_MESSAGE,
    CONFIG_FILE,
    CONFIG_TEXT,
    HEADER,
    IMAGE,
    TEXT,
    WAVEFORM,
    Message,
    image_message,
    read_message,
    text_message,
)
from scripts.serving.mrd_image import mrd_image
from scripts.serving.scan import OpenSlice, Scan, UnusableReadout
from scripts.serving.slice_network import SliceNetwork

MOST_COMPLAINTS = 10
"""Unusable readouts that a client is told about one by one; the others are counted."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What all connections share.

    Attributes:
        reconstruct: One slice through the network.
        executor: The executor that runs it, one slice at a time.
        deliver: Takes the finished scan, and returns where its series went.
        limits: The limits of every client.
        budget: Memory of all scans.
        model: Name and version.
        remove_oversampling: As for :func:`scripts.inference.encoding.read_encodings`.
        pixels: As for :func:`scripts.serving.mrd_image.mrd_image`.
    """

    reconstruct: SliceNetwork
    executor: Executor
    deliver: Callable[[Scan], list[str]]
    limits: Limits
    budget: MemoryBudget
    model: str
    remove_oversampling: bool = True
    pixels: str = "float32"


class Connection:
    """One client.

    Args:
        reader, writer: Its TCP stream.
        service: What all share.
        admit: Called when a header comes; raises ScanError where there is no room for another scan.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        service: Service,
        admit: Callable[[], None],
    ) -> None:
        self.reader, self.writer, self.service, self.admit = reader, writer, service, admit
        peer = writer.get_extra_info("peername") or ("unknown",)
        self.name = ":".join(map(str, peer[:2]))
        self.scan: Scan | None = None
        self.admitted = self.complete = self.gone = False
        self.images = 0
        self.series: dict[tuple[int, ...], int] = {}

    async def run(self) -> None:
        """Serve the client until it closes, fails or has used up its time; every error is logged and told to it."""
        limits = self.service.limits
        try:
            await asyncio.wait_for(self._converse(), limits.scan_s)
        except asyncio.TimeoutError:
            await self._fail(f"expected the scan to end within {limits.scan_s:g} s, found it going on")
        except ScanError as error:
            await self._fail(str(error))
        except (ConnectionError, BrokenPipeError) as error:
            logger.error("%s: connection lost: %s", self.name, error)
        except Exception as error:  # a fault of ours: this client is told, the next is served
            logger.exception("%s: failed", self.name)
            await self._fail(f"the server failed: {type(error).__name__}: {error}")
        finally:
            if self.scan is not None:
                self.scan.close()

    async def _converse(self) -> None:
        while True:
            message = await read_message(self.reader, self.service.limits)
            if message is None:
                if self.scan is None:
                    logger.info("%s: closed without a scan", self.name)
                    return
                raise ScanError("the client ended without a close message; the scan is not delivered")
            if message.kind == CLOSE:
                await self._finish()
                return
            if message.kind in (CONFIG_FILE, CONFIG_TEXT, TEXT):
                logger.info("%s: %s", self.name, message.text[:200].replace("\n", " "))
            elif message.kind == HEADER:
                self._begin(message.text)
            elif message.kind == ACQUISITION:
                await self._readout(message)
            elif message.kind == IMAGE:
                await self._say("ERROR", "an image was left out: this server reconstructs k-space")
            else:
                assert message.kind == WAVEFORM  # not used, and not asked for

    def _begin(self, header: str) -> None:
        if self.scan is not None:
            raise ScanError("header message: expected one, found another")
        self.admit()
        self.admitted = True
        service = self.service
        self.scan = Scan(header, self.name, service.limits, service.budget, service.remove_oversampling)
        rows, columns = self.scan.encoding.matrix
        logger.info("%s: scan of %d x %d begins", self.name, rows, columns)

    async def _readout(self, message: Message) -> None:
        if self.scan is None or message.head is None or message.samples is None:
            raise ScanError("acquisition message: expected a header first, found none")
        try:
            complete = self.scan.take(message.head, message.samples)
        except UnusableReadout as error:
            if self.scan.unusable <= MOST_COMPLAINTS:
                await self._say("ERROR", str(error))
            return
        if complete is not None:
            await self._reconstruct(self.scan, complete)

    async def _reconstruct(self, scan: Scan, target: OpenSlice) -> None:
        if refusal := scan.refuse(target):
            await self._say("ERROR", refusal)
            return
        image, note = await self._in_executor(
            lambda: self.service.reconstruct(scan.kspace_of(target), target.encoding.crop, self.name)
        )
        done = scan.finish(target, image, note)
        self.images += 1
        series = self.series.setdefault(target.place[0], len(self.series) + 1)
        content = mrd_image(done, target.encoding, series, self.images, self.service.model, self.service.pixels)
        if self.images == 1:
            await self._say("INFO", "; ".join(scan.notes))
        await self._send(image_message(content))
        text = f"slice {target.place[1]} of series {series} reconstructed, {self.images} so far"
        await self._say("ERROR" if done.note else "INFO", f"{text}: {done.note}" if done.note else text)

    async def _finish(self) -> None:
        """Reconstruct what is left and deliver, though the client may be gone by now."""
        scan, self.complete = self.scan, True
        if scan is not None:
            for target in scan.rest():
                await self._reconstruct(scan, target)
            if scan.unusable:
                await self._say("ERROR", f"{scan.unusable} readouts could not be used")
            if not self.images:
                raise ScanError("expected readouts of an image, found none")
            for raw, _ in scan.series():
                await self._say("INFO", f"series {raw.number}: {'; '.join(raw.notes)}")
            await self._deliver(scan)
        logger.info("%s: done, %d images", self.name, self.images)
        await self._send(CLOSE_MESSAGE)

    async def _deliver(self, scan: Scan) -> None:
        """Deliver; as a scan cannot be repeated, a disk that is full is tried again for a while."""
        limit = self.service.limits.delivery_s
        waits = (limit / 60 * 2**number for number in range(6))  # 63 / 60 of the limit in all
        while True:
            try:
                places = await self._in_executor(lambda: self.service.deliver(scan))
                break
            except OSError as error:
                if (wait := next(waits, None)) is None:
                    raise ScanError(f"not delivered within {limit:g} s: {error}") from error
                await self._say("ERROR", f"not delivered yet, the next attempt is in {wait:.0f} s: {error}")
                await asyncio.sleep(wait)
        for place in places:
            await self._say("INFO", f"delivered: {place}")

    def _in_executor(self, function: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self.service.executor, function)

    async def _say(self, level: str, text: str) -> None:
        logger.log(logging.getLevelName(level), "%s: %s", self.name, text)
        await self._send(text_message(f"{level}: {text}"))

    async def _send(self, content: bytes) -> None:
        if self.gone:
            return
        expected = f"expected the client to take what it is sent within {self.service.limits.send_s:g} s"
        try:
            self.writer.write(content)
            await asyncio.wait_for(self.writer.drain(), self.service.limits.send_s)
        except (asyncio.TimeoutError, ConnectionError) as error:
            self.writer.transport.abort()
            if not self.complete:
                raise ScanError(expected) from error
            self.gone = True
            logger.error("%s: %s; its scan is complete and goes on without it", self.name, expected)

    async def _fail(self, reason: str) -> None:
        logger.error("%s: %s", self.name, reason)
        try:
            await self._send(text_message(f"ERROR: {reason}") + CLOSE_MESSAGE)
        except (OSError, ScanError):
            logger.info("%s: could not be told", self.name)
