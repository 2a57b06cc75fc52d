"""The settings of a GPU's arithmetic, and steps that do not wait for a device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scripts.data import EndlessBatches, prepare_batch
from scripts.networks import VarNet
from scripts.training import (
    BatchShare,
    ClipGradient,
    FiniteLoss,
    PassCounter,
    Progress,
    ReconstructionLoss,
    set_numerics,
)
from scripts.training.numerics import numerics
from scripts.unlearning import (
    FastTraining,
    GainTarget,
    GradientAscent,
    L1Penalty,
    MirrorTarget,
    NoisyLabel,
    PsnrTerm,
    RetainDistillation,
)
from tests.helpers import trainer


@pytest.fixture
def _restored():
    yield
    set_numerics(tf32=False, deterministic=False)


@pytest.mark.usefixtures("_restored")
def test_settings_are_in_force_and_in_the_record(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")  # as in a process that begins
    set_numerics(tf32=True, deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.allow_tf32
    assert {*numerics().values()} >= {True, False, "DEFAULT", "COMPATIBLE"}
    set_numerics(tf32=False, deterministic=False)
    expected = {"matmul_tf32", "cudnn_tf32", "cudnn_benchmark", "deterministic_algorithms"}
    assert {key for key, value in numerics().items() if not value} == expected


class Reads(TorchDispatchMode):
    """Counts reads of a tensor's value by Python, each of which would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def batch_of(seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 1, 1, 20, 1, generator=generator) < 0.5
    mask[:, :, :, 8:12] = True
    return {
        "masked_kspace": torch.randn(1, 3, 18, 20, 2, generator=generator) * mask,
        "mask": mask,
        "target": torch.rand(1, 1, 18, 20, generator=generator) + 1,
        "max_value": torch.tensor([2.0]),
        "forget": torch.tensor([False]),
        "volume": ["scan"],
    }


METHODS = {
    "training": lambda forget: [],
    "gain_target": lambda forget: [RetainDistillation(2.0), GainTarget(forget_loader=forget, gain=3.0)],
    "mirror_target": lambda forget: [RetainDistillation(2.0), MirrorTarget(forget_loader=forget)],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_step_reads_no_value(method, checkpoint, monkeypatch):
    monkeypatch.setattr("scripts.training.handlers.SECONDS", 1000.0)
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1, checkpoint_activations=checkpoint)
    handlers = [PassCounter(network), BatchShare(), *METHODS[method]([batch_of(9)]), ClipGradient(0.5)]
    handlers += [FiniteLoss(every=100), Progress("training")]
    steps = [batch_of(seed) for seed in range(4)]
    settings = {"prepare_batch": prepare_batch, "loss_function": ReconstructionLoss(), "decollate": False}
    run = trainer(network, steps, handlers, **settings)
    with Reads() as reads:
        assert float(torch.ones(())) == reads.count == 1
        run.run()
    assert reads.count == 1


def test_a_batch_is_moved_once_for_all_that_use_it():
    stream = EndlessBatches([batch_of(0)], device="meta")
    batch = next(stream)
    assert batch["volume"] == ["scan"]
    assert batch["masked_kspace"].device.type == "meta"
    assert prepare_batch(batch, "meta")[0] is batch["masked_kspace"]


STEPS = {
    "training": lambda forget: [],
    "gradient ascent on the own batch": lambda forget: [GradientAscent()],
    "noisy labels on the own batch": lambda forget: [NoisyLabel(std=0.1, scale="max")],
    "noisy labels": lambda forget: [NoisyLabel(std=0.1, forget_loader=forget)],
    "negative gradient": lambda forget: [GradientAscent(forget_loader=forget)],
    "l1": lambda forget: [L1Penalty(gamma=1e-4)],
    "default": lambda forget: [PsnrTerm(weight=0.01), FastTraining(lr=0.05, adam_lr=4e-3, held=["sens_net.*"])],
}


@pytest.mark.parametrize("method", STEPS)
def test_a_step_needs_no_value_at_all(method, monkeypatch):
    """On PyTorch's device without values, where a read of any kind, be it a copy to the CPU, is an error."""
    monkeypatch.setattr("scripts.training.handlers.SECONDS", 1000.0)
    network = VarNet(num_cascades=1, sens_chans=2, sens_pools=1, chans=2, pools=1).to("meta")
    handlers = [PassCounter(network), BatchShare(), *STEPS[method]([batch_of(9)]), ClipGradient(0.5)]
    batches = EndlessBatches([batch_of(seed) for seed in range(2)], device="meta")
    settings = {"prepare_batch": prepare_batch, "loss_function": ReconstructionLoss(), "decollate": False}
    run = trainer(network, batches, [*handlers, Progress("training")], device="meta", epoch_length=3, **settings)
    run.run()
    assert run.state.iteration == 3
