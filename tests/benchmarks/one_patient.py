"""What forgetting one patient or a few costs, and how often the audit of single patients is right:
``python -m tests.benchmarks.one_patient --domain patients``

Trains an original on everybody, and on everybody but some patients an oracle and the reference models; forgets each of
these patients alone and all of them together with each method; audits original, oracle and unlearned weights for each
patient. One oracle and one set of reference models serve all requests: they saw none of these patients. Prints three
Markdown tables: others' and own scans beside the oracle's, the verdicts, and every patient's score under each model.
Stopped, the command goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import fire
import monai.bundle
import torch

from tests.benchmarks.frontier import LATER, domain_settings
from tests.benchmarks.markdown import markdown_table, spread

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
VERDICTS = ("known", "not found", "over-forgotten", "no power", "undecided")
TOGETHER = "together"
ORACLE = "oracle"
LATER_ON = ", later"
Rows = list[dict[str, str]]


def main(
    domain: str = "patients",
    output_dir: str | None = None,
    patients: Sequence[str] | int = 6,
    methods: Sequence[str] = ("default", "mirror_target"),
    seeds: Sequence[int] = (0,),
    references: int = 4,
    oracle_seeds: Sequence[int] = (0,),
    each: bool = True,
    later: bool = False,
    treated: bool = False,
    unlearning: Mapping | None = None,
) -> None:
    """Run what is missing and print the tables.

    Args:
        domain: An overlay in ``domains``.
        output_dir: The folder of all runs; default ``outputs/one_patient/<domain>``.
        patients: Who is to be forgotten, or how many of the brains' patients, evenly spaced in the training list.
        methods: Overlays, or ``default`` for the method of ``unlearn.yaml``.
        seeds: Of each unlearning. The original has seed 0, the reference models the seeds from 1.
        references: The number of reference models, each trained on half of the others; 0: nothing is audited.
        oracle_seeds: One oracle for each; the tables of quality take their mean, and each is audited.
        each: Also forget each patient alone, with the first seed.
        later: Also let training go on with all retain data after all of them were forgotten, by 15 % of its passes.
        treated: Also run each method on the first oracle, to see what the recipe does where nothing is to be forgotten.
        unlearning: Overrides of ``unlearn``.
    """
    logging.getLogger("ignite").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    output, settings = Path(output_dir or f"outputs/one_patient/{domain}"), domain_settings(domain)
    asked = _requests(settings["train"]["datalist"], patients)
    training = {**settings["train"], "forget_request": asked[TOGETHER]}
    models = {"original": _made(output / "original" / "original.pt", "train", training)}
    oracles = {ORACLE if seed == 0 else f"{ORACLE}-{seed}": seed for seed in oracle_seeds}
    for name, seed in oracles.items():
        models[name] = _made(output / name / "oracle.pt", "train", {**training, "oracle": True, "seed": seed})
    forget = partial(_forget, output, settings=settings["unlearn"], asked=asked, seeds=seeds, overrides=unlearning)
    forgotten = {name: forget(models["original"], name, each=each) for name in methods}
    oracle = models[next(iter(oracles))]
    alike = {name: forget(oracle, name, each=False) for name in methods} if treated else {}
    beside = [
        _made(output / f"reference-{k}" / "reference.pt", "train",
              {**training, "oracle": True, "training_share": 0.5, "seed": k})
        for k in range(1, references + 1)
    ]  # fmt: skip
    for runs in (*forgotten.values(), *alike.values()):
        models |= {str(path.relative_to(output)): path for path in runs.values()}
    if later:
        given = {**settings["unlearn"], **LATER, "evaluate_models": False, "oracle_weights": False}
        given["forget_request"] = asked[TOGETHER]
        alone = {
            str(runs[who, seed].relative_to(output))
            for runs in forgotten.values()
            for who, seed in runs
            if who != TOGETHER
        }
        for name, path in {name: path for name, path in models.items() if name not in alone}.items():
            folder, start = path.parent / "later", {"weights": str(path)}
            models[name + LATER_ON] = _made(
                folder / "unlearned.pt", "unlearn", {**given, **start}, "approximate.yaml", "methods/fine_tune.yaml"
            )
    _print_quality(_evaluated(output, settings["unlearn"], asked, models), forgotten, alike, asked, output)
    if not beside:
        return
    audited = {"original": {"original": dict.fromkeys(asked, models["original"])}}
    audited[ORACLE] = {name: dict.fromkeys(asked, models[name]) for name in oracles}
    for name, runs in forgotten.items():
        audited[name] = {name: {p: runs[p, seeds[0]] for p in asked if (p, seeds[0]) in runs}}

    def rows(name: str, runs: Mapping[str, Path]) -> list[dict]:
        """What the audits of one model, or of one method's, say of each patient."""
        return [
            _audit(output / "audit" / name / p, settings["unlearn"], asked[p], models["original"], path, beside)
            for p, path in runs.items()
            if p != TOGETHER
        ]

    _print_audits({name: [row for one in some for row in rows(one, some[one])] for name, some in audited.items()})


def _requests(datalist: str, patients: Sequence[str] | int) -> dict[str, dict]:
    """Patient -> request; with several there is one for all of them, too."""
    if isinstance(patients, int):
        training = json.loads(Path(datalist).read_text(encoding="utf-8"))["training"]
        known = list(dict.fromkeys(entry["patient_id"] for entry in training if entry["anatomy"] == "brain"))
        patients = [known[(2 * i + 1) * len(known) // (2 * patients)] for i in range(patients)]
    every = {patient: [patient] for patient in patients} | {TOGETHER: list(patients)}
    return {
        name: {"request_id": name, "reason": "benchmark", "forget": [{"patient_id": whom}]}
        for name, whom in every.items()
    }


def _forget(
    output: Path,
    start: Path,
    method: str,
    *,
    settings: Mapping,
    asked: Mapping[str, Mapping],
    seeds: Sequence[int],
    each: bool,
    overrides: Mapping | None,
) -> dict[tuple[str, int], Path]:
    """(patient or ``together``, seed) -> weights."""
    wanted = [(TOGETHER, seed) for seed in seeds]
    if each and len(asked) > 2:
        wanted += [(patient, seeds[0]) for patient in asked if patient != TOGETHER]
    files = [] if method == "default" else ["approximate.yaml", f"methods/{method}.yaml"]
    made = {}
    for who, seed in wanted:
        given = {**settings, "weights": str(start), "forget_request": asked[who]}
        given |= {"seed": seed, "evaluate_models": False, "oracle_weights": False, **(overrides or {})}
        folder = output / (method if start.stem == "original" else f"{method}, treated oracle") / f"{who}-{seed}"
        made[who, seed] = _made(folder / "unlearned.pt", "unlearn", given, *files)
    return made


def _made(product: Path, verb: str, settings: Mapping[str, Any], *overlays: str) -> Path:
    """A product of one verb, made unless it is there."""
    if not product.with_suffix(".json").is_file():
        files = [str(CONFIGS / name) for name in (f"{verb}.yaml", *overlays)]
        given = {"ledger": False, "check_values": False, "overwrite": True, **settings}
        monai.bundle.run(verb, config_file=files, output_dir=str(product.parent), **given)
    return product


def _evaluated(output: Path, settings: Mapping, asked: Mapping[str, Mapping], models: Mapping[str, Path]) -> Rows:
    folder, common = output / "evaluation", {key: value for key, value in settings.items() if key != "train_epochs"}
    weights = {name: str(path) for name, path in models.items()}
    given = {**common, "weights": weights, "forget_request": asked[TOGETHER], "comparison#figure": False}
    (folder / "metrics.json").unlink(missing_ok=True)  # other models than before
    _made(folder / "metrics.csv", "evaluate", given)
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _print_quality(
    rows: Rows,
    forgotten: Mapping[str, Mapping],
    alike: Mapping[str, Mapping],
    asked: Mapping[str, Mapping],
    output: Path,
) -> None:
    """Others' test scans less the original's and the oracles', own scans less the oracles', beside the original's.

    *Memory*: own scans less those of the oracle treated alike, by method and seed.
    """
    psnr = {
        model: [(row["cohort"], row["patient_id"], float(row["psnr"])) for row in rows if row["model"] == model]
        for model in dict.fromkeys(row["model"] for row in rows)
    }

    def level(model: str, cohort: str, whom: Sequence[str] | None = None, when: str = "") -> float:
        some = [name for name in psnr if name.startswith(ORACLE) and name.endswith(LATER_ON) == bool(when)]
        return mean(
            value
            for name in (some if model == ORACLE else [model + when])
            for c, patient, value in psnr[name]
            if c == cohort and (whom is None or patient in whom)
        )

    def known(model: str, whom: Sequence[str], when: str = "") -> float:
        return level(model, "UA", whom, when) - level(ORACLE, "UA", whom, when)

    lines = []
    for name, runs in forgotten.items():
        for title, chosen in (
            ("each alone", [(w, s) for w, s in runs if w != TOGETHER]),
            (TOGETHER, [(w, s) for w, s in runs if w == TOGETHER]),
        ):
            whom = {who: asked[who]["forget"][0]["patient_id"] for who, _ in chosen}
            found = {key: str(runs[key].relative_to(output)) for key in chosen}
            like = {key: str(path.relative_to(output)) for key, path in alike.get(name, {}).items() if key in found}
            later = title == TOGETHER and "original" + LATER_ON in psnr
            columns = [
                [level(m, "BTA") - level("original", "BTA") for m in found.values()],
                [level(m, "BTA") - level(ORACLE, "BTA") for m in found.values()],
                [known(m, whom[who]) for (who, _), m in found.items()],
                [known("original", whom[who]) for who, _ in found],
                [level(found[key], "UA") - level(other, "UA") for key, other in like.items()],
                [known(m, whom[who], LATER_ON) for (who, _), m in found.items() if later],
                [
                    level(found[key], "UA", when=LATER_ON) - level(other, "UA", when=LATER_ON)
                    for key, other in like.items()
                    if later
                ],
            ]
            if chosen:
                cells = [spread(column) if column else "–" for column in columns]
                lines.append([name, title, str(len(chosen)), *cells])
    _print(
        ["method", "forgotten", "runs", "others − original's [dB]", "others − oracle's [dB]", "own − oracle's [dB]",
         "original's own − oracle's [dB]", "own − treated oracle's [dB]", "own − oracle's, later [dB]",
         "own − treated oracle's, later [dB]"],
        lines,
    )  # fmt: skip


def _audit(folder: Path, settings: Mapping, request: Mapping, original: Path, weights: Path, beside: Sequence) -> dict:
    """What the audit says of the one patient: their row in ``audit.json``, and the audit's power."""
    common = {key: value for key, value in settings.items() if key != "train_epochs"}
    given = {**common, "forget_request": request, "weights": str(original), "unlearned_weights": str(weights)}
    given |= {"oracle_weights": False, "reference_weights": [str(path) for path in beside], "certificate": False}
    given |= {"experiments": []}
    found = json.loads(_made(folder / "audit.json", "audit", given, "patients.yaml").read_text(encoding="utf-8"))
    likelihood = found["measures"]["likelihood"]
    (own,) = [row for row in likelihood["patients"] if row["role"] == "forgotten"]
    return {**own, "power": likelihood["power"]}


def _print_audits(audits: Mapping[str, Sequence[Mapping]]) -> None:
    lines = []
    for name, rows in audits.items():
        said, powers = (
            Counter(row["verdict"] for row in rows),
            [row["power"] for row in rows if row["power"] is not None],
        )
        scores, fair = ([row["score"] for row in some] for some in (rows, audits[ORACLE]))
        above = mean((a > b) + 0.5 * (a == b) for a in scores for b in fair)
        counts = [f"{said[verdict]} of {len(rows)}" if said[verdict] else "–" for verdict in VERDICTS]
        lines.append([name, *counts, spread(scores), f"{above:.2f}", spread(powers) if powers else "–"])
    _print(["audited", *VERDICTS, "score [σ]", "AUC against the oracle's", "canaries found"], lines)
    patients = range(len(audits["original"]))
    table = [
        [str(i + 1), *(f"{rows[i]['score']:+.1f} ({rows[i]['error_rate']:.3f})" for rows in audits.values())]
        for i in patients
    ]
    _print(["patient", *(f"{name}: score (error rate)" for name in audits)], table)


def _print(columns: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    print("\n" + markdown_table(columns, table))


if __name__ == "__main__":
    fire.Fire(main)
