"""The report: one HTML file with everything in it, for readers who have nothing but a browser."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.data.volumes import Volume
from scripts.protocol.writing import write_text
from scripts.requests import Cohorts

if TYPE_CHECKING:
    from scripts.protocol.study import Study

TEMPLATES = Path(__file__).parent / "templates"

SOURCES = {
    "phantom": "Synthetic phantoms: drawn anatomy, simulated coils and noise. They show that the methods work as "
    "described; they say nothing about patients.",
    "semi-synthetic": "Semi-synthetic data: real magnitude images with simulated coils, phase and noise. Contrast and "
    "anatomy are real, the raw data are not.",
    "": "Data without a stated source, taken as measured raw data.",
}
FIGURES = {
    "panels": (
        "Reconstructions and their errors",
        "Upper rows: target and reconstructions of one slice, on one grey scale. Lower rows: error maps on one common "
        "scale. Shown are the original G, the unlearned model closest to the oracle, and the oracle.",
    ),
    "radar": (
        "Quality and efficiency of each method",
        "A method is good where its quality axes meet the oracle's (dashed) and its RTE axis reaches far out.",
    ),
    "pareto": (
        "What is kept against what is forgotten",
        "Differences of mean PSNR to the oracle, which lies at the origin, with 95 % intervals over patients; the grey "
        "box spans the oracle's own seeds. Right: still known. Left: worse than never seen. Open markers lie outside.",
    ),
    "retain_fraction": (
        "How much retained data is needed",
        "Mean over seeds, bars: their standard deviation. Lines: second-degree fit over the logarithm of the retain "
        "fraction; the star marks its optimum.",
    ),
    "dynamics": (
        "Quality over the epochs of unlearning",
        "Mean PSNR after each epoch, first seed. Epoch 0 is the original. Dashed: the oracle; shaded: its seeds.",
    ),
}


def write_report(
    study: Study,
    tables: Mapping[str, Any],
    figures: Sequence[str],
    viewer: Mapping[str, Any] | None,
    sentences: Sequence[str],
    failed: int,
) -> None:
    """Write ``report.html``: no file and no network address is needed to read it.

    Args:
        study: its folder, data and settings.
        tables: name -> table with ``title``, ``readable``, ``legend`` and ``rows``.
        figures: names of the files under ``figures``.
        viewer: see :func:`scripts.protocol.viewer.viewer_data`; None without finished models.
        sentences: the verdict.
        failed: number of cells that did not finish.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    folder = study.output_dir / "figures"
    text = environment.get_template("report.html.j2").render(
        request=study.data.request,
        cohorts=cohort_rows(study.data),
        source_notes=source_notes(study.data),
        facts=_facts(study),
        tables=tables,
        records={name: _files(table.rows) for name, table in tables.items()},
        figures=[(name, *FIGURES[name], _inline_svg(folder / f"{name}.svg")) for name in figures],
        viewer=None if viewer is None else _json(viewer),
        left_out=viewer["left_out"] if viewer else 0,
        sentences=sentences,
        failed=failed,
        audit=None if study.audit_section is None else Markup(study.audit_section),
        css=_inline("report.css"),
        script=_inline("viewer.js"),
    )
    write_text(study.output_dir / "report.html", text)


def cohort_rows(data: Cohorts) -> list[dict[str, Any]]:
    """Volumes, slices and patients of each part of the data."""
    parts = {"retain set D_r": data.retain, "forget set D_f (also UA)": data.forget}
    parts["retain test set (BTA)"] = [volume for volume in data.test if not volume.forget]
    parts["forget test set (KTA)"] = [volume for volume in data.test if volume.forget]
    return [
        {
            "part": part,
            "volumes": len(volumes),
            "slices": sum(volume.num_slices for volume in volumes),
            "patients": len({volume.patient_id or volume.name for volume in volumes}),
            "source": ", ".join(sorted({volume.fields.get("source", "") or "not stated" for volume in volumes})),
        }
        for part, volumes in parts.items()
    ]


def source_notes(data: Cohorts) -> list[str]:
    """What kind of data this is, read from the files, and whether test and training share subjects."""
    volumes = [volume for section in data.sections.values() for volume in section]
    counts = Counter(volume.fields.get("source", "") for volume in volumes)
    notes = [
        f"{SOURCES.get(source, f'Source: {source}.')} ({n} of {len(volumes)} volumes)" for source, n in counts.items()
    ]
    shared = {_subject(volume) for volume in data.sections["training"]} & {_subject(volume) for volume in data.test}
    if shared := shared - {""}:
        notes.append(
            f"{len(shared)} {'subject is' if len(shared) == 1 else 'subjects are'} both in training and in test, "
            f"{_apart(slices_between(data.sections['training'], data.test))}: results on the test sets are not those "
            "on new subjects, and intervals over patients are too narrow."
        )
    return notes


def slices_between(training: Sequence[Volume], test: Sequence[Volume]) -> int | None:
    """The smallest number of slices that lie between a training and a test slice of one source image.

    Read from the attribute ``source_slices`` (``first-last``) that ``simulate`` writes; -1 where a slice is in both,
    None where a shared image does not state its slices.
    """
    smallest = None
    for one in training:
        for other in test:
            if not _subject(one) or _subject(one) != _subject(other):
                continue
            runs = [volume.fields.get("source_slices", "").split("-") for volume in (one, other)]
            if any(len(run) != 2 for run in runs):
                return None
            (first, last), (other_first, other_last) = ([int(end) for end in run] for run in runs)
            between = max(first - other_last, other_first - last, 0) - 1
            smallest = between if smallest is None else min(smallest, between)
    return smallest


def _apart(between: int | None) -> str:
    if between is None:
        return "in slices that the files do not state"
    return f"in disjoint slices with at least {between} others between them" if between >= 0 else "IN THE SAME SLICES"


def _subject(volume: Volume) -> str:
    return volume.fields.get("source_image", "") or volume.patient_id


def _facts(study: Study) -> dict[str, str]:
    settings = {**study.training[0].settings.get("train", {}), **study.unlearning[0].settings["unlearn"]}
    facts = {
        "network": _component(settings.get("network")),
        "undersampling": _component(settings.get("mask")),
        "epochs of training": settings.get("train_epochs"),
        "epochs of unlearning": settings.get("unlearn_epochs"),
        "oracles": f"{sum(cell.role == 'oracle' for cell in study.training)}",
        "seeds of unlearning": ", ".join(str(s) for s in dict.fromkeys(cell.seed for cell in study.unlearning)),
        "datalist": str(study.around.datalist),
        "runs": len(study.training) + len(study.unlearning),
    }
    return {key: str(value) for key, value in facts.items() if value is not None}


def _component(settings: Mapping[str, Any] | None) -> str | None:
    """``VarNet, 12 cascades`` from a config's component."""
    if not isinstance(settings, Mapping):
        return None
    name = str(settings.get("_target_", "")).rpartition(".")[2]
    return ", ".join([name, *(f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if key[0] != "_")])


def _files(rows: Sequence[Mapping]) -> list[str]:
    return list(dict.fromkeys(file for row in rows for file in str(row.get("records", "")).split("; ") if file))


def _inline(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _inline_svg(path: Path) -> str:
    """An SVG as data URI: shown as an image, its ids cannot clash with another figure's."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _json(data: Mapping[str, Any]) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"))
