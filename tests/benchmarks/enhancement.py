"""Does forgetting enhance what stays? ``python -m tests.benchmarks.enhancement --domains "['cells','population']"``

Draws the audits that ``audit_validity`` left for some domains: the null-space error of each model on the retain test
set beside the original's, with its interval. Below 1 the model invents less in the retained anatomy than the original:
what Xue et al. 2024 expect of forgetting. Writes ``enhancement.png`` and prints a table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import fire

from scripts.evaluation.drawing import COLOURS, INK, new_figure, save_figure, tidy
from scripts.evaluation.table import Table, markdown

MEASURE = "hallucination/enhancement"
Found = dict[str, tuple[float, float, float]]  # model -> ratio and its interval


def main(
    domains: Sequence[str] = ("small_phantom", "cells", "population"), output_dir: str = "outputs/audit_validity"
) -> None:
    """Draw and print.

    Args:
        domains: The domains whose audits are there.
        output_dir: The folder of their audits, and of the figure.
    """
    found = {domain: _read(Path(output_dir) / domain) for domain in domains}
    models = list(dict.fromkeys(model for own in found.values() for model in own))
    figure = new_figure(9.0, 0.9 + 0.32 * len(models))
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (domain, own) in zip(panels, found.items(), strict=True):
        for place, model in enumerate(models):
            if model in own:
                value, low, high = own[model]
                colour = COLOURS[0] if model.startswith("reset_and_heal") else INK
                axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, markersize=4)
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_title(domain.replace("_", " "), fontsize=10)
        axes.set_yticks(range(len(models)), labels=models)
        tidy(axes, "null-space error / original's", "")
    panels[0].invert_yaxis()  # the panels share it
    save_figure(figure, Path(output_dir) / "enhancement.png")
    rows = [[model, *(_text(own.get(model)) for own in found.values())] for model in models]
    print(markdown(Table("", "", ["model", *found], rows)))


def _read(folder: Path) -> Found:
    found = {}
    for file in sorted(folder.glob("audit of */audit.json")):
        gates = json.loads(file.read_text(encoding="utf-8"))["gates"]
        gate = next(gate for gate in gates if gate["measure"] == MEASURE)
        if gate["interval"] and gate["value"] < 2:  # plain ascent lies far outside
            found[file.parent.name.removeprefix("audit of ")] = (gate["value"], *gate["interval"])
    return found


def _text(ratio: tuple[float, float, float] | None) -> str:
    return "–" if ratio is None else f"{ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]"


if __name__ == "__main__":
    fire.Fire(main)
