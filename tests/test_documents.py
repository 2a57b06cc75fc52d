"""Pages stay short and tables narrow; each measurement has its command and its page; figures and tutorials."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "bundle" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RESULTS = sorted((DOCS / "results").glob("*.csv"))


@pytest.fixture(scope="module")
def documents():
    spec = importlib.util.spec_from_file_location("documents", ROOT / ".ci" / "documents.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_its_tables_are_narrow(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    for row in (line for line in lines if line.startswith("|")):
        assert row.replace(r"\|", "").strip("|").count("|") <= 5, row


def test_the_documents_are_read_in_an_hour():
    words = sum(len(re.findall(r"[\w'’]+", page.read_text(encoding="utf-8"))) for page in PAGES)
    assert words < 16000


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_measurement_has_its_command_and_a_page(file):
    head = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("python -m " in line for line in head)
    assert any(f"results/{file.name}" in page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "README.md"])
    assert not pd.read_csv(file, comment="#").empty


def frontier() -> pd.DataFrame:
    """Two domains, budgets and seeds: the gap of the brain is the budget, times the domain's number, plus the seed."""
    rows = [
        (domain, "default", budget, seed, when, cohort, number * budget + seed + 9 * (cohort != "BTA"), -0.01 * number)
        for number, domain in enumerate(("small_phantom", "cells"), 1)
        for budget in (0.2, 0.1)
        for seed in (0, 1)
        for when in ("delivered", "later")
        for cohort in ("BTA", "KTA")
    ]
    names = ["domain", "method", "budget", "seed", "when", "cohort", "psnr_less_oracle", "ssim_less_oracle"]
    original = pd.DataFrame([("cells", "original", 0.0, 0, "delivered", "BTA", -5.0, -0.5)], columns=names)
    return pd.concat([pd.DataFrame(rows, columns=names), original], ignore_index=True)


def test_the_table_of_the_frontier_is_the_mean_of_what_was_delivered(documents):
    lines = documents.frontier_table(frontier()).splitlines()
    assert lines[2] == "| small phantom | 10 % | +0.60 | -0.010 | 2 |"
    assert lines[-1] == "| cells | 20 % | +0.90 | -0.020 | 2 |"
    assert len(lines) == 6


def test_the_figure_of_the_frontier_has_a_line_for_each_domain(documents):
    psnr, ssim = documents.frontier_figure(frontier()).axes
    named = {line.get_label(): list(line.get_ydata()) for line in psnr.lines}
    assert named["small phantom"] == pytest.approx([0.6, 0.7])
    assert named["cells"] == pytest.approx([0.7, 0.9])
    assert "SSIM" in ssim.get_ylabel()


def test_figures_are_drawn_where_there_is_a_csv_file(documents, tmp_path):
    assert documents.draw(tmp_path) == []
    (tmp_path / "frontier.csv").write_text("# made up\n" + frontier().to_csv(index=False))
    (tmp_path / "cost.csv").write_text((DOCS / "results" / "cost.csv").read_text())
    made = documents.draw(tmp_path)
    assert {path.name for path in made} == {"frontier.png", "cost.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_a_tutorial_becomes_a_page(documents):
    page = documents.tutorial_page(
        "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1  # %% not a cell\n", "some.py"
    )
    assert page.startswith("# Title\n\nText.\n\n[This page as a script](some.py)")
    assert page.endswith("```python\nx = 1  # %% not a cell\n```\n")
