import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from scripts.evaluation.results import (
    FIELDS,
    Results,
    VolumeResult,
    cohort_words,
    read_results,
    summarise,
    write_results,
)
from scripts.evaluation.table import ABSENT, Table, markdown, markdown_document, model_table, plain, tables_html

COUNTS = {"BTA": 4, "KTA": 3, "UA": 1}


def results(models=("oracle", "NL-FT", "G", "zero-filled", "FT"), seed=0):
    rng = np.random.default_rng(seed)
    return [
        VolumeResult(
            model=model,
            cohort=cohort,
            volume=f"{cohort}_{i}",
            patient_id=f"P{i}",
            anatomy="brain" if cohort == "BTA" else "knee",
            slices=5 + i,
            psnr=rng.normal(34, 3),
            ssim=rng.uniform(0.7, 0.98),
            nmse=rng.uniform(0.003, 0.05),
        )
        for model in models
        for cohort, count in COUNTS.items()
        for i in range(count)
    ]


def test_mean_and_sample_deviation_are_numpys():
    records = results()
    summary = summarise(records)
    for model, cohorts in summary.items():
        for cohort, entry in cohorts.items():
            rows = [r for r in records if (r.model, r.cohort) == (model, cohort)]
            assert entry["n"] == len(rows) == COUNTS[cohort]
            for name in ("psnr", "ssim", "nmse"):
                values = [r.value(name) for r in rows]
                assert entry[name]["mean"] == pytest.approx(np.mean(values))
                expected = np.std(values, ddof=1) if len(values) > 1 else 0
                assert entry[name]["std"] == pytest.approx(expected)
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_records_changes_nothing(seed, tmp_path):
    records = results()
    shuffled = [records[i] for i in np.random.default_rng(seed).permutation(len(records))]
    assert summarise(shuffled) == summarise(records)
    assert list(summarise(shuffled)) == list(summarise(records))
    for form in (plain, markdown):
        assert form(model_table(summarise(shuffled))) == form(model_table(summarise(records)))
    for name, rows in (("a.csv", records), ("b.csv", shuffled)):
        write_results(rows, tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def small():
    g = VolumeResult("G", "BTA", "a", "P", "", 1, psnr=38.0, ssim=0.9641, nmse=0.01234)
    return [
        g,
        replace(g, volume="b", psnr=40.0),
        replace(g, cohort="KTA", volume="k", psnr=9.456),
        replace(g, model="unlearned", cohort="KTA", volume="k", psnr=31.0),
    ]


def test_plain_table():
    words = cohort_words({"BTA": ["brain"], "KTA": ["knee"]})
    table = model_table(summarise(small()), words=words)
    assert plain(table).splitlines() == [
        "           ------------ brain kept (n = 2) ------------   knee to forget (n = 1)",
        "model         PSNR [dB]           SSIM             NMSE  PSNR [dB]   SSIM    NMSE",
        "-" * 81,
        "original   39.00 ± 1.41  0.964 ± 0.000  0.0123 ± 0.0000       9.46  0.964  0.0123",
        "unlearned             –              –                –      31.00  0.964  0.0123",
    ]
    assert table.note == (
        "mean ± sample standard deviation over n volumes; in Xue et al. 2024: brain kept = BTA, knee to forget = KTA"
    )


def test_markdown_table():
    assert markdown(model_table(summarise(small()))).splitlines() == [
        "| model | retain test (n = 2) PSNR [dB] | retain test (n = 2) SSIM | retain test (n = 2) NMSE "
        "| forget test (n = 1) PSNR [dB] | forget test (n = 1) SSIM | forget test (n = 1) NMSE |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| original | 39.00 ± 1.41 | 0.964 ± 0.000 | 0.0123 ± 0.0000 | 9.46 | 0.964 | 0.0123 |",
        "| unlearned | – | – | – | 31.00 | 0.964 | 0.0123 |",
    ]


def test_rows_and_cohorts_have_a_fixed_order_and_columns_align():
    records = [*results(), *(replace(r, cohort="holdout") for r in results() if r.cohort == "UA")]
    table = model_table(summarise(records))
    lines = plain(table).splitlines()
    names = ["zero-filled", "original", "network that never saw the scans", "FT", "NL-FT"]
    assert [row[0] for row in table.rows] == names
    positions = [lines[0].index(cohort) for cohort in ("retain test", "forget test", "forget training data", "holdout")]
    assert positions == sorted(positions)
    assert len({len(line) for line in lines[:8]}) == 1
    assert "retain test = BTA, forget test = KTA, forget training data = UA" in table.note


def test_a_markdown_cell_keeps_a_bar_in_a_name():
    records = [replace(r, model="a|b") for r in small()[:2]]
    assert r"| a\|b | 39.00" in markdown(model_table(summarise(records)))


ATTACKS = ["<img src=x onerror=alert(1)>", "=HYPERLINK(A1)", "@SUM(A1)", "-1+1", "+1", "\t=1", "'=1", "''", "'"]


def test_text_from_outside_stays_text_in_csv_and_comes_back(tmp_path):
    records = [
        replace(small()[0], patient_id=text, anatomy=text, volume=f"{text}{i}") for i, text in enumerate(ATTACKS)
    ]
    write_results(records, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.DictReader(stream) for cell in (row["patient_id"], row["anatomy"], row["volume"])]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert set(read_results(tmp_path / "metrics.csv")) == set(records)


def test_text_from_outside_stays_text_in_markdown():
    attacks = ["<img src=x onerror=alert(1)>", "a\n| b |", "[x](javascript:alert(1))", "![x](http://a.example/p.png)"]
    for text in attacks:
        document = markdown_document(text, [text], [Table(text, text, ["model", text], [["G", text]])])
        assert "<img" not in document
        assert "](" not in document
        assert len({line.replace("\\|", "").count("|") for line in document.splitlines() if line.startswith("|")}) == 1


def test_an_unknown_cohort_alone_has_no_meaning_in_the_legend():
    table = model_table(summarise([replace(r, cohort="site C") for r in small()[:2]]))
    assert table.note.startswith("mean ±")
    assert ABSENT not in plain(table)


def test_csv_holds_every_result_at_full_precision(tmp_path):
    records = results()
    write_results(records, tmp_path / "volumes.csv")
    with (tmp_path / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        assert next(csv.reader(stream)) == list(FIELDS)
    assert set(read_results(tmp_path / "volumes.csv")) == set(records)


def test_results_are_looked_up_in_the_order_of_volumes():
    looked_up = Results(reversed(results()))
    assert looked_up.models == ["zero-filled", "G", "oracle", "FT", "NL-FT"]
    assert looked_up.cohorts == ["BTA", "KTA", "UA"]
    expected = [r.psnr for r in results() if (r.model, r.cohort) == ("G", "BTA")]
    assert looked_up.values("G", "BTA", "psnr").tolist() == expected
    assert looked_up.patients("KTA") == ["P0", "P1", "P2"]
    assert looked_up.values("nobody", "BTA", "psnr").size == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,cohort\nG,BTA\n", r"x.csv: expected the columns .*; missing \['volume'"),
        (",".join(FIELDS) + "\n", "x.csv: .*missing every row"),
        (",".join(FIELDS) + "\nG,BTA,a,P,,2,high,0.9,0.1\n", "x.csv: expected numbers .*'high'"),
    ],
)
def test_a_results_file_that_cannot_be_read_is_named(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(tmp_path / "x.csv")


def test_html_escapes_and_keeps_the_groups():
    tables = [model_table(summarise(small())), Table("<b>", "Not measured: no <oracle>.")]
    text = tables_html(tables, level=4)
    assert '<th scope="col">retain test (n = 2) PSNR [dB]</th>' in text
    assert text.count("<h4>") == 2
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


def test_a_document_has_every_heading_and_note():
    tables = [Table("One", "All of it.", ["a"], [["1"]]), Table("Two", "Not measured.")]
    assert markdown_document("Title", ["Lead."], tables) == (
        "# Title\n\nLead.\n\n## One\n\nAll of it.\n\n| a |\n| --- |\n| 1 |\n\n## Two\n\nNot measured.\n"
    )


def test_a_failed_csv_leaves_the_old_one_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "volumes.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="psnr of G / BTA / a is nan"):
        write_results([replace(small()[0], psnr=float("nan"))], path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full_disk)
    with pytest.raises(OSError, match="the disk is full"):
        write_results(small(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["volumes.csv"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["psnr", "ssim", "nmse"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_fail(name, value):
    with pytest.raises(ValueError, match=f"{name} of G / BTA / a is {value}"):
        summarise([replace(small()[0], **{name: value})])


def test_contradictory_records_fail():
    with pytest.raises(ValueError, match="no record"):
        summarise([])
    with pytest.raises(ValueError, match="no results"):
        model_table({})
    with pytest.raises(ValueError, match="G / BTA / a was given twice"):
        summarise([small()[0], *small()])
    other = replace(small()[0], model="oracle")
    with pytest.raises(ValueError, match="oracle and G were evaluated on different BTA volumes: b"):
        summarise([*small(), other])
