from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from scripts.evaluation import figures
from scripts.evaluation.figures import Example, unlearning_panels


def example(seed=0, shape=(24, 20), models=("G", "unlearned", "oracle"), peak=1.5):
    rng = np.random.default_rng(seed)
    target = rng.uniform(0, 1, shape).astype(np.float32)
    images = {m: (target + 0.1 * (i + 1) * rng.standard_normal(shape)).astype(np.float32) for i, m in enumerate(models)}
    return Example(title=f"scan {seed}", target=target, max_value=peak, images=images)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws a figure and hands it back instead of writing it."""
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure))

    def draw(*examples):
        unlearning_panels(examples, tmp_path / "x.png")
        kept[-1].canvas.draw()
        return kept[-1]

    return draw


def panels(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


def test_shows_target_images_and_errors_on_common_scales(drawn):
    scan = example()
    shown = panels(drawn(scan))
    target, pairs = shown[0], list(zip(shown[1::2], shown[2::2], strict=True))
    np.testing.assert_array_equal(target.get_array(), scan.target)
    assert len(pairs) == 3
    for (image, error), expected in zip(pairs, scan.images.values(), strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
        np.testing.assert_allclose(error.get_array(), np.abs(expected - scan.target) / 1.5, rtol=1e-6)
        assert image.get_clim() == target.get_clim() == (0, scan.target.max())
    assert len({error.get_clim() for _, error in pairs}) == 1
    assert pairs[0][1].get_clim()[0] == 0


def test_captions_give_the_metrics_of_the_slice(drawn):
    scan = example()
    target, image = (v.astype(np.float64) for v in (scan.target, scan.images["G"]))
    expected = 10 * np.log10(1.5**2 / np.mean((target - image) ** 2))
    titles = [axes.get_title() for axes in drawn(scan).axes]
    assert any(title.startswith(f"original\n{expected:.1f} dB, SSIM 0.") for title in titles)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_no_text_overlaps_or_leaves_the_figure_and_none_is_small(drawn, count):
    names = [f"GA-l1-FT no. {i}" for i in range(count)]
    figure = drawn(example(0, models=names), example(1, shape=(30, 20), models=names))
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    bars = [bar.yaxis for axes in figure.axes for bar in axes.child_axes]
    names = [text for band in figure.subfigs for text in band.texts]
    assert (len(titles), len(bars), len(names)) == (2 * (1 + count), 2, 2)
    texts = [*names, *titles, *(t for bar in bars for t in (bar.label, *bar.get_ticklabels()))]
    assert min(t.get_fontsize() for t in texts) >= 8
    renderer = figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in (*names, *titles)]
    boxes += [bar.get_tightbbox(renderer) for bar in bars]
    boxes += [image.axes.get_window_extent(renderer) for image in panels(figure)]
    for i, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_equal_input_gives_equal_bytes_and_one_file(tmp_path, suffix):
    for name in ("a", "b"):
        unlearning_panels([example()], tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_picture_is_as_wide_as_a_readme(tmp_path):
    unlearning_panels([example(models=list("abcd"))], tmp_path / "x.png")
    picture = imread(tmp_path / "x.png")
    assert picture.shape[1] == 1350
    assert picture.std() > 0.1


def test_an_exact_image_can_be_drawn(tmp_path):
    scan = example()
    unlearning_panels([replace(scan, images={"exact": scan.target})], tmp_path / "x.png")


def test_bad_input_fails_before_a_file_is_made(tmp_path):
    scan = example()
    with pytest.raises(ValueError, match=r"x.jpg: the suffix must be one of .png, .svg, .pdf"):
        unlearning_panels([scan], tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="same number of models"):
        unlearning_panels([], tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"same number of models.*\[1, 3\]"):
        unlearning_panels([scan, example(models=["G"])], tmp_path / "x.png")
    with pytest.raises(ValueError, match="scan 0, image of G: the prediction has NaN"):
        unlearning_panels([replace(scan, images={"G": np.full((24, 20), np.nan)})], tmp_path / "x.png")
    with pytest.raises(ValueError, match="scan 0, image of G: target and prediction must both be"):
        unlearning_panels([replace(scan, images={"G": scan.target[:-1]})], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
