"""What is wrong, and the key words of the message: one line a case."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from scripts.run.kinds import FLAG, NOTHING
from scripts.run.settings import OF_VERB, settings_of
from tests.verbs import CONFIGS

BASE = ("train", "unlearn", "evaluate", "simulate", "audit", "protocol", "ship", "preview", "inference")


@dataclass(frozen=True)
class Case:
    """One run that must be refused before it has written anything.

    Attributes:
        verb: what is run.
        words: parts of the message: what names the file or the key, and what was expected.
        overrides: of the configuration.
        spoil: makes the file at fault, given a folder with a good datalist, scans and weights; its mapping is added to
            the overrides.
        overlays: further config files, before (a name with "<") or after the verb's own.
    """

    verb: str
    words: tuple[str, ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[Path], dict[str, Any]] | None = None
    overlays: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = self.spoil.__name__ if self.spoil else ",".join(f"{k}={v}" for k, v in self.overrides.items())
        return f"{self.verb}-{what}"[:80]


def settings_cases() -> list[Case]:
    """A wrong type or range for every setting of every verb."""
    table: dict[str, tuple[Any, ...]] = {
        "seed": (-1, "abc", 1.5, 2**40),
        "batch_size": (0, "two"),
        "num_workers": (-1, 1.5),
        "train_epochs": (0, 1.5),
        "unlearn_epochs": (0, 1.5, "three"),
        "learning_rate": ("abc", 0, -1.0, float("nan"), float("inf")),
        "retain_fraction": ("ten", 0, 1.5, -0.1),
        "check_values": ("nope", 1),
        "resume": ("maybe",),
        "overwrite": (2,),
        "oracle": ("perhaps", 0),
        "evaluate_models": ("never",),
        "epoch_weights": ([],),
        "output_dir": ("", "   ", 3, "a#b".replace("#", "::")),
        "device": ("cuda:99", "gpu", ""),
        "precision": ("fp8", 16),
        "datalist": ("", 5, []),
        "forget_request": ("", 7, True),
        "weights": ("", []),
        "oracle_weights": (3,),
        "sections": ("test", ["tset"], []),
        "network": ("VarNet", 5, {}),
        "mask": ("random", {"acceleration": 4}),
        "optimizer": ("Adam",),
        "num_coils": (0, "many"),
        "snr": ("high", 0, -3.0),
        "matrix": ([64], [1, 1], 64),
        "gap": (-1, 0.5),
        "slices_per_volume": (0,),
        "images": ("brain.nii", []),
        "subgroups": ("anatomy", [1]),
        "relearning_steps": (-1, "few"),
        "certificate": ("please",),
        "oracle_tuned": ("unknown",),
        "gates": ([], "none at all"),
        "methods": ("fine_tune", []),
        "seeds": ([], [-1], 0),
        "oracle_seeds": ("a", [None]),
        "retain_fractions": ([0.0], [2.0], 0.5),
        "devices": (["cuda:99"], "cpu", []),
        "n_jobs": (0, 1.5),
        "threads": (0,),
        "viewer_megabytes": (-1, 0, "eight"),
        "name": ("", 5),
        "version": (1.0,),
        "data_license": (5,),
        "formats": (["png"], "jpeg", []),
        "dataset_dir": ("", []),
        "remove_oversampling": ("half",),
        "retrospective_mask": ("random",),
    }
    cases = []
    for verb in BASE:
        declared = json.loads(_text(verb)) if verb == "inference" else _yaml(verb)
        for key, values in table.items():
            if key in declared:
                wrong = [value for value in values if not settings_of(verb)[key].fits(value)]
                cases += [Case(verb, (f"'{key}'", "expected", "found"), {key: value}) for value in wrong]
    return cases


def _text(verb: str) -> str:
    return (CONFIGS / f"{verb}.json").read_text(encoding="utf-8")


def _yaml(verb: str) -> dict:
    import yaml

    return yaml.safe_load((CONFIGS / f"{verb}.yaml").read_text(encoding="utf-8"))


def flags() -> list[tuple[str, str, bool]]:
    """Verb, key and whether it may be nothing, of every setting that is true or false."""
    found = []
    for verb in BASE:
        declared = json.loads(_text(verb)) if verb == "inference" else _yaml(verb)
        kinds = {key: kind for key, kind in settings_of(verb).items() if key in declared}
        found += [(verb, key, NOTHING.fits(None) and kind.fits(None)) for key, kind in kinds.items() if _is_flag(kind)]
    return found


def _is_flag(kind) -> bool:
    return kind is FLAG or (kind.fits(True) and kind.fits(False))


# ---------------------------------------------------------------------------------------------------------------------
# Keys, words and files of the command line


def words_cases() -> list[Case]:
    return [
        *(
            Case(verb, ("override key 'sed'", "did you mean 'seed'"), {"sed": 1})
            for verb in BASE
            if verb not in ("ship", "inference")
        ),
        *(
            Case(verb, ("expected 'initialize' to run first", "'Results'"), {"init_id": "Results"})
            for verb in BASE
            if verb != "inference"
        ),
        Case("train", ("override key 'train#amp'",), {"train#amp": True}),
        Case("train", ("num_cascade",), {"network#num_cascade": 2}),
        Case("train", ("'network#num_cascades'", "expected a whole number"), {"network#num_cascades": "three"}),
        Case("train", ("'mask#acceleration'", "expected a number"), {"mask#acceleration": "four"}),
        Case("train", ("'mask#acceleration'", "above 1"), {"mask#acceleration": 0.5}),
        Case("train", ("'mask#center_fraction'", "between 0 and 1"), {"mask#center_fraction": 1.5}),
        Case("train", ("'acceleration'", "at most the width"), {"mask#acceleration": 400}),
        Case("train", ("'oracle', 'forget_only'",), {"oracle": "yes", "forget_only": "yes"}),
        Case("train", ("oracle", "forget request"), {"oracle": "yes", "forget_request": "none"}),
        Case("train", ("no such forget request",), {"forget_request": "nowhere.yaml"}),
        Case("train", ("nowhere.json", "no such datalist"), {"datalist": "nowhere.json"}),
        Case("unlearn", ("nowhere.pt", "no such weights"), {"weights": "nowhere.pt"}),
        Case("unlearn", ("nowhere.pt",), {"oracle_weights": "nowhere.pt"}),
        Case("unlearn", ("'method_name'",), {"method": []}),
        Case("unlearn", ("'method_name'",), {"method": [{"_target_": "scripts.unlearning.GradientAscent"}]}),
        Case("unlearn", ("weights do not fit VarNet", "cascades.1"), {"network#num_cascades": 2}),
        Case("unlearn", ("expected the overlays after the file of the verb",), overlays=("<methods/fine_tune.yaml",)),
        Case("evaluate", ("expected the overlays after the file of the verb",), overlays=("<unet.yaml",)),
        Case("evaluate", ("nowhere.pt",), {"weights": "nowhere.pt"}),
        Case("audit", ("'unlearned_weights'", "no such file"), {"unlearned_weights": "nowhere.pt"}),
        Case("ship", ("'run'", "nowhere", "expected the folder of a finished run"), {"run": "nowhere"}),
        Case("audit", ("'run'", "nowhere", "expected the folder of a finished run"), {"run": "nowhere"}),
        Case("inference", ("'dataset_dir'", "found nothing"), {"dataset_dir": "nowhere"}),
        Case("protocol", ("'methods'", "fine_tun"), {"methods": ["fine_tun"]}),
        Case("preview", ("no such forget request",), {"forget_request": "nowhere.yaml"}),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Datalists, scans and weights that are not what they say


def edit(change: Callable[[dict, Path], None]) -> Callable[[Path], dict[str, Any]]:
    """A datalist that was changed."""

    def spoil(root: Path) -> dict[str, Any]:
        content = json.loads((root / "datalist.json").read_text())
        change(content, root)
        (root / "datalist.json").write_text(json.dumps(content))
        return {}

    spoil.__name__ = change.__name__
    return spoil


def scan(change: Callable[[h5py.File], None]) -> Callable[[Path], dict[str, Any]]:
    """The first training scan, changed."""

    def spoil(root: Path) -> dict[str, Any]:
        with h5py.File(root / "scan_0.h5", "r+") as file:
            change(file)
        return {}

    spoil.__name__ = change.__name__
    return spoil


def text_of_datalist(name: str, text: str) -> Callable[[Path], dict[str, Any]]:
    def spoil(root: Path) -> dict[str, Any]:
        (root / "datalist.json").write_text(text)
        return {}

    spoil.__name__ = name
    return spoil


def misspelt_section(content, root):
    content["valid"] = content.pop("validation")


def testing_section(content, root):
    content["testing"] = content["test"]


def null_patient(content, root):
    content["training"][0]["patient_id"] = None


def patient_with_space(content, root):
    content["training"][1]["patient_id"] = "P0 "


def patient_in_lower_case(content, root):
    content["training"][1]["patient_id"] = "p0"


def patient_as_decimal(content, root):
    content["training"][0]["patient_id"], content["test"][0]["patient_id"] = 17, 17.0


def listed_twice(content, root):
    content["test"].append(content["training"][0])


def copied_scan(content, root):
    (root / "copy.h5").write_bytes((root / "scan_0.h5").read_bytes())
    content["training"].append({"kspace": "copy.h5", "anatomy": "brain"})


def copied_into_test(content, root):
    (root / "copy.h5").write_bytes((root / "scan_2.h5").read_bytes())
    content["test"].append({"kspace": "copy.h5", "anatomy": "brain"})


def hard_link(content, root):
    os.link(root / "scan_0.h5", root / "linked.h5")
    content["test"].append({"kspace": "linked.h5", "anatomy": "brain"})


def soft_link(content, root):
    (root / "linked.h5").symlink_to(root / "scan_0.h5")
    content["test"].append({"kspace": "linked.h5", "anatomy": "brain"})


def dangling_link(content, root):
    (root / "linked.h5").symlink_to(root / "gone.h5")
    content["test"].append({"kspace": "linked.h5"})


def folder_as_scan(content, root):
    (root / "folder.h5").mkdir()
    content["test"].append({"kspace": "folder.h5"})


def no_kspace_key(content, root):
    content["training"][0] = {"image": "scan_0.h5"}


def section_as_mapping(content, root):
    content["training"] = {"kspace": "scan_0.h5"}


def field_as_list(content, root):
    content["training"][0]["anatomy"] = ["brain"]


def zero_kspace(file):
    file["kspace"][...] = 0


def one_zero_slice(file):
    file["kspace"][1] = 0


def missing_columns(file):
    file["kspace"][:, :, :, 3:5] = 0


def zero_target(file):
    file["reconstruction_rss"][...] = 0


def negative_target(file):
    file["reconstruction_rss"][...] *= -1


def inflated_max(file):
    file.attrs["max"] = 1e6


def tiny_max(file):
    file.attrs["max"] = 1e-9


def max_as_text(file):
    file.attrs["max"] = "hello"


def negative_max(file):
    file.attrs["max"] = -1.0


def nan_max(file):
    file.attrs["max"] = float("nan")


def large_target(file):
    del file["reconstruction_rss"]
    file["reconstruction_rss"] = np.ones((2, 64, 64), np.float32)


def other_slices_in_target(file):
    del file["reconstruction_rss"]
    file["reconstruction_rss"] = np.ones((3, 28, 28), np.float32)


def integer_target(file):
    values = file["reconstruction_rss"][...]
    del file["reconstruction_rss"]
    file["reconstruction_rss"] = (values * 1e6).astype(int)


def group_as_target(file):
    del file["reconstruction_rss"]
    file.create_group("reconstruction_rss")


def group_as_kspace(file):
    del file["kspace"]
    file.create_group("kspace")


def no_kspace(file):
    del file["kspace"]


def real_kspace(file):
    values = file["kspace"][...].real
    del file["kspace"]
    file["kspace"] = values


def flat_kspace(file):
    values = file["kspace"][0, 0]
    del file["kspace"]
    file["kspace"] = values


def nothing_stored(file):
    shape = file["kspace"].shape
    del file["kspace"]
    file.create_dataset("kspace", shape, np.complex64)


def billion_slices(file):
    del file["kspace"]
    file.create_dataset("kspace", (10**9, 2, 32, 30), np.complex64, chunks=(1, 2, 32, 30))


def empty_kspace(file):
    del file["kspace"]
    file.create_dataset("kspace", (0, 2, 32, 30), np.complex64)


def nan_kspace(file):
    file["kspace"][1, 0, 0, 0] = np.nan


def inf_target(file):
    file["reconstruction_rss"][1, 0, 0] = np.inf


def virtual_without_source(file):
    shape = file["kspace"].shape
    del file["kspace"]
    layout = h5py.VirtualLayout(shape, np.complex64)
    layout[...] = h5py.VirtualSource("gone.h5", "kspace", shape)
    file.create_virtual_dataset("kspace", layout)


def header_no_xml(file):
    _header(file, "<ismrmrdHeader>")


def header_as_number(file):
    _header(file, 5)


def header_as_group(file):
    del file["ismrmrd_header"]
    file.create_group("ismrmrd_header")


def header_without_matrix(file):
    text = file["ismrmrd_header"][()].decode()
    _header(file, text.replace("<x>28</x>", "<x>wide</x>"))


def header_with_zero_matrix(file):
    text = file["ismrmrd_header"][()].decode()
    _header(file, text.replace("<y>28</y>", "<y>0</y>"))


def _header(file, value):
    del file["ismrmrd_header"]
    file["ismrmrd_header"] = value


def truncated_scan(root: Path) -> dict[str, Any]:
    path = root / "scan_0.h5"
    path.write_bytes(path.read_bytes()[:3000])
    return {}


def text_as_scan(root: Path) -> dict[str, Any]:
    (root / "scan_0.h5").write_text("no HDF5")
    return {}


def unequal_batch(root: Path) -> dict[str, Any]:
    from tests.conftest import write_tiny_volume

    write_tiny_volume(root / "scan_0.h5", 90, coils=3)
    return {"batch_size": 2}


SCANS: dict[Any, tuple[str, ...]] = {
    zero_kspace: ("scan_0.h5: 'kspace'", "zeros alone"),
    one_zero_slice: ("scan_0.h5: 'kspace', slice 1", "zeros alone"),
    missing_columns: ("scan_0.h5: 'kspace'", "2 of 30 columns"),
    zero_target: ("scan_0.h5: 'reconstruction_rss'", "zeros alone"),
    negative_target: ("scan_0.h5: 'reconstruction_rss'", "magnitude"),
    inflated_max: ("scan_0.h5: 'max'", "1e+06"),
    tiny_max: ("scan_0.h5: 'max'", "1e-09"),
    max_as_text: ("scan_0.h5: 'max'", "hello"),
    negative_max: ("scan_0.h5: 'max'", "above 0"),
    nan_max: ("scan_0.h5: 'max'", "finite"),
    large_target: ("scan_0.h5: 'reconstruction_rss'", "matrix"),
    other_slices_in_target: ("scan_0.h5: 'reconstruction_rss'", "expected float (2, h, w)"),
    integer_target: ("scan_0.h5: 'reconstruction_rss'", "expected float"),
    group_as_target: ("scan_0.h5: 'reconstruction_rss'", "group"),
    group_as_kspace: ("scan_0.h5: 'kspace'", "group"),
    no_kspace: ("scan_0.h5: 'kspace'", "expected a data set"),
    real_kspace: ("scan_0.h5: 'kspace'", "complex64"),
    flat_kspace: ("scan_0.h5: 'kspace'", "rank 2"),
    nothing_stored: ("scan_0.h5: 'kspace'", "holds none"),
    billion_slices: ("scan_0.h5: 'kspace'", "at most 10000 slices"),
    empty_kspace: ("scan_0.h5: 'kspace'", "at least one element"),
    nan_kspace: ("scan_0.h5: 'kspace', slice 1", "NaN"),
    inf_target: ("scan_0.h5: 'reconstruction_rss', slice 1", "NaN or Inf"),
    virtual_without_source: ("scan_0.h5: 'kspace'", "gone.h5"),
    header_no_xml: ("scan_0.h5: 'ismrmrd_header'", "XML"),
    header_as_number: ("scan_0.h5: 'ismrmrd_header'", "text"),
    header_as_group: ("scan_0.h5: 'ismrmrd_header'", "text"),
    header_without_matrix: ("scan_0.h5: 'ismrmrd_header'", "matrixSize", "wide"),
    header_with_zero_matrix: ("scan_0.h5: 'ismrmrd_header'", "matrixSize"),
}
LISTS: dict[Any, tuple[str, ...]] = {
    misspelt_section: ("datalist.json: 'valid'", "did you mean 'validation'"),
    testing_section: ("datalist.json: 'testing'", "did you mean 'test'"),
    null_patient: ("datalist.json", "'patient_id'", "None"),
    patient_with_space: ("datalist.json: 'patient_id'", "one spelling"),
    patient_in_lower_case: ("datalist.json: 'patient_id'", "one spelling"),
    patient_as_decimal: ("datalist.json: 'patient_id'", "17.0"),
    listed_twice: ("datalist.json: 'kspace'", "listed twice"),
    copied_scan: ("datalist.json: 'kspace'", "same bytes", "copy.h5"),
    copied_into_test: ("datalist.json: 'kspace'", "same bytes", "copy.h5"),
    hard_link: ("datalist.json: 'kspace'", "listed twice", "linked.h5"),
    soft_link: ("datalist.json: 'kspace'", "listed twice", "linked.h5"),
    dangling_link: ("datalist.json", "leads nowhere", "linked.h5"),
    folder_as_scan: ("datalist.json", "a folder", "folder.h5"),
    no_kspace_key: ("datalist.json", "'training' entry 0", "'kspace'"),
    section_as_mapping: ("datalist.json: 'training'", "expected a list"),
    field_as_list: ("datalist.json", "'anatomy'", "text or a number"),
}


def weights_case(name: str, change: Callable[[dict], dict], *words: str, record: str | None = None) -> Case:
    """Weights that were changed, read by `unlearn` and by `evaluate` alike."""

    def spoil(root: Path) -> dict[str, Any]:
        state = torch.load(root / "weights.pt", weights_only=True)
        torch.save(change(state), root / "changed.pt")
        if record is not None:
            (root / "changed.json").write_text(record)
        return {"weights": str(root / "changed.pt")}

    spoil.__name__ = name
    return Case("unlearn", ("changed.pt", *words), spoil=spoil)


def first(state: dict, change: Callable[[torch.Tensor], torch.Tensor]) -> dict:
    key = next(iter(state))
    return {**state, key: change(state[key])}


def weights_cases() -> list[Case]:
    other = json.dumps({"weights_out": {"path": "changed.pt", "sha256": "0" * 64}})
    return [
        weights_case("nan_weights", lambda s: first(s, lambda t: t * float("nan")), "NaN or Inf"),
        weights_case("inf_weights", lambda s: first(s, lambda t: t / 0), "NaN or Inf"),
        weights_case("integer_weights", lambda s: first(s, lambda t: t.int()), "another type", "int32"),
        weights_case("complex_weights", lambda s: first(s, lambda t: t + 0j), "another type", "complex64"),
        weights_case("reshaped_weights", lambda s: first(s, lambda t: t.flatten()), "wrong shape"),
        weights_case("missing_weights", lambda s: dict(list(s.items())[1:]), "1 missing"),
        weights_case("additional_weights", lambda s: {**s, "more": torch.ones(1)}, "1 unexpected"),
        weights_case("no_tensors", lambda s: {"a": 1}, "no state dict"),
        weights_case("empty_weights", lambda s: {}, "no state dict"),
        weights_case("other_record", lambda s: s, "'weights_out'", "SHA-256", record=other),
    ]


def file_cases() -> list[Case]:
    texts = {
        "no_json": ("{", "does not parse"),
        "list_as_datalist": ("[]", "expected a mapping"),
        "empty_datalist": ("{}", "found none"),
        "duplicate_key": ('{"training": [], "training": []}', "'training' twice"),
        "duplicate_field": ('{"training": [{"kspace": "a.h5", "kspace": "b.h5"}]}', "'kspace' twice"),
        "deep_json": ("[" * 100_000, "does not parse"),
    }
    return [
        *(Case("train", words, spoil=scan(change)) for change, words in SCANS.items()),
        *(Case("train", words, spoil=edit(change)) for change, words in LISTS.items()),
        *(Case("preview", words, spoil=edit(change)) for change, words in LISTS.items()),
        *(
            Case("unlearn", ("datalist.json", words), spoil=text_of_datalist(name, text))
            for name, (text, words) in texts.items()
        ),
        Case("train", ("scan_0.h5", "HDF5"), spoil=truncated_scan),
        Case("train", ("scan_0.h5", "HDF5"), spoil=text_as_scan),
        Case("train", ("'batch_size'", "scan_0.h5"), spoil=unequal_batch),
        *weights_cases(),
    ]


CASES = [*settings_cases(), *words_cases(), *file_cases()]
assert set(OF_VERB) >= set(BASE)
