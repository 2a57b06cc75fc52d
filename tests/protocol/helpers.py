"""Results of a made-up study, small enough to compute by hand."""

import numpy as np

from scripts.evaluation.results import VolumeResult
from scripts.protocol.plan import FORGET_ONLY, ORACLE, ORIGINAL, UNLEARNED, Cell
from scripts.protocol.results import Result

LEVEL = {ORIGINAL: 30.0, ORACLE: 29.0, FORGET_ONLY: 20.0, UNLEARNED: 28.5, "zero": 15.0}
COUNTS = {"BTA": 4, "KTA": 3, "UA": 2}


def rows(rng, level):
    made = []
    for cohort, count in COUNTS.items():
        for i in range(count):
            psnr = level - 2 * (cohort != "BTA") + rng.normal()
            names = ("model", cohort, f"{cohort}-{i}.h5", f"{cohort}-P{i // 2}", "")
            made.append(VolumeResult(*names, slices=1, psnr=psnr, ssim=psnr / 40, nmse=1 / psnr))
    return made


def result(role, seed=0, method="", fraction=None, epochs=0, steps=100):
    rng = np.random.default_rng([seed, sum(map(ord, role + method)), int(1000 * (fraction or 0))])
    name = f"{method or role}/seed-{seed}" if fraction is None else f"{method}/fraction-{fraction:g}/seed-{seed}"
    cost = {"epochs": 2, "forward_slices": 2 * steps, "backward_slices": steps, "seconds": 0.1 * steps}
    return Result(
        cell=Cell(name, role, seed, method, fraction, epochs=bool(epochs)),
        record={"cost": cost, "status": "finished"},
        path=f"cells/{name}/cell.json",
        rows=rows(rng, LEVEL[role] + 2 * (fraction or 0)),
        zero_filled=rows(np.random.default_rng(99), LEVEL["zero"]),
        epochs={epoch: rows(rng, LEVEL[role]) for epoch in range(1, epochs + 1)},
    )


def study(fractions=(0.05, 0.1, 0.5, 1.0), oracles=3):
    """G, oracles, forget only, FT at several fractions and NL at 0, two seeds each."""
    return [
        result(ORIGINAL, steps=1000),
        *(result(ORACLE, seed, steps=900) for seed in range(oracles)),
        result(FORGET_ONLY, steps=100),
        *(
            result(UNLEARNED, s, "fine_tune", f, epochs=3 if (f, s) == (0.1, 0) else 0, steps=int(100 * f) + 1)
            for f in fractions
            for s in (0, 1)
        ),
        *(result(UNLEARNED, seed, "noisy_label", 0.0, steps=20) for seed in (0, 1)),
    ]


MAIN = {"fine_tune": 0.1, "noisy_label": 0.0}
