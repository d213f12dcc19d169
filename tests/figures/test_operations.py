"""Exact match by number of operations: a point for each m, the interval of the mean, chance, and what training lacked."""

import numpy as np
import pytest

from playground.figures.aggregate import mean_and_band
from playground.figures.operations import ByOperations, operations_figure
from playground.figures.style import color_of, dash_of
from tests.figures.shown import STYLES, dressed, texts

CHANCE = {m: 0.2 / m for m in range(1, 7)}


def result(values: list[float], *, n_future: int = 1, seed: int = 0, **changes) -> ByOperations:
    parts = {"run": f"run-n{n_future}-s{seed}", "label": f"n = {n_future}", "control": "layers"} | changes
    table = dict(enumerate(values, start=1))
    return ByOperations(n_future=n_future, seed=seed, **({"values": table} | parts))


def test_one_point_for_each_m():
    figure = operations_figure([result([1.0, 0.8, 0.5])], {})
    (line,) = figure.data
    assert (list(line.x), list(line.y)) == ([1, 2, 3], [1.0, 0.8, 0.5])
    assert line.mode == "lines+markers"
    assert list(line.error_y.array) == list(line.error_y.arrayminus) == [0, 0, 0]
    assert figure.layout.xaxis.dtick == 1
    assert "n = 1: 1 seed</b> (0)" in line.hovertemplate and "no interval" in line.hovertemplate


def test_seeds_become_a_mean_with_its_interval():
    table = [[1.0, 0.8], [0.9, 0.4], [0.8, 0.0]]
    (line,) = operations_figure([result(values, seed=seed) for seed, values in enumerate(table)], {}).data
    mean, low, high = mean_and_band(np.array(table))
    np.testing.assert_allclose(line.y, np.mean(table, axis=0))
    np.testing.assert_allclose(line.error_y.array, high - mean)
    np.testing.assert_allclose(line.error_y.arrayminus, mean - low)
    assert not line.error_y.symmetric
    assert "n = 1: mean of 3 seeds</b> (0, 1, 2)" in line.hovertemplate
    assert "95% t interval of the mean: %{customdata[0]" in line.hovertemplate
    np.testing.assert_allclose(np.asarray(line.customdata), np.stack([low, high], axis=1))


def test_seeds_with_different_m_are_averaged_where_all_have_one():
    runs = [result([1.0, 0.8, 0.6]), result([0.5, 0.4], seed=1)]
    (line,) = operations_figure(runs, {}).data
    assert list(line.x) == [1, 2]
    assert list(line.y) == pytest.approx([0.75, 0.6])


def test_groups_have_their_colour_dash_and_legend_entry():
    runs = [
        result([1.0]),
        result([0.9], n_future=2, control="trunk"),
        result([0.8], n_future=2, seed=1, control="trunk"),
    ]
    lines = operations_figure(runs, {}).data
    assert [(line.name, line.line.color, line.line.dash) for line in lines] == [
        ("n = 1 (1 seed)", color_of(1), "solid"),
        ("n = 2 (2 seeds)", color_of(2), dash_of("trunk")),
    ]
    assert all(line.showlegend is not False for line in lines)


def test_chance_is_drawn_for_each_m():
    chance = operations_figure([result([1.0])], CHANCE).data[-1]
    assert chance.name == "chance"
    assert dict(zip(chance.x, chance.y, strict=True)) == CHANCE
    assert chance.line.dash == "dot"


@pytest.mark.parametrize(("trained_up_to", "shaded"), [(3, True), (6, False), (None, False)])
def test_more_operations_than_in_training_are_shaded(trained_up_to, shaded):
    figure = operations_figure([result([0.9] * 6)], CHANCE, trained_up_to=trained_up_to)
    edges = [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert edges == ([(3.5, 6.5)] if shaded else [])
    assert texts(figure) == (["more than in training"] if shaded else [])


def test_the_axes_name_quantity_and_unit():
    layout = operations_figure([result([1.0])], {}).layout
    assert layout.xaxis.title.text == "operations in the expression, m"
    assert layout.yaxis.title.text == "exact match (share of expressions)"
    low, high = layout.yaxis.range
    assert low < 0 and high > 1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("runs", [[], [result([0.9] * 6), result([], seed=1)]], ids=["nothing", "nothing in common"])
def test_valid_in_both_styles(runs, style):
    dressed(operations_figure(runs, CHANCE, trained_up_to=3, style=style), style)
