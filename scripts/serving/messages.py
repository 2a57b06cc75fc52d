"""Messages of the MRD streaming protocol, read from and written to a TCP stream.

Each begins with its number (uint16, little-endian). Lengths that a client announces are checked before anything is
allocated; what the server has no use for is read in pieces and dropped. (The ``ismrmrd`` package's own reader takes
whatever length it is told, has no time-outs and needs a thread for each client.)

Source: ISMRMRD documentation, MRD streaming protocol and messages.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ismrmrd.acquisition import AcquisitionHeader
from ismrmrd.hdf5 import acquisition_header_dtype
from ismrmrd.image import ImageHeader, get_dtype_from_data_type
from ismrmrd.waveform import WaveformHeader

from scripts.serving.limits import Limits, ScanError

NAMES = {
    1: "configuration file", 2: "configuration", 3: "header", 4: "close", 5: "text", 1008: "acquisition", 1022: "image",
    1026: "waveform",
}  # fmt: skip
CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT, ACQUISITION, IMAGE, WAVEFORM = NAMES
PIECE = 1 << 16


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: The number of the message's kind.
        text: The text of a configuration, header or text message.
        head: NumPy record of the acquisition's head.
        samples: (coils, samples) complex64 of the acquisition.
    """

    kind: int
    text: str = ""
    head: np.void | None = None
    samples: np.ndarray | None = None


class Reader(Protocol):
    """Where bytes come from: a client's stream, or the raw data of a scan."""

    async def readexactly(self, size: int, /) -> bytes:
        """Exactly so many bytes; raises asyncio.IncompleteReadError where there are fewer."""


class Recorded:
    """A reader whose last message can be written down as it came; of images and waveforms nothing is kept."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self.parts, self.recording = reader, list[bytes](), True

    async def readexactly(self, size: int) -> bytes:
        content = await self._reader.readexactly(size)
        if self.recording:
            self.parts.append(content)
        return content


async def read_message(reader: Recorded, limits: Limits) -> Message | None:
    """Read the next message; None where the stream ended between messages. Its bytes are ``reader.parts``.

    Raises:
        ScanError: an unknown number, a size beyond the limits, half a message, or a client too slow.
    """
    reader.parts, reader.recording = [], True
    try:
        kind = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), limits.idle_s), "little")
    except asyncio.TimeoutError:
        raise ScanError(f"expected a message within {limits.idle_s:g} s, found none") from None
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise ScanError("message: expected its number of 2 bytes, found 1") from None
    if kind not in NAMES:
        expected = ", ".join(map(str, NAMES))
        raise ScanError(f"message: expected a number of the MRD protocol ({expected}), found {kind}")
    try:
        return await asyncio.wait_for(_body(reader, kind, limits), limits.message_s)
    except asyncio.TimeoutError:
        expected = f"expected whole within {limits.message_s:g} s"
        raise ScanError(f"{NAMES[kind]} message: {expected}, found a part of it") from None
    except asyncio.IncompleteReadError as error:
        found = f"expected {error.expected} more bytes, found {len(error.partial)}"
        raise ScanError(f"{NAMES[kind]} message: {found}") from None


async def _body(reader: Recorded, kind: int, limits: Limits) -> Message:
    if kind == CLOSE:
        return Message(kind)
    if kind == CONFIG_FILE:
        return Message(kind, text=_decode(await reader.readexactly(1024), kind))
    if kind in (CONFIG_TEXT, HEADER, TEXT):
        length = int.from_bytes(await reader.readexactly(4), "little")
        _check_size(kind, length, limits.max_text_bytes)
        return Message(kind, text=_decode(await reader.readexactly(length), kind))
    if kind == ACQUISITION:
        return await _acquisition(reader, limits)
    return await _dropped(reader, kind, limits)


async def _acquisition(reader: Recorded, limits: Limits) -> Message:
    content = await reader.readexactly(ctypes.sizeof(AcquisitionHeader))
    head = np.frombuffer(content, acquisition_header_dtype)[0]
    names = ("number_of_samples", "active_channels", "trajectory_dimensions")
    samples, coils, dimensions = (int(head[name]) for name in names)
    _check_size(ACQUISITION, 8 * samples * coils, limits.max_readout_bytes)
    _check_size(ACQUISITION, 4 * samples * dimensions, limits.max_readout_bytes)
    await _drop(reader, 4 * samples * dimensions)
    data = np.frombuffer(await reader.readexactly(8 * samples * coils), np.complex64).reshape(coils, samples)
    return Message(ACQUISITION, head=head, samples=data)


async def _dropped(reader: Recorded, kind: int, limits: Limits) -> Message:
    """Read a waveform or an image and keep nothing of it."""
    reader.parts, reader.recording = [], False
    if kind == WAVEFORM:
        waveform = WaveformHeader.from_buffer_copy(await reader.readexactly(ctypes.sizeof(WaveformHeader)))
        size = 4 * waveform.channels * waveform.number_of_samples
    else:
        image = ImageHeader.from_buffer_copy(await reader.readexactly(ctypes.sizeof(ImageHeader)))
        length = int.from_bytes(await reader.readexactly(8), "little")
        _check_size(kind, length, limits.max_text_bytes)
        await _drop(reader, length)
        try:
            itemsize = get_dtype_from_data_type(image.data_type).itemsize
        except TypeError as error:
            raise ScanError(f"image message: 'data_type': {error}") from error
        size = itemsize * image.channels * int(np.prod(list(image.matrix_size), dtype=np.int64))
    _check_size(kind, size, limits.max_readout_bytes)
    await _drop(reader, size)
    return Message(kind)


async def _drop(reader: Recorded, size: int) -> None:
    while size:
        size -= len(await reader.readexactly(min(size, PIECE)))


def _check_size(kind: int, size: int, limit: int) -> None:
    if size > limit:
        raise ScanError(f"{NAMES[kind]} message: expected at most {limit} bytes, found {size} announced")


def _decode(content: bytes, kind: int) -> str:
    try:
        return content.split(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ScanError(f"{NAMES[kind]} message: expected UTF-8 text, found {error.reason}") from error


def text_message(text: str) -> bytes:
    """The bytes of a text message; the text ends with a null byte, as the protocol says."""
    content = text.encode("utf-8") + b"\0"
    return struct.pack("<HI", TEXT, len(content)) + content


def image_message(content: bytes) -> bytes:
    """The bytes of an image message; ``content`` is what ``ismrmrd.Image.to_bytes`` gives."""
    return struct.pack("<H", IMAGE) + content


CLOSE_MESSAGE = struct.pack("<H", CLOSE)
