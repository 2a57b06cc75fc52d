# %% [markdown]
# # Your own network in ten lines
#
# Any `torch.nn.Module` can be trained, made to forget, judged and shipped, if it maps undersampled k-space to an
# image. Here it is a small network on zero-filled images. It lies in a file of its own, so that every later verb can
# import it.

# %%
import json
import sys
from pathlib import Path

import monai.bundle
import yaml

from mri_unlearning import ROOT
from scripts.phantoms import phantom_datalist

CONFIGS = ROOT / "configs"
Path("my_network.py").write_text('''
import torch

from scripts.kspace.fourier import ifft2c, rss


class Denoiser(torch.nn.Module):
    """Masked k-space (B, C, H, W, 2) -> image (B, 1, H, W): the zero-filled image, and what two convolutions add."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, masked_kspace: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        image = rss(ifft2c(torch.view_as_complex(masked_kspace)))[:, None]
        scale = image.amax((2, 3), keepdim=True).clamp(min=1e-12)
        return image + self.layers(image / scale) * scale
''')
sys.path.insert(0, ".")

# %% [markdown]
# An overlay names it. `network_def` is its name in the configurations for inference. A network with another signature
# is wrapped by `scripts.networks.Adapted` in the overlay instead.

# %%
overlay = {"network": {"_target_": "my_network.Denoiser", "width": 8}, "network_def": "%network"}
Path("my_network.yaml").write_text(yaml.safe_dump(overlay))

# %% [markdown]
# Give the overlay to each verb that starts from a configuration. Before training, the network is built twice from two
# seeds and tried on noise: what cannot be trained, or cannot be forgotten with, is refused in one sentence. The prior
# is made by itself.

# %%
datalist = phantom_datalist(
    "scans",
    num_training={"brain": 6, "knee": 2},
    num_validation={"brain": 1},
    num_test={"brain": 2, "knee": 2},
    slices_per_volume=1,
    matrix=(64, 64),
    num_coils=4,
)


def run(verb: str, *overlays: str, **settings) -> None:
    """A verb of the bundle, with overlays."""
    monai.bundle.run(verb, config_file=[str(CONFIGS / f"{verb}.yaml"), *overlays], **settings)


run("train", "my_network.yaml", datalist=datalist, train_epochs=2)
run(
    "unlearn",
    "my_network.yaml",
    datalist=datalist,
    train_epochs=2,
    retain_fraction=0.5,
    weights="outputs/train/original.pt",
)

# %% [markdown]
# The record names the network's class and the hash of its source, and says that it forgot exactly.

# %%
record = json.loads(Path("outputs/demo-knee/unlearned.json").read_text())
print(record["forgetting"], "with", record["network"][0])
print(Path("outputs/demo-knee/table.md").read_text())

# %% [markdown]
# `ship` copies the class into a bundle that works without this folder. It wants the overlay, since a record may come
# from anyone and shall not decide which code is run.

# %%
Path("license.txt").write_text("made up for this tutorial")
run(
    "ship",
    "my_network.yaml",
    run="outputs/demo-knee",
    data_source="Drawn brains and knees.",
    data_license="license.txt",
)
print(*sorted(path.name for path in Path("outputs/ship").iterdir()))
