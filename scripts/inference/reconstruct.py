"""The inference loop: file by file, slice by slice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from scripts.inference.open_raw import KspaceSlices, find_inputs
from scripts.inference.volume_writer import VolumeWriter
from scripts.run.console import progress_bar

logger = logging.getLogger(__name__)


def reconstruct(
    evaluator: Evaluator, dataset: KspaceSlices, writer: VolumeWriter, inputs: str | Path | Sequence[str | Path]
) -> list[Path]:
    """Run the evaluator over each series of each file; one that fails is reported and leaves nothing behind.

    Args:
        evaluator: Reads a loader over ``dataset`` and has ``writer`` among its handlers.
        dataset: The slices of the series in turn.
        writer: Writes a volume when its slices are complete.
        inputs: See :func:`scripts.inference.find_inputs`.

    Returns:
        The files and folders written.

    Raises:
        FileNotFoundError, ValueError: nothing to reconstruct; before anything is written.
        RuntimeError: after the last file, naming each that failed and why.
    """
    files = find_inputs(inputs)
    written, failures = [], []
    for number, (name, path) in enumerate(files.items(), start=1):
        errors = []
        try:
            series = dataset.series(path)
        except Exception as error:  # any reason: the next file has its own chance
            series, errors = [], [error]
        for raw in series:
            try:
                writer.refuse_existing(f"{name}{raw.suffix}")
                dataset.turn_to(raw)
                writer.begin(raw)
                _run(evaluator, len(dataset), f"[{number}/{len(files)}] {name}{raw.suffix}")
                written += writer.finish(f"{name}{raw.suffix}")
            except Exception as error:  # and so has the next series
                errors.append(error)
            finally:
                writer.discard()
        for failure in errors:
            logger.error("%s: failed: %s", path, failure)
        if errors:
            texts = ((str(error) or type(error).__name__).removeprefix(f"{path}: ") for error in errors)
            failures.append(f"{path}: " + "; ".join(texts))
    done = len(files) - len(failures)
    logger.info("reconstructed %d of %d files: %s", done, len(files), ", ".join(map(str, written)))
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(files)} files failed:\n" + "\n".join(failures))
    return written


def _run(evaluator: Evaluator, length: int, description: str) -> None:
    errors: list[Exception] = []
    with progress_bar(total=length, desc=description, unit="slice", dynamic_ncols=True) as bar:

        def advance(engine: Engine) -> None:
            bar.update()

        def stop(engine: Engine, error: Exception) -> None:  # an error that leaves Ignite's run spoils the next run
            errors.append(error)

        with (
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, advance),
            evaluator.add_event_handler(Events.EXCEPTION_RAISED, stop),
        ):
            evaluator.state.epoch_length = length
            evaluator.run()
    if errors:
        raise errors[0]
