# %% [markdown]
# # From your HDF5 files to a page for the board
#
# You trained a network on brains and knees, and the knees have to go. This tutorial lists scans, writes a request,
# trains, unlearns, checks and repeats, all from Python; on the command line the verbs and their settings have the same
# names. It draws its own tiny scans and runs in seconds, so its images are poor. Leave out `QUICK` on data of your
# own.

# %%
import json
from pathlib import Path

import h5py
import monai.bundle
import torch
import yaml
from torch.utils.data import DataLoader

from mri_unlearning import ROOT
from scripts.data import EquispacedFractionMask, SliceDataset, Undersample, inspect_volume
from scripts.networks import VarNet, load_weights
from scripts.phantoms import phantom_datalist

CONFIGS = ROOT / "configs"
QUICK = {"train_epochs": 2, "network#num_cascades": 1}  # 18 epochs and 3 cascades by default


def run(verb: str, **settings) -> None:
    """What `python -m monai.bundle run VERB --config_file bundle/configs/VERB.yaml --SETTING VALUE …` does."""
    monai.bundle.run(verb, config_file=str(CONFIGS / f"{verb}.yaml"), **settings)


# %% [markdown]
# ## 1. The scans
#
# A scan is an HDF5 file in fastMRI's format: complex k-space of shape (slices, coils, H, W), a reference image, and an
# ISMRMRD header. `scripts.data.write_volume` writes such a file from arrays. Here drawn scans stand in for yours.

# %%
drawn = Path(
    phantom_datalist(
        "scans",
        num_training={"brain": 6, "knee": 2},
        num_validation={"brain": 1},
        num_test={"brain": 2, "knee": 2},
        slices_per_volume=1,
        matrix=(64, 64),
        num_coils=4,
    )
)
lists = json.loads(drawn.read_text())
with h5py.File(drawn.parent / lists["training"][0]["kspace"]) as scan:
    for name, values in scan.items():
        print(name, values.shape, values.dtype)
    print(dict(scan.attrs))

# %% [markdown]
# `datalist.json` names the scans of each list, with paths relative to it. Any further field, such as `anatomy` or
# `patient_id`, can be used to say what has to go.

# %%
for entry in (entry for section in lists.values() for entry in section):
    entry["kspace"] = str((drawn.parent / entry["kspace"]).resolve())
Path("datalist.json").write_text(json.dumps(lists, indent=1))
print(json.dumps(lists["training"][0], indent=1))

# %% [markdown]
# ## 2. The request
#
# `preview` reads headers alone and says what the request selects.

# %%
request = {"request_id": "2026-017", "reason": "knee scans were added by mistake", "forget": [{"anatomy": "knee"}]}
Path("request.yaml").write_text(yaml.safe_dump(request))
ours = {"datalist": "datalist.json", "forget_request": "request.yaml"}
run("preview", **ours)

# %% [markdown]
# ## 3. Train and unlearn
#
# Leave out the training if you have weights. `unlearn` first makes a prior, a network trained on generic synthetic
# images: once for a network, a mask and a matrix size. Then it replaces all weights by the prior's and learns from a
# part of the scans that stay.

# %%
run("train", **ours, **QUICK)
run("unlearn", **ours, **QUICK, weights="outputs/train/original.pt", retain_fraction=0.5, budget=0.5)

# %% [markdown]
# ## 4. What came out
#
# `table.md` compares the networks. The record says whether the run forgot exactly, and lists every file that was
# opened.

# %%
folder = Path("outputs/2026-017")
print((folder / "table.md").read_text())
record = json.loads((folder / "unlearned.json").read_text())
print("forgetting:", record["forgetting"])
print("scans:", record["scans"])

# %% [markdown]
# ## 5. Check and repeat
#
# `replay` does the unlearning again and compares the bits. `audit` judges what is kept. Both read everything else from
# the record of the run. Then `report.html` is one page for whoever has to decide and sign: open it in a browser, or
# print it.

# %%
run("replay", run=str(folder))
run("audit", run=str(folder))
print((folder / "report.html").resolve())

# %% [markdown]
# ## 6. Use the network
#
# The network is a `torch.nn.Module` from k-space (B, C, H, W, 2) and mask (B, 1, 1, W, 1) to an image (B, 1, H, W).
# Undersample a scan as in evaluation, and reconstruct it.

# %%
network = VarNet(num_cascades=1, chans=8, pools=3, sens_chans=4, sens_pools=3)
load_weights(network, folder / "unlearned.pt").eval()
volume = inspect_volume(lists["test"][0]["kspace"])
undersample = Undersample(EquispacedFractionMask(acceleration=3, center_fraction=0.08), seed=0)
batch = next(iter(DataLoader(SliceDataset([volume], undersample, report=False))))
with torch.no_grad():
    image = network(batch["masked_kspace"], batch["mask"])
print("measured columns:", int(batch["mask"].sum()), "of", batch["mask"].shape[3])
print("image:", tuple(image.shape), "reference:", tuple(batch["target"].shape))
