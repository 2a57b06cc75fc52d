"""Networks and teachers small enough to compute by hand."""

import torch

from tests.helpers import sample


class Columns(torch.nn.Module):
    """Multiplies the two columns of an image by a weight each: J's gradient is x_j (w_j x_j - y_j)."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weights))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.weight * image


class Fixed:
    """A teacher that is there from the beginning."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network.requires_grad_(False)

    def image(self, reconstruct):
        return reconstruct(self.network)


def columns(target: tuple[float, float], forget: bool = False) -> dict:
    """A batch of one image of ones and a target with two columns."""
    batch = sample(1.0, 0.0, forget)
    batch["target"] = torch.tensor(target).expand(1, 1, 2, 2).clone()
    return batch


def weights_of(network: torch.nn.Module) -> list[float]:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]).tolist()
