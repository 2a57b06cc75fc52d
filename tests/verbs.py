"""The verbs as tests run them, and what a run must not leave behind in the process."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import monai.bundle
from monai.bundle import ConfigParser

CONFIGS = Path(__file__).parent.parent / "bundle" / "configs"
SMALL = {
    "network#num_cascades": 1,
    "network#chans": 4,
    "network#pools": 2,
    "network#sens_pools": 2,
    "mask#center_fraction": 0.12,
}
"""Overrides of a verb for the tiny data: a small network, and a mask with a centre on few columns."""
KNEES = {"request_id": "demo-knee", "reason": "by mistake", "forget": [{"anatomy": "knee"}]}


def without_record(verb: str, datalist: str, **changes) -> dict:
    """What a verb that reads a run has to be told where there is none: the components of :data:`SMALL`, in full."""
    declared, config = (ConfigParser.load_config_file(CONFIGS / f"{name}.yaml") for name in (verb, "train"))
    settings = {key: config[key] for key in ("network", "mask", "loss_function") if key in declared}
    for name, value in SMALL.items():
        key, _, argument = name.partition("#")
        settings[key][argument] = value
    return {"datalist": datalist, "forget_request": KNEES, "precision": "fp32", **settings, **changes}


def run(verb: str, *overlays: str | None, **overrides) -> None:
    """Run a verb of the bundle, with the overlays of ``bundle/configs`` that are named."""
    base = "audit" if verb == "declare" else verb
    named = [overlay for overlay in overlays if overlay]
    if verb == "unlearn" and any(overlay.startswith(("methods/", "selection/")) for overlay in named):
        named.insert(0, "approximate.yaml")
    files = [str(CONFIGS / f"{base}.yaml"), *(str(CONFIGS / overlay) for overlay in named)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)
        monai.bundle.run(verb, config_file=files, **overrides)


def unlearn(tiny_datalist, trained, output="out", overlay=None, **overrides) -> Path:
    """Run unlearn for one epoch on the tiny data, from the files of the fixture `trained`; its output folder."""
    files = {"weights": str(trained / "original.pt"), "prior": str(trained / "prior.pt")}
    settings = {"datalist": tiny_datalist, **files, "unlearn_epochs": 1, "train_epochs": 2, "budget": 0.5, **SMALL}
    if overlay:
        del settings["budget"]
    settings["ledger"] = f"{output}/ledger.jsonl"  # its own: the weights are those of every test
    run("unlearn", overlay and f"methods/{overlay}.yaml", output_dir=output, **{**settings, **overrides})
    return Path(output)


@contextlib.contextmanager
def process_as_before() -> Iterator[None]:
    """Take back what runs leave in the process: log files, the hook for errors, determinism."""
    handlers, hook = list(logging.getLogger().handlers), sys.excepthook
    try:
        yield
    finally:
        for handler in set(logging.getLogger().handlers) - set(handlers):
            logging.getLogger().removeHandler(handler)
            handler.close()
        sys.excepthook = hook
        monai.utils.set_determinism(None)
