"""How well each offset can be read behind every layer: lines, references, and from which layer on."""

from typing import Any

import numpy as np
import pytest

from playground.figures.lens_curves import LensCurve, lens_curves_figure, readable_from
from playground.figures.style import color_of
from playground.results import Lens
from tests.figures.shown import STYLES, dressed, texts


def lens(depth: int = 2, offsets: int = 2, seed: int = 0) -> Lens:
    random = np.random.default_rng(seed)
    shape = (depth + 1, offsets)
    return Lens(
        sites=("embed", *(f"blocks.{layer}" for layer in range(depth))),
        loss=3 * random.random(shape),
        accuracy=random.random(shape),
        direct_loss=3 * random.random(shape),
        direct_accuracy=random.random(shape),
    )


def curve(title: str = "n = 2", n_future: int = 2, **changes: Any) -> LensCurve:
    options = {"depth": changes.pop("depth", 2), "offsets": n_future}
    return LensCurve(title=title, n_future=n_future, lens=changes.pop("lens", None) or lens(**options), **changes)


def lines(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_a_panel_for_each_quantity_and_offset() -> None:
    shown = curve()
    figure = lens_curves_figure([shown])
    through, direct = lines(figure, "n = 2, through its future head"), lines(figure, "n = 2, directly")
    assert [trace.xaxis or "x" for trace in through] == ["x", "x2", "x3", "x4"]
    expected = [shown.lens.accuracy[:, 0], shown.lens.accuracy[:, 1], shown.lens.loss[:, 0], shown.lens.loss[:, 1]]
    for drawn, values in zip(through, expected, strict=True):
        np.testing.assert_array_equal(drawn.y, values)
        assert list(drawn.x) == [0, 1, 2]
    direct_values = [
        shown.lens.direct_accuracy[:, 0],
        shown.lens.direct_accuracy[:, 1],
        shown.lens.direct_loss[:, 0],
        shown.lens.direct_loss[:, 1],
    ]
    for drawn, values, own in zip(direct, direct_values, expected, strict=True):
        np.testing.assert_array_equal(drawn.y, [*values, own[-1]])
        assert list(drawn.x) == [0, 1, 2, 3]
    assert texts(figure) == ["offset 1", "offset 2"] * 2


def test_a_shallow_model_ends_at_its_last_layer_and_its_future_head_stands_below_the_others() -> None:
    deep, shallow = curve("deep", 1, depth=3), curve("shallow", 2, depth=1)
    figure = lens_curves_figure([deep, shallow])
    assert list(figure.layout.xaxis.ticktext) == ["E", "T0", "T1", "T2", "F"]
    assert list(lines(figure, "shallow, through its future head")[0].x) == [0, 1]
    assert list(lines(figure, "shallow, directly")[0].x) == [0, 1, 4]
    assert list(lines(figure, "deep, directly")[0].x) == [0, 1, 2, 3, 4]
    assert len(lines(figure, "deep, directly")) == 2, "n = 1 has no line at offset 2"


def test_colour_says_the_model_and_dash_the_way() -> None:
    figure = lens_curves_figure([curve("a", 2), curve("b", 2, variant=1)])
    colors = {trace.name: (trace.line.color, trace.line.dash) for trace in figure.data}
    assert colors["a, through its future head"] == (color_of(2), "solid")
    assert colors["b, directly"] == (color_of(2, 1), "dot")


def test_each_line_is_named_once() -> None:
    figure = lens_curves_figure([curve()], chance={1: 0.1, 2: 0.1}, uniform_loss=4.0)
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(named) == sorted(set(named)) and len(named) == 4


def test_references_stand_in_their_panels_with_their_values() -> None:
    figure = lens_curves_figure([curve()], chance={1: 0.25}, uniform_loss=4.16)
    (chance,) = lines(figure, "chance, accuracy 0.25")
    assert list(chance.y) == [0.25, 0.25] and (chance.xaxis or "x") == "x"
    assert [trace.xaxis for trace in lines(figure, "uniform guess, loss 4.16")] == ["x3", "x4"]
    assert figure.layout.yaxis3.range[1] > 4.16


def test_an_offset_without_scored_tokens_says_so() -> None:
    values = lens()
    values.accuracy[:, 1] = values.direct_accuracy[:, 1] = np.nan
    figure = lens_curves_figure([curve(lens=values)])
    assert texts(figure).count("nothing<br>is scored<br>here") == 1


def test_losses_share_their_range_and_accuracies_go_from_0_to_1() -> None:
    layout = lens_curves_figure([curve()]).layout
    assert layout.yaxis.range == layout.yaxis2.range and layout.yaxis.range[0] < 0 and layout.yaxis.range[1] > 1
    assert layout.yaxis3.range == layout.yaxis4.range
    assert layout.yaxis3.range[1] > max(curve().lens.loss.max(), curve().lens.direct_loss.max())


def test_many_offsets_take_several_rows() -> None:
    figure = lens_curves_figure([curve("n = 8", 8)])
    domains = [figure.layout[f"yaxis{index or ''}"].domain for index in (0, 5, 9, 13)]
    assert all(above[0] > below[1] for above, below in zip(domains, domains[1:], strict=False))
    assert figure.layout.height > lens_curves_figure([curve("n = 4", 4)]).layout.height


@pytest.mark.parametrize(
    ("accuracy", "first"),
    [
        ([0.0, 0.5, 1.0], 2),
        ([0.0, 0.9, 1.0], 1),
        ([0.95, 0.9, 1.0], 0),
        ([0.95, 0.2, 1.0], 2),
        ([1.0], 0),
        ([0.0, 0.0], 0),
        ([np.nan, np.nan], None),
    ],
)
def test_readable_from(accuracy: list[float], first: int | None) -> None:
    assert readable_from(np.array(accuracy)) == first


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("n_futures", [[], [1], [1, 2], [4, 8]])
def test_valid_in_both_styles(n_futures: list[int], style: Any) -> None:
    curves = [curve(f"n = {n}", n) for n in n_futures]
    dressed(lens_curves_figure(curves, chance={1: 0.1}, uniform_loss=4.0, style=style), style)


def test_a_trunk_of_no_layers() -> None:
    figure = dressed(lens_curves_figure([curve(depth=0)]))
    assert list(figure.layout.xaxis.ticktext) == ["E", "F"]
