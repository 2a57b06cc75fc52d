"""Further cases: single arguments of components, files of every kind, and the verbs that write to other places."""

from __future__ import annotations

import codecs
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import torch

from scripts.networks import VarNet, save_weights
from tests.conftest import write_tiny_volume
from tests.hostile.cases import Case, edit, scan, text_of_datalist, weights_case

# ---------------------------------------------------------------------------------------------------------------------
# Single arguments of components, words of the command line, ranges of the servers


def argument_cases() -> list[Case]:
    wrong: dict[str, dict[str, tuple[Any, ...]]] = {
        "train": {
            "network#num_cascades": (0, 1.5, -1, True),
            "network#chans": (0, "many"),
            "network#pools": (0, 40),
            "mask#acceleration": (-4, 1, float("inf")),
            "mask#center_fraction": (0, 1.5, "wide"),
            "optimizer#lr": (-1, "fast"),
            "loss_function#ssim_weight": (-1.0, float("nan")),
            "train#trainer#max_epochs": (0, 1.5),
            "train_epochs": (True, [3], "1e3"),
            "learning_rate": (1e999, [1e-3], 2**70),
            "device": (2**70,),
            "output_dir": ("x" * 300, "x/" * 2500),
            "data": (5, "null", {}),
            "run_folder": ("null", False),
            "volumes": ([],),
            "batch_size": (True, 2.0),
            "val_interval": (0,),
        },
        "unlearn": {
            "budget": (-1, 0, "all", 1e9),
            "passes_per_step": (0,),
            "retain_fraction": ("0,1", True, 1e-300 * 1e-300),
            "forget_request#reason": (7.5,),
            "forget_request#forget": ([], "knee", [["anatomy", "knee"]]),
            "statistics": (5,),
            "method": (5, True, float("nan")),
            "record": ("null",),
        },
        "audit": {
            "measures": ([None], [5], "relearning", {"relearning": 5}, {"relearning": {"steps": 5}}, {"nothing": {}}),
            "certifier": ("null",),
            "statistics#confidence": (0, 1.5, "high"),
            "statistics#samples": (0, 10.5),
            "resurfacing_share": (-0.1, "most"),
        },
        "simulate": {
            "simulation": ("null",),
            "splits": ({"training": -1}, {"training": "most"}, {"train": 1}, {}),
            "images": ([{"image": "a.nii", "weight": 3}], [{}]),
        },
        "protocol": {
            "seeds": ([0, 0], [1.5], [True]),
            "fraction_methods": (["noisy_label"],),
            "retain_fractions": (["some"], [0.1, 0.1]),
            "unlearn_settings": ({"unlearn_epoch": 2},),
            "audit_section": ("nowhere.html",),
            "weights": ("nowhere.pt",),
        },
        "ship": {
            "name": ("a/b", "..", "näme"),
            "profile": ("half", 5),
            "version": ("one", "1.0"),
            "data_license": ("nowhere.txt",),
            "audit_dir": ("nowhere",),
        },
        "serve": {
            "port": (-1, 70000, "http"),
            "host": ("", 5),
            "router": ({}, "pacs", 5),
            "raw_days": (-1, "long"),
            "metrics_port": (-1, 70000, "http"),
            "log_format": ("xml", 5),
            "protocols": ({"default": {"pixel": 1}}, [], "default"),
            "limits": ({"max_scan": 3}, {"max_scans": 0}, {"idle_s": "long"}, []),
            "formats": (["png"],),
            "weights": ("nowhere.pt",),
        },
        "send": {
            "source": ("nowhere", ""),
            "patience_s": (-1, "long"),
            "router#url": ("pacs", "ftp://pacs"),
        },
        "inference": {
            "network_def#num_cascades": (0, "three"),
            "formats": ("", {"nifti": True}),
            "writer": ("null",),
            "retrospective_mask": ({"_target_": "scripts.data.RandomMask", "acceleration": 4, "center_fraction": 1.5},),
        },
        "declare": {"gates": ([], [{"name": "a"}]), "statistics#confidence": (2,), "subgroups": ([""],)},
        "evaluate": {"sections": (["test", "test"],), "weights": ({}, {"G": None}, {"G": 5})},
    }
    misspelt = {
        "ship": "audit_dr", "inference": "dataset_di", "serve": "prt", "send": "patience", "declare": "gate",
    }  # fmt: skip
    keys = [Case(verb, (f"override key '{key}'", "did you mean"), {key: "x"}) for verb, key in misspelt.items()]
    cases = [
        Case(verb, (key.rpartition("#")[2],), {key: value})
        for verb, settings in wrong.items()
        for key, values in settings.items()
        for value in values
    ]
    return [*keys, *cases]


# ---------------------------------------------------------------------------------------------------------------------
# Datalists and requests


def boolean_patient(content, root):
    content["training"][0]["patient_id"] = True


def empty_patient(content, root):
    content["training"][0]["patient_id"] = " "


def infinite_field(content, root):
    content["training"][0]["weight"] = float("inf")


def cyrillic_patient(content, root):
    content["training"][0]["patient_id"], content["test"][0]["patient_id"] = (
        "P17",
        "\u042017",
    )


def full_width_patient(content, root):
    content["training"][0]["patient_id"], content["test"][0]["patient_id"] = "P17", "\uff3017"


def hidden_letter_in_patient(content, root):
    content["training"][0]["patient_id"], content["test"][0]["patient_id"] = "P17", "P\u200b17"


def link_loop(content, root):
    (root / "a.h5").symlink_to(root / "b.h5")
    (root / "b.h5").symlink_to(root / "a.h5")
    content["test"].append({"kspace": "a.h5"})


def empty_path(content, root):
    content["training"][0]["kspace"] = ""


def line_in_a_path(content, root):
    content["training"][0]["kspace"] = "scan\n0.h5"


def number_as_path(content, root):
    content["training"][0]["kspace"] = 5


def entry_as_text(content, root):
    content["training"][0] = "scan_0.h5"


def section_nothing(content, root):
    content["validation"] = None


def no_training(content, root):
    del content["training"]


def repacked_scan(content, root):
    """The same scan in another file: compressed, so that no byte is where it was."""
    with h5py.File(root / "scan_0.h5") as source, h5py.File(root / "packed.h5", "w") as target:
        for key in ("kspace", "reconstruction_rss"):
            target.create_dataset(key, data=source[key][...], compression="gzip")
        target["ismrmrd_header"] = source["ismrmrd_header"][()]
        target.attrs.update(source.attrs)
    content["test"].append({"kspace": "packed.h5", "anatomy": "brain"})


LISTS: dict[Any, tuple[str, ...]] = {
    boolean_patient: ("'patient_id'", "True"),
    empty_patient: ("'patient_id'", "' '"),
    infinite_field: ("datalist.json",),
    cyrillic_patient: ("datalist.json: 'patient_id'", "one spelling"),
    full_width_patient: ("datalist.json: 'patient_id'", "one spelling"),
    hidden_letter_in_patient: ("datalist.json", "'patient_id'"),
    link_loop: ("datalist.json", "a.h5"),
    empty_path: ("datalist.json: 'training' entry 0", "'kspace'"),
    line_in_a_path: ("datalist.json: 'training' entry 0", "'kspace'"),
    number_as_path: ("datalist.json: 'training' entry 0", "'kspace'"),
    entry_as_text: ("datalist.json: 'training' entry 0", "scan_0.h5"),
    section_nothing: ("datalist.json: 'validation'", "expected a list"),
    no_training: ("0 training volumes",),
    repacked_scan: ("datalist.json", "scan_0.h5", "packed.h5"),
}


def request(name: str, text: str | bytes, file: str = "request.yaml") -> Callable[[Path], dict[str, Any]]:
    def spoil(root: Path) -> dict[str, Any]:
        (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        return {"forget_request": str(root / file)}

    spoil.__name__ = name
    return spoil


GOOD = "request_id: r1\nreason: test\nforget:\n- anatomy: knee\n"
REQUESTS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "tab_in_request": (GOOD.replace("- ", "\t- "), ("does not parse",)),
    "utf16_request": (codecs.BOM_UTF16_LE + GOOD.encode("utf-16-le"), ("does not parse",)),
    "binary_request": (b"\x89HDF\r\n\x1a\n" + bytes(100), ("does not parse",)),
    "empty_request": ("", ("expected a mapping",)),
    "two_documents": (f"{GOOD}---\n{GOOD}", ("does not parse",)),
    "list_of_lists": (GOOD.replace("- anatomy: knee", "- - anatomy\n  - knee"), ("'forget'",)),
    "request_as_text": ("knee", ("expected a mapping",)),
    "selector_of_a_selector": (GOOD.replace("knee", "{is: knee}"), ("'anatomy'",)),
    "look_alike_value": (GOOD.replace("knee", "kn\u0435e"), ("'anatomy'", "knee")),
    "no_reason": (GOOD.replace("reason: test\n", ""), ("reason",)),
    "misspelt_forget": (GOOD.replace("forget:", "forgets:"), ("forgets",)),
    "python_tag": (GOOD.replace("test", "!!python/object/apply:os.system [true]"), ("a tag",)),
    "kspace_of_nobody": (GOOD.replace("anatomy: knee", "kspace: ../scan_1.h5"), ("'kspace'", "scan_1.h5")),
}  # fmt: skip


def hundred_thousand_selectors(root: Path) -> dict[str, Any]:
    selectors = [{"patient_id": f"X{number}"} for number in range(100_000)]
    content = {"request_id": "r1", "reason": "test", "forget": selectors}
    (root / "request.json").write_text(json.dumps(content))
    return {"forget_request": str(root / "request.json")}


def hundred_thousand_selectors_in_yaml(root: Path) -> dict[str, Any]:
    (root / "request.yaml").write_text(GOOD + "".join(f"- patient_id: X{number}\n" for number in range(100_000)))
    return {"forget_request": str(root / "request.yaml")}


def hundred_thousand_values(root: Path) -> dict[str, Any]:
    content = {"request_id": "r1", "reason": "test", "forget": [{"patient_id": [f"X{n}" for n in range(100_000)]}]}
    (root / "request.json").write_text(json.dumps(content))
    return {"forget_request": str(root / "request.json")}


# ---------------------------------------------------------------------------------------------------------------------
# Scans


def compound_kspace(file):
    values = file["kspace"][...]
    del file["kspace"]
    pair = np.zeros(values.shape, [("re", "f4"), ("im", "f4")])
    file["kspace"] = pair


def text_kspace(file):
    del file["kspace"]
    file["kspace"] = "kspace"


def swapped_slices_and_coils(file):
    values = file["kspace"][...]
    del file["kspace"], file["reconstruction_rss"]
    file["kspace"] = np.concatenate([values, values[:1]]).swapaxes(0, 1)  # 2 coils of 3 slices
    del file["ismrmrd_header"]
    file["ismrmrd_header"] = _header_text().replace(">2</receiverChannels>", ">2</receiverChannels>")
    del file.attrs["max"]


def swapped_rows_and_columns(file):
    values = file["kspace"][...]
    del file["kspace"]
    file["kspace"] = values.swapaxes(-1, -2)


def _header_text() -> str:
    from scripts.data.header import make_header

    return make_header(matrix=(32, 30), recon=(28, 28), spacing=(1.0, 1.0), slice_thickness=5.0, num_coils=2)


def corner_kspace(file):
    file["kspace"][...] = np.fft.ifftshift(file["kspace"][...], axes=(-2, -1))


def images_as_kspace(file):
    file["kspace"][...] = np.fft.fftshift(np.fft.ifft2(file["kspace"][...]), axes=(-2, -1))


def other_scale_of_kspace(file):
    file["kspace"][...] *= 1e4


def target_of_another_scale(file):
    file["reconstruction_rss"][...] *= 1e4
    file.attrs["max"] *= 1e4


def huge_kspace(file):
    values = file["kspace"][...].astype(np.complex128) * 1e300
    del file["kspace"]
    file["kspace"] = values


def max_as_list(file):
    file.attrs["max"] = np.array([1.0, 2.0])


def patient_in_bytes(file):
    file.attrs["patient_id"] = np.bytes_(b"P\xff17")


def header_of_many_encodings(file):
    file["ismrmrd_header"][()]
    del file["ismrmrd_header"]
    file["ismrmrd_header"] = "<!DOCTYPE a [<!ENTITY b 'c'>]>" + _header_text()


def endless_matrix(file):
    del file["ismrmrd_header"]
    file["ismrmrd_header"] = _header_text().replace("<x>28</x>", "<x>1e999</x>")


def negative_matrix(file):
    del file["ismrmrd_header"]
    file["ismrmrd_header"] = _header_text().replace("<x>28</x>", "<x>-28</x>")


def link_to_nothing(file):
    del file["kspace"]
    file["kspace"] = h5py.SoftLink("/gone")


def link_to_a_file(file):
    del file["kspace"]
    file["kspace"] = h5py.ExternalLink("gone.h5", "/kspace")


SCANS: dict[Any, tuple[str, ...]] = {
    compound_kspace: ("scan_0.h5: 'kspace'", "complex64"),
    text_kspace: ("scan_0.h5: 'kspace'",),
    swapped_slices_and_coils: ("scan_0.h5: 'kspace'", "coils"),
    swapped_rows_and_columns: ("scan_0.h5",),
    corner_kspace: ("scan_0.h5: 'kspace'", "centre"),
    images_as_kspace: ("scan_0.h5",),
    other_scale_of_kspace: ("scan_0.h5",),
    target_of_another_scale: ("scan_0.h5",),
    huge_kspace: ("scan_0.h5: 'kspace'",),
    max_as_list: ("scan_0.h5: 'max'",),
    patient_in_bytes: ("scan_0.h5",),
    endless_matrix: ("scan_0.h5: 'ismrmrd_header'", "matrixSize"),
    negative_matrix: ("scan_0.h5: 'ismrmrd_header'", "matrixSize"),
    link_to_nothing: ("scan_0.h5: 'kspace'",),
    link_to_a_file: ("scan_0.h5: 'kspace'",),
}


# ---------------------------------------------------------------------------------------------------------------------
# Weights


class Runs:
    """Pickled, it would run a command when it is loaded."""

    def __reduce__(self):
        import os

        return os.system, ("touch was_run",)


def weights_file(name: str, make: Callable[[Path], object], *words: str, verb: str = "evaluate") -> Case:
    def spoil(root: Path) -> dict[str, Any]:
        make(root / "other.pt")
        return {"weights": str(root / "other.pt")}

    spoil.__name__ = name
    return Case(verb, ("other.pt", *words), spoil=spoil)


def weights_cases() -> list[Case]:
    from scripts.networks import Unet

    return [
        weights_file("malicious_pickle", lambda p: p.write_bytes(pickle.dumps(Runs())), "not"),
        weights_file("malicious_torch_file", lambda p: torch.save({"a": Runs()}, p), "not unpickled"),
        weights_file("whole_module", lambda p: torch.save(torch.nn.Linear(1, 1), p), "not unpickled"),
        weights_file("folder_of_weights", lambda p: p.mkdir(), "weights"),
        weights_file("empty_file", lambda p: p.write_bytes(b""), "not"),
        weights_file("text_file", lambda p: p.write_text("weights"), "not"),
        weights_file("half_a_file", lambda p: p.write_bytes((p.parent / "weights.pt").read_bytes()[:2000]), "not"),
        weights_file("another_network", lambda p: save_weights(Unet(1, 1, 4, 2), p), "do not fit"),
        weights_file("more_cascades", lambda p: save_weights(VarNet(2, 4, 2, 4, 2), p), "do not fit", verb="audit"),
        weights_file("list_of_tensors", lambda p: torch.save([torch.ones(1)], p), "no state dict"),
        weights_file("numbers_as_keys", lambda p: torch.save({1: torch.ones(1)}, p), "other.pt", verb="ship"),
        weights_case("zero_weights", lambda s: {key: torch.zeros_like(value) for key, value in s.items()}, "zero"),
        weights_file("nan_to_ship", lambda p: torch.save({"a": torch.full((1,), torch.nan)}, p), verb="ship"),
        weights_file("text_to_ship", lambda p: p.write_text("weights"), "not", verb="ship"),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# What inference, simulate, send and others read and where they write


def raw(name: str, change: Callable[[Path], object], *words: str) -> Case:
    """One file for inference."""

    def spoil(root: Path) -> dict[str, Any]:
        write_tiny_volume(root / "raw.h5", 3)
        change(root / "raw.h5")
        return {"dataset_dir": str(root / "raw.h5")}

    spoil.__name__ = name
    return Case("inference", ("raw.h5", *words), spoil=spoil)


def _within(change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def opened(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return opened


def _ismrmrd(**groups: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, value in groups.items():
                file[f"dataset/{name}"] = value

    return write


def raw_cases() -> list[Case]:
    header = np.array([_header_text()], dtype=h5py.string_dtype())
    return [
        raw("zero_raw", _within(lambda f: f["kspace"].write_direct(np.zeros(f["kspace"].shape, "c8"))), "centre of k"),
        raw("nan_raw", _within(lambda f: f["kspace"].write_direct(np.full(f["kspace"].shape, np.nan, "c8"))), "NaN"),
        raw("text_raw", lambda p: p.write_text("no HDF5"), "HDF5"),
        raw("half_raw", lambda p: p.write_bytes(p.read_bytes()[:3000]), "HDF5"),
        raw("nothing_in_raw", _ismrmrd(), "found nothing"),
        raw("ismrmrd_without_data", _ismrmrd(xml=header, data=np.zeros(0)), "data"),
        raw("ismrmrd_of_numbers", _ismrmrd(xml=header, data=np.zeros(4)), "data"),
        raw("ismrmrd_no_xml", _ismrmrd(xml=np.array(["<a"], dtype=h5py.string_dtype()), data=np.zeros(4)), "XML"),
        raw("short_mask", _within(lambda f: _replace(f, "mask", np.ones(3))), "'mask'"),
        raw("empty_mask", _within(lambda f: _replace(f, "mask", np.zeros(30))), "'mask'"),
        raw("raw_real", _within(lambda f: _replace(f, "kspace", f["kspace"][...].real)), "complex64"),
        raw("raw_header_without_matrix", _within(
            lambda f: _replace(f, "ismrmrd_header", _header_text().replace("<x>28</x>", "<x>0</x>"))), "matrixSize"),
    ]  # fmt: skip


def _replace(file: h5py.File, key: str, value: Any) -> None:
    if key in file:
        del file[key]
    file[key] = value


def image(name: str, values: np.ndarray, *words: str, **fields: Any) -> Case:
    def spoil(root: Path) -> dict[str, Any]:
        nib.save(nib.Nifti1Image(values, np.eye(4)), root / "image.nii")
        return {"images": [{"image": str(root / "image.nii"), **fields}]}

    spoil.__name__ = name
    return Case("simulate", ("image.nii", *words), spoil=spoil)


def image_cases() -> list[Case]:
    good = np.ones((32, 32, 12), np.float32)
    return [
        image("complex_image", good.astype(np.complex64), "real"),
        image("negative_image", -good, "magnitudes"),
        image("nan_image", good * np.nan, "NaN"),
        image("zero_image", good * 0, "zeros"),
        image("split_of_image", good, "split", split="train"),
        image("boolean_patient_of_image", good, "patient_id", patient_id=True),
        image("axis_of_image", good, "slice_axis", slice_axis=3),
        image("few_slices", good[..., :3], "slices"),
    ]


def same_image_twice(root: Path) -> dict[str, Any]:
    nib.save(nib.Nifti1Image(np.ones((32, 32, 12), np.float32), np.eye(4)), root / "image.nii")
    entry = {"image": str(root / "image.nii")}
    return {"images": [{**entry, "split": "training"}, {**entry, "split": "test"}], "num_coils": 2}


def file_as_folder(root: Path) -> dict[str, Any]:
    (root / "file").write_text("")
    return {"output_dir": str(root / "file")}


def file_above_the_folder(root: Path) -> dict[str, Any]:
    (root / "file").write_text("")
    return {"output_dir": str(root / "file" / "out")}


def place_cases() -> list[Case]:
    verbs = ("train", "unlearn", "evaluate", "audit", "protocol", "inference")
    return [
        *(Case(verb, ("'output_dir'", "file"), spoil=file_as_folder) for verb in verbs),
        *(Case(verb, ("'output_dir'", "file"), spoil=file_above_the_folder) for verb in verbs),
        Case("simulate", ("image.nii",), spoil=same_image_twice),
        Case("serve", ("nowhere.txt",), {"router": {
            "_target_": "scripts.serving.Router", "user": "me", "password_file": "nowhere.txt"}}),
        Case("evaluate", ("zero-filled",), spoil=name_of_zero_filled),
        Case("evaluate", ("/dev/null",), {"weights": "/dev/null"}),
        Case("train", ("/dev/null",), {"datalist": "/dev/null"}),
        Case("unlearn", ("/dev/null",), {"forget_request": "/dev/null"}),
        Case("ship", ("/dev/null",), {"weights": "/dev/null"}),
        Case("train", (".: no such datalist",), {"datalist": "."}),
        Case("unlearn", ("forget request",), {"forget_request": "."}),
    ]  # fmt: skip


def name_of_zero_filled(root: Path) -> dict[str, Any]:
    return {"weights": {"zero-filled": str(root / "weights.pt")}}


MORE = [
    *argument_cases(),
    *(Case("train", words, spoil=edit(change)) for change, words in LISTS.items()),
    *(Case("unlearn", words, spoil=request(name, text)) for name, (text, words) in REQUESTS.items()),
    Case("unlearn", ("X0", "selects none"), spoil=hundred_thousand_selectors),
    Case("unlearn", ("X0", "selects none"), spoil=hundred_thousand_values),
    Case("unlearn", ("request.yaml", "1000000 bytes", "JSON"), spoil=hundred_thousand_selectors_in_yaml),
    *(Case("train", words, spoil=scan(change)) for change, words in SCANS.items()),
    Case("train", ("datalist.json", "found none"), spoil=text_of_datalist("bom_datalist", "\ufeff{}")),
    *weights_cases(),
    *raw_cases(),
    *image_cases(),
    *place_cases(),
]
