"""Curves of all heads with the events above them."""

import numpy as np
import pytest

from playground.figures.formation import MOST_NAMED, Formed, apart, formation_figure
from playground.figures.formation_events import subject
from playground.results import AttentionHistory, AttentionScores, Event, Formation
from tests.figures.shown import STYLES, dressed, levels, texts

LAYERS = ("blocks.0", "future_heads.0", "future_heads.1")
STEPS = (0, 1, 10, 100)
A_STEP = 4096


def grown(learned: float) -> AttentionScores:
    """Three heads a layer; two of the first future head grow, above a null of 0.1."""
    shape = (3, 3)
    ahead = np.full((4, *shape), 0.05)
    ahead[0, 1, 2] += 0.9 * learned
    ahead[0, 1, 0] += 0.4 * learned
    return AttentionScores(
        layers=LAYERS,
        rows_from="task",
        back=np.full((4, *shape), 0.05),
        duplicate_token=np.full(shape, 0.05),
        ahead=ahead,
        null_back=np.full((4, *shape), 0.1),
        null_duplicate_token=np.full(shape, 0.1),
        null_ahead=np.full((4, *shape), 0.1),
    )


def history() -> AttentionHistory:
    return AttentionHistory(
        steps=STEPS,
        tokens=tuple(A_STEP * step for step in STEPS),
        results=tuple(grown(learned) for learned in (0, 0, 0.2, 1)),
    )


def event(name: str = "induction", **changes) -> Event:
    values = {
        "name": name,
        "subject": "future_heads.0.2",
        "start": 0.05,
        "null": 0.1,
        "ceiling": 1.0,
        "final": 0.95,
        "half": 200_000,
        "t50": 210_000,
        "t90": 300_000,
        "seen": 409_600,
    }
    return Event(**(values | changes))


EVENTS = (
    event("previous token", subject="blocks.0.1", half=100_000, t50=None, t90=None),
    event("K-composition", subject="blocks.0.1 -> future_heads.0.2", ceiling=float("nan"), half=150_000, t50=None),
    event("induction", t90=None),
    event("accuracy", subject="scored tokens", half=None, t50=None, t90=None),
)


def formed(title: str = "n = 2, seed 0", events: tuple[Event, ...] | None = EVENTS) -> Formed:
    formation = None if events is None else Formation(run="r", n_future=2, seed=0, main=events, heads=())
    return Formed(title=title, history=history(), formation=formation)


def lines(figure):
    return [trace for trace in figure.data if trace.mode == "lines" and trace.name]


def test_every_head_has_a_line_with_its_values():
    figure = formation_figure([formed()], "prefix_matching")
    drawn = {trace.name: np.asarray(trace.y) for trace in lines(figure)}
    heads = history().results[0].heads
    assert set(drawn) == {head.title for head in heads}
    for index, head in enumerate(heads):
        expected = [table.prefix_matching.ravel()[index] for table in history().results]
        np.testing.assert_array_equal(drawn[head.title], expected)
        np.testing.assert_array_equal(lines(figure)[index].x, [A_STEP * step for step in STEPS])


def test_the_strongest_heads_above_their_null_band_carry_their_names():
    figure = formation_figure([formed()], "prefix_matching")
    (names,) = [trace for trace in figure.data if trace.mode == "text"]
    assert list(names.text) == [" F1.2", " F1.0"]
    assert list(names.x) == [A_STEP * STEPS[-1]] * 2
    bold = {trace.name for trace in lines(figure) if trace.line.width > 2}
    assert bold == {"future head 1, head 2", "future head 1, head 0"}
    assert [trace.name in bold for trace in lines(figure)][-2:] == [True, True], "the strongest lie on top"


def test_no_more_heads_are_named_than_can_be_read():
    shown = formed()
    for table in shown.history.results:
        table.ahead[0] = np.linspace(0.2, 0.9, 9).reshape(3, 3)
    (names,) = [trace for trace in formation_figure([shown], "prefix_matching").data if trace.mode == "text"]
    assert len(names.text) == MOST_NAMED


@pytest.mark.parametrize("heights", [[0.9, 0.5], [0.9, 0.9, 0.9, 0.9], [0.62, 0.6, 0.59, 0.53], [], [0.5]])
def test_names_do_not_lie_on_one_another(heights):
    moved = apart(heights, 0.05)
    assert all(upper - lower >= 0.05 - 1e-6 for upper, lower in zip(moved, moved[1:], strict=False))
    assert np.mean(moved or [0]) == pytest.approx(np.mean(heights or [0]))


def test_ideal_and_null_band_are_drawn_and_named():
    figure = formation_figure([formed()], "prefix_matching")
    assert 1.0 in levels(figure)
    (band,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (band.y0, band.y1) == (0, 0.1)
    assert {"ideal head", "null band, up to 0.10"} <= set(texts(figure))


def test_the_score_is_named_along_the_axis():
    figure = formation_figure([formed()], "ahead_2")
    assert figure.layout.yaxis.title.text == "2-ahead induction score"
    assert figure.layout.xaxis.title.text == "training tokens"


def marks(figure, symbol: str):
    return [trace for trace in figure.data if "markers" in trace.mode and trace.marker.symbol == symbol]


def test_events_stand_at_their_time_in_a_row_of_their_own():
    figure = formation_figure([formed()], "prefix_matching")
    (reached,), (missed,) = marks(figure, "diamond"), marks(figure, "triangle-right-open")
    assert list(reached.x) == [100_000, 150_000, 200_000] and list(reached.y) == [3, 2, 1]
    assert list(missed.x) == [409_600] and list(missed.y) == [0]
    assert list(figure.layout.yaxis2.ticktext) == ["accuracy", "induction", "K-composition", "previous token"]
    assert [text.strip() for text in reached.text] == ["T0.1", "T0.1→F1.2", "F1.2"]


def test_what_an_event_is_of_stands_where_no_bar_begins():
    events = (event(half=150_000, t50=None), event("accuracy", half=150_000), event("late", half=400_000, t50=None))
    (reached,) = marks(formation_figure([formed(events=events)], "prefix_matching"), "diamond")
    assert list(reached.textposition) == ["middle right", "middle left", "middle left"]


def test_the_bar_runs_from_t50_to_t90_or_to_the_end():
    figure = formation_figure([formed(events=(event(), event("accuracy", t90=None)))], "prefix_matching")
    bars = [trace for trace in figure.data if trace.mode == "lines" and not trace.name]
    assert [(*bar.x, *bar.y) for bar in bars] == [(210_000, 300_000, 1, 1), (210_000, 409_600, 0, 0)]


def test_a_dotted_line_carries_each_reached_event_to_the_curves():
    figure = formation_figure([formed()], "prefix_matching")
    dotted = [shape for shape in figure.layout.shapes if shape.line.dash == "dot"]
    assert [shape.x0 for shape in dotted] == [100_000, 150_000, 200_000]
    assert {(shape.xref, shape.yref) for shape in dotted} == {("x", "y domain")}


def test_the_hover_text_tells_every_time():
    (reached,) = marks(formation_figure([formed()], "prefix_matching"), "diamond")
    assert "half of its final value 0.95: 100,000 tokens" in reached.hovertext[0]
    assert "t50 not reached, t90 not reached" in reached.hovertext[0]
    assert "no ceiling" in reached.hovertext[1]
    assert "run seen to 409,600 tokens" in reached.hovertext[2]


def test_two_runs_share_axes_and_rows():
    second = formed("n = 1, seed 0", events=EVENTS[:1])
    figure = formation_figure([formed(), second], "prefix_matching")
    layout = figure.layout
    assert (layout.xaxis2.matches, layout.xaxis3.matches, layout.xaxis4.matches) == ("x", "x", "x")
    assert layout.yaxis.range == layout.yaxis3.range
    assert list(layout.yaxis2.ticktext) == list(layout.yaxis4.ticktext)
    assert layout.xaxis.domain[1] < layout.xaxis3.domain[0]
    assert texts(figure).count("<b>n = 2, seed 0</b>") == texts(figure).count("<b>n = 1, seed 0</b>") == 1


def test_without_events_there_are_curves_alone():
    figure = formation_figure([formed(events=None)], "prefix_matching")
    assert not marks(figure, "diamond") and "yaxis2" not in figure.to_dict()["layout"]
    assert list(figure.layout.yaxis.domain) == [0, 1]
    assert not [text for text in texts(figure) if "half of its final value" in text]


def test_a_logarithmic_axis_shows_step_0_too():
    figure = formation_figure([formed()], "prefix_matching", log=True)
    assert figure.layout.xaxis.type == "log"
    assert lines(figure)[0].x[0] == A_STEP / 2


@pytest.mark.parametrize(
    ("of", "short"),
    [
        ("blocks.0.1", "T0.1"),
        ("blocks.0.1 -> future_heads.0.2", "T0.1→F1.2"),
        ("scored tokens", ""),
        ("nothing before blocks.0.1", ""),
    ],
)
def test_what_an_event_is_of(of, short):
    assert subject(event(subject=of)) == short


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("runs", [[], [formed()], [formed(), formed("run", None)]], ids=len)
def test_valid_in_both_styles(runs, log, style):
    dressed(formation_figure(runs, "prefix_matching", log=log, style=style), style)
