"""What an operator sees: metrics, health and log lines."""

from __future__ import annotations

import datetime
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from scripts.inference import ModelIdentity

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Metrics:
    """Figures of one server for Prometheus; names begin with ``mri_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.scans = Counter("mri_scans", "Scans by how they ended", ["outcome"], **own)
        for outcome in ("complete", "incomplete", "failed"):
            self.scans.labels(outcome)
        self.slices = Counter("mri_slices", "Slices by what made the image", ["image"], **own)
        for image in ("network", "zero_filled"):
            self.slices.labels(image)
        self.slice_seconds = Histogram("mri_slice_seconds", "Time of one slice in the network", **own)
        self.errors = Counter("mri_errors", "Errors that were logged or told to a client", **own)
        self.model = Gauge(
            "mri_model", "The model that is served", ["name", "version", "role", "weights", "audit"], **own
        )

    def show(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A figure that is computed when it is asked for."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def serves(self, model: ModelIdentity) -> None:
        """From now on it is this model."""
        self.model.clear()
        self.model.labels(model.name, model.version, model.role, model.weights_sha256, model.audit).set(1)


class OperatorPage:
    """A web server for ``/healthz`` (JSON) and ``/metrics`` (Prometheus).

    Args:
        host, port: To listen on; port 0 takes a free one.
        metrics: The figures.
        health: The content of ``/healthz``; where its ``status`` is not "serving", the answer's status is 503.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, health: Callable[[], Mapping[str, Any]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self.answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/healthz":
                    found = health()
                    content = json.dumps(found, indent=1).encode() + b"\n"
                    self.answer(200 if found["status"] == "serving" else 503, "application/json", content)
                else:
                    self.answer(404, "text/plain", b"expected /healthz or /metrics\n")

            def answer(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *values: Any) -> None:
                pass  # a line for each time that somebody looks helps nobody

        try:
            self.server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise OSError(error.errno, f"'metrics_port': ('{host}', {port}): {error.strerror}") from error
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, name="operator", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


class JsonLines(logging.Formatter):
    """A line of JSON for each record: time, level, logger, message and, where there is one, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
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
