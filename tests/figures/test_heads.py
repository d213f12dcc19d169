"""Heat-maps of attention heads: rows that runs share, numbers above the null band, an animation over the stored steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.figures.heads import (
    MOST_CELLS,
    MOST_FRAMES,
    SMALL_MOST_NUMBERS,
    at_step,
    frame_steps,
    head_map_figure,
    heads_figure,
    null_of,
)
from playground.results import AttentionHistory, AttentionScores
from tests.figures.shown import STYLES, dressed, texts

LAYERS = ("blocks.0", "blocks.1", "future_heads.0", "future_heads.1")


def scores(seed: int = 0, layers: tuple[str, ...] = LAYERS, n_heads: int = 3) -> AttentionScores:
    random = np.random.default_rng(seed)
    shape = (len(layers), n_heads)
    return AttentionScores(
        layers=layers,
        rows_from="random repeats",
        back=random.random((4, *shape)),
        duplicate_token=random.random(shape),
        ahead=random.random((4, *shape)),
        null_back=0.5 * random.random((4, *shape)),
        null_duplicate_token=0.5 * random.random(shape),
        null_ahead=0.5 * random.random((4, *shape)),
    )


def history(steps=(0, 20, 40), seed: int = 0, **shape) -> AttentionHistory:
    return AttentionHistory(
        steps=tuple(steps),
        tokens=tuple(100 * step for step in steps),
        results=tuple(scores(seed + index, **shape) for index in range(len(steps))),
    )


def maps(figure) -> list[np.ndarray]:
    return [np.asarray(trace.z) for trace in figure.data if trace.type == "heatmap"]


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
    found = frame_steps([AttentionHistory(steps=tuple(run), tokens=(), results=()) for run in steps], most)
    assert found == sorted(set(found))
    assert set(found) <= set(every)
    assert len(found) == min(len(every), most)
    if every:
        assert (found[0], found[-1]) == (every[0], every[-1])


def test_a_row_for_each_run_and_a_column_for_each_score():
    first, second = history(), history(seed=9)
    figure = heads_figure({"one": first, "two": second}, scores=["prefix_matching", "back_2"])
    expected = [run.results[-1].score(name) for run in (first, second) for name in ("prefix_matching", "back_2")]
    for ours, theirs in zip(maps(figure), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    layout = figure.layout
    assert layout.xaxis.domain[1] < layout.xaxis2.domain[0] and layout.yaxis.domain == layout.yaxis2.domain
    assert layout.yaxis3.domain[1] < layout.yaxis.domain[0] and layout.xaxis3.domain == layout.xaxis.domain


def test_maps_and_numbers_are_bound_to_their_panels():
    figure = heads_figure({"one": history(), "two": history(seed=9)})
    panels = [("x", "y"), ("x2", "y2"), ("x3", "y3"), ("x4", "y4")]
    for drawn in (figure, *figure.frames):
        assert [(trace.xaxis or "x", trace.yaxis or "y") for trace in drawn.data] == panels * 2
        assert [trace.type for trace in drawn.data] == ["heatmap"] * 4 + ["scatter"] * 4


def test_titles_name_run_score_ideal_and_null_band():
    shown = history()
    first, second = texts(heads_figure({"one": shown}))
    null = [null_of(shown.results[-1], name) for name in ("prefix_matching", "previous_token")]
    assert first == f"<b>one</b><br>induction<br>ideal 1, null up to {null[0]:.2f}"
    assert second == f"<b>one</b><br>previous token<br>ideal 1, null up to {null[1]:.2f}"


def test_layers_go_upwards_in_order_and_a_line_parts_trunk_from_future_heads():
    figure = heads_figure({"one": history()}, scores=["previous_token"])
    axis = figure.layout.yaxis
    assert list(axis.tickvals) == [0, 1, 2, 3]
    assert list(axis.ticktext) == ["T0", "T1", "F1", "F2"]
    assert list(axis.range) == [-0.5, 3.5]
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2]
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1, line.y0, line.y1) == (-0.5, 2.5, 1.5, 1.5)


def test_without_a_trunk_there_is_nothing_to_part():
    figure = heads_figure({"one": history(layers=("future_heads.0", "future_heads.1"))})
    assert not figure.layout.shapes


def test_runs_of_different_depth_share_their_rows():
    """Trunk layers from the bottom, future heads by their offset above them; a layer that a run lacks stays blank."""
    deep = history(layers=("blocks.0", "blocks.1", "future_heads.0"))
    wide = history(seed=9, layers=("blocks.0", "future_heads.0", "future_heads.1"))
    figure = heads_figure({"deep": deep, "wide": wide}, scores=["prefix_matching"])
    one, two = maps(figure)
    assert list(figure.layout.yaxis.ticktext) == list(figure.layout.yaxis2.ticktext) == ["T0", "T1", "F1", "F2"]
    np.testing.assert_array_equal(one[:3], deep.results[-1].prefix_matching)
    np.testing.assert_array_equal(two[[0, 2, 3]], wide.results[-1].prefix_matching)
    assert np.isnan(one[3]).all() and np.isnan(two[1]).all()


@pytest.mark.parametrize("pairing", ["rank", "number"])
def test_the_difference_stands_below_the_two_runs_in_every_frame(pairing):
    first, second = history((0, 20)), history((0, 20), seed=9)
    figure = heads_figure({"one": first, "two": second}, scores=["prefix_matching"], difference=pairing)
    for step, frame in enumerate(figure.frames):
        a, b = (run.results[step].prefix_matching for run in (first, second))
        if pairing == "rank":
            a, b = -np.sort(-a), -np.sort(-b)
        np.testing.assert_allclose(np.asarray(frame.data[2].z), b - a)
        assert frame.data[2].coloraxis == "coloraxis2"
    layout = figure.layout
    assert (layout.coloraxis2.cmin, layout.coloraxis2.cmid, layout.coloraxis2.cmax) == (-1, 0, 1)
    assert texts(figure)[2] == "<b>difference: lower − upper</b><br>induction<br>4 shared layers, no change 0"
    assert layout.xaxis3.title.text == ("rank within the layer" if pairing == "rank" else "attention head")
    bars = layout.coloraxis.colorbar, layout.coloraxis2.colorbar
    assert bars[0].y - bars[0].len > bars[1].len, "the two colour bars do not touch"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_difference_takes_two_runs(count):
    with pytest.raises(ValueError, match=f"takes two runs, and there are {count}"):
        heads_figure({str(number): history(seed=number) for number in range(count)}, difference="rank")


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
    for frame, table in zip(figure.frames, shown.results, strict=True):
        np.testing.assert_array_equal(frame.data[0].z, table.prefix_matching)
        np.testing.assert_array_equal(frame.data[1].z, table.previous_token)
        assert list(frame.traces) == [0, 1, 2, 3]
        assert f"step {int(frame.name):,}" in frame.data[0].text[0][0]


def test_runs_evaluated_at_different_steps_show_their_last_evaluation_so_far():
    often, seldom = history((0, 10, 20, 30)), history((0, 30), seed=9)
    figure = heads_figure({"often": often, "seldom": seldom}, scores=["prefix_matching"])
    assert [frame.name for frame in figure.frames] == ["0", "10", "20", "30"]
    at_20 = figure.frames[2].data
    np.testing.assert_array_equal(at_20[0].z, often.results[2].prefix_matching)
    np.testing.assert_array_equal(at_20[1].z, seldom.results[0].prefix_matching)
    assert at_20[1].text[0][0].endswith("step 0")


def test_many_steps_are_thinned_to_the_most_frames():
    figure = heads_figure({"one": history(range(0, 1000, 5), n_heads=1)}, scores=["previous_token"])
    assert len(figure.frames) == len(figure.layout.sliders[0].steps) == MOST_FRAMES
    assert (figure.frames[0].name, figure.frames[-1].name) == ("0", "995")


def test_large_models_have_fewer_frames():
    layers = tuple(f"blocks.{number}" for number in range(20))
    figure = heads_figure({"one": history(range(60), layers=layers, n_heads=16)}, scores=["previous_token"])
    assert len(figure.frames) == MOST_CELLS // 320
    assert (figure.frames[0].name, figure.frames[-1].name) == ("0", "59")


def test_a_number_stands_exactly_where_a_head_exceeds_its_null_band():
    shown = history((0,))
    table = shown.results[0]
    table.prefix_matching[2, 1] = np.nan
    numbers = heads_figure({"one": shown}).data[2]
    exceeds = np.argwhere(table.prefix_matching > table.null_prefix_matching)
    assert 0 < len(exceeds) < table.prefix_matching.size
    assert list(zip(numbers.y, numbers.x, strict=True)) == [tuple(place) for place in exceeds.tolist()]
    layer, head = exceeds[0]
    assert numbers.text[0] == f"{table.prefix_matching[layer, head]:.2f}"[1:]


def test_colours_are_the_same_from_0_to_1_in_all_panels_and_frames():
    figure = heads_figure({"one": history(), "two": history(seed=9)})
    axis = figure.layout.coloraxis
    assert (axis.cmin, axis.cmax, axis.colorbar.title.text) == (0, 1, "score")
    drawn = [*figure.data, *(trace for frame in figure.frames for trace in frame.data)]
    assert {trace.coloraxis for trace in drawn if trace.type == "heatmap"} == {"coloraxis"}


def test_long_titles_get_more_room():
    short, long = (heads_figure({name: history()}) for name in ("one", "stories-cpu-n2-layers-s0-a09b50a6"))
    assert long.layout.margin.t > short.layout.margin.t
    assert "<br>" in texts(long)[0].partition("</b>")[0]


@pytest.mark.parametrize("style", STYLES)
def test_the_small_map_shows_the_newest_evaluation(style):
    shown = history((0, 20, 4000))
    figure = dressed(head_map_figure(shown, "n = 2", score="previous_token", style=style), style)
    (trace,) = figure.data
    np.testing.assert_array_equal(trace.z, shown.results[-1].previous_token)
    assert figure.layout.title.text == "n = 2, step 4,000"
    assert list(figure.layout.yaxis.ticktext) == ["T0", "T1", "F1", "F2"]
    assert figure.layout.coloraxis.showscale is False
    assert len(figure.layout.shapes) == 1


def test_the_small_map_writes_numbers_only_where_they_fit():
    for n_heads in (SMALL_MOST_NUMBERS, SMALL_MOST_NUMBERS + 1):
        shown = history(n_heads=n_heads)
        above = int((shown.results[-1].prefix_matching > shown.results[-1].null_prefix_matching).sum())
        written = len(head_map_figure(shown, "n = 2").layout.annotations)
        assert written == (above if n_heads == SMALL_MOST_NUMBERS else 0)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("difference", [None, "rank"])
@pytest.mark.parametrize("names", [[], ["one"], ["one", "two"]], ids=len)
def test_valid_in_both_styles(names, difference, style):
    if difference is not None and len(names) != 2:
        return
    runs = {name: history(seed=len(name)) for name in names}
    dressed(heads_figure(runs, difference=difference, style=style), style)
