"""What a client may take of the server: time, memory, numbers."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.run.kinds import Count, Positive, check_arguments


class ScanError(Exception):
    """The scan of a client cannot go on; the text is for the client and the log."""


class BusyError(ScanError):
    """There is no room for it now."""


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one client from harming the others.

    Attributes:
        max_connections: Connections open at a time; more are told so and closed.
        max_scans: Connections that have sent a header at a time; more are told so and closed.
        max_scans_per_client: Those of one address.
        max_memory_mb: K-space and images of all scans together, without the network's own memory.
        max_text_bytes: The size of a configuration, header or text message.
        max_readout_bytes: Samples of one readout, of a waveform or an image.
        max_matrix: Rows and columns of the encoded matrix, each.
        idle_s: Longest wait for the next message.
        message_s: Longest time that one message takes to arrive once it has begun.
        scan_s: Longest time of a connection.
        send_s: Longest time for a client to take what it is sent.
        delivery_s: Longest time that a finished scan waits for a disk that cannot be written.
        drain_s: Longest time that scans may go on after SIGTERM; the process ends at most 5 s later.

    Raises:
        ValueError: a limit that is no number above 0.
    """

    max_connections: Count = 2000
    max_scans: Count = 8
    max_scans_per_client: Count = 8
    max_memory_mb: Count = 4096
    max_text_bytes: Count = 4_000_000
    max_readout_bytes: Count = 128_000_000
    max_matrix: Count = 4096
    idle_s: Positive = 60
    message_s: Positive = 30
    scan_s: Positive = 7200
    send_s: Positive = 30
    delivery_s: Positive = 600
    drain_s: Positive = 300

    def __post_init__(self) -> None:
        check_arguments(self, vars(self))


class MemoryBudget:
    """Bytes that all scans share; they are taken and given back in one thread."""

    def __init__(self, megabytes: int) -> None:
        self.limit, self.used = megabytes * 1_000_000, 0

    def take(self, size: int) -> None:
        """Reserve bytes.

        Raises:
            BusyError: they are not to be had.
        """
        if self.used + size > self.limit:
            raise BusyError(
                f"memory: expected at most {self.limit / 1e6:.0f} MB for all scans, found {self.used / 1e6:.0f} MB in "
                f"use and {size / 1e6:.0f} MB more wanted"
            )
        self.used += size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size
