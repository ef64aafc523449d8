"""Pictures of attributions hold their numbers, and the examples that draw them run."""

from pathlib import Path

import pytest
import torch
from helpers.compare import same_number

from lincoln_fn import plots

matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from matplotlib.figure import Figure  # noqa: E402  # only if there is matplotlib

EXAMPLES = Path(__file__).parents[2] / "examples"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_relevance_is_summed_over_channels_on_a_scale_around_zero(tmp_path):
    values = torch.tensor([[[1.0, 0.0, -3.0]], [[0.5, 0.0, 1.0]]])
    axes = plots.relevance(values)
    (image,) = axes.images
    assert same_number(image.get_array(), torch.tensor([[1.5, 0, -2]]), dtype=torch.float32)
    low, high = image.get_clim()
    assert -low == high
    assert same_number(high, 2, error=0.01)
    red, _, blue, _ = image.cmap(image.norm(high))
    assert red > blue
    axes.figure.savefig(tmp_path / "picture.png")


def test_a_coarse_map_covers_the_image_below_it(tmp_path):
    given = Figure().subplots()
    picture = torch.arange(12.0).view(1, 4, 3)
    assert plots.relevance(torch.eye(2), image=picture, axes=given) is given
    below, above = given.images
    assert below.get_array().tolist() == picture[0].tolist()
    assert above.get_extent() == [-0.5, 2.5, 3.5, -0.5]
    assert same_number(above.get_alpha().ravel().tolist(), [0.9, 0.15, 0.15, 0.9], error=1e-7)
    given.figure.savefig(tmp_path / "picture.png")


def test_effects_are_rows_of_layers_and_columns_of_positions(tmp_path):
    rows = {"0 embedding": torch.tensor([0.5, -1.0]), "1 residual": torch.tensor([0.0, 2.0])}
    axes = plots.effects(rows, columns=["a", "␣"], label="change")
    assert axes.images[0].get_array().tolist() == [[0.5, -1], [0, 2]]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(rows)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "␣"]
    assert axes.figure.axes[1].get_ylabel() == "change"
    axes.figure.savefig(tmp_path / "picture.png")


def test_zeros_are_drawn(tmp_path):
    for axes in (plots.relevance(torch.zeros(2, 3)), plots.effects({"0": torch.zeros(3)})):
        assert axes.images[0].get_clim() == (-1, 1)
        axes.figure.savefig(tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.relevance(torch.zeros(3)), r"relevance: expected values of shape .*\(3,\)"),
        (
            lambda: plots.relevance(torch.zeros(2, 2), image=torch.zeros(1, 1, 2, 2)),
            "relevance: expected image of shape",
        ),
        (lambda: plots.effects({}), r"effects: expected a tensor of one axis .* got shapes \[\]"),
        (
            lambda: plots.effects({"0": torch.zeros(2), "1": torch.zeros(3)}),
            r"got shapes \[\(2,\), \(3,\)\]",
        ),
        (
            lambda: plots.effects({"0": torch.zeros(2)}, columns=["a"]),
            "effects: expected 2 columns, got 1",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


# Examples
