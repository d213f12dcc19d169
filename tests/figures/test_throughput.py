"""Throughput along training: from zero up, a line a run."""

import pytest

from playground.figures.throughput import throughput_figure
from tests.figures.shown import STYLES, curve, dressed

RATES = [1500.0, 20_000.0, 18_000.0]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("curves", [[], [curve(RATES)], [curve(RATES, seed=seed) for seed in (0, 1)]])
def test_valid_in_both_styles(curves, style):
    dressed(throughput_figure(curves, style=style), style)


def test_a_run_is_drawn_from_zero_up():
    figure = throughput_figure([curve(RATES)], height=240)
    assert list(figure.data[0].y) == RATES
    assert figure.layout.yaxis.title.text == "tokens/s"
    assert tuple(figure.layout.yaxis.range) == (0.0, pytest.approx(22_000))
    assert "tokens/s %{y" in figure.data[0].hovertemplate


def test_an_interval_without_a_rate_is_a_gap():
    figure = throughput_figure([curve([1.0, float("nan"), 3.0])])
    assert tuple(figure.layout.yaxis.range) == (0.0, pytest.approx(3.3))
