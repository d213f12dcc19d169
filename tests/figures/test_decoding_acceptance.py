"""Acceptance by offset: bars with their intervals, diamonds, the two levels beside which they stand."""

import numpy as np
import pytest

from playground.figures.decoding_acceptance import RunAcceptance, acceptance_figure, interval
from playground.figures.head_colors import offset_color
from playground.figures.style import see_through
from playground.results import Acceptance, MarginalAcceptance
from tests.figures.shown import STYLES, dressed, texts


def shown(**changes) -> RunAcceptance:
    values = {
        "title": "n = 4, layers, seed 0, step 300",
        "drafts": "K = 4",
        "d_vocab": 50,
        "acceptance": Acceptance(offsets=(2, 3, 4), accepted=np.array([8, 4, 0]), tried=np.array([10, 8, 4])),
        "marginal": MarginalAcceptance(
            offsets=(2, 3, 4), rate=np.array([0.7, 0.6, 0.5]), conditional=np.array([0.7, 0.8, 0.9]), count=20
        ),
    }
    return RunAcceptance(**(values | changes))


def traces(figure, kind: str) -> list:
    return [trace for trace in figure.data if trace.name.startswith(kind) and trace.x[0] is not None]


@pytest.mark.parametrize("style", STYLES)
def test_bars_are_conditional_and_diamonds_marginal(style):
    figure = dressed(acceptance_figure([shown()], style=style), style)
    (bars,), (marks,) = traces(figure, "conditional"), traces(figure, "marginal")
    assert list(bars.x) == [2, 3, 4] and list(bars.y) == [0.8, 0.5, 0.0]
    assert list(bars.marker.color) == [see_through(offset_color(offset), 0.75) for offset in (2, 3, 4)]
    assert [list(row[:2]) for row in bars.customdata] == [[8, 10], [4, 8], [0, 4]]
    assert list(marks.x) == [2, 3, 4] and list(marks.y) == [0.7, 0.6, 0.5]
    assert marks.marker.symbol == "diamond" and set(marks.customdata) == {20}
    assert "of %{customdata[1]:,.0f} tried" in bars.hovertemplate and "positions" in marks.hovertemplate


def test_whiskers_are_the_intervals():
    (bars,) = traces(acceptance_figure([shown()]), "conditional")
    for index, (accepted, tried) in enumerate(((8, 10), (4, 8), (0, 4))):
        low, high = interval(accepted, tried)
        np.testing.assert_allclose(bars.y[index] + bars.error_y.array[index], high)
        np.testing.assert_allclose(bars.y[index] - bars.error_y.arrayminus[index], low, atol=1e-12)


@pytest.mark.parametrize(
    ("accepted", "tried", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634)]
)
def test_intervals_are_those_of_the_textbook(accepted, tried, low, high):
    np.testing.assert_allclose(interval(accepted, tried), (low, high), atol=1e-4)


def test_nothing_tried_has_no_bar():
    assert all(np.isnan(interval(0, 0)))
    found = Acceptance(offsets=(2, 3), accepted=np.array([0, 0]), tried=np.array([5, 0]))
    (bars,) = traces(dressed(acceptance_figure([shown(acceptance=found)])), "conditional")
    assert bars.y[0] == 0 and np.isnan(bars.y[1])


def test_the_ideal_and_a_uniform_guess_are_named():
    figure = acceptance_figure([shown()])
    assert [list(trace.y) for trace in traces(figure, "ideal: 1")] == [[1.0, 1.0]]
    assert [list(trace.y) for trace in traces(figure, "uniform guess: 1/50")] == [[0.02, 0.02]]


def test_only_offsets_that_draft_have_a_diamond():
    found = Acceptance(offsets=(2,), accepted=np.array([3]), tried=np.array([4]))
    (marks,) = traces(acceptance_figure([shown(acceptance=found)]), "marginal")
    assert list(marks.x) == [2] and list(marks.y) == [0.7]
    assert not traces(acceptance_figure([shown(marginal=None)]), "marginal")


def test_two_runs_have_a_panel_each_and_one_legend():
    figure = dressed(acceptance_figure([shown(), shown(title="n = 2, trunk, seed 1", drafts="tree of 15 drafts")]))
    assert texts(figure) == [
        "n = 4, layers, seed 0,<br>step 300<br>K = 4",
        "n = 2, trunk, seed 1<br>tree of 15 drafts",
    ]
    assert [trace.xaxis for trace in traces(figure, "conditional")] == ["x", "x2"]
    assert figure.layout.xaxis2.title.text == "offset k that drafts"
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert len(names) == len(set(names)) == 4


def test_a_title_of_more_lines_takes_more_room():
    one, many = (acceptance_figure([shown(title=title)]).layout for title in ("a", "long-" * 40))
    assert many.margin.t > one.margin.t and many.height - one.height == many.margin.t - one.margin.t
