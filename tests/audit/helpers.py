"""Gates to judge by, and results whose means are stated."""

from scripts.evaluation.results import Results, VolumeResult

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
