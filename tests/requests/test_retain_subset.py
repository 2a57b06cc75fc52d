"""The retain subset: by volume, stratified, seeded, never outside the draw."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine

from scripts.data.slices import SliceDataset
from scripts.data.volumes import Volume
from scripts.requests.retain_subset import RetainSubsetSampler, draw_retain_subset


def volume(index: int, contrast: str, slices: int = 3) -> Volume:
    fields = {"anatomy": "brain", "acquisition": contrast}
    return Volume(f"{index}.h5", f"{index}.h5", (slices, 1, 32, 32), (32, 32), None, "matrix", 1.0, fields)


VOLUMES = [volume(i, "T2" if i < 60 else "FLAIR" if i < 90 else "T1") for i in range(100)]


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_share_and_strata(fraction):
    subset = draw_retain_subset(VOLUMES, fraction, seed=0)
    assert len(subset) == round(100 * fraction)
    assert len({v.name for v in subset}) == len(subset)
    counts = Counter(v.fields["acquisition"] for v in subset)
    for contrast, share in (("T2", 60), ("FLAIR", 30), ("T1", 10)):
        assert abs(counts[contrast] - share * fraction) < 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.floats(0.001, 1), st.integers(0, 1000), st.integers(1, 5))
def test_any_draw(count, fraction, seed, strata):
    volumes = [volume(i, f"contrast {i % strata}") for i in range(count)]
    subset = draw_retain_subset(volumes, fraction, seed)
    assert len(subset) == max(1, round(fraction * count))
    assert subset == draw_retain_subset(volumes, fraction, seed)
    assert [volumes.index(v) for v in subset] == sorted(volumes.index(v) for v in subset)


def test_seeds_differ():
    assert draw_retain_subset(VOLUMES, 0.1, 0) != draw_retain_subset(VOLUMES, 0.1, 1)


def test_no_volumes():
    with pytest.raises(ValueError, match="expected at least one retain volume"):
        draw_retain_subset([], 0.5, 0)


def test_sampler_yields_each_slice_of_the_subset_once_a_pass_in_new_orders():
    sampler = RetainSubsetSampler(SliceDataset(VOLUMES), fraction=0.1, seed=4)
    names = {v.name for v in sampler.subset}
    expected = [i for i, (v, _) in enumerate(SliceDataset(VOLUMES).slices) if v.name in names]
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == expected
    assert first != second
    assert len(sampler) == 30


def test_epochs_of_the_trainer_fix_the_order():
    def orders(epochs: int) -> list[list[int]]:
        sampler = RetainSubsetSampler(SliceDataset(VOLUMES), fraction=0.05, seed=1)
        drawn = []
        engine = Engine(lambda engine, batch: drawn.append(list(sampler)))
        sampler.attach(engine)
        engine.run([0], max_epochs=epochs)
        return drawn

    assert orders(3)[:2] == orders(2)
    assert orders(2)[0] != orders(2)[1]
