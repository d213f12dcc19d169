"""The grid of panels: every panel has its place, panels neither overlap nor leave the page."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.figures.panels import domain, panel_title, place, suffix


def test_suffixes_are_plotlys():
    assert [suffix(index) for index in range(4)] == ["", "2", "3", "4"]


@given(st.integers(1, 8), st.floats(0, 0.1))
def test_domains_fill_the_page_from_left_to_right_with_equal_widths_and_gaps(count, gap):
    domains = [domain(index, count, gap) for index in range(count)]
    assert domains[0][0] == pytest.approx(0, abs=2e-6)
    assert domains[-1][1] == pytest.approx(1, abs=2e-6)
    widths = [high - low for low, high in domains]
    assert widths == pytest.approx([(1 - gap * (count - 1)) / count] * count, abs=2e-6)
    for (_, high), (low, _) in itertools.pairwise(domains):
        assert low - high == pytest.approx(gap, abs=2e-6)


def test_the_first_row_is_at_the_top_and_axes_are_anchored_to_each_other():
    top, bottom = place(0, 0, 0, (2, 3), (0.1, 0.05)), place(4, 1, 1, (2, 3), (0.1, 0.05))
    assert top["yaxis"]["domain"] == [0.55, 1.0]
    assert bottom["yaxis5"]["domain"] == [0.0, 0.45]
    assert top["xaxis"]["domain"] == [0.0, 0.3]
    assert bottom["xaxis5"]["domain"] == [0.35, 0.65]
    assert (top["xaxis"]["anchor"], top["yaxis"]["anchor"]) == ("y", "x")
    assert (bottom["xaxis5"]["anchor"], bottom["yaxis5"]["anchor"]) == ("y5", "x5")


def test_a_title_stands_over_the_middle_of_its_panel():
    title = panel_title(2, "offset 3")
    assert (title["text"], title["x"], title["y"]) == ("offset 3", 0.5, 1)
    assert (title["xref"], title["yref"]) == ("x3 domain", "y3 domain")
    assert (title["xanchor"], title["yanchor"], title["showarrow"]) == ("center", "bottom", False)
