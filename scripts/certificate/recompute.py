"""Reconstruct and evaluate again: do the certified results of each scan follow from the data and the weights?"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scripts.audit.distances import weight_distance
from scripts.audit.experiment import AUDITED, QUANTISED
from scripts.audit.hallucination import null_space_error
from scripts.audit.quantised import quantised_network
from scripts.certificate.checks import FAILS, UNCHECKED, Finding, finding
from scripts.certificate.reference import EVALUATION_SEED, mask_of
from scripts.data.datalist import load_datalist
from scripts.data.slices import SliceDataset, Undersample, prepare_batch
from scripts.data.volumes import Volume
from scripts.evaluation.metrics import combine, slice_sums
from scripts.kspace.fourier import crop_like
from scripts.networks import ZeroFilled, load_weights
from scripts.networks.from_record import network_from_record
from scripts.networks.varnet import sampled_columns
from scripts.run.files import file_sha256

TOLERANCES = {"psnr": 0.01, "ssim": 0.0005, "nmse": 0.0005}  # dB, and fractions; other processors round otherwise
NULL_SPACE_TOLERANCE = 0.01  # relative
WEIGHTS_TOLERANCE = 1e-6  # relative, of the distance of two networks


def recompute(
    content: Mapping[str, Any],
    datalist: str | Path,
    weights: Mapping[str, str | Path],
    sample: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[Finding]:
    """Evaluate certified scans again and compare with what is certified.

    Scans are found in the datalist by the SHA-256 of their files, models by that of their weights.

    Args:
        content: The predicate.
        datalist: The data.
        weights: model -> file, at least ``unlearned``; the zero-filled image needs none.
        sample: Share of the scans of each cohort that is evaluated, at least one of each.
        seed: The seed of the choice; keep it from whoever made the certificate.
        device: Where to run the networks.

    Yields:
        One check a model and scan, with the largest difference; tolerances are :data:`TOLERANCES`.
    """
    settings = content["audit"]["provenance"]["audit"]
    mask = mask_of(settings["mask"])
    models: dict[str, torch.nn.Module] = {"zero-filled": ZeroFilled()}
    for name, path in weights.items():
        if name not in content["weights"] or file_sha256(path) != content["weights"][name]["sha256"]:
            yield FAILS, f"recomputed: {name}: these are not the certified weights"
            return
        network = network_from_record(settings["network"], "certificate: network")
        models[name] = load_weights(network, path).to(device).eval()
    models[QUANTISED] = quantised_network(models[AUDITED])
    for name in [name for name in content["weights"] if name not in models]:
        yield UNCHECKED, f"recomputed: {name}: its weights were not given"
    yield from _distances(content["audit"]["measures"]["distance"], models)
    yield UNCHECKED, "recomputed: relearning, resurfacing: the training behind their curves was not run again"
    yield UNCHECKED, "recomputed: acquisitions, output_distance, features: their images were not made again"
    volumes = _by_hash(datalist)
    chosen = _sample(content["scans"], sample, seed)
    if len(chosen) < len(content["scans"]):
        yield UNCHECKED, f"recomputed: {len(content['scans']) - len(chosen)} of {len(content['scans'])} scans not drawn"
    for scan in tqdm(chosen, desc="evaluating again", unit="scan"):
        volume = volumes.get(scan["sha256"])
        if volume is None:
            yield UNCHECKED, f"recomputed: {scan['scan']} ({scan['cohort']}): its file is not in the datalist"
            continue
        for name, network in models.items():
            yield _compare(scan, name, *_evaluate(volume, network, Undersample(mask, EVALUATION_SEED), device))


@torch.no_grad()
def _evaluate(
    volume: Volume, network: torch.nn.Module, transform: Undersample, device: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of a scan and sums of its null-space error."""
    dataset, sums = SliceDataset([volume], transform), []
    null_space = {"null": 0.0, "error": 0.0, "target": 0.0}
    for index in range(len(dataset)):
        inputs, label, args, _ = prepare_batch(torch.utils.data.default_collate([dataset[index]]), device)
        image = network(inputs, *args)
        sums += slice_sums(label["target"][:, 0], crop_like(image, label["target"])[:, 0].float(), volume.max_value)
        parts = null_space_error(label["target"], image, sampled_columns(inputs))
        null_space = {name: null_space[name] + float(value.sum()) for name, value in parts.items()}
    return combine(sums), null_space


def _distances(stated: Mapping[str, Any], models: Mapping[str, torch.nn.Module]) -> Iterator[Finding]:
    """The distance of the audited network's weights to those of each model that is here."""
    for name in [name for name in stated if name in models]:
        found = weight_distance(models[AUDITED].state_dict(), models[name].state_dict())
        close = math.isclose(stated[name].get("weights", math.nan), found, rel_tol=WEIGHTS_TOLERANCE)
        yield finding(close, f"recomputed: distance of the weights to those of {name}: {found:.6g}")


def _compare(
    scan: Mapping[str, Any], name: str, metrics: Mapping[str, float], null_space: Mapping[str, float]
) -> Finding:
    stated = scan["results"][name]
    wrong = [
        f"{metric} certified {stated[metric]:.4f}, found {metrics[metric]:.4f}"
        for metric, tolerance in TOLERANCES.items()
        if not abs(stated[metric] - metrics[metric]) <= tolerance
    ]
    for part, value in scan["null_space"].get(name, {}).items():
        if not abs(value - null_space[part]) <= NULL_SPACE_TOLERANCE * abs(null_space[part]):
            wrong.append(f"null-space {part} certified {value:.4g}, found {null_space[part]:.4g}")
    return finding(not wrong, "; ".join([f"recomputed: {name} on {scan['scan']} ({scan['cohort']})", *wrong]))


def _sample(scans: list[dict], share: float, seed: int) -> list[dict]:
    if not 0 < share <= 1:
        raise ValueError(f"recompute: 'sample': expected a share above 0 and at most 1, found {share}")
    chosen: list[dict] = []
    for cohort in sorted({scan["cohort"] for scan in scans}):
        part = [scan for scan in scans if scan["cohort"] == cohort]
        chosen += random.Random(f"{seed} {cohort}").sample(part, max(1, round(share * len(part))))
    return chosen


def _by_hash(datalist: str | Path) -> dict[str, Volume]:
    """The test and training scans of a datalist that are still there, by the SHA-256 of their files."""
    sections = load_datalist(datalist)
    volumes = [volume for name in ("test", "training") for volume in sections[name]]
    return {file_sha256(volume.path): volume for volume in tqdm(volumes, desc="hashing", unit="scan")}
