"""Rounding and averages of networks with complex, shared and whole-number tensors, as properties."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.audit.quality import LEVELS, quantised, quantised_network
from scripts.unlearning import WeightAverage
from tests.helpers import sample, trainer


class Mixed(torch.nn.Module):
    """Real, complex and shared weights, a count and statistics."""

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.real = torch.nn.Parameter(scale * torch.randn(3, 4, generator=generator))
        self.complex = torch.nn.Parameter(scale * torch.randn(2, 5, dtype=torch.complex64, generator=generator))
        self.again = self.real
        self.levels = torch.nn.Parameter(torch.arange(6).reshape(2, 3), requires_grad=False)
        self.register_buffer("statistics", scale * torch.randn(4, generator=generator))
        self.register_buffer("count", torch.tensor(seed % 100))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * (self.real.sum() + self.complex.abs().sum() + self.again.mean())


SEEDS = st.integers(0, 2**31)
SCALES = st.floats(1e-3, 1e3)


def parts(network: Mixed) -> torch.Tensor:
    """Every number that is a weight or a statistic, once."""
    tensors = (network.real, torch.view_as_real(network.complex), network.statistics)
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, scale=SCALES)
def test_rounding_moves_no_part_by_more_than_half_a_level_and_nothing_twice(seed, scale):
    network = Mixed(seed, scale)
    coarse = quantised_network(network)
    for name in ("real", "complex"):
        before, after = getattr(network, name).detach(), getattr(coarse, name).detach()
        largest = torch.view_as_real(before).abs().max() if before.is_complex() else before.abs().max()
        apart = torch.view_as_real(after - before) if before.is_complex() else after - before
        assert float(apart.abs().max()) <= float(largest) / LEVELS * 0.5001
        torch.testing.assert_close(quantised(after), after)
    assert coarse.again is coarse.real
    assert torch.equal(coarse.levels, network.levels)


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, decay=st.floats(0.05, 0.95))
def test_average_is_the_recursion_for_every_tensor_and_keeps_ties_and_counts(seed, decay):
    network, average = Mixed(seed), WeightAverage(decay=decay, start=0.0)
    engine = trainer(network, [sample(1.0, 3.0, False)] * 3, [])
    expected: list[torch.Tensor] = []

    def remember() -> None:
        now = parts(network)
        expected.append(now if not expected else decay * expected[-1] + (1 - decay) * now)

    engine.add_event_handler("ITERATION_COMPLETED", remember)
    average.attach(engine)
    engine.run()
    torch.testing.assert_close(parts(network), expected[-1], rtol=1e-4, atol=1e-5)
    assert network.again is network.real
    assert int(network.count) == seed % 100
