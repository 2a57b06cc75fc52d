"""From the settings of a study to its cells, each a folder of its own, and what the result of a cell depends on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.run.check import refuse_unknown_keys
from scripts.run.files import file_sha256, json_sha256

FURTHER = "fine_tune"  # the overlay by which training goes on
DEFAULT = "default"  # the method that unlearn.yaml declares itself, without an overlay
APPROXIMATE = "approximate.yaml"  # what methods that change the original need, laid between unlearn.yaml and theirs
ORIGINAL, ORACLE, FORGET_ONLY, UNLEARNED = "original", "oracle", "forget_only", "unlearned"
# what a cell decides itself; every other key that the study shares with a verb goes to the verb as it stands
OWN_KEYS = {
    "imports", "verb", "initialize", "finalize", "overwrite", "run_folder", "resume", "run", "data", "cohorts",
    "output_dir", "seed", "device", "check_values", "name", "record", "datalist", "forget_request", "weights", "oracle",
    "oracle_weights", "forget_only", "retain_fraction", "evaluate_models", "epoch_weights", "method", "method_name",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One unit of the study."""

    name: str  # its folder under ``cells``
    role: str  # original (G), oracle, forget_only or unlearned
    seed: int  # of the run and of the draw of the retain subset
    method: str = ""  # overlay name, or ``default``; empty for trained models
    fraction: float | None = None  # of the retain set that may be read; 0: none is; None for trained models
    given: str | None = None  # weights to take instead of training
    budget: float | None = None  # share of training's backward passes to spend; None: what the method states
    # by so many of training's backward passes it goes on with the retain set alone before a second evaluation
    further_training: float | None = None
    # everything that the result depends on; a finished cell is used again only where it is equal
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a study compares, as the configuration states it.

    Raises:
        FileNotFoundError: given weights that are missing.
        ValueError: naming the field, what was found and what was expected.
    """

    configs: str  # folder of the verbs' configs
    methods: Sequence[str]  # names of overlays in ``methods``, or ``default`` for the method of unlearn.yaml
    seeds: Sequence[int]  # of unlearning and of the draw of the retain subset
    oracle_seeds: Sequence[int]  # of the oracles' trainings; two or more give the oracle's band
    retain_fraction: float  # share of the retain set that unlearning may read
    fraction_methods: Sequence[str] = ()  # those methods that are also run at each of these
    retain_fractions: Sequence[float] = ()
    budget_methods: Sequence[str] = ()  # those that are also run at each of these shares of training's backward passes
    budgets: Sequence[float] = ()
    # share of training's backward passes by which training goes on with the retain set alone, after which methods and
    # oracles alike are evaluated again: what was only suppressed comes back; None: it is not measured
    further_training: float | None = None
    seed: int = 0  # of the original, of the forget-only model and of the bootstrap
    weights: str | None = None  # of the original; None: train it
    oracle_weights: str | Sequence[str] | None = None  # of one oracle or several; None: train them

    def __post_init__(self) -> None:
        known = [DEFAULT, *sorted(path.stem for path in (Path(self.configs) / "methods").glob("*.yaml"))]
        _expect_known("methods", self.methods, known)
        _expect_known("fraction_methods", self.fraction_methods, self.methods)
        _expect_known("budget_methods", self.budget_methods, self.methods)
        if not (self.oracles or self.oracle_seeds):
            raise ValueError("protocol: 'oracle_seeds': expected at least one, or 'oracle_weights', found neither")
        for path in self.given:
            if not Path(path).is_file():
                raise FileNotFoundError(f"{path}: no such weights file")
        for method in self.fraction_methods:
            fixed = fixed_fraction(method, Path(self.configs))
            if fixed is not None:
                raise ValueError(
                    "protocol: 'fraction_methods': expected methods with a free retain fraction, found "
                    f"{method!r}, which fixes it at {fixed:g}"
                )

    @property
    def oracles(self) -> list[str]:
        """The given oracles' weights."""
        given = self.oracle_weights
        return [str(given)] if isinstance(given, (str, Path)) else [str(path) for path in given or []]

    @property
    def given(self) -> list[str]:
        """All given weights."""
        return [*([self.weights] if self.weights else []), *self.oracles]

    @property
    def main_fractions(self) -> dict[str, float]:
        """Method -> the retain fraction at which it is compared with the others."""
        fixed = {method: fixed_fraction(method, Path(self.configs)) for method in self.methods}
        return {method: self.retain_fraction if share is None else share for method, share in fixed.items()}

    def training(self) -> list[Cell]:
        """The cells of G, of the oracles and of the model that knows the forget set alone.

        Given weights stand in for training; with given oracles, ``oracle_seeds`` is not used.
        """
        given = [Cell(f"oracle/given-{i}", ORACLE, i, given=path) for i, path in enumerate(self.oracles)]
        oracles = given or [Cell(f"oracle/seed-{seed}", ORACLE, seed) for seed in self.oracle_seeds]
        name = "given-0" if self.weights else f"seed-{self.seed}"
        return [
            Cell(f"original/{name}", ORIGINAL, self.seed, given=self.weights),
            *(replace(cell, further_training=self.further_training) for cell in oracles),
            Cell(f"forget_only/seed-{self.seed}", FORGET_ONLY, self.seed),
        ]

    def unlearning(self) -> list[Cell]:
        """Every method at its main retain fraction, some also at ``retain_fractions`` or ``budgets``, by every seed."""
        cells = []
        for method, main in self.main_fractions.items():
            more = self.retain_fractions if method in self.fraction_methods else []
            runs: list[tuple[str, float, float | None]]
            runs = [(f"fraction-{fraction:g}", fraction, None) for fraction in dict.fromkeys([main, *more])]
            if method in self.budget_methods:
                runs += [(f"budget-{budget:g}", main, budget) for budget in self.budgets]
            for (name, fraction, budget), seed in itertools.product(runs, self.seeds):
                further = self.further_training if fraction == main else None
                cell = Cell(f"{method}/{name}/seed-{seed}", UNLEARNED, seed, method, fraction)
                cells.append(replace(cell, budget=budget, further_training=further))
        return cells


def fixed_fraction(method: str, configs: Path) -> float | None:
    """The retain fraction that a method's overlay fixes, 0 where it reads no retain data, or None."""
    if method == DEFAULT:
        return None
    overlay = ConfigParser.load_config_file(str(configs / "methods" / f"{method}.yaml"))
    if overlay.get("retain_subset") == []:
        return 0.0
    return overlay.get("retain_fraction")


def config_files(configs: Path, verb: str, method: str = DEFAULT) -> list[str]:
    """The files of a verb's configuration, a method's overlay last."""
    names = [f"{verb}.yaml"]
    if method != DEFAULT:
        names += [name for name in (APPROXIMATE, f"methods/{method}.yaml") if (configs / name).is_file()]
    return [str(configs / name) for name in names]


def verb_settings(study: Mapping[str, Any], verb: str, files: Sequence[str]) -> dict[str, Any]:
    """What the study sets in a verb's config, unresolved.

    These are the study's keys that the verb declares too (``network``, ``mask``, ``train_epochs`` and so on), and
    above them the study's ``train_settings`` or ``unlearn_settings``.

    Raises:
        ValueError: a key of these settings that the verb does not declare.
    """
    declared = ConfigParser.load_config_files(files)
    own = dict(study.get(f"{verb}_settings") or {})
    try:
        refuse_unknown_keys(declared, {key.replace("::", "#").partition("#")[0]: None for key in own})
    except ValueError as error:
        raise ValueError(f"protocol: '{verb}_settings': {error}") from None
    return {key: value for key, value in study.items() if key in declared and key not in OWN_KEYS} | own


def cell_settings(cell: Cell, study: Mapping[str, Any], datalist: str, request: Any, configs: Path) -> dict[str, Any]:
    """What the result of a cell depends on, as plain JSON values.

    Args:
        cell: The cell.
        study: The configuration of the study, overrides applied, references unresolved.
        datalist: Path of the datalist.
        request: The forget request, a mapping or a file.
        configs: Folder of the verbs' configs.
    """
    verbs = ["unlearn", "evaluate"] if cell.role == UNLEARNED else ["evaluate"] if cell.given else ["train", "evaluate"]
    files = {verb: config_files(configs, verb, cell.method if verb == "unlearn" else DEFAULT) for verb in verbs}
    if cell.further_training:
        files["further_training"] = config_files(configs, "unlearn", FURTHER)
    settings: dict[str, Any] = {
        "role": cell.role,
        "method": cell.method,
        "fraction": cell.fraction,
        "seed": cell.seed,
        "datalist_sha256": file_sha256(datalist),
        "forget_request": ConfigParser.load_config_files(str(request)) if isinstance(request, (str, Path)) else request,
        "given_sha256": file_sha256(cell.given) if cell.given else None,
        "configs_sha256": {
            verb: json_sha256(_as_json(ConfigParser.load_config_files(paths))) for verb, paths in files.items()
        },
        **{verb: verb_settings(study, verb, files[verb]) for verb in verbs},
    }
    if cell.budget:
        settings["unlearn"]["budget"] = cell.budget
    if cell.further_training:
        further = verb_settings(study, "unlearn", files["further_training"])
        settings["further_training"] = {**further, "retain_fraction": 1.0, "budget": cell.further_training}
    return _as_json(settings)


def _as_json(content: Any) -> Any:
    return json.loads(json.dumps(content, default=str))


def _expect_known(name: str, found: Sequence[str], known: Sequence[str]) -> None:
    unknown = [method for method in found if method not in known]
    if unknown:
        raise ValueError(
            f"protocol: {name!r}: expected some of {', '.join(known)}, found {', '.join(map(repr, unknown))}"
        )
