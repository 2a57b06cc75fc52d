"""`torch.compile` where it pays: the U-Nets."""

from torch import nn

from scripts.networks.unet import Unet


def compiled(network: nn.Module) -> nn.Module:
    """Compile every U-Net inside a network, in place; weights, keys and the network's type stay.

    The Fourier transforms and complex products around them stay eager: TorchInductor has no complex code. The first
    pass of each mode (training, evaluation) takes the compiler's time, about a minute; a C++ compiler (CPU) or Triton
    (GPU) is needed. Copies of the network run eagerly.

    Args:
        network: e.g. `VarNet` or `ReconUnet`.

    Returns:
        The same network.

    Raises:
        ValueError: There is nothing to compile: only the project's own U-Nets are known to be worth it.

    Example:
        >>> network = compiled(Unet(in_chans=2, out_chans=1, chans=2, pools=1))
        >>> list(network.state_dict())[0]
        'down_sample_layers.0.layers.0.weight'
    """
    unets = [module for module in network.modules() if isinstance(module, Unet)]
    if not unets:
        raise ValueError(f"compile: expected a network with the project's U-Nets, found {type(network).__name__}")
    for unet in unets:
        unet.compile()
    return network
