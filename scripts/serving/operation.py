"""What an operator sees: metrics, health and log lines."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scripts.inference import ModelIdentity

OUTCOMES, IMAGES = ("complete", "incomplete", "failed"), ("network", "zero_filled")
FIGURES = {  # name: what it is, and where it stands in the server's health
    "mri_scans_running": ("Scans that are going on", "scans"),
    "mri_connections": ("Open connections", "connections"),
    "mri_memory_bytes": ("K-space and images of all scans", "memory_bytes"),
    "mri_raw_unfinished": ("Scans that arrive or wait to be finished", "raw_data", "unfinished"),
    "mri_raw_aside": ("Scans whose raw data were put aside", "raw_data", "aside_count"),
    "mri_hand_over_series": ("Series that wait for the router", "hand_over", "series"),
    "mri_hand_over_images": ("Images that wait for the router", "hand_over", "images"),
    "mri_hand_over_oldest_seconds": ("Age of the oldest of them", "hand_over", "oldest_s"),
    "mri_hand_over_failing_series": ("Series not taken so far", "hand_over", "failing"),
    "mri_handed_over_images": ("Images handed over since the start", "hand_over", "handed_over"),
    "mri_router_away": ("1: the router does not answer", "hand_over", "away"),
}
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Metrics:
    """Figures of one server for Prometheus; names begin with ``mri_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.scans = Counter("mri_scans", "Scans by how they ended", ["outcome"], **own)
        self.slices = Counter("mri_slices", "Slices by what made the image", ["image"], **own)
        self.slice_seconds = Histogram("mri_slice_seconds", "Time of one slice in the network", **own)
        self.errors = Counter("mri_errors", "Errors that were logged or told to a client", **own)
        named = ["name", "version", "role", "weights", "audit"]
        self.model = Gauge("mri_model", "The model that is served", named, **own)
        for counter, label in [(self.scans, o) for o in OUTCOMES] + [(self.slices, i) for i in IMAGES]:
            counter.labels(label)  # so that they begin at 0

    def show(self, health: Callable[[], Mapping[str, Any]]) -> None:
        """Show the figures of :data:`FIGURES`, which are read from the server's health when they are asked for."""

        class Figures(Collector):
            def collect(self) -> Iterator[Metric]:
                found = health()
                for name, (what, *place) in FIGURES.items():
                    value: Any = found
                    for key in place:
                        value = value and value[key]
                    if value is not None:
                        yield GaugeMetricFamily(name, what, value=value)

        self.registry.register(Figures())

    def serves(self, model: ModelIdentity) -> None:
        """From now on it is this model."""
        self.model.clear()
        self.model.labels(model.name, model.version, model.role, model.weights_sha256, model.audit).set(1)


class OperatorPage:
    """A web server for ``/healthz`` (JSON) and ``/metrics`` (Prometheus), on this machine alone.

    Args:
        port: To listen on; 0 takes a free one.
        metrics: The figures.
        health: The content of ``/healthz``; where its ``status`` is not "serving", the answer's status is 503.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int, metrics: Metrics, health: Callable[[], Mapping[str, Any]]) -> None:
        figures = make_wsgi_app(metrics.registry)

        def page(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            path, kind = environ["PATH_INFO"], [("Content-Type", "application/json")]
            if path == "/metrics":
                return figures(environ, start)
            if path != "/healthz":
                start("404 Not Found", kind)
                return [b'"expected /healthz or /metrics"\n']
            found = health()
            start("200 OK" if found["status"] == "serving" else "503 Service Unavailable", kind)
            return [json.dumps(found, indent=1).encode() + b"\n"]

        class Handler(WSGIRequestHandler):
            timeout = 10

            def log_message(self, format: str, *values: Any) -> None:
                pass  # a line for each time that somebody looks helps nobody

        try:
            self.server = make_server("127.0.0.1", port, page, ThreadingWSGIServer, Handler)
        except OSError as error:
            raise OSError(error.errno, f"'metrics_port': ('127.0.0.1', {port}): {error.strerror}") from error
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, name="operator", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


class JsonLines(logging.Formatter):
    """A line of JSON for each record: time, level, logger, message and, where there is one, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        content = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


def set_up_logs(kind: str) -> None:
    """Log our own lines from INFO, those of other libraries from WARNING.

    Args:
        kind: "text" or "json".
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stdout))
    for handler in root.handlers:
        handler.setFormatter(JsonLines() if kind == "json" else logging.Formatter(TEXT_FORMAT))
    root.setLevel(logging.WARNING)
    logging.getLogger("ignite").setLevel(logging.NOTSET)  # MONAI sets a level of its own
    logging.getLogger("scripts").setLevel(logging.INFO)
