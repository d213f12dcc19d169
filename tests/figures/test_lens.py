"""What every layer would predict along a row: colours, letters, marks and what stands beside the pointer."""

import html
from typing import Any

import numpy as np
import pytest

from playground.figures.contrast import BRIGHT, DARK
from playground.figures.lens import COLOR_TITLES, MOST_LETTERED, Reading, cropped, lens_figure, readable, two_lines
from playground.figures.style import GREY
from playground.figures.text import plain
from tests.figures.shown import STYLES, dressed, texts

TOKENS = ("the", "cat", "sat", "the", "<end>")
LAYERS = ("embed", "trunk 0")


def reading(length: int = 5, **changes: Any) -> Reading:
    """Two layers that say `dog` or the token that comes; the second is right wherever something comes."""
    tokens = tuple(TOKENS[t % 5] for t in range(length))
    true = (*tokens[1:], None)
    predicted = tuple(
        tuple((true[t] if layer and true[t] else "dog", "a", "b") for t in range(length)) for layer in range(2)
    )
    probability = np.linspace(0, 1, 2 * length * 3).reshape(2, length, 3)[:, :, ::-1]
    comes = np.where(np.array(true) == None, np.nan, 0.25 + 0.5 * np.arange(2)[:, None])  # noqa: E711
    values: dict[str, Any] = {
        "title": "<b>n = 2</b><br>offset 1",
        "offset": 1,
        "layers": LAYERS,
        "tokens": tokens,
        "predicted": predicted,
        "probability": probability,
        "true": true,
        "true_probability": comes,
        "right": np.array([[False] * length, [*[True] * (length - 1), False]]),
        "scored": np.arange(length) == 2,
    }
    return Reading(**(values | changes))


def traces(figure: Any, kind: str) -> list[Any]:
    return [trace for trace in figure.data if trace.type == kind]


def named(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def seen_letters(figure: Any) -> dict[str, np.ndarray]:
    """By colour, the texts that stand in cells; those without width left out."""
    return {
        trace.textfont.color: np.where(np.char.count(np.asarray(trace.text, dtype=str), "\u200b") > 0, "", trace.text)
        for trace in traces(figure, "heatmap")
        if trace.text is not None
    }


@pytest.mark.parametrize(
    ("color_by", "expected"),
    [
        ("top", reading().probability[:, :, 0]),
        ("true", [[0.25] * 4 + [np.nan], [0.75] * 4 + [np.nan]]),
        ("right", [[0] * 4 + [np.nan], [1] * 4 + [np.nan]]),
    ],
)
def test_colours_show_what_was_chosen(color_by: Any, expected: Any) -> None:
    figure = lens_figure([reading()], color_by=color_by)
    drawn = traces(figure, "heatmap")[0]
    np.testing.assert_array_equal(np.asarray(drawn.z, dtype=float), expected)
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax, axis.colorbar.title.text) == (0, 1, COLOR_TITLES[color_by])


def test_layers_go_upwards_and_both_rows_of_tokens_are_named() -> None:
    figure = lens_figure([reading()])
    layout = figure.layout
    assert list(layout.yaxis.ticktext) == list(LAYERS) and layout.yaxis.range[0] < layout.yaxis.range[1]
    assert list(layout.xaxis.ticktext) == ["the", "cat", "sat", "the", plain("<end>")]
    assert list(layout.xaxis2.ticktext) == ["cat", "sat", "<b>the</b>", plain("<end>"), ""]
    assert (layout.xaxis2.side, layout.xaxis2.overlaying, layout.xaxis2.matches) == ("top", "x", "x")
    assert texts(figure) == ["<b>n = 2</b><br>offset 1", "next token:", "input token:"]
    assert "2 ahead:" in texts(lens_figure([reading(offset=2)]))


def test_the_likeliest_token_stands_in_its_cell_in_letters_that_can_be_read() -> None:
    letters = seen_letters(lens_figure([reading()], color_by="top"))
    together = np.full((2, 5), "", dtype=object)
    for text in letters.values():
        assert not ((together != "") & (text != "")).any()
        together = np.where(text != "", text, together)
    assert together.tolist() == [["dog"] * 5, ["cat", "sat", "the", plain("<end>"), "dog"]]
    low = reading().probability[:, :, 0] < 0.3
    assert (letters[BRIGHT][low] != "").all() and (
        letters[DARK][~low & (reading().probability[:, :, 0] > 0.8)] != ""
    ).all()


def test_letters_are_grey_where_the_cell_is_blank() -> None:
    letters = seen_letters(lens_figure([reading()], color_by="true"))
    assert letters[GREY].tolist() == [["", "", "", "", "dog"]] * 2


def test_all_letters_have_one_size() -> None:
    """Plotly sizes the letters of a trace by its longest and its highest text."""
    figure = lens_figure([reading()], color_by="true")
    sizes = set()
    for trace in traces(figure, "heatmap"):
        if trace.text is not None:
            lines = [html.unescape(str(text)).split("<br>") for text in np.ravel(np.asarray(trace.text, dtype=object))]
            sizes.add((max(len(line) for text in lines for line in text), max(map(len, lines))))
    assert sizes == {(5, 1)}


@pytest.mark.parametrize("length", [MOST_LETTERED, MOST_LETTERED + 1])
def test_a_wide_window_has_no_letters(length: int) -> None:
    assert bool(seen_letters(lens_figure([reading(length)]))) == (length == MOST_LETTERED)


def test_dots_stand_in_the_cells_that_are_right() -> None:
    (dots,) = named(lens_figure([reading()]), "right")
    cells = {(round(float(x)), round(float(y))) for x, y in zip(dots.x, dots.y, strict=True)}
    assert cells == {(t, 1) for t in range(4)}
    assert len(dots.x) == 4


def test_triangles_stand_above_the_scored_positions() -> None:
    (marks,) = named(lens_figure([reading()]), "scored by the task")
    assert list(marks.x) == [2] and marks.y[0] > 1.5 and marks.xaxis == "x2"
    (none,) = named(lens_figure([reading(scored=np.zeros(5, dtype=bool))]), "scored by the task")
    assert list(none.x) == [None] and not none.showlegend


def test_the_hover_text_has_the_likeliest_three_and_what_comes() -> None:
    hover = np.asarray(traces(lens_figure([reading()]), "heatmap")[0].hovertext)
    p = reading().probability
    assert hover[1, 2] == (
        f"<b>trunk 0</b>, at 'sat' (position 2)<br>1. 'the' {p[1, 2, 0]:.3f}<br>2. 'a' {p[1, 2, 1]:.3f}<br>"
        f"3. 'b' {p[1, 2, 2]:.3f}<br>comes: 'the' 0.750, so right (scored by the task)"
    )
    assert hover[0, 3].endswith("comes: '&lt;end&gt;' 0.250, so wrong")
    assert hover[0, 4].endswith("the row ends before the token that this predicts")


def test_a_window_shows_its_positions_only() -> None:
    figure = lens_figure([reading(40)], window=(10, 20))
    drawn = traces(figure, "heatmap")[0]
    assert list(drawn.x) == list(range(10, 20)) and np.shape(drawn.z) == (2, 10)
    assert list(figure.layout.xaxis.range) == [9.5, 19.5]
    assert list(figure.layout.xaxis.tickvals) == list(range(10, 20))
    np.testing.assert_array_equal(drawn.z, reading(40).probability[:, 10:20, 0])
    (dots,) = named(figure, "right")
    assert {round(float(x)) for x in dots.x} == set(range(10, 20))
    assert "position 10" in np.asarray(drawn.hovertext)[0, 0]


def test_two_readings_stand_one_above_the_other_with_their_positions_in_line() -> None:
    deep = reading(layers=("embed", "trunk 0"), title="deep")
    figure = lens_figure([deep, reading(title="other")])
    layout = figure.layout
    assert layout.yaxis.domain[0] > layout.yaxis2.domain[1]
    assert layout.xaxis.range == layout.xaxis3.range
    assert [(trace.xaxis or "x", trace.yaxis) for trace in figure.data if trace.hovertext is not None] == [
        ("x", "y"),
        ("x3", "y2"),
    ]
    assert sum(trace.showlegend for trace in named(figure, "right")) == 1
    assert {"deep", "other"} <= set(texts(figure))


def test_cells_are_as_high_in_a_shallow_model_as_in_a_deep_one() -> None:
    one = reading(
        layers=("embed",),
        predicted=reading().predicted[:1],
        probability=reading().probability[:1],
        true_probability=reading().true_probability[:1],
        right=reading().right[:1],
    )
    layout = lens_figure([reading(), one]).layout
    tall, low = (np.diff(axis.domain)[0] / (axis.range[1] - axis.range[0]) for axis in (layout.yaxis, layout.yaxis2))
    assert tall == pytest.approx(low, rel=1e-3)


def test_rows_of_different_lengths_share_a_window() -> None:
    figure = lens_figure([reading(5), reading(30)], window=(0, 30))
    widths = [np.shape(trace.z)[1] for trace in figure.data if trace.hovertext is not None]
    assert widths == [5, 30]
    past = lens_figure([reading(5), reading(30)], window=(10, 30))
    dressed(past)


def test_many_positions_are_not_all_labelled() -> None:
    assert len(lens_figure([reading(256)]).layout.xaxis.tickvals) < 100


def test_long_tokens_are_turned_and_short_ones_are_not() -> None:
    words = reading(20)
    assert lens_figure([words]).layout.xaxis.tickangle == -90
    short = reading(20, tokens=("7",) * 20, true=("7",) * 20)
    assert lens_figure([short]).layout.xaxis.tickangle == 0


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [
        ("park", 5, "park"),
        ("packed", 5, "pack…"),
        ("<end>", 5, "<end>"),
        ("<", 5, "<"),
        ("a&b", 5, "a&b"),
        ("", 3, ""),
    ],
)
def test_cropped(text: str, letters: int, expected: str) -> None:
    assert cropped(text, letters) == expected


def test_white_space_can_be_seen() -> None:
    assert [readable(text) for text in (" a", "\n", "\t", "ab")] == ["␣a", "⏎", "⇥", "ab"]
    assert two_lines("abcdefghijkl") == "abcde<br>fghi…"
    assert two_lines("<br>&x") == "&lt;br<br>&gt;&amp;x"
    assert readable("\x1b\u2028") == "\\x1b\\u2028"
    spaced = reading(predicted=((("␣Lily", "a", "b"),) * 5, (("␣", "a", "b"),) * 5))
    together = "".join(np.ravel(list(seen_letters(lens_figure([spaced])).values())))
    assert "Lily" in together and "␣Lily" not in together and "␣" in together


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("color_by", COLOR_TITLES)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_valid_in_both_styles(count: int, color_by: Any, style: Any) -> None:
    dressed(lens_figure([reading()] * count, color_by=color_by, style=style), style)
