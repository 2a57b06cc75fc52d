"""How a verb ends: a sentence that a person can repeat, where it saved, and the command to type next."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from scripts.run.config import bundle_root, running_workflows

logger = logging.getLogger(__name__)


@idist.one_rank_only()
def tell(sentence: str, saved: str | Path | None = None, then: Sequence[tuple[str, str]] = ()) -> None:
    """Say what was done; a run within another one, such as the training of a prior, says it to the log alone.

    Args:
        sentence: What was done, in whole sentences.
        saved: The file or folder to look at; None: nothing was saved.
        then: What to do next and the command for it, e.g. ``("Repeat it", "python -m …")``.
    """
    lines = ["", sentence, *([f"Saved {saved}."] if saved is not None else [])]
    lines += [f"{what}: {command}" for what, command in then]
    within = len({id(workflow) for workflow in running_workflows()}) > 1
    logger.log(logging.DEBUG if within else logging.INFO, "%s", "\n".join(lines))


def command_of(verb: str, *overlays: str, **options: Any) -> str:
    """The command that runs a verb, ready to be pasted into a shell in the present folder.

    Args:
        verb: The verb; its file is ``configs/<verb>.yaml``.
        overlays: Further files of ``configs``.
        options: Overrides; None is passed over.

    >>> command_of("audit", run="outputs/my run").partition("--config_file")[0]
    'python -m monai.bundle run audit '
    """
    files = [os.path.relpath(Path(bundle_root(), "configs", file)) for file in (f"{verb}.yaml", *overlays)]
    listed = files[0] if len(files) == 1 else str(files)
    words = ["--config_file", listed]
    for key, value in options.items():
        words += [] if value is None else [f"--{key}", str(value)]
    return f"python -m monai.bundle run {verb} {shlex.join(words)}"
