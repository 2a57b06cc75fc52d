# %% [markdown]
# # The paper's study in small
#
# `protocol` trains the original and the oracles, runs every method at every retain fraction and seed, lets training go
# on to see what comes back, and writes tables, figures and one report. Here two methods and one seed, on tiny scans.
# The paper's full scale is `paper.yaml` laid over `protocol.yaml`.

# %%
from pathlib import Path

import monai.bundle
import pandas as pd

from mri_unlearning import ROOT
from scripts.phantoms import phantom_datalist

monai.bundle.run(
    "protocol",
    config_file=str(ROOT / "configs" / "protocol.yaml"),
    datalist=phantom_datalist(
        "scans",
        num_training={"brain": 4, "knee": 2},
        num_validation={"brain": 1},
        num_test={"brain": 2, "knee": 2},
        slices_per_volume=1,
        matrix=(64, 64),
        num_coils=4,
    ),
    methods=["default", "fine_tune"],
    fraction_methods=[],
    retain_fraction=0.5,
    seeds=[0],
    oracle_seeds=[0],
    train_epochs=2,
    unlearn_epochs=1,
    n_jobs=1,
    **{"network#num_cascades": 1},
)

# %% [markdown]
# The report ranks the methods by what they keep and by what comes back. Every number stands in a table, and is traced
# to the record of the run that made it. A study that was stopped goes on with the same command.

# %%
study = Path("outputs/protocol")
ranking = pd.read_csv(study / "tables" / "ranking.csv")
print(ranking.drop(columns="records").to_string(index=False))
print(*sorted(path.name for path in (study / "tables").glob("*.csv")))
print(*sorted(path.name for path in (study / "figures").iterdir()))
print((study / "report.html").resolve())
