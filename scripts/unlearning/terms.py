"""The forget term of the loss: its base, and the methods that are one term."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys
from torch.nn.functional import softplus

from scripts.data.loaders import EndlessBatches
from scripts.run.engines import Trainer
from scripts.training.batch_share import noise_like, share_mean
from scripts.unlearning.arguments import check_positive
from scripts.unlearning.teachers import Original, Teacher, loss_to_image

RETAIN_PART, FORGET_PART = "retain_part", "forget_part"


class ForgetTerm:
    """Handler that replaces the loss by ``retain_weight * J(r) + forget_weight * term(f)`` at ``LOSS_COMPLETED``.

    With a ``forget_loader`` every step joins the trainer's retain batch r with the next forget batch f; both parts
    stay in the trainer's output for handlers that treat them apart (``GradientProjection``). Without one the
    trainer's own batch is used: samples that a forget request marked (``forget`` in the label) take the forget term,
    the others J. So a trainer over the forget set alone reads nothing of the retain set.

    Args:
        forget_loader: Batches of the forget set, iterated without end; None: the trainer's own batch is used.
        forget_weight: The factor of the forget term.
        retain_weight: The factor of the retain loss.
    """

    def __init__(
        self, forget_loader: Iterable | None = None, forget_weight: float = 1.0, retain_weight: float = 1.0
    ) -> None:
        self.forget_loader = forget_loader
        self.forget_weight = forget_weight
        self.retain_weight = retain_weight
        self._stream = EndlessBatches(())
        self._batch: tuple = ()

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        """Loss to be minimised on forget samples: (B, 1, H, W) and their label -> (B,)."""
        raise NotImplementedError

    def attach(self, engine: Trainer) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream."""
        if self.forget_loader is not None:
            self._stream = EndlessBatches(self.forget_loader)

    def state_dict(self) -> dict:
        """The place in the forget stream."""
        return self._stream.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Resume from a kept place in the forget stream."""
        self._stream.load_state_dict(state)

    def __call__(self, engine: Trainer) -> None:
        output = engine.state.output
        if self.forget_loader is None:
            self.take(engine, engine.state.batch)
            output[Keys.LOSS] = self._own_batch(engine, output[Keys.PRED], output[Keys.LABEL])
            return
        prediction, label = self.next_forget(engine)
        output[RETAIN_PART] = self.retain_weight * output[Keys.LOSS]
        output[FORGET_PART] = self.forget_weight * share_mean(self.term(engine, prediction, label), label)
        output[Keys.LOSS] = output[RETAIN_PART] + output[FORGET_PART]

    def next_forget(self, engine: Trainer) -> tuple[torch.Tensor, dict]:
        """The trained network's prediction on the next forget batch, (B, 1, H, W), and the batch's label."""
        label = self.take(engine, next(self._stream))
        return self.output_of(engine, engine.network), label

    def take(self, engine: Trainer, batch: dict) -> dict:
        """Make a batch the one that :meth:`output_of` reads; returns its label."""
        inputs, label, args, kwargs = engine.prepare_batch(
            batch, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        self._batch = inputs, args, kwargs
        return label

    def output_of(self, engine: Trainer, network: torch.nn.Module) -> torch.Tensor:
        """A network's reconstruction of the current forget batch: (B, 1, H, W)."""
        inputs, args, kwargs = self._batch
        return engine.inferer(inputs, network, *args, **kwargs)

    def image_of(self, engine: Trainer, teacher: Teacher) -> torch.Tensor:
        """A teacher's reconstruction of the current forget batch: (B, 1, H, W), without gradient."""
        return teacher.image(partial(self.output_of, engine))

    def _own_batch(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        forget = self.forget_weight * self.term(engine, prediction, label)
        retain = self.retain_weight * engine.loss_function(prediction, label)  # to ask which are there would wait
        return share_mean(torch.where(label["forget"], forget, retain), label)


class GradientAscent(ForgetTerm):
    """Ascend the reconstruction loss of the forget set: the term is −J(x_f, y_f).

    Xue et al. 2024 add :class:`L1Penalty` (GA-l1) and, in algorithm 1, the retain loss in every step (GA-l1-FT).
    """

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return -engine.loss_function(prediction, label)


KINDS = ("zero_mean", "positive")
SCALES = ("absolute", "max")


class NoisyLabel(ForgetTerm):
    """Learn the forget set with noise on its reference images: the term is J(x_f, y_f + λ·s·N) (Xue 2024; Graves 2021).

    Args:
        std: The factor λ; with ``scale="absolute"`` in the image's own units (fastMRI: maxima of 2e-4 ... 4e-4).
        scale: The scale s: 1 (``absolute``, the paper) or the volume's maximum (``max``).
        kind: The noise: ``zero_mean``, N(0, I), the paper; ``positive``, abs(N), a bias, the released implementation.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.

    Raises:
        ValueError: ``kind`` or ``scale`` is unknown, or ``std`` is not above 0.
    """

    def __init__(
        self,
        std: float,
        scale: str = "absolute",
        kind: str = "zero_mean",
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        for name, value, known in (("kind", kind, KINDS), ("scale", scale, SCALES)):
            if value not in known:
                raise ValueError(f"noisy label: '{name}': expected one of {', '.join(known)}, found {value!r}")
        check_positive("noisy label", std=std)
        self.std = std
        self.scale = scale
        self.kind = kind

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return engine.loss_function(prediction, {**label, "target": self.noisy(label)})

    def noisy(self, label: dict) -> torch.Tensor:
        """The label's reference images (B, 1, h, w) with fresh noise."""
        target = label["target"]
        noise = noise_like(target, label) * self.std
        if self.scale == "max":
            noise = noise * label["max_value"].view(-1, 1, 1, 1)
        return target + (noise.abs() if self.kind == "positive" else noise)


class BoundedAscent(ForgetTerm):
    """Ascend J on the forget set, less and less: the term is (2/β)·softplus(−β·(J(f) − J_G(f))/τ).

    Its gradient is −1/τ of J's at the start and falls to 0 as J(f) rises above the original's by several τ/β.

    Args:
        beta: The sharpness β, above 0; usual values are 0.1 to 1.
        tau: The scale τ of a rise of J, above 0, in units of the loss.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.

    Source: after negative preference optimisation, Zhang et al. 2024.

    Raises:
        ValueError: ``beta`` or ``tau`` is not above 0.
    """

    def __init__(
        self,
        beta: float,
        tau: float,
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        check_positive("bounded ascent", beta=beta, tau=tau)
        self.beta = beta
        self.tau = tau
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and copy G."""
        super().start(engine)
        self.original.start(engine)

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        before = engine.loss_function(self.image_of(engine, self.original), label)
        rise = (engine.loss_function(prediction, label) - before) / self.tau
        return 2 / self.beta * softplus(-self.beta * rise)


class TeacherTerm(ForgetTerm):
    """Base of forget terms with a teacher T.

    Args:
        teacher: The teacher T, a handler listed before, e.g. ``BlindTeacher``.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.
    """

    def __init__(
        self,
        teacher: Teacher,
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.teacher = teacher


class Blindspot(TeacherTerm):
    """Learn the blind teacher's output on the forget set: the term is D(S(x_f), T(x_f)), D being J with T's image.

    The arguments are those of :class:`TeacherTerm`; usual forget weights are 0.1 to 1.

    Source: Tarun et al. 2023 (Deep regression unlearning), without their attention match.
    """

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return loss_to_image(engine, prediction, label, self.image_of(engine, self.teacher))


class LossTarget(TeacherTerm):
    """Bring the error of each forget sample to that of a blind teacher: the term is abs(J(f_i) − τ_i).

    τ_i is the teacher's J on the same slice under the same mask, so ascent and descent meet where a network without
    D_f would be.

    The arguments are those of :class:`TeacherTerm`.

    Source: this project.
    """

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        target = engine.loss_function(self.image_of(engine, self.teacher), label)
        return (engine.loss_function(prediction, label) - target).abs()


class Scrub(ForgetTerm):
    """Alternate two steps: min γ·J(r) + α·D(S, G) on retain, and max D(S, G) on forget batches; D is J with G's image.

    The first step is a min step, since at S = G the gradient of D is 0. Max steps are every second step of the first
    ``max_epochs`` epochs. List :class:`Rewind` after it for SCRUB+R.

    Args:
        forget_loader: Batches of the forget set.
        gamma: The factor γ of the retain loss.
        alpha: The factor α of the distance to G on the retain set.
        max_epochs: The number of epochs with max steps.
        forget_weight: The factor of D in the max steps.

    Source: Kurmanji et al. 2023 (Towards unbounded machine unlearning), equation 3.

    Raises:
        ValueError: ``gamma`` or ``max_epochs`` is not above 0.
    """

    def __init__(
        self,
        forget_loader: Iterable,
        gamma: float = 0.99,
        alpha: float = 0.1,
        max_epochs: int = 2,
        forget_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight)
        check_positive("scrub", gamma=gamma, max_epochs=max_epochs)
        self.gamma = gamma
        self.alpha = alpha
        self.max_epochs = max_epochs
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Restart the forget stream and copy G."""
        super().start(engine)
        self.original.start(engine)

    def __call__(self, engine: Trainer) -> None:
        output = engine.state.output
        if engine.state.epoch <= self.max_epochs and engine.state.iteration % 2 == 0:
            prediction, label = self.next_forget(engine)
            output[Keys.LOSS] = self.forget_weight * share_mean(self.term(engine, prediction, label), label)
        else:
            label = self.take(engine, engine.state.batch)
            distance = -share_mean(self.term(engine, output[Keys.PRED], label), label)
            output[Keys.LOSS] = self.gamma * output[Keys.LOSS] + self.alpha * distance

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return -loss_to_image(engine, prediction, label, self.image_of(engine, self.original))
