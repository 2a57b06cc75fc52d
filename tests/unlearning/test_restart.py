"""Restart: nothing of the network stays, whether a weights file holds it or not."""

import copy

import pytest
import torch

from scripts.networks import save_weights
from scripts.unlearning import NoTraining, Restart
from scripts.unlearning.fit import tensors_of
from tests.helpers import sample, trainer

RETAIN = sample(value=1.0, target=3.0, forget=False)


class Remembers(torch.nn.Module):
    """Every kind of tensor in which a network can remember."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), value))
        self.again = self.weight
        self.complex = torch.nn.Parameter(torch.full((2,), complex(value, value)))
        self.frozen = torch.nn.Parameter(torch.full((2,), value), requires_grad=False)
        self.norm = torch.nn.BatchNorm2d(1, momentum=None)
        self.register_buffer("unsaved", torch.full((2,), value), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(image) * self.weight.sum() * self.complex.abs().sum()


class Found:
    """Stands for a prior that was found."""

    def __init__(self, path) -> None:
        self.path = path


@pytest.fixture
def prior(tmp_path):
    save_weights(Remembers(2.0), tmp_path / "prior.pt")
    return Found(tmp_path / "prior.pt")


def restarted(network: torch.nn.Module, prior) -> dict[str, torch.Tensor]:
    trainer(network, [RETAIN], [Restart(prior, fresh=lambda: Remembers(0.0)), NoTraining()]).run()
    return tensors_of(network)


def test_all_that_a_network_can_remember_in_is_replaced(prior, caplog):
    caplog.set_level("INFO")
    network = Remembers(7.0)
    network.norm.running_mean.fill_(9.0)
    network.norm.num_batches_tracked.fill_(9)
    found, other = restarted(network, prior), restarted(Remembers(-1.0), prior)
    assert found.keys() == other.keys() == {"weight", "complex", "frozen", "unsaved", *(f"norm.{n}" for n in (
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"))}  # fmt: skip
    assert all(torch.equal(value, other[name]) for name, value in found.items())
    assert found["frozen"].tolist() == [2.0, 2.0]
    assert found["unsaved"].tolist() == [0.0, 0.0]
    assert network.again is network.weight
    assert "1 frozen parameters stay as it has them: frozen" in caplog.text
    assert "1 buffers are a new network's: unsaved" in caplog.text


def test_the_optimiser_forgets_too_and_what_it_drew_is_drawn_again(prior):
    network = Remembers(7.0)
    before = copy.deepcopy(network)
    engine = trainer(network, [RETAIN], [Restart(prior, seed=3, fresh=Remembers), NoTraining()])
    engine.optimizer.state[network.weight] = {"momentum": torch.ones(2)}
    engine.run()
    assert not engine.optimizer.state
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    assert not torch.equal(network.weight, before.weight)
