"""A small batch, and the gradient of a network on it."""

import torch

from scripts.training import ReconstructionLoss


def make_batch() -> tuple[torch.Tensor, torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 1, 1, 44, 1, generator=generator) < 0.4
    mask[:, :, :, 18:26] = True
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 44), indexing="ij")
    image = 3e-4 * (rows**2 + columns**2 < 0.6) * (1 + 0.3 * torch.sin(12 * columns))
    coils = torch.stack([image * (1.5 + rows), image * (1.5 + columns)]).to(torch.complex64)
    kspace = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(coils, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))
    label = {"target": (coils.abs().square().sum(0).sqrt())[None, None], "max_value": torch.tensor([1e-3])}
    return torch.view_as_real(kspace)[None] * mask, mask, label


def gradient(network, kspace, mask, label) -> torch.Tensor:
    network.zero_grad()
    ReconstructionLoss()(network(kspace, mask), label).mean().backward()
    return torch.cat([weight.grad.flatten() for weight in network.parameters()])
