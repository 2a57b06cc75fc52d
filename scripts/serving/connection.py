"""The conversation with one client, from its first message to the last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scripts.serving.delivery import Delivery, NotWrittenError, RawFile, new_name
from scripts.serving.images import Model, mrd_image
from scripts.serving.limits import BusyError, Limits, MemoryBudget, ScanError
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
    Reader,
    Recorded,
    image_message,
    read_message,
    text_message,
)
from scripts.serving.operation import Metrics
from scripts.serving.scan import OpenSlice, Scan, UnusableReadoutError

MOST_COMPLAINTS = 10
"""Unusable readouts that a client is told about one by one; the others are counted."""
T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass
class Service:
    """What all connections share, see :class:`scripts.serving.MrdServer`.

    Attributes:
        model: The model of scans that begin from now on.
        executor: The executor that runs it, one slice at a time.
        arriving: Names of the scans that are going on.
    """

    model: Model
    executor: Executor
    deliver: Delivery | None
    limits: Limits
    budget: MemoryBudget
    settings: Mapping[str, Any]
    protocols: Mapping[str, Mapping[str, Any]] | None = None
    metrics: Metrics = field(default_factory=Metrics)
    arriving: set[str] = field(default_factory=set)


class Connection:
    """One client, or the raw data of a scan that is finished after a restart.

    Args:
        reader: Its bytes.
        writer: Its TCP stream; None: nobody listens.
        service: What all share.
        admit: Called when a header comes; raises ScanError where there is no room for another scan.
        raw: The raw data that are read; None: they are written.
    """

    def __init__(
        self,
        reader: Reader,
        writer: asyncio.StreamWriter | None,
        service: Service,
        admit: Callable[[], None] = lambda: None,
        raw: RawFile | None = None,
    ) -> None:
        self.reader, self.writer, self.service, self.admit = Recorded(reader), writer, service, admit
        peer = (writer and writer.get_extra_info("peername")) or (raw.path.name if raw else "unknown",)
        self.name = ":".join(map(str, peer[:2]))
        self.host = str(peer[0])
        self.scan: Scan | None = None
        self.model, self.settings = service.model, dict(service.settings)
        self.replayed = raw is not None
        self.raw, self.started = raw, list[bytes]()
        self.admitted = self.complete = False
        self.gone = writer is None
        self.images = 0
        self.series: dict[tuple[int, ...], int] = {}

    async def run(self) -> None:
        """Serve the client until it closes, fails or has used up its time; every error is logged and told to it.

        What was complete of a scan that ends early is delivered, and marked.
        """
        longest = self.service.limits.scan_s
        try:
            await asyncio.wait_for(self._converse(), longest)
            if self.raw is not None and self.scan is None:  # killed before its header was written
                self.raw.delivered(keep=False)
        except asyncio.TimeoutError:
            await self._end_early(ScanError(f"expected the scan to end within {longest:g} s, found it going on"))
        except ScanError as error:
            await self._end_early(error)
        except ConnectionError as error:
            await self._end_early(ScanError(f"connection lost: {error}"))
        except Exception as error:  # a fault of ours: this client is told, the next is served
            logger.exception("%s: failed", self.name)
            await self._end_early(ScanError(f"the server failed: {type(error).__name__}: {error}"))
        finally:
            if self.scan is not None:
                self.scan.close()
            if self.raw is not None:
                self.service.arriving.discard(self.raw.name)

    async def _converse(self) -> None:
        while True:
            message = await read_message(self.reader, self.service.limits)
            if message is None:
                if self.scan is None:
                    logger.info("%s: closed without a scan", self.name)
                    return
                raise ScanError("the client ended without a close message")
            if message.kind in (CONFIG_FILE, CONFIG_TEXT, TEXT):
                if message.kind == CONFIG_FILE:
                    self._configure(message.text)
                logger.info("%s: %s", self.name, message.text[:200].replace("\n", " "))
            elif message.kind == HEADER:
                await self._begin(message.text)
            await self._record(message)
            if message.kind == CLOSE:
                await self._finish()
                return
            if message.kind == ACQUISITION:
                await self._readout(message)
            elif message.kind == IMAGE:
                await self._say("ERROR", "an image was left out: this server reconstructs k-space")
            else:
                assert message.kind in (WAVEFORM, CONFIG_FILE, CONFIG_TEXT, TEXT, HEADER)  # waveforms are not used

    def _configure(self, name: str) -> None:
        """Take the settings of a protocol by the name of its configuration.

        Raises:
            ScanError: a name that is not known; those that are, are named.
        """
        protocols = self.service.protocols
        if protocols is not None and name not in protocols:
            raise ScanError(f"configuration: expected one of {', '.join(sorted(protocols))}, found {name[:100]!r}")
        self.settings |= (protocols or {}).get(name, {})

    async def _begin(self, header: str) -> None:
        if self.scan is not None:
            raise ScanError("header message: expected one, found another")
        self.admit()
        self.admitted = True
        service = self.service
        self.model = service.model  # to its end, whatever is loaded meanwhile
        oversampling = self.settings["remove_oversampling"]
        self.scan = Scan(header, self.name, service.limits, service.budget, oversampling)
        rows, columns = self.scan.encoding.matrix
        logger.info(
            "%s: scan of %d x %d begins, model %s", self.name, rows, columns, self.model.identity.tag or "unnamed"
        )
        if service.deliver is not None and self.raw is None:
            try:
                self.raw = service.deliver.raw.new()
                service.arriving.add(self.raw.name)
            except OSError as error:
                await self._say("ERROR", f"raw data are not kept: {error}")

    async def _record(self, message: Message) -> None:
        """Write a message of the scan to disk, before anything is made of it."""
        parts, self.reader.parts = self.reader.parts, []
        if self.replayed:
            return
        if self.scan is None:
            self.started = parts if message.kind == CONFIG_FILE else self.started
        elif self.raw is not None:
            try:
                self.raw.append([*self.started, *parts])
            except OSError as error:  # what is there stays; it ends with a whole message, or with half of one
                await self._say("ERROR", f"raw data are not kept from here on: {error}")
                self.raw.closed = True
            self.started = []

    async def _readout(self, message: Message) -> None:
        if self.scan is None or message.head is None or message.samples is None:
            raise ScanError("acquisition message: expected a header first, found none")
        try:
            complete = self.scan.take(message.head, message.samples)
        except UnusableReadoutError as error:
            if self.scan.unusable <= MOST_COMPLAINTS:
                await self._say("ERROR", str(error))
            return
        if complete is not None:
            await self._reconstruct(self.scan, complete)

    async def _reconstruct(self, scan: Scan, target: OpenSlice) -> None:
        if refusal := scan.refuse(target):
            await self._say("ERROR", refusal)
            return
        metrics, network = self.service.metrics, self.model.network

        def image_of() -> tuple[Any, str]:
            with metrics.slice_seconds.time():
                return network(scan.kspace_of(target), target.encoding.crop, self.name)

        image, note = await self._in_executor(image_of)
        metrics.slices.labels("zero_filled" if note else "network").inc()
        done = scan.finish(target, image, note)
        self.images += 1
        series = self.series.setdefault(target.place[0], len(self.series) + 1)
        model, pixels = str(self.model.identity), self.settings["pixels"]
        content = mrd_image(done, target.encoding, series, self.images, model, pixels)
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
            self.service.metrics.scans.labels("complete").inc()
        logger.info("%s: done, %d images", self.name, self.images)
        await self._send(CLOSE_MESSAGE)

    async def _end_early(self, error: ScanError) -> None:
        """Deliver what was complete, marked; put the raw data aside; say why."""
        reason, was_complete, self.complete = str(error), self.complete, True
        scan, later = self.scan, isinstance(error, NotWrittenError) or (self.replayed and isinstance(error, BusyError))
        if scan is not None and scan.done and not was_complete and not later:
            try:
                await self._deliver(scan, reason)
            except ScanError as other:
                reason, later = f"{reason}; {other}", isinstance(other, NotWrittenError)
        if scan is not None:
            outcome = "incomplete" if scan.done and not was_complete else "failed"
            self.service.metrics.scans.labels(outcome).inc()
        if self.raw is not None and not later:
            if scan is not None and scan.started:
                self.raw.aside(reason)
            else:  # no readout of an image
                self.raw.delivered(keep=False)
        with contextlib.suppress(OSError, ScanError):  # it may be gone
            await self._say("ERROR", reason)
            await self._send(CLOSE_MESSAGE)

    async def _deliver(self, scan: Scan, lost: str = "") -> None:
        """Deliver; as a scan cannot be repeated, a disk that is full is tried again for a while.

        Raises:
            NotWrittenError: it stayed full.
        """
        deliver, limit = self.service.deliver, self.service.limits.delivery_s
        if deliver is None:
            return
        name = self.raw.name if self.raw is not None else new_name()
        waits = (limit / 60 * 2**number for number in range(6))  # 63 / 60 of the limit in all
        while True:
            try:
                places = await self._in_executor(lambda: deliver(scan, name, self.model.identity, lost))
                break
            except OSError as error:
                if self.replayed or (wait := next(waits, None)) is None:
                    kept = "; its raw data are kept, and tried again" if self.raw is not None else ""
                    raise NotWrittenError(f"not delivered within {limit:g} s: {error}{kept}") from error
                await self._say("ERROR", f"not delivered yet, the next attempt is in {wait:.0f} s: {error}")
                await asyncio.sleep(wait)
        if self.raw is not None and not lost:
            deliver.delivered(self.raw)
        for place in places:
            await self._say("INFO", f"delivered: {place}")

    def _in_executor(self, function: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self.service.executor, function)

    async def _say(self, level: str, text: str) -> None:
        logger.log(logging.getLevelName(level), "%s: %s", self.name, text)
        if level == "ERROR":
            self.service.metrics.errors.inc()
        await self._send(text_message(f"{level}: {text}"))

    async def _send(self, content: bytes) -> None:
        if self.gone or self.writer is None:
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
