"""Beside bundle/mkdocs.yml: model card and tutorials as pages, no links out of the site; figures from CSV files.

``python .ci/documents.py`` draws the figures of ``bundle/docs/results`` whose CSV file is there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

DOCS = Path(__file__).resolve().parents[1] / "bundle" / "docs"
RESULTS = DOCS / "results"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md as model_card.html (MkDocs would give it the place of index.md), and a page for each tutorial."""
    from mkdocs.structure.files import File, InclusionLevel

    card = File("README.md", config.docs_dir, config.site_dir, config.use_directory_urls)
    card.dest_uri, card.inclusion = "model_card.html", InclusionLevel.INCLUDED
    files.append(card)
    for script in sorted((Path(config.docs_dir) / "tutorials").glob("*.py")):
        page = tutorial_page(script.read_text(encoding="utf-8"), script.name)
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Lead links to tutorials to their pages; of links to files outside the documents leave the text."""
    markdown = re.sub(r"\]\((tutorials/\w+)\.py\)", r"](\1.md)", markdown)
    return re.sub(r"\[([^]]+)\]\(\.\./[^)]*\)", r"\1", markdown)


def tutorial_page(script: str, name: str) -> str:
    """The Markdown of a script in jupytext's percent format: text cells as they are, code cells fenced."""
    page = []
    for cell in re.split(r"(?m)^# %%", script)[1:]:
        kind, _, body = cell.partition("\n")
        if kind.strip() == "[markdown]":
            page.append(re.sub(r"(?m)^# ?", "", body).strip())
        else:
            page.append(f"```python\n{body.strip()}\n```")
    page.insert(
        1, f"[This page as a script]({name}) · as a notebook: `jupytext --to notebook bundle/docs/tutorials/{name}`"
    )
    return "\n\n".join(page) + "\n"


def frontier_figure(values: pd.DataFrame) -> Figure:
    """Quality kept against the budget, for each domain: every seed as a dot, the mean as a line, beside the oracle.

    Args:
        values: The columns of ``frontier.csv``: domain, method, budget, seed, when, cohort, psnr_less_oracle,
            ssim_less_oracle. Drawn is what was delivered, cohort BTA, budgets above 0.
    """
    kept = _kept(values)
    figure, axes = _axes(2, "share of the passes of one training [%]")
    for axis, column, label in zip(
        axes,
        ("psnr_less_oracle", "ssim_less_oracle"),
        ("PSNR less the oracle's [dB]", "SSIM less the oracle's"),
        strict=True,
    ):
        for number, (domain, own) in enumerate(kept.groupby("domain", sort=False)):
            mean = own.groupby("budget")[column].mean()
            axis.plot(100 * mean.index, mean, color=f"C{number}", label=str(domain).replace("_", " "))
            axis.plot(100 * own["budget"], own[column], "o", ms=3, color=f"C{number}")
        axis.set(title="brain kept", ylabel=label)
    axes[-1].legend(frameon=False, loc="lower right")
    return figure


def frontier_table(values: pd.DataFrame) -> str:
    """The mean gap of the brain kept by domain and budget over the seeds, as a Markdown table."""
    lines = ["| domain | share of passes | PSNR [dB] | SSIM | seeds |", "| --- | ---: | ---: | ---: | ---: |"]
    for domain, own in _kept(values).groupby("domain", sort=False):
        for budget, runs in own.groupby("budget"):
            gaps = f"{runs['psnr_less_oracle'].mean():+.2f} | {runs['ssim_less_oracle'].mean():+.3f}"
            name = str(domain).replace("_", " ")
            lines.append(f"| {name} | {100 * float(budget):g} % | {gaps} | {runs['seed'].nunique()} |")
    return "\n".join(lines) + "\n"


def cost_figure(values: pd.DataFrame) -> Figure:
    """What stays, and what of the forgotten scans comes back, against the share of passes, for each method."""
    figure, axes = _axes(2, "share of the passes of one training [%]")
    titles = {"brain_kept_psnr": "brain kept", "later_forgotten_scans_psnr": "forgotten scans, after further training"}
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        for method, own in values.groupby("method", sort=False):
            if len(own) > 1:
                own = own.sort_values("passes_percent")
                axis.plot(own["passes_percent"], own[column], "o-", ms=3, label=method)
        axis.set(title=title, ylabel="PSNR less the oracle's [dB]")
    axes[0].legend(frameon=False)
    return figure


FIGURES = {"frontier": frontier_figure, "cost": cost_figure}


def draw(results: Path = RESULTS) -> list[Path]:
    """Draw each figure whose CSV file is there; the paths of the pictures."""
    import pandas as pd

    made = []
    for name, figure in FIGURES.items():
        if (results / f"{name}.csv").exists():
            values = pd.read_csv(results / f"{name}.csv", comment="#")
            figure(values).savefig(results / f"{name}.png", dpi=120, metadata={"Software": None})
            made.append(results / f"{name}.png")
    return made


def _kept(values: pd.DataFrame) -> pd.DataFrame:
    return values[(values["when"] == "delivered") & (values["cohort"] == "BTA") & (values["budget"] > 0)]


def _axes(count: int, label: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * count, 3.4), layout="constrained")
    axes = figure.subplots(1, count)
    for axis in axes:
        axis.axhline(0, color="0.6", lw=0.8)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


if __name__ == "__main__":
    print(*draw(), sep="\n")
    if (RESULTS / "frontier.csv").exists():
        import pandas as pd

        sys.stdout.write("\n" + frontier_table(pd.read_csv(RESULTS / "frontier.csv", comment="#")))
