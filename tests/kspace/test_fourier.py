import numpy as np
import pytest
import torch

from scripts.kspace.fourier import center_crop, fft2c, ifft2c, mirrored, rss

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
SIZES = [(8, 6), (7, 5), (6, 9), (1, 4)]


def random_complex(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("ours", "numpy_fft"), [(fft2c, np.fft.fft2), (ifft2c, np.fft.ifft2)])
def test_equals_numpy(size, ours, numpy_fft):
    x = random_complex(2, 3, *size)
    axes = (-2, -1)
    expected = np.fft.fftshift(numpy_fft(np.fft.ifftshift(x.numpy(), axes), axes=axes, norm="ortho"), axes)
    np.testing.assert_allclose(ours(x).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(torch.jit.script(ours)(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_unitary_and_adjoint(size):
    x, y = random_complex(2, *size), random_complex(2, *size).flip(0)
    torch.testing.assert_close(ifft2c(fft2c(x)), x)
    torch.testing.assert_close(fft2c(x).norm(), x.norm())
    torch.testing.assert_close(
        torch.vdot(fft2c(x).flatten(), y.flatten()), torch.vdot(x.flatten(), ifft2c(y).flatten())
    )


@pytest.mark.parametrize("size", SIZES)
def test_mirroring_and_the_transform_commute(size):
    x = random_complex(2, *size)
    torch.testing.assert_close(mirrored(mirrored(x)), x)
    torch.testing.assert_close(fft2c(mirrored(x)), mirrored(fft2c(x)))
    assert mirrored(x)[..., size[1] // 2].equal(x[..., size[1] // 2])


def test_rss_and_its_gradient():
    x = random_complex(2, 4, 5, 6).requires_grad_()
    torch.testing.assert_close(rss(x), x.abs().square().sum(1).sqrt())
    torch.testing.assert_close(torch.jit.script(rss)(x, dim=-1), rss(x, dim=3))
    assert torch.autograd.gradcheck(rss, (x,))


def test_rss_gradient_is_finite_where_all_coils_are_zero():
    x = torch.zeros(1, 3, 2, 2, dtype=torch.complex64, requires_grad=True)
    rss(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (7, 8), (1, 1)])
def test_center_crop_keeps_the_centre(shape):
    x = torch.arange(56).reshape(7, 8)
    rows, columns = (7 - shape[0]) // 2, (8 - shape[1]) // 2
    expected = x[rows : rows + shape[0], columns : columns + shape[1]]
    assert torch.equal(center_crop(x, shape), expected)
    assert torch.equal(torch.jit.script(center_crop)(x, shape), expected)


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (0, 3)])
def test_center_crop_refuses_and_names_sizes(shape):
    with pytest.raises(ValueError, match=f"7 x 8 pixels to {shape[0]} x {shape[1]}"):
        center_crop(torch.zeros(7, 8), shape)


def test_nan_is_not_hidden():
    x = torch.zeros(1, 2, 4, 4, dtype=torch.complex64)
    x[0, 0, 1, 1] = float("nan")
    assert int(rss(x).isnan().sum()) == 1
