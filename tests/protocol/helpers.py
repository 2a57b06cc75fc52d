"""Results of a made-up study, small enough to compute by hand."""

import numpy as np
import pandas as pd

from scripts.evaluation.results import cohort_words
from scripts.protocol.plan import FORGET_ONLY, ORACLE, ORIGINAL, UNLEARNED
from scripts.protocol.results import COLUMNS, NAMES, Results, joined, method_label

LEVEL = {ORIGINAL: 30.0, ORACLE: 29.0, FORGET_ONLY: 20.0, UNLEARNED: 28.5, "zero": 15.0}
COUNTS = {"BTA": 4, "KTA": 3, "UA": 2}
WORDS = cohort_words({"BTA": ["brain"], "KTA": ["knee"], "UA": ["knee"]})


def scores(cell, state, rng, level):
    made = []
    for cohort, count in COUNTS.items():
        for i in range(count):
            psnr = level - 2 * (cohort != "BTA") + rng.normal()
            names = {"cell": cell, "state": state, "cohort": cohort, "volume": f"{cohort}-{i}.h5"}
            made.append({**names, "patient": f"{cohort}-P{i // 2}", "psnr": psnr, "ssim": psnr / 40, "nmse": 1 / psnr})
    return made


def run(role, seed=0, method="", fraction=None, budget=None, steps=100, forgetting=""):
    name = f"{method or role}/seed-{seed}" if fraction is None else f"{method}/fraction-{fraction:g}/seed-{seed}"
    cost = {"epochs": 2, "forward_slices": 2 * steps, "backward_slices": steps, "seconds": 0.1 * steps}
    facts = {"cell": name, "role": role, "method": method, "model": NAMES.get(role) or method_label(method), **cost}
    facts |= {"fraction": fraction, "budget": budget, "seed": seed, "forgetting": forgetting, "weights": ""}
    return {**facts, "records": f"cells/{name}/cell.json"}


def collect(found) -> Results:
    """Results of (run, its scores) pairs."""
    runs, rows = zip(*found, strict=True) if found else ([], [])
    return joined(pd.DataFrame(runs, columns=list(COLUMNS)), [row for own in rows for row in own])


def result(role, seed=0, method="", fraction=None, steps=100):
    rng = np.random.default_rng([seed, sum(map(ord, role + method)), int(1000 * (fraction or 0))])
    facts = run(role, seed, method, fraction, steps=steps)
    rows = scores(facts["cell"], "delivered", rng, LEVEL[role] + 2 * (fraction or 0))
    rows += scores(facts["cell"], "zero-filled", np.random.default_rng(99), LEVEL["zero"])
    return facts, rows


def study(fractions=(0.05, 0.1, 0.5, 1.0), oracles=3) -> Results:
    """The original, networks that never saw the scans, one that saw them alone, FT at several fractions and NL at 0."""
    return collect(
        [
            result(ORIGINAL, steps=1000),
            *(result(ORACLE, seed, steps=900) for seed in range(oracles)),
            result(FORGET_ONLY, steps=100),
            *(result(UNLEARNED, s, "fine_tune", f, steps=int(100 * f) + 1) for f in fractions for s in (0, 1)),
            *(result(UNLEARNED, seed, "noisy_label", 0.0, steps=20) for seed in (0, 1)),
        ]
    )


MAIN = {"fine_tune": 0.1, "noisy_label": 0.0}


def made(role, seed, delivered, later=None, method="fine_tune", budget=None, forgetting=""):
    """A run with one volume in each cohort at stated levels of PSNR, KTA 2 and UA 3 dB lower."""
    facts = run(role, seed, method if role == UNLEARNED else "", None, budget, forgetting=forgetting)
    facts["cell"] = f"{facts['cell']}/{budget}"
    facts["fraction"] = 0.1 if role == UNLEARNED else None
    rows = []
    for state, level in (("delivered", delivered), ("later", later)):
        for i, cohort in enumerate(COUNTS if level is not None else ()):
            psnr = level[i] if isinstance(level, tuple) else level - (0.0, 2.0, 3.0)[i]
            place = {
                "cell": facts["cell"],
                "state": state,
                "cohort": cohort,
                "volume": f"{cohort}.h5",
                "patient": cohort,
            }
            rows.append({**place, "psnr": psnr, "ssim": psnr / 100, "nmse": 0.1})
    return facts, rows
