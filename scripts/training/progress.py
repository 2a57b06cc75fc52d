"""Progress on the terminal."""

from __future__ import annotations

import ignite.distributed as idist
from ignite.engine import Events
from monai.utils import CommonKeys as Keys
from tqdm import tqdm

from scripts.engines import Workflow


class Progress:
    """Handler: one bar over the whole run with the time left and, in training, the first process's loss.

    Ignite's ``ProgressBar`` knows the length of an epoch only, so it cannot say when the run ends.

    Args:
        description: The text before the bar: what is being done.
    """

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: tqdm | None = None

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer or evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Workflow) -> None:
        self._close(engine)
        total = engine.state.epoch_length * (engine.state.max_epochs - engine.state.epoch)
        quiet = idist.get_rank() > 0
        self.bar = tqdm(total=total, desc=self.description, mininterval=1.0, dynamic_ncols=True, disable=quiet)

    def __call__(self, engine: Workflow) -> None:
        output = engine.state.output
        first = output[0] if isinstance(output, list) else output  # MONAI decollates a trainer's output
        if self.bar is None:
            return
        if first.get(Keys.LOSS) is not None:
            self.bar.set_postfix(loss=f"{float(first[Keys.LOSS]):.4f}", refresh=False)
        self.bar.update()

    def _close(self, engine: Workflow) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
