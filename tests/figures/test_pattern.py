"""The pattern of one head on a row of tokens."""

import numpy as np
import pytest

from playground.figures.pattern import CELL, MOST_LABELS, pattern_figure
from tests.figures.shown import STYLES, dressed

TOKENS = ["the", "cat", "sat", "the", "cat"]


def uniform(length: int = 5) -> np.ndarray:
    """Every query attends equally to itself and everything before."""
    return np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None]


def targets() -> np.ndarray:
    marked = np.zeros((5, 5), dtype=bool)
    marked[3, 1] = marked[4, 2] = True
    return marked


def test_attention_is_drawn_query_by_key_and_the_future_left_blank():
    (map_,) = pattern_figure(uniform(), TOKENS).data
    drawn = np.asarray(map_.z)
    below = np.tril(np.ones((5, 5), dtype=bool))
    np.testing.assert_array_equal(drawn[below], uniform()[below])
    assert np.isnan(drawn[~below]).all()
    assert (map_.zmin, map_.zmax, map_.hoverongaps) == (0, 1, False)
    assert map_.colorbar.title.text == "attention"


def test_a_small_weight_is_drawn_and_not_taken_for_the_future():
    pattern = np.eye(5)
    assert np.asarray(pattern_figure(pattern, TOKENS).data[0].z)[4, 0] == 0


def test_tokens_are_the_labels_of_both_axes_even_when_they_repeat():
    figure = pattern_figure(uniform(), TOKENS)
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert list(axis.ticktext) == TOKENS
        assert list(axis.tickvals) == [0, 1, 2, 3, 4]
    assert figure.layout.xaxis.title.text == "key: the attended token"
    assert figure.layout.yaxis.title.text == "query: the attending token"
    assert list(figure.layout.yaxis.range) == [4.5, -0.5]
    assert list(figure.layout.xaxis.range) == [-0.5, 4.5]


def test_the_hover_text_names_both_tokens():
    map_ = pattern_figure(uniform(), TOKENS).data[0]
    pairs = np.asarray(map_.customdata)
    assert pairs[2, 1].tolist() == ["sat", "cat", 2, 1]
    assert "query '%{customdata[0]}' (position %{customdata[2]})" in map_.hovertemplate
    assert "attends to '%{customdata[1]}' (position %{customdata[3]})" in map_.hovertemplate


def test_targets_are_framed_at_their_query_and_key():
    """The frame is the border of the cell, whatever the size of the figure."""
    _, rim, frame = pattern_figure(uniform(), TOKENS, targets=targets()).data
    for trace in (rim, frame):
        corners = np.stack([trace.x, trace.y], axis=1).reshape(2, 6, 2)[:, :5]
        centres = (corners.min(axis=1) + corners.max(axis=1)) / 2
        np.testing.assert_array_equal(centres, [[1, 3], [2, 4]])
        np.testing.assert_array_equal(np.ptp(corners, axis=1), np.ones((2, 2)))
    assert rim.line.width > frame.line.width and not rim.showlegend
    assert frame.name == "where an ideal induction head attends"


@pytest.mark.parametrize("marked", [None, np.zeros((5, 5), dtype=bool)], ids=["none given", "none on this row"])
def test_without_targets_nothing_is_outlined(marked):
    assert len(pattern_figure(uniform(), TOKENS, targets=marked).data) == 1


@pytest.mark.parametrize(
    ("length", "every"), [(5, 1), (MOST_LABELS, 1), (MOST_LABELS + 1, 2), (64, 2), (96, 3), (200, 7)]
)
def test_of_a_long_row_some_tokens_are_named(length, every):
    figure = pattern_figure(uniform(length), [f"t{position}" for position in range(length)])
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert list(axis.tickvals) == list(range(0, length, every))
        assert list(axis.ticktext) == [f"t{position}" for position in range(0, length, every)]
    assert ("is named" in figure.layout.xaxis.title.text) == (every > 1)


def test_long_rows_get_smaller_letters_and_a_higher_figure():
    short, long = (pattern_figure(uniform(length), ["x"] * length) for length in (8, 128))
    assert 7 <= long.layout.xaxis.tickfont.size < short.layout.xaxis.tickfont.size
    assert long.layout.height > 128 * CELL > short.layout.height


@pytest.mark.parametrize("style", STYLES)
def test_valid_in_both_styles(style):
    figure = pattern_figure(
        uniform().astype(np.float32), TOKENS, targets=targets(), title="trunk 0, head 1", style=style
    )
    assert dressed(figure, style).layout.title.text == "trunk 0, head 1"
