"""MRD server: k-space in, images out, over TCP.

python -m monai.bundle run serve --config_file <bundle>/configs/serve.json
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from scripts.inference import ModelIdentity, identify_model
from scripts.inference.model_identity import certified_weights
from scripts.networks import load_weights
from scripts.run.manifest import verify_shipped
from scripts.serving.connection import Connection, Service
from scripts.serving.delivery import MOST_ATTEMPTS, Delivery, FileReader
from scripts.serving.images import Model, SliceNetwork
from scripts.serving.limits import BusyError, Limits, MemoryBudget
from scripts.serving.messages import CLOSE_MESSAGE, text_message
from scripts.serving.operation import OperatorPage

LINGER_S = 5
RECOVER_S = 60
CUT_SHORT = 3
"""Exit code where scans were stopped before their end; their raw data are finished after the next start."""
logger = logging.getLogger(__name__)


class MrdServer:
    """Listens until SIGTERM or SIGINT, then lets running scans end.

    Slices of all scans go through the network one at a time, so it needs memory for one. A client whose slice is being
    reconstructed is not read from meanwhile: TCP holds it back. Scans that a kill left are finished after the start.

    Args:
        load: Loads the network and says what it is: now, and again at each SIGHUP.
        device: The device on which it runs.
        host: The address to listen on; the default is reached from this machine alone.
        port: The port to listen on; 0 takes a free one.
        deliver: Writes each finished scan; hands over while the server runs. None: images go to the client alone.
        settings: ``pixels`` of the images that clients get, "float32" or "int16" (see
            :func:`scripts.serving.images.mrd_image`), and ``remove_oversampling`` (see
            :func:`scripts.inference.encoding.read_encodings`).
        protocols: Settings that differ, by the name of the configuration that a client sends, which has to be one of
            these; None: every name is taken.
        limits: Fields of :class:`scripts.serving.limits.Limits` that differ from its defaults.
        metrics_port: Of the operator's page on 127.0.0.1; 0 takes a free one, None: there is none.

    Raises:
        ValueError: an unknown limit, or one out of range.
    """

    def __init__(
        self,
        load: Callable[[], tuple[torch.nn.Module, ModelIdentity]],
        device: torch.device,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        deliver: Delivery | None = None,
        settings: Mapping[str, Any] | None = None,
        protocols: Mapping[str, Mapping[str, Any]] | None = None,
        limits: dict | None = None,
        metrics_port: int | None = None,
    ) -> None:
        try:
            self.limits = replace(Limits(), **(limits or {}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"'limits': {error}") from error
        usual = {"pixels": "float32", "remove_oversampling": True, **(settings or {})}
        self.host, self.port, self.device, self.deliver = host, port, device, deliver
        self.load, self.metrics_port = load, metrics_port
        threads = torch.get_num_threads()
        self.executor = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))
        budget = MemoryBudget(self.limits.max_memory_mb)
        self.service = Service(self._loaded(), self.executor, deliver, self.limits, budget, usual, protocols)
        self.stop: Callable[[], object] = lambda: None
        """Asks the running server to stop, from any thread."""
        self.reload: Callable[[], object] = lambda: None
        """Asks the running server to load its weights anew, from any thread."""
        self.connections: dict[asyncio.Task, Connection] = {}
        self.scans: Counter[str] = Counter()
        self.stopping, self.cut, self._tried = False, 0, set[str]()
        self.page: OperatorPage | None = None
        self.service.metrics.serves(self.service.model.identity)
        self.service.metrics.show(self.health)

    def run(self, ready: Callable[[int], None] | None = None) -> None:
        """Serve; return when asked to stop and drained.

        Args:
            ready: Called with the port once the server listens.

        Raises:
            SystemExit: code 3, scans were stopped before their end.
            OSError: a port is taken.
        """
        _allow_files(self.limits.max_connections + 100)
        with contextlib.ExitStack() as stack:
            stack.callback(self.executor.shutdown)
            if self.metrics_port is not None:
                self.page = OperatorPage(self.metrics_port, self.service.metrics, self.health)
                stack.callback(self.page.close)
                logger.info("operator's page: http://127.0.0.1:%d/healthz and /metrics", self.page.port)
            if self.deliver is not None:
                stack.enter_context(self.deliver.running())
            asyncio.run(self._serve(ready))
        waiting = {key: value for key, value in self.health().items() if key in ("hand_over", "raw_data")}
        logger.info("stopped; what waits is on disk: %s", json.dumps(waiting))
        if self.cut:
            sys.exit(CUT_SHORT)

    def health(self) -> dict[str, Any]:
        """What is going on, and what waits."""
        model, deliver = self.service.model.identity, self.deliver
        found: dict[str, Any] = {
            "status": "stopping" if self.stopping else "serving",
            "model": {"name": str(model), "role": model.role, "weights": model.weights_sha256, "audit": model.audit},
            "connections": len(self.connections),
            "scans": self.scans.total(),
            "memory_bytes": self.service.budget.used,
            "hand_over": deliver and deliver.hand_over and deliver.hand_over.health(),
            "raw_data": None,
        }
        if deliver is not None:
            aside = deliver.raw.names_aside()
            unfinished = len(deliver.raw.unfinished())
            found["raw_data"] = {"unfinished": unfinished, "aside_count": len(aside), "aside": aside[:100]}
        return found

    async def _serve(self, ready: Callable[[int], None] | None) -> None:
        stop, again = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        self.stop = lambda: loop.call_soon_threadsafe(stop.set)
        self.reload = lambda: loop.call_soon_threadsafe(again.set)
        if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            loop.add_signal_handler(signal.SIGHUP, again.set)
        server = await asyncio.start_server(self._accept, self.host, self.port)
        port = server.sockets[0].getsockname()[1]
        logger.info("model %s", _told(self.service.model.identity))
        logger.info("listening on %s, port %d", self.host, port)
        beside = [asyncio.create_task(self._recover()), asyncio.create_task(self._reload(again))]
        if ready is not None:
            ready(port)
        await stop.wait()
        self.stopping = True
        server.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await self._drain()

    async def _recover(self) -> None:
        """Finish scans that a kill, a stop or a full disk left; also what was left since the start."""
        while self.deliver is not None:
            for raw in self.deliver.raw.unfinished():
                if raw.name in self.service.arriving or not raw.path.exists():
                    continue
                if raw.name not in self._tried:  # a full disk is no attempt
                    self._tried.add(raw.name)
                    if raw.attempt >= MOST_ATTEMPTS:
                        raw.aside(f"not finished after {raw.attempt} restarts")
                        continue
                    raw.again()
                logger.info("%s: the scan is finished from its raw data", raw.path)
                with contextlib.closing(FileReader(raw.path)) as reader:
                    await Connection(reader, None, self.service, raw=raw).run()
            await asyncio.sleep(RECOVER_S)

    async def _reload(self, again: asyncio.Event) -> None:
        """Load weights at each SIGHUP; scans that are going on keep theirs. What cannot be loaded changes nothing."""
        while True:
            await again.wait()
            again.clear()
            before = self.service.model.identity
            try:
                model = await asyncio.to_thread(self._loaded)
            except Exception as error:  # whatever it is: the server goes on as it was
                self.service.metrics.errors.inc()
                logger.error("SIGHUP: weights %s stay: %s", before.weights_sha256, error)
                continue
            self.service.model, identity = model, model.identity
            self.service.metrics.serves(identity)
            logger.info("SIGHUP: from the next scan on %s; before: %s", _told(identity), _told(before))

    def _loaded(self) -> Model:
        network, identity = self.load()
        return Model(SliceNetwork(network, self.device), identity)

    async def _drain(self) -> None:
        """Let scans go on, end the others."""
        for task, connection in self.connections.items():
            if connection.scan is None:
                task.cancel()
        logger.info("stopping: %d scans go on for at most %g s", self.scans.total(), self.limits.drain_s)
        if self.connections:
            _, late = await asyncio.wait(list(self.connections), timeout=self.limits.drain_s)
            for task in late:
                logger.error("%s: stopped before its end", self.connections[task].name)
                task.cancel()
            self.cut = len(late)
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task", asyncio.current_task())
        try:
            if len(self.connections) >= self.limits.max_connections:
                logger.error("refused: %d connections are open", len(self.connections))
                writer.write(text_message("ERROR: too many connections; try again later") + CLOSE_MESSAGE)
                return
            host = str((writer.get_extra_info("peername") or ("unknown",))[0])
            connection = self.connections[task] = Connection(reader, writer, self.service, lambda: self._admit(host))
            await connection.run()
        except asyncio.CancelledError:
            writer.write(text_message("ERROR: the server is stopping") + CLOSE_MESSAGE)
        finally:
            ended = self.connections.pop(task, None)
            if ended is not None and ended.admitted:
                self.scans[ended.host] -= 1
            await _close(reader, writer)

    def _admit(self, host: str) -> None:
        limits = self.limits
        if (running := self.scans.total()) >= limits.max_scans:
            raise BusyError(f"busy: {running} scans are running; try again later")
        if (running := self.scans[host]) >= limits.max_scans_per_client:
            raise BusyError(f"busy: {running} scans of {host} are running; try again later")
        self.scans[host] += 1


def load_model(
    network: torch.nn.Module, weights: str | Path, bundle: str | Path
) -> tuple[torch.nn.Module, ModelIdentity]:
    """Weights as they are on disk now, in a network of their own; the bundle is checked first.

    Args:
        network: Of the same build; it stays as it is.
        weights: The file.
        bundle: Its folder: a shipped one has to be as its manifest says, its certificate of these weights.

    Raises:
        ValueError, OSError: the bundle, the certificate or the weights are not what they have to be.
    """
    bundle = Path(bundle)
    verify_shipped(bundle)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    identity = identify_model(metadata["name"], metadata["version"], weights, bundle)
    certified = certified_weights(bundle / "docs" / "certificate.json")
    if certified and identity.weights_sha256 not in certified:
        raise ValueError(
            f"{bundle / 'docs' / 'certificate.json'}: 'subject': expected the weights {identity.weights_sha256}, found "
            f"{', '.join(sorted(certified))}"
        )
    return load_weights(deepcopy(network), weights), identity


def _told(model: ModelIdentity) -> str:
    """All that an operator has to know of a model."""
    return f"{model}: {model.role or 'of unknown role'}, weights {model.weights_sha256 or 'unknown'}, {model.audit}"


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close so that the last words arrive: what a client still sends is read for a while, or it would be reset."""

    async def read_out() -> None:
        while await reader.read(1 << 16):
            pass

    with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.CancelledError):
        writer.write_eof()
        await asyncio.wait_for(read_out(), LINGER_S)
    writer.transport.abort()


def _allow_files(wanted: int) -> None:
    """Raise the number of files that may be open, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
