import csv
import json

import numpy as np
import pytest

from scripts.evaluation.table import ABSENT, FIELDS, format_table, summarise, write_csv

COUNTS = {"BTA": 4, "KTA": 3, "UA": 1}


def results(models=("oracle", "NL-FT", "G", "zero-filled", "FT"), seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "model": model,
            "cohort": cohort,
            "volume": f"{cohort}_{i}",
            "patient_id": f"P{i}",
            "anatomy": "brain" if cohort == "BTA" else "knee",
            "slices": 5 + i,
            "psnr": rng.normal(34, 3),
            "ssim": rng.uniform(0.7, 0.98),
            "nmse": rng.uniform(0.003, 0.05),
        }
        for model in models
        for cohort, count in COUNTS.items()
        for i in range(count)
    ]


def test_mean_and_sample_deviation_are_numpys():
    records = results()
    summary = summarise(records)
    for model, cohorts in summary.items():
        for cohort, entry in cohorts.items():
            rows = [r for r in records if (r["model"], r["cohort"]) == (model, cohort)]
            assert entry["n"] == len(rows) == COUNTS[cohort]
            for name in ("psnr", "ssim", "nmse"):
                values = [r[name] for r in rows]
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
    for markdown in (False, True):
        assert format_table(summarise(shuffled), markdown) == format_table(summarise(records), markdown)
    for name, rows in (("a.csv", records), ("b.csv", shuffled)):
        write_csv(rows, tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def small():
    base = {"patient_id": "P", "anatomy": "", "slices": 1}
    g = {"model": "G", "cohort": "BTA", "ssim": 0.9641, "nmse": 0.01234, **base}
    return [
        {**g, "volume": "a", "psnr": 38.0},
        {**g, "volume": "b", "psnr": 40.0},
        {**g, "cohort": "KTA", "volume": "k", "psnr": 9.456},
        {**g, "model": "unlearned", "cohort": "KTA", "volume": "k", "psnr": 31.0},
    ]


def test_plain_table():
    assert format_table(summarise(small())).splitlines() == [
        "           --------------- BTA (n = 2) ----------------  --------------- KTA (n = 1) ----------------",
        "model         PSNR [dB]           SSIM             NMSE     PSNR [dB]           SSIM             NMSE",
        "-" * 101,
        "G          39.00 ± 1.41  0.964 ± 0.000  0.0123 ± 0.0000   9.46 ± 0.00  0.964 ± 0.000  0.0123 ± 0.0000",
        "unlearned             –              –                –  31.00 ± 0.00  0.964 ± 0.000  0.0123 ± 0.0000",
        "",
        "BTA = retain test; KTA = forget test; mean ± sample standard deviation over n volumes",
    ]


def test_markdown_table():
    assert format_table(summarise(small()), markdown=True).splitlines() == [
        "| model | BTA (n = 2) PSNR [dB] | BTA (n = 2) SSIM | BTA (n = 2) NMSE "
        "| KTA (n = 1) PSNR [dB] | KTA (n = 1) SSIM | KTA (n = 1) NMSE |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| G | 39.00 ± 1.41 | 0.964 ± 0.000 | 0.0123 ± 0.0000 | 9.46 ± 0.00 | 0.964 ± 0.000 | 0.0123 ± 0.0000 |",
        "| unlearned | – | – | – | 31.00 ± 0.00 | 0.964 ± 0.000 | 0.0123 ± 0.0000 |",
        "",
        "BTA = retain test; KTA = forget test; mean ± sample standard deviation over n volumes",
    ]


def test_rows_and_cohorts_have_a_fixed_order_and_columns_align():
    records = [*results(), *({**r, "cohort": "holdout"} for r in results() if r["cohort"] == "UA")]
    lines = format_table(summarise(records)).splitlines()
    assert [line.split()[0] for line in lines[3:8]] == ["zero-filled", "G", "oracle", "FT", "NL-FT"]
    positions = [lines[0].index(cohort) for cohort in ("BTA", "KTA", "UA", "holdout")]
    assert positions == sorted(positions)
    assert len({len(line) for line in lines[:8]}) == 1
    assert "BTA = retain test; KTA = forget test; UA = forget training data" in lines[-1]


def test_a_markdown_cell_keeps_a_bar_in_a_name():
    records = [{**r, "model": "a|b"} for r in small()[:2]]
    assert r"| a\|b | 39.00" in format_table(summarise(records), markdown=True)


def test_an_unknown_cohort_alone_has_no_meaning_in_the_legend():
    records = [{**r, "cohort": "site C"} for r in small()[:2]]
    assert format_table(summarise(records)).splitlines()[-1].startswith("mean ±")
    assert ABSENT not in format_table(summarise(records))


def test_csv_holds_every_record_at_full_precision(tmp_path):
    records = results()
    write_csv([{**r, "note": "not a column"} for r in records], tmp_path / "volumes.csv")
    with (tmp_path / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(FIELDS)
    assert len(rows) == len(records)
    read = {(r["model"], r["cohort"], r["volume"]): (float(r["psnr"]), float(r["nmse"]), r["slices"]) for r in rows}
    for r in records:
        assert read[r["model"], r["cohort"], r["volume"]] == (r["psnr"], r["nmse"], str(r["slices"]))


def test_a_failed_csv_leaves_the_old_one_and_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "volumes.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="psnr of G / BTA / a is nan"):
        write_csv([{**small()[0], "psnr": float("nan")}], path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_csv(small(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["volumes.csv"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["psnr", "ssim", "nmse"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_fail(name, value):
    with pytest.raises(ValueError, match=f"{name} of G / BTA / a is {value}"):
        summarise([{**small()[0], name: value}])


def test_contradictory_records_fail():
    with pytest.raises(ValueError, match="no record"):
        summarise([])
    with pytest.raises(ValueError, match="no results"):
        format_table({})
    with pytest.raises(ValueError, match="lacks anatomy, ssim"):
        summarise([{k: v for k, v in small()[0].items() if k not in ("ssim", "anatomy")}])
    with pytest.raises(ValueError, match="G / BTA / a was given twice"):
        summarise([small()[0], *small()])
    other = {**small()[0], "model": "oracle"}
    with pytest.raises(ValueError, match="oracle and G were evaluated on different BTA volumes: b"):
        summarise([*small(), other])
