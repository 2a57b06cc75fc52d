"""Muon: orthogonal steps of matrices, Adam for the rest."""

import pytest
import torch

from scripts.training import Muon
from scripts.training.muon import orthogonalised


@pytest.mark.parametrize("shape", [(4, 4), (3, 50), (50, 3)])
def test_singular_values_become_about_one_and_the_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonalised(matrix) @ right.T
    values = inner.diagonal()
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    assert float((inner - values.diag()).abs().max()) < 1e-3
    assert torch.equal(orthogonalised(torch.zeros(shape)), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, 4), (3, 50), (50, 3)])
def test_a_complex_matrix_keeps_its_vectors_too(shape):
    matrix = torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.mH @ orthogonalised(matrix) @ right.mH
    assert float(inner.diagonal().real.min()) > 0.6
    assert float(inner.diagonal().real.max()) < 1.3
    assert float((inner - inner.diag().diag()).abs().max()) < 1e-3
    assert float(inner.diagonal().imag.abs().max()) < 1e-3


def test_complex_weights_go_towards_their_targets_and_others_as_pairs_of_real_ones():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(4, 5, dtype=torch.complex64, generator=generator)
    weight, bias = (
        torch.nn.Parameter(torch.zeros_like(target)),
        torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64)),
    )
    optimizer, goal = Muon([weight, bias], lr=0.05, adam_lr=0.02), torch.tensor([1 - 1j, 0.5j])
    first = None
    for _ in range(150):
        loss = (weight - target).abs().square().sum() + (bias - goal).abs().square().sum()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    real = torch.nn.Parameter(torch.zeros(2, 2))
    pairs, whole = Muon([real], adam_lr=0.1), torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    real.grad, whole.grad = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([1 - 2j, 3j])
    pairs.step()
    Muon([whole], adam_lr=0.1).step()
    assert torch.equal(torch.view_as_real(whole.detach()), real.detach())


def test_a_step_of_a_convolution_has_the_learning_rates_size_whatever_the_gradient():
    for scale in (1e-6, 1e3):
        weight = torch.nn.Parameter(torch.zeros(6, 4, 3, 3))
        weight.grad = scale * torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=0.5).step()
        values = torch.linalg.svdvals(weight.detach().flatten(1))
        assert float(values.min()) > 0.6 * 0.5
        assert float(values.max()) < 1.3 * 0.5
        assert float((weight.detach() * weight.grad).sum()) < 0


def test_the_rest_goes_as_with_adam():
    bias, reference = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    ours, adam = Muon([bias], adam_lr=0.1), torch.optim.Adam([reference], lr=0.1)
    for gradient in ([1.0, 2.0], [-3.0, 0.5], [0.0, 1.0]):
        bias.grad = reference.grad = torch.tensor(gradient)
        ours.step()
        adam.step()
    assert torch.allclose(bias, reference, atol=1e-6)


def test_frozen_weights_stay_and_the_state_can_be_kept():
    weights = [torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3, 3))]
    optimizer = Muon(weights)
    weights[0].grad = torch.eye(3)
    optimizer.step()
    assert torch.equal(weights[1], torch.ones(3, 3))
    other = Muon(weights)
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.state[weights[0]]["momentum"], torch.eye(3))


def test_arguments():
    weight = torch.nn.Parameter(torch.ones(3, 3))
    with pytest.raises(ValueError, match="Muon: 'lr': expected a number above 0, found 0"):
        Muon([weight], lr=0)
    with pytest.raises(ValueError, match="'momentum': expected a number from 0 and below 1, found 1"):
        Muon([weight], momentum=1)
