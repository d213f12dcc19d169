"""Heat-maps of attention heads: layers in order, numbers above the null band, an animation over the stored steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.figures.heads import (
    MOST_FRAMES,
    MOST_NUMBERS,
    at_step,
    frame_steps,
    head_map_figure,
    heads_figure,
    layer_name,
    null_of,
)
from playground.results import AttentionHistory, AttentionScores
from tests.figures.shown import STYLES, dressed, texts

LAYERS = ("blocks.0", "blocks.1", "future_heads.0", "future_heads.1")


def scores(seed: int = 0, layers: tuple[str, ...] = LAYERS, n_heads: int = 3) -> AttentionScores:
    random = np.random.default_rng(seed)
    shape = (len(layers), n_heads)
    return AttentionScores(
        layers=layers, rows_from="random repeats", back=random.random((4, *shape)),
        duplicate_token=random.random(shape), ahead=random.random((4, *shape)),
        null_back=0.5 * random.random((4, *shape)), null_duplicate_token=0.5 * random.random(shape),
        null_ahead=0.5 * random.random((4, *shape)),
    )  # fmt: skip


def history(steps=(0, 20, 40), seed: int = 0, **shape) -> AttentionHistory:
    return AttentionHistory(
        steps=tuple(steps), tokens=tuple(100 * step for step in steps),
        scores=tuple(scores(seed + index, **shape) for index in range(len(steps))),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hook", "name"), [("blocks.0", "trunk 0"), ("blocks.11", "trunk 11"), ("future_heads.0", "future head 1"),
                       ("future_heads.3", "future head 4")]
)  # fmt: skip
def test_layer_names(hook, name):
    assert layer_name(hook) == name


def test_the_null_band_is_the_largest_of_all_heads():
    table = scores()
    table.null_prefix_matching[1, 2] = 0.77
    table.null_prefix_matching[0, 0] = np.nan
    assert null_of(table, "prefix_matching") == 0.77
    assert null_of(table, "previous_token") == table.null_previous_token.max()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True).map(sorted), st.integers(0, 60))
def test_at_step_is_the_last_evaluation_not_after_it(steps, step):
    before = [index for index, value in enumerate(steps) if value <= step]
    assert at_step(history(steps), step) == (before[-1] if before else 0)


@given(
    st.lists(st.lists(st.integers(0, 200), max_size=30, unique=True).map(sorted), max_size=3),
    st.integers(2, 20),
)
def test_frame_steps_are_stored_steps_with_first_and_last_and_not_too_many(steps, most):
    every = sorted({step for run in steps for step in run})
    found = frame_steps([AttentionHistory(steps=tuple(run), tokens=(), scores=()) for run in steps], most)
    assert found == sorted(set(found))
    assert set(found) <= set(every)
    assert len(found) == min(len(every), most)
    if every:
        assert (found[0], found[-1]) == (every[0], every[-1])


def test_both_runs_stand_side_by_side_with_a_row_for_each_score():
    first, second = history(), history(seed=9)
    figure = heads_figure({"one": first, "two": second})
    drawn = [np.asarray(trace.z) for trace in figure.data]
    expected = [first.scores[-1].prefix_matching, second.scores[-1].prefix_matching,
                first.scores[-1].previous_token, second.scores[-1].previous_token]  # fmt: skip
    assert len(drawn) == 4
    for ours, theirs in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    layout = figure.layout
    assert layout.xaxis.domain[1] < layout.xaxis2.domain[0] and layout.yaxis.domain == layout.yaxis2.domain
    assert layout.yaxis3.domain[1] < layout.yaxis.domain[0] and layout.xaxis3.domain == layout.xaxis.domain


def test_maps_are_bound_to_their_panels():
    figure = heads_figure({"one": history(), "two": history(seed=9)})
    axes = [(trace.xaxis or "x", trace.yaxis or "y") for trace in figure.data]
    assert axes == [("x", "y"), ("x2", "y2"), ("x3", "y3"), ("x4", "y4")]
    for frame in figure.frames:
        assert [(trace.xaxis or "x", trace.yaxis or "y") for trace in frame.data] == axes


def test_titles_name_run_score_ideal_and_null_band():
    shown = history()
    first, second = texts(heads_figure({"one": shown}))
    null = [null_of(shown.scores[-1], name) for name in ("prefix_matching", "previous_token")]
    assert first == f"<b>one</b><br>prefix matching (induction): ideal 1.0, null up to {null[0]:.2f}"
    assert second == f"<b>one</b><br>previous token: ideal 1.0, null up to {null[1]:.2f}"


def test_layers_go_upwards_in_order_and_a_line_parts_trunk_from_future_heads():
    figure = heads_figure({"one": history()}, scores=["previous_token"])
    axis = figure.layout.yaxis
    assert list(axis.tickvals) == [0, 1, 2, 3]
    assert list(axis.ticktext) == ["trunk 0", "trunk 1", "future head 1", "future head 2"]
    assert axis.autorange != "reversed"
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2]
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1, line.y0, line.y1) == (-0.5, 2.5, 1.5, 1.5)


def test_without_a_trunk_there_is_nothing_to_part():
    figure = heads_figure({"one": history(layers=("future_heads.0", "future_heads.1"))})
    assert not figure.layout.shapes


def test_the_slider_has_the_stored_steps_and_opens_at_the_last():
    figure = heads_figure({"one": history((0, 20, 2000))})
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["0", "20", "2,000"]
    assert [list(step.args[0]) for step in slider.steps] == [["0"], ["20"], ["2000"]]
    assert [frame.name for frame in figure.frames] == ["0", "20", "2000"]
    assert slider.active == 2
    np.testing.assert_array_equal(figure.data[0].z, figure.frames[-1].data[0].z)


def test_each_frame_holds_the_scores_of_its_step():
    shown = history((0, 20, 40))
    figure = heads_figure({"one": shown})
    for frame, table in zip(figure.frames, shown.scores, strict=True):
        np.testing.assert_array_equal(frame.data[0].z, table.prefix_matching)
        np.testing.assert_array_equal(frame.data[1].z, table.previous_token)
        assert list(frame.traces) == [0, 1]
        assert f"step {int(frame.name):,}" in frame.data[0].hovertemplate


def test_runs_evaluated_at_different_steps_show_their_last_evaluation_so_far():
    often, seldom = history((0, 10, 20, 30)), history((0, 30), seed=9)
    figure = heads_figure({"often": often, "seldom": seldom}, scores=["prefix_matching"])
    assert [frame.name for frame in figure.frames] == ["0", "10", "20", "30"]
    at_20 = figure.frames[2].data
    np.testing.assert_array_equal(at_20[0].z, often.scores[2].prefix_matching)
    np.testing.assert_array_equal(at_20[1].z, seldom.scores[0].prefix_matching)
    assert "step 0<" in at_20[1].hovertemplate


def test_play_goes_through_all_frames_and_pause_stops():
    (menu,) = heads_figure({"one": history()}).layout.updatemenus
    play, pause = menu.buttons
    assert (play.label, play.method, play.args[0]) == ("Play", "animate", None)
    assert play.args[1]["fromcurrent"] is False and play.args[1]["frame"]["duration"] > 0
    assert (pause.label, list(pause.args[0]), pause.args[1]["mode"]) == ("Pause", [None], "immediate")


def test_many_steps_are_thinned_to_the_most_frames():
    figure = heads_figure({"one": history(range(0, 1000, 5), n_heads=1)}, scores=["previous_token"])
    assert len(figure.frames) == len(figure.layout.sliders[0].steps) == MOST_FRAMES
    assert (figure.frames[0].name, figure.frames[-1].name) == ("0", "995")


def test_a_number_stands_exactly_where_a_head_exceeds_its_null_band():
    shown = history((0,))
    table = shown.scores[0]
    table.prefix_matching[2, 1] = np.nan
    trace = heads_figure({"one": shown}).data[0]
    exceeds = table.prefix_matching > table.null_prefix_matching
    assert exceeds.any() and not exceeds.all()
    np.testing.assert_array_equal(np.asarray(trace.text) != "", exceeds)
    layer, head = np.argwhere(exceeds)[0]
    assert trace.text[layer][head] == f"{table.prefix_matching[layer, head]:.2f}"
    assert trace.texttemplate == "%{text}"


def test_the_hover_text_names_layer_null_band_and_ideal():
    shown = history((0,))
    trace = heads_figure({"one": shown}).data[0]
    data = np.asarray(trace.customdata)
    assert data[:, 0, 1].tolist() == list(LAYERS)
    np.testing.assert_array_equal(data[:, :, 0].astype(float), shown.scores[0].null_prefix_matching)
    assert "%{customdata[1]}, head %{x}" in trace.hovertemplate
    assert "ideal 1.0" in trace.hovertemplate


def test_colours_are_the_same_from_0_to_1_in_all_panels_and_frames():
    figure = heads_figure({"one": history(), "two": history(seed=9)})
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax, axis.colorbar.title.text) == (0, 1, "score")
    maps = [*figure.data, *(trace for frame in figure.frames for trace in frame.data)]
    assert {trace.coloraxis for trace in maps} == {"coloraxis"}


@pytest.mark.parametrize("style", STYLES)
def test_the_small_map_shows_the_newest_evaluation(style):
    shown = history((0, 20, 4000))
    figure = dressed(head_map_figure(shown, "n = 2", score="previous_token", style=style), style)
    (trace,) = figure.data
    np.testing.assert_array_equal(trace.z, shown.scores[-1].previous_token)
    assert figure.layout.title.text == "n = 2, step 4,000"
    assert list(figure.layout.yaxis.ticktext) == ["trunk 0", "trunk 1", "future head 1", "future head 2"]
    assert figure.layout.coloraxis.showscale is False
    assert len(figure.layout.shapes) == 1


def test_the_small_map_writes_numbers_only_where_they_fit():
    for n_heads in (MOST_NUMBERS, MOST_NUMBERS + 1):
        text = np.asarray(head_map_figure(history(n_heads=n_heads), "n = 2").data[0].text)
        assert (text != "").any() == (n_heads == MOST_NUMBERS)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("names", [[], ["one"], ["one", "two"]], ids=len)
def test_valid_in_both_styles(names, style):
    dressed(heads_figure({name: history(seed=len(name)) for name in names}, style=style), style)
