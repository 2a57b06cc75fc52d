"""Gates to judge by, results whose means are stated, and what measures are given."""

from scripts.audit import Given
from scripts.data import EquispacedFractionMask, Undersample
from scripts.evaluation.results import Results, VolumeResult
from scripts.networks import ZeroFilled
from scripts.training.reconstruction_loss import ReconstructionLoss

UNDER = {"name": "under", "guards": "under-forgetting", "measure": "oracle_gap/KTA/psnr/above", "at_most": 1.0}
OVER = {"name": "over", "guards": "over-forgetting", "measure": "oracle_gap/KTA/psnr/below", "at_least": -1.0}
RETAIN = {"name": "retain", "guards": "retain damage", "measure": "oracle_gap/BTA/psnr/below", "at_least": -0.5}
HIDDEN = {"name": "hidden", "guards": "suppression", "measure": "resurfacing/KTA/psnr/rise", "at_most": 0.5}
GATES = [UNDER, OVER, RETAIN, HIDDEN]
OFFSETS = {"KTA": [-1.0, 0.0, 1.0], "UA": [-2.0, 2.0]}  # how scans differ; what changes is the same in all of them


def curve(name, levels, cohorts=("KTA", "UA")):
    """Step -> results whose mean PSNR are the levels, and whose SSIM are a hundredth of the PSNR."""
    return {
        step: Results(
            VolumeResult(
                name, cohort, f"{cohort}_{i}", f"P{i}", "", 1, psnr=level + o, ssim=(level + o) / 100, nmse=0.1
            )
            for cohort in cohorts
            for i, o in enumerate(OFFSETS[cohort])
        )
        for step, level in levels.items()
    }


MASK = EquispacedFractionMask(4, 0.12)


def given(cohorts=None, **settings) -> Given:
    """What measures are given, with a small mask and nothing but what is stated."""
    shared = {"network": ZeroFilled(), "mask": MASK, "transform": Undersample(MASK, seed=0)}
    shared["loss_function"] = ReconstructionLoss(ssim_weight=1.0, l1_weight=0.0)
    return Given(**{"cohorts": cohorts or {}, **shared, **settings})
