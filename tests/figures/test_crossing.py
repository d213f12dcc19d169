"""When runs cross: dots for those that did, open arrows for those that did not, a bar at the median."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.figures.crossing import Crossing, crossing_figure, median_bounds, median_tokens
from playground.figures.style import color_of
from tests.figures.shown import STYLES, dressed


def crossed(tokens: int | None, *, n_future: int = 1, seed: int = 0, seen: int = 9000, **changes) -> Crossing:
    parts = {"run": f"run-n{n_future}-s{seed}", "label": f"n = {n_future}", "tokens": tokens, "seen": seen}
    return Crossing(n_future=n_future, seed=seed, **(parts | changes))


def traces(figure, symbol: str) -> list:
    return [trace for trace in figure.data if trace.marker.symbol == symbol]


@pytest.mark.parametrize(
    ("tokens", "median"),
    [
        ([], None),
        ([500], 500),
        ([None], None),
        ([300, 100, 200], 200),
        ([100, 200], 150),
        ([100, None, 300], 300),
        ([100, None], None),
        ([None, None, 100], None),
        ([100, 200, None, None], None),
        ([100, 200, 400, None], 300),
    ],
    ids=str,
)
def test_median(tokens, median):
    assert median_tokens([crossed(value, seed=seed) for seed, value in enumerate(tokens)]) == median


@pytest.mark.parametrize(
    ("runs", "bounds"),
    [
        ([(4, 13), (None, 1), (None, 1)], (1, None)),
        ([(4, 13), (6, 13), (None, 1)], (4, 6)),
        ([(4, 13), (6, 13), (None, 13)], (6, 6)),
        ([(None, 5), (None, 7)], (6, None)),
        ([(2, 9), (3, 9), (4, 9), (None, 3)], (3, 3.5)),
        ([], (0, None)),
    ],
)
def test_each_run_is_censored_at_its_own_tokens(runs, bounds):
    items = [crossed(tokens, seed=seed, seen=seen) for seed, (tokens, seen) in enumerate(runs)]
    assert median_bounds(items) == bounds
    assert median_tokens(items) == (bounds[0] if bounds[0] == bounds[1] else None)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=9))
def test_the_median_of_runs_that_all_crossed_is_the_plain_median(tokens):
    assert median_tokens([crossed(value) for value in tokens]) == pytest.approx(statistics.median(tokens))


@given(st.lists(st.integers(1, 1000) | st.none(), min_size=1, max_size=9))
def test_a_run_that_crosses_later_never_moves_the_median_forward(tokens):
    before = median_tokens([crossed(value) for value in tokens])
    after = median_tokens([crossed(None), *[crossed(value) for value in tokens[1:]]])
    assert after is None or (before is not None and after >= before)


def test_dots_stand_where_runs_crossed_and_open_arrows_where_training_ended():
    figure = crossing_figure([crossed(4000), crossed(None, seed=1, seen=7000), crossed(5000, seed=2)])
    (dots,), (arrows,) = traces(figure, "circle"), traces(figure, "triangle-right-open")
    assert (list(dots.x), list(dots.y)) == ([4000, 5000], ["n = 1", "n = 1"])
    assert (list(arrows.x), list(arrows.y)) == ([7000], ["n = 1"])
    assert "crossed after" in dots.hovertemplate
    assert "not reached within" in arrows.hovertemplate
    assert [list(row) for row in dots.customdata] == [[0, "run-n1-s0"], [2, "run-n1-s2"]]
    assert [list(row) for row in arrows.customdata] == [[1, "run-n1-s1"]]


def test_a_bar_stands_at_the_median_where_there_is_one():
    items = [crossed(4000), crossed(None, seed=1), crossed(5000, seed=2)]
    (bar,) = traces(crossing_figure(items), "line-ns")
    assert (list(bar.x), list(bar.y)) == ([5000], ["n = 1"])
    assert not traces(crossing_figure([crossed(None), crossed(None, seed=1)]), "line-ns")
    assert not traces(crossing_figure([crossed(4000)]), "line-ns")


def test_groups_have_their_colour_and_stand_in_order_from_the_top():
    items = [crossed(4000), crossed(3000, n_future=2), crossed(None, n_future=2, variant=1, label="n = 2, lr 0.1")]
    figure = crossing_figure(items)
    colors = {trace.y[0]: trace.marker.color for trace in figure.data if len(trace.y)}
    assert colors == {"n = 1": color_of(1), "n = 2": color_of(2), "n = 2, lr 0.1": color_of(2, 1)}
    assert list(figure.layout.yaxis.categoryarray) == ["n = 2, lr 0.1", "n = 2", "n = 1"]
    assert not figure.layout.showlegend


def test_the_axis_says_what_is_counted_and_starts_at_zero():
    axis = crossing_figure([crossed(4000)]).layout.xaxis
    assert axis.title.text == "training tokens to half way from chance to ceiling"
    assert axis.rangemode == "tozero"


def test_more_groups_make_a_taller_figure():
    heights = [crossing_figure([crossed(1, label=str(i)) for i in range(count)]).layout.height for count in (1, 2, 5)]
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("items", [[], [crossed(4000), crossed(None, seed=1)]], ids=["nothing", "two runs"])
def test_valid_in_both_styles(style, items):
    dressed(crossing_figure(items, style=style), style)
