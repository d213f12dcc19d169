"""Before and after an ablation, and each part alone."""

import numpy as np
import pytest

from playground.figures.ablation import Limits, alone_figure, before_after_figure, component_title
from playground.figures.head_colors import offset_color
from playground.results import AblationEffects
from tests.figures.shown import STYLES, dressed, texts


def effects(components=("blocks.0.1 + blocks.0.2",), n_offsets: int = 2, **changes) -> AblationEffects:
    """Two batches; every component costs 0.5 and 0.3 of the accuracy, and 1.0 and 3.0 of the loss."""
    shape = (len(components), 2, n_offsets)
    clean_accuracy, clean_loss = np.full((2, n_offsets), 0.9), np.full((2, n_offsets), 1.5)
    values = {
        "components": components,
        "method": "mean",
        "patterns": "free",
        "clean_loss": clean_loss,
        "clean_accuracy": clean_accuracy,
        "loss": np.broadcast_to(clean_loss + [[1.0], [3.0]], shape),
        "accuracy": np.broadcast_to(clean_accuracy - [[0.5], [0.3]], shape),
    }
    return AblationEffects(**(values | changes))


def traces(figure, axis: str, symbol: str):
    return [
        trace
        for trace in figure.data
        if "markers" in trace.mode and trace.marker.symbol == symbol and (trace.xaxis or "x") == axis
    ]


@pytest.mark.parametrize(("axis", "before", "after", "spread"), [("x", 0.9, 0.5, 0.1), ("x2", 1.5, 3.5, 1.0)])
def test_before_and_after_with_the_spread_over_batches(axis, before, after, spread):
    figure = before_after_figure(effects())
    (whole,), (without,) = traces(figure, axis, "circle-open"), traces(figure, axis, "circle")
    np.testing.assert_allclose(whole.x, [before] * 2)
    np.testing.assert_allclose(without.x, [after] * 2)
    np.testing.assert_allclose(without.error_x.array, [spread] * 2)


def test_each_row_says_its_numbers():
    said = texts(before_after_figure(effects()))
    assert said.count("0.900 → 0.500 (−0.400 ± 0.100)") == 2
    assert said.count("1.500 → 3.500 (+2.000 ± 1.000)") == 2


def test_offsets_have_rows_and_the_colour_of_their_future_head():
    figure = before_after_figure(effects(n_offsets=3))
    assert list(figure.layout.yaxis.ticktext) == ["offset 1", "offset 2", "offset 3"]
    (without,) = traces(figure, "x", "circle")
    assert list(without.marker.color) == [offset_color(offset) for offset in (1, 2, 3)]
    assert figure.layout.height > before_after_figure(effects(n_offsets=1)).layout.height


def test_chance_and_ceiling_stand_beside_the_accuracy():
    figure = before_after_figure(effects(), limits=Limits(chance=0.06))
    assert {"chance 0.06", "ceiling 1"} <= set(texts(figure))
    assert [(shape.x0, round(shape.y0)) for shape in figure.layout.shapes] == [(0.06, 0), (0.06, 1), (1.0, 0), (1.0, 1)]
    assert "chance" not in "".join(texts(before_after_figure(effects())))


def test_controls_are_ticks_in_the_row_of_their_offset():
    draws = effects(("blocks.0.0 + blocks.0.3", "blocks.1.0 + blocks.1.1"))
    figure = before_after_figure(effects(), controls={2: draws})
    (ticks,) = traces(figure, "x", "line-ns-open")
    np.testing.assert_allclose(ticks.x, [0.5, 0.5])
    assert all(1 < row < 1.5 for row in ticks.y)
    assert ticks.hovertext[0] == "control: without T0.0, T0.3<br>offset 2, accuracy 0.5000"
    assert "control: as many random other heads" in "".join(texts(figure))
    assert "control" not in "".join(texts(before_after_figure(effects())))


def test_a_batch_without_scored_tokens_is_left_out():
    clean, accuracy = np.array([[0.9], [np.nan]]), np.array([[[0.5], [np.nan]]])
    figure = before_after_figure(effects(n_offsets=1, clean_accuracy=clean, accuracy=accuracy))
    assert "0.900 → 0.500 (−0.400 ± 0.000)" in texts(figure)


def test_where_nothing_is_scored_it_says_so():
    nothing = np.full((2, 1), np.nan)
    figure = before_after_figure(effects(n_offsets=1, clean_accuracy=nothing, accuracy=nothing[None]))
    assert "no token of these rows is scored at this offset" in texts(figure)


COMPONENTS = ("blocks.0.1", "blocks.0.attn", "blocks.0.mlp", "future_heads.1.2")


def test_a_bar_for_each_part_alone():
    figure = alone_figure(effects(COMPONENTS), 2)
    accuracy, loss = figure.data
    np.testing.assert_allclose(accuracy.x, [-0.4] * 4)
    np.testing.assert_allclose(loss.x, [2.0] * 4)
    np.testing.assert_allclose(accuracy.error_x.array, [0.1] * 4)
    assert list(figure.layout.yaxis.ticktext) == ["T0.1", "T0 attention", "T0 MLP", "F2.2"]
    assert figure.layout.yaxis2.matches == "y" and figure.layout.yaxis2.showticklabels is False
    assert "whole model 0.9" in figure.layout.xaxis.title.text and "1.5" in figure.layout.xaxis2.title.text


@pytest.mark.parametrize("offset", [0, 3])
def test_an_offset_that_was_not_measured_is_refused(offset):
    with pytest.raises(ValueError, match=f"offset is {offset}, and 1 to 2 were measured"):
        alone_figure(effects(COMPONENTS), offset)


@pytest.mark.parametrize(
    ("name", "title"),
    [("blocks.0.1", "T0.1"), ("blocks.10.attn", "T10 attention"), ("future_heads.0.mlp", "F1 MLP"), ("blocks.1", "T1")],
)
def test_titles_of_parts(name, title):
    assert component_title(name) == title


@pytest.mark.parametrize("style", STYLES)
def test_valid_in_both_styles(style):
    dressed(before_after_figure(effects(), controls={1: effects()}, limits=Limits(chance=0.1), style=style), style)
    dressed(alone_figure(effects(COMPONENTS), style=style), style)
