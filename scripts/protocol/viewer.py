"""The images of the report's slice viewer, as PNG data URIs within a bound of bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from scripts.data import Volume
from scripts.evaluation.drawing import data_uri
from scripts.evaluation.reconstruct import Scan, middle_first

ERROR_PERCENTILE = 99
TARGET = "target"
VOLUMES_PER_COHORT = 3
SLICES = 8  # of a volume, at most


def choose(cohorts: Mapping[str, Sequence[Volume]]) -> list[tuple[str, Volume]]:
    """The first volumes of BTA and KTA and one of UA, in the order in which they are given up last."""
    wanted = [(c, v) for i in range(VOLUMES_PER_COHORT) for c in ("BTA", "KTA") for v in cohorts.get(c, [])[i : i + 1]]
    return [*wanted, *(("UA", volume) for volume in cohorts.get("UA", [])[:1])]


def viewer_data(
    chosen: Iterable[tuple[str, Volume]],
    scan_of: Callable[[str, Volume, Sequence[int]], Scan],
    psnr: Mapping[str, Mapping[str, float]],
    megabytes: float,
) -> dict[str, Any]:
    """What the viewer's script reads: per volume and slice one image and one error map of every model.

    Images are 8 bit from 0 to the largest target value of the volume, error maps |x − y| 8 bit from 0 to the 99th
    percentile of all models' errors in the volume, stated as a fraction of the volume's maximum. Where the bytes would
    exceed the bound, slices far from the middle, then whole volumes are left out, and ``left_out`` counts them.

    Args:
        chosen: Cohort and volume.
        scan_of: Reconstructs some slices of a volume of a cohort with every model.
        psnr: model -> volume -> PSNR of the evaluation [dB], shown beside the images.
        megabytes: Bound of the data URIs.
    """
    left, volumes, left_out, models = megabytes * 1e6, [], 0, [TARGET]
    for cohort, volume in chosen:
        encoded: list[dict[str, Any]] = []
        if left > 0:
            scan = scan_of(cohort, volume, sorted(middle_first(volume.num_slices)[:SLICES]))
            models = [TARGET, *scan.images]
            errors = {model: np.abs(images - scan.target) for model, images in scan.images.items()}
            limit = float(np.percentile(np.stack(list(errors.values())), ERROR_PERCENTILE)) or 1.0
            for position in middle_first(len(scan.slices)):
                images = _encode(scan, errors, position, limit)
                left -= sum(len(uri) for pair in images.values() for uri in pair if uri)
                if left < 0:
                    break
                encoded.append({"number": scan.slices[position], "images": images})
        left_out += volume.num_slices - len(encoded)
        if encoded:
            facts = {"name": volume.name, "cohort": cohort, "total": volume.num_slices}
            facts |= {"size": list(scan.target.shape[1:]), "error": limit / volume.max_value}
            facts["psnr"] = {model: rows[volume.name] for model, rows in psnr.items() if volume.name in rows}
            volumes.append({**facts, "slices": sorted(encoded, key=lambda entry: entry["number"])})
    return {"volumes": volumes, "models": models, "left_out": left_out}


def _encode(scan: Scan, errors: Mapping[str, np.ndarray], position: int, limit: float) -> dict[str, list[str | None]]:
    """model -> image and error map of one slice; the target has no error map."""
    top = float(scan.target.max())
    images: dict[str, list[str | None]] = {TARGET: [_data_uri(scan.target[position], top), None]}
    for model, stack in scan.images.items():
        images[model] = [_data_uri(stack[position], top), _data_uri(errors[model][position], limit)]
    return images


def _data_uri(image: np.ndarray, top: float) -> str:
    """An image (h, w) from 0 to ``top`` as an 8-bit grey PNG data URI."""
    grey = np.rint(np.clip(image / top, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG", optimize=True)
    return data_uri(stream.getvalue(), "png")
