"""Import of fastMRI's published weights.

From a shell: `python -m scripts.networks.import_weights SOURCE TARGET`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scripts.networks.unet import ReconUnet
from scripts.networks.varnet import VarNet
from scripts.networks.weights import load_weights, read_state, save_weights


def infer_network(state: Mapping[str, Tensor]) -> tuple[VarNet | ReconUnet, dict[str, Any]]:
    """Network that fits a fastMRI state dict, and its arguments, from the names and shapes of its tensors.

    Raises:
        ValueError: the state dict is of another network.
    """
    first = "down_sample_layers.0.layers.0.weight"

    def count(pattern: str) -> int:
        return len({found[1] for key in state if (found := re.search(pattern, key))})

    def find(prefix: str) -> tuple[int, int]:
        key = next((key for key in state if key.endswith(prefix + first)), None)
        if key is None:
            raise ValueError(f"no key ends in {prefix + first}: not the weights of a fastMRI VarNet or U-Net")
        root = re.escape(key.removesuffix(first))
        return state[key].shape[0], count(rf"^{root}down_sample_layers\.(\d+)\.")

    if any("cascades." in key for key in state):
        chans, pools = find("cascades.0.model.unet.")
        sens_chans, sens_pools = find("sens_net.norm_unet.unet.")
        arguments: dict[str, Any] = {"num_cascades": count(r"(?:^|\.)cascades\.(\d+)\."), "sens_chans": sens_chans}
        arguments |= {"sens_pools": sens_pools, "chans": chans, "pools": pools}
        return VarNet(**arguments), arguments
    chans, pools = find("")
    return ReconUnet(chans=chans, pools=pools), {"chans": chans, "pools": pools}


def import_weights(source: str | Path, target: str | Path, network: nn.Module | None = None) -> dict[str, int]:
    """Convert a state dict or Lightning checkpoint of fastMRI's VarNet or U-Net to a plain weights file.

    Args:
        source: fastMRI's file.
        target: File to write.
        network: Network that the weights must fit; by default one inferred from the tensors.

    Returns:
        Constructor arguments of the network, inferred from the tensors.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source is no checkpoint or does not fit.
    """
    try:
        inferred, arguments = infer_network(read_state(source))
    except ValueError as error:
        raise ValueError(str(error) if str(source) in str(error) else f"{source}: {error}") from error
    save_weights(load_weights(network or inferred, source), target)
    return arguments


if __name__ == "__main__":
    from scripts.run.program import program

    program(import_weights)
