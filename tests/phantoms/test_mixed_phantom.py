"""The mixed phantom: its kinds of scans, what each request selects, and that the default phantom is unchanged."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from scripts.data.datalist import load_datalist
from scripts.phantoms import mixed_phantom, phantom, phantom_datalist
from scripts.phantoms.acquisition import ifft2c, rss_target
from scripts.phantoms.mixed_phantom import SCANNERS, mixed_phantom_datalist
from scripts.requests import Cohorts, ForgetRequest

REQUESTS = Path(__file__).parents[2] / "bundle" / "configs" / "requests"
SMALL = {
    "num_training": {"good": 4, "repeated": 2, "scanner_b": 3, "motion": 2, "spikes": 1, "wrong_target": 2},
    "num_test": {"good": 2, "repeated": 1, "scanner_b": 2, "motion": 1, "spikes": 1, "wrong_target": 1},
    "slices_per_volume": 2,
    "matrix": (48, 48),
    "num_coils": 4,
}
DEFAULT_PHANTOM = [3.999266e-04, 2.546138e-02, 6.157412e-05, 3.279792e-04, 1.749132e-02, 4.986379e-05]
"""Maximum, norm and the magnitude of one k-space sample, of the first training brain and the first test knee."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return Path(mixed_phantom_datalist(cache_dir=tmp_path_factory.mktemp("cache"), **SMALL)).parent


def scans(folder: Path, kind: str) -> list[dict]:
    """k-space, reference and attributes of all scans of a kind."""
    found = []
    for path in sorted(folder.glob(f"*/{kind}-*.h5")):
        with h5py.File(path) as file:
            kspace, target = file["kspace"][:], file["reconstruction_rss"][:]
            found.append({"kspace": kspace, "target": target, **file.attrs})
    return found


def names(volumes) -> set[str]:
    return {volume.name for volume in volumes}


def listed(folder: Path, *patterns: str) -> set[str]:
    return {str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern)}


def test_the_default_phantom_is_still_the_one_the_demo_weights_were_trained_on(tmp_path, monkeypatch):
    one = Path(phantom_datalist(tmp_path, num_training={"brain": 1}, num_validation={"brain": 0}, num_test={"knee": 1}))
    found = []
    for name in ("training/brain-0001.h5", "test/knee-0001.h5"):
        with h5py.File(one.parent / name) as file:
            found += [file.attrs["max"], file.attrs["norm"], abs(file["kspace"][1, 2, 50, 40])]
    assert found == pytest.approx(DEFAULT_PHANTOM, rel=1e-4)
    monkeypatch.setattr(phantom, "_write_scans", lambda folder, settings: None)
    assert Path(phantom_datalist(tmp_path)).parent.name == "phantom-c7404ca8821d"


@pytest.mark.parametrize(
    ("request_name", "kinds", "tested"),
    [
        ("one_patient", ["repeated"], []),
        ("scanner_b", ["scanner_b"], ["scanner_b"]),
        ("corrupted", ["motion", "spikes", "wrong_target"], ["motion", "spikes", "wrong_target"]),
    ],
)
def test_a_request_selects_its_scans_and_no_others(folder, request_name, kinds, tested):
    cohorts = Cohorts(folder / f"{request_name}.json", REQUESTS / f"{request_name}.yaml")
    assert names(cohorts.forget) == listed(folder, *(f"training/{kind}-*.h5" for kind in kinds))
    assert names(cohorts.retain) == listed(folder, "training/*.h5") - names(cohorts.forget)
    evaluated = cohorts.evaluation()
    assert names(evaluated["BTA"]) == listed(folder, "test/good-*.h5")
    assert names(evaluated.get("KTA", [])) == listed(folder, *(f"test/{kind}-*.h5" for kind in tested))


def test_one_original_serves_every_request(folder):
    training = [json.loads((folder / f"{path.stem}.json").read_text())["training"] for path in REQUESTS.glob("*.yaml")]
    assert len(training) == 3
    assert training[0] == training[1] == training[2]


def test_later_scans_are_of_the_one_patient_and_refused_in_a_test_list(folder):
    later, asked = load_datalist(folder / "later.json"), load_datalist(folder / "one_patient.json")
    assert {volume.patient_id for volume in later["test"]} == {"repeated-0001"}
    assert later["training"] == []
    with pytest.raises(ValueError, match="patients to be forgotten are also in 'test': repeated-0001"):
        ForgetRequest.load(REQUESTS / "one_patient.yaml").apply({**asked, "test": later["test"]})


def test_scans_of_the_one_patient_show_one_object(tmp_path, monkeypatch):
    monkeypatch.setattr(mixed_phantom, "POSE", {"rotation": 0.0, "shift": 0.0})
    monkeypatch.setattr(mixed_phantom, "slice_positions", lambda *_: np.array([0.1, 0.15]))
    made = Path(mixed_phantom_datalist(cache_dir=tmp_path, **SMALL)).parent
    first, *others = (scan["target"][0].ravel() for kind in ("repeated", "good") for scan in scans(made, kind))
    alike = [np.corrcoef(first, other)[0, 1] for other in others]
    assert min(alike[:2]) > 0.9 > max(alike[2:])


def noise_share(scan: dict) -> float:
    """Spread of the outermost k-space samples relative to the mean of the image: noise outweighs the object there."""
    corner = scan["kspace"][..., :3, :3]
    return np.sqrt((np.abs(corner) ** 2).mean() / 2) / scan["target"][scan["target"] > 0.1 * scan["max"]].mean()


def locality(scan: dict) -> float:
    """Mean over the object of the largest coil's share of the signal; 1 / coils where all see the same."""
    power = np.abs(ifft2c(scan["kspace"])) ** 2
    share = power.max(axis=1) / power.sum(axis=1)
    return share[scan["target"] > 0.3 * scan["max"]].mean()


def test_scanner_b_is_noisier_has_nearer_coils_and_other_contrasts(folder):
    a, b = (scans(folder, kind) for kind in ("good", "scanner_b"))
    for scanner, own in (("A", a), ("B", b)):
        low, high = SCANNERS[scanner].snr
        assert all(low <= scan["snr"] <= high and scan["scanner"] == scanner for scan in own)
        assert {scan["acquisition"] for scan in own} <= set(SCANNERS[scanner].acquisitions)
    assert max(map(noise_share, a)) < min(map(noise_share, b))
    assert np.mean([locality(scan) for scan in a]) < np.mean([locality(scan) for scan in b])
    assert "AXT2" not in SCANNERS["B"].acquisitions
    headers = {
        v.fields["scanner"]: v.fields["systemModel"] for v in load_datalist(folder / "scanner_b.json")["training"]
    }
    assert headers == {"A": "phantom A", "B": "phantom B"}


@pytest.mark.parametrize("kind", ["good", "repeated", "scanner_b", "motion", "spikes"])
def test_the_reference_is_the_image_of_the_kspace(folder, kind):
    for scan in scans(folder, kind):
        assert all(
            np.allclose(rss_target(k), t, rtol=1e-5) for k, t in zip(scan["kspace"], scan["target"], strict=True)
        )


def test_a_wrong_reference_is_another_objects(folder):
    for scan in scans(folder, "wrong_target"):
        own = np.stack([rss_target(kspace) for kspace in scan["kspace"]])
        error = np.sqrt(np.square(own - scan["target"]).mean())
        assert 0.05 * scan["max"] < error
        assert 0.3 < scan["target"].mean() / own.mean() < 3


def test_motion_spreads_signal_along_the_columns_beside_the_object(folder):
    def beside(scan):  # the edges, left and right of the head, relative to the image maximum
        return np.concatenate([scan["target"][..., :2], scan["target"][..., -2:]], axis=-1).mean() / scan["max"]

    assert min(beside(scan) for scan in scans(folder, "motion")) > max(beside(scan) for scan in scans(folder, "good"))


def test_same_settings_give_the_same_bits_and_another_seed_others(folder, tmp_path):
    again, other = (Path(mixed_phantom_datalist(cache_dir=tmp_path, **SMALL, seed=seed)).parent for seed in (0, 1))
    assert again.name == folder.name != other.name
    for path in sorted(folder.glob("*/*.h5")):
        contents = [(made / path.relative_to(folder)).read_bytes() for made in (folder, again, other)]
        assert contents[0] == contents[1] != contents[2]


def test_second_call_reads_the_cache(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert mixed_phantom_datalist("corrupted", folder.parent, **SMALL) == str(folder / "corrupted.json")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request": "knee"}, "request: found 'knee', expected one of one_patient, scanner_b, corrupted, later"),
        ({"num_training": {"knee": 1}}, r"num_training: found \['knee'\]"),
        ({"num_test": {"good": -1}}, "num_test: found"),
        ({"slices_per_volume": 0}, "slices_per_volume: found 0"),
        ({"num_coils": 0}, "num_coils: found 0"),
        ({"matrix": (0, 32)}, "matrix: found"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        mixed_phantom_datalist(cache_dir=tmp_path, **{**SMALL, **change})
    assert list(tmp_path.iterdir()) == []
