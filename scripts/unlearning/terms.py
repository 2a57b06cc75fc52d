"""What is added to the loss: forget terms with their base; penalties and retain terms on the trainer's own batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor

from scripts.data.loaders import EndlessBatches
from scripts.kspace.fourier import crop_like
from scripts.run.engines import Handler, Trainer
from scripts.run.kinds import Count, NotNegative, Positive
from scripts.training.batch_share import noise_like, share_mean
from scripts.unlearning.passes import batches
from scripts.unlearning.teachers import Original, Teacher, loss_to_image


@dataclass(kw_only=True, eq=False, repr=False)
class ForgetTerm(Handler):
    """Handler that replaces the loss by ``retain_weight * J(r) + forget_weight * term(f)`` at ``LOSS_COMPLETED``.

    With a ``forget_loader`` every step joins the trainer's retain batch r with the next forget batch f. Without one the
    trainer's own batch is used: samples that a forget request marked (``forget`` in the label) take the forget term,
    the others J. So a trainer over the forget set alone reads nothing of the retain set.

    Args:
        forget_loader: Batches of the forget set, iterated without end; None: the trainer's own batch is used.
        forget_weight: The factor of the forget term.
        retain_weight: The factor of the retain loss.
    """

    event = IterationEvents.LOSS_COMPLETED
    forget_loader: Iterable | None = None
    forget_weight: NotNegative = 1.0
    retain_weight: NotNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stream = EndlessBatches(())
        self._batch: tuple = ()

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        """Loss to be minimised on forget samples: (B, 1, H, W) and their label -> (B,)."""
        raise NotImplementedError

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
        forget = self.forget_weight * share_mean(self.term(engine, prediction, label), label)
        output[Keys.LOSS] = self.retain_weight * output[Keys.LOSS] + forget

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


@dataclass(kw_only=True, eq=False, repr=False)
class NoisyLabel(ForgetTerm):
    """Learn the forget set with noise on its reference images: the term is J(x_f, y_f + λ·s·N) (Xue 2024; Graves 2021).

    Args:
        std: The factor λ; with ``scale="absolute"`` in the image's own units (fastMRI: maxima of 2e-4 ... 4e-4).
        scale: The scale s: 1 (``absolute``, the paper) or the volume's maximum (``max``).
        kind: The noise: ``zero_mean``, N(0, I), the paper; ``positive``, abs(N), a bias, the released implementation.
    """

    std: Positive
    scale: Literal["absolute", "max"] = "absolute"
    kind: Literal["zero_mean", "positive"] = "zero_mean"

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return engine.loss_function(prediction, {**label, "target": self.noisy(label)})

    def noisy(self, label: dict) -> torch.Tensor:
        """The label's reference images (B, 1, h, w) with fresh noise."""
        target = label["target"]
        noise = noise_like(target, label) * self.std
        if self.scale == "max":
            noise = noise * label["max_value"].view(-1, 1, 1, 1)
        return target + (noise.abs() if self.kind == "positive" else noise)


@dataclass(kw_only=True, eq=False, repr=False)
class Blindspot(ForgetTerm):
    """Learn the blind teacher's output on the forget set: the term is D(S(x_f), T(x_f)), D being J with T's image.

    Args:
        teacher: The teacher T, a handler listed before, e.g. ``BlindTeacher``. Usual forget weights are 0.1 to 1.

    Source: Tarun et al. 2023 (Deep regression unlearning), without their attention match.
    """

    teacher: Teacher

    def term(self, engine: Trainer, prediction: torch.Tensor, label: dict) -> torch.Tensor:
        return loss_to_image(engine, prediction, label, self.image_of(engine, self.teacher))


@dataclass(kw_only=True, eq=False, repr=False)
class Scrub(ForgetTerm):
    """Alternate two steps: min γ·J(r) + α·D(S, G) on retain, and max D(S, G) on forget batches; D is J with G's image.

    The first step is a min step, since at S = G the gradient of D is 0. Max steps are every second step of the first
    ``max_epochs`` epochs. List :class:`Rewind` after it for SCRUB+R.

    Args:
        gamma: The factor γ of the retain loss.
        alpha: The factor α of the distance to G on the retain set.
        max_epochs: The number of epochs with max steps.
        forget_weight: The factor of D in the max steps.

    Source: Kurmanji et al. 2023 (Towards unbounded machine unlearning), equation 3.
    """

    forget_loader: Iterable
    gamma: Positive = 0.99
    alpha: NotNegative = 0.1
    max_epochs: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
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


@dataclass(eq=False, repr=False)
class L1Penalty(Handler):
    """Handler that adds γ‖θ‖₁ over all trained weights to the loss at ``LOSS_COMPLETED`` (Xue 2024; Jia 2023).

    Args:
        gamma: The factor γ, in units of the loss.
    """

    exact, event = True, IterationEvents.LOSS_COMPLETED  # exact: reads nothing but the batches
    gamma: float

    def __call__(self, engine: Trainer) -> None:
        norm = sum(weight.abs().sum() for weight in engine.network.parameters() if weight.requires_grad)
        engine.state.output[Keys.LOSS] = engine.state.output[Keys.LOSS] + self.gamma * norm


@dataclass(eq=False, repr=False)
class PsnrTerm(Handler):
    """Handler that adds −w·PSNR to the loss at ``LOSS_COMPLETED``: w·10·log10(|S(x) − y|² / |y|²).

    J is an SSIM loss and takes a network's brightness and large structures to the reference only late in a training. A
    network that begins anew has not the time; with this term it gains about half a dB in the same number of steps.

    Args:
        weight: The factor w, per dB. At 0.01 its gradient is a small part of J's until J is small.

    Source: this project.
    """

    exact, event = True, IterationEvents.LOSS_COMPLETED  # exact: reads nothing but the batches
    weight: Positive = 0.01

    def __call__(self, engine: Trainer) -> None:
        output = engine.state.output
        prediction, label = output[Keys.PRED], output[Keys.LABEL]
        errors = relative_error_db(prediction, label["target"])
        output[Keys.LOSS] = output[Keys.LOSS] + self.weight * share_mean(errors, label)


def relative_error_db(image: Tensor, target: Tensor) -> Tensor:
    """Energy of the error over that of the reference, 10·log10(|x − y|² / |y|²), in dB.

    Args:
        image: (B, 1, H, W).
        target: (B, 1, h, w), h <= H, w <= W.

    Returns:
        (B,).

    Example:
        >>> relative_error_db(torch.full((1, 1, 2, 2), 1.1), torch.ones(1, 1, 2, 2)).round(decimals=3)
        tensor([-20.])
    """
    tiny = torch.finfo(torch.float32).tiny
    error = crop_like(image.float(), target) - target
    energies = (x.square().sum(dim=(1, 2, 3)).clamp(min=tiny) for x in (error, target.float()))
    after, before = (energy.log10() for energy in energies)
    return 10 * (after - before)


@dataclass(eq=False, repr=False)
class RetainDistillation(Handler):
    """Handler that adds w·D(S(x_r), G(x_r)) to the retain loss at ``LOSS_COMPLETED``, D being J with G's image.

    The few reference images of the retain subset are memorised within some epochs. G's images of the same slices show
    what G does on brains in general, and keep the network close to it. List it before a method with a
    ``forget_loader``; it costs one forward pass of G for each retain slice.

    Args:
        weight: The factor w.

    Source: Hinton et al. 2015; as a retain term of unlearning Kurmanji et al. 2023 (SCRUB, its α).
    """

    event = IterationEvents.LOSS_COMPLETED
    weight: Positive = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.original = Original()

    def start(self, engine: Trainer) -> None:
        """Copy G."""
        self.original.start(engine)

    def __call__(self, engine: Trainer) -> None:
        ((reconstruct, label),) = batches(engine, [engine.state.batch])
        output = engine.state.output
        distances = loss_to_image(engine, output[Keys.PRED], label, self.original.image(reconstruct))
        output[Keys.LOSS] = output[Keys.LOSS] + self.weight * share_mean(distances, label)
