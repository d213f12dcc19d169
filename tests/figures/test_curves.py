"""Curves along training: thin seeds, a bold mean over what all seeds share, a band, one legend entry a group."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.figures.aggregate import mean_and_band
from playground.figures.curves import MOST_APART, MOST_LINES, MOST_NAMED, X_TITLES, Reference, curves_figure, span
from playground.figures.means import MOST_POINTS, mean_parts, shared_part
from playground.figures.style import color_of, dash_of, see_through
from tests.figures.shown import STYLES, TOKENS_A_STEP, curve, dressed, levels, texts

SEEDS = [[4.0, 3.0, 1.0], [4.2, 3.5, 2.0], [4.4, 2.5, 3.0]]


def group(n_future: int = 1, **changes) -> list:
    return [curve(values, n_future=n_future, seed=seed, **changes) for seed, values in enumerate(SEEDS)]


def parts(figure) -> dict[str, list]:
    """The traces by what they are: band, mean, bold and thin lines of single runs, crosses."""
    found: dict[str, list] = {"band": [], "mean": [], "bold": [], "thin": [], "cross": []}
    for trace in figure.data:
        if trace.fill == "toself":
            found["band"].append(trace)
        elif "mean of" in (trace.hovertemplate or ""):
            found["mean"].append(trace)
        elif trace.mode == "markers":
            found["cross"].append(trace)
        else:
            found["bold" if trace.opacity == 1.0 else "thin"] += lines(trace)
    return found


def lines(trace) -> list[SimpleNamespace]:
    """The lines of single runs in a trace, which has gaps between them."""
    gaps = np.flatnonzero(np.isnan(trace.y))
    starts, ends = [0, *(gaps + 1)], [*gaps, len(trace.x)]
    return [
        SimpleNamespace(
            x=trace.x[start:end],
            y=trace.y[start:end],
            line=trace.line,
            name=trace.name,
            opacity=trace.opacity,
            seeds={number[2] for number in np.asarray(trace.customdata).tolist()[start:end]},
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def test_a_run_alone_is_one_bold_line():
    figure = curves_figure([curve([4.0, 3.0, 1.0], n_future=2, control="trunk")], y_title="loss (nats)")
    (line,) = figure.data
    assert list(line.x) == [0, 10 * TOKENS_A_STEP, 20 * TOKENS_A_STEP]
    assert list(line.y) == [4.0, 3.0, 1.0]
    assert (line.line.color, line.line.dash, line.opacity) == (color_of(2), dash_of("trunk"), 1.0)
    assert line.showlegend and line.name == "n = 2 (1 seed)"
    assert "(1 seed, no interval)" in line.hovertemplate


def test_seeds_are_thin_and_their_mean_is_bold_and_equals_the_plain_mean():
    found = parts(curves_figure(group(), y_title="loss"))
    assert [list(trace.y) for trace in found["thin"]] == SEEDS
    (mean,) = found["mean"]
    assert list(mean.y) == pytest.approx(np.mean(SEEDS, axis=0).tolist())
    assert mean.line.width > max(trace.line.width for trace in found["thin"])
    assert not found["bold"]


def test_the_band_goes_along_the_upper_edge_and_back_along_the_lower():
    (band,) = parts(curves_figure(group(), y_title="loss"))["band"]
    _, low, high = mean_and_band(np.array(SEEDS))
    places = (np.array([0, 10, 20]) * TOKENS_A_STEP).tolist()
    assert list(band.x) == places + places[::-1]
    assert list(band.y) == pytest.approx(high.tolist() + low[::-1].tolist())
    assert band.fillcolor == see_through(color_of(1), 0.18)
    assert band.line.width == 0


def test_the_mean_tells_its_interval_in_the_hover_text():
    (mean,) = parts(curves_figure(group(), y_title="test loss<br>(nats)"))["mean"]
    _, low, high = mean_and_band(np.array(SEEDS))
    np.testing.assert_allclose(np.asarray(mean.customdata), np.stack([low, high], axis=1))
    assert "n = 1: mean of 3 seeds</b>" in mean.hovertemplate
    assert "95% t interval of the mean: %{customdata[0]" in mean.hovertemplate
    assert "test loss (nats) %{y" in mean.hovertemplate


def test_a_line_tells_run_seed_step_and_tokens_in_the_hover_text():
    line = curves_figure([curve([1.0, 2.0], seed=7)], y_title="loss").data[0]
    assert np.asarray(line.customdata).tolist() == [[0, 0, 7], [10, 10 * TOKENS_A_STEP, 7]]
    assert "n = 1, layers, seed 7" in line.hovertemplate
    assert "run-n1-s7" in line.hovertemplate


def test_the_counted_lines_of_a_group_are_one_trace_and_each_point_tells_its_seed():
    curves = [*group(), *group(2, panel="b"), curve([9.0, 8.0], seed=5, in_mean=False), curve([], seed=6)]
    figure = curves_figure(curves, y_title="loss")
    other, *thin = [trace for trace in figure.data if trace.line.width == 1.0]
    assert "seed 5</b>" in other.hovertemplate and "run-n1-s5" in other.hovertemplate
    assert [(trace.legendgroup, trace.xaxis) for trace in thin] == [("n = 1", "x"), ("n = 2", "x2")]
    for trace in thin:
        assert [list(line.y) for line in lines(trace)] == SEEDS and not trace.connectgaps
        assert [line.seeds for line in lines(trace)] == [{0}, {1}, {2}]
        assert "seed %{customdata[2]}</b>" in trace.hovertemplate and "run-" not in trace.hovertemplate


def test_what_is_drawn_last_lies_on_top():
    figure = curves_figure([*group()[:2], curve([9.0, 9.0], seed=5, in_mean=False)], y_title="loss")
    found = parts(figure)
    assert "seed 5" in figure.data[0].hovertemplate
    assert list(figure.data[-2:]) == [*found["band"], *found["mean"]]


def test_a_run_that_does_not_count_is_drawn_and_left_out_of_the_mean():
    curves = [*group()[:2], curve([9.0, 9.0], seed=2, in_mean=False)]
    found = parts(curves_figure(curves, y_title="loss"))
    assert len(found["thin"]) == 3
    assert list(found["mean"][0].y) == pytest.approx(np.mean(SEEDS[:2], axis=0).tolist())
    assert found["mean"][0].name == "n = 1 (2 seeds)"


def test_one_run_that_counts_is_bold_without_a_mean():
    found = parts(curves_figure([curve([1.0, 2.0]), curve([9.0], seed=1, in_mean=False)], y_title="loss"))
    assert [list(trace.y) for trace in found["bold"]] == [[1.0, 2.0]]
    assert [list(trace.y) for trace in found["thin"]] == [[9.0]]
    assert not found["mean"] and not found["band"]


def test_the_mean_stands_only_where_every_run_has_a_value():
    short = curve([1.0, float("nan"), 1.0], seed=1)
    (mean,) = parts(curves_figure([curve([3.0, 3.0, 3.0, 3.0]), short], y_title="loss"))["mean"]
    assert list(mean.x) == [0, 20 * TOKENS_A_STEP]
    assert list(mean.y) == [2.0, 2.0]


def test_runs_without_a_common_step_have_no_mean():
    found = parts(curves_figure([curve([1.0], steps=[0]), curve([2.0], steps=[5], seed=1)], y_title="loss"))
    assert not found["mean"] and len(found["thin"]) == 2


GRIDS = st.lists(
    st.dictionaries(st.integers(0, 12), st.floats(-5, 5) | st.just(float("nan")), max_size=8), min_size=1, max_size=4
)


@settings(deadline=None)
@given(GRIDS)
def test_the_mean_equals_a_slow_search_for_common_steps(grids):
    curves = [
        curve([grid[step] for step in sorted(grid)], steps=np.array(sorted(grid), dtype=np.int64), seed=seed)
        for seed, grid in enumerate(grids)
    ]
    shared = [step for step in range(13) if all(grid.get(step, np.nan) == grid.get(step, np.nan) for grid in grids)]
    shared = [step for step in shared if all(step in grid for grid in grids)]
    found = shared_part(curves, "step")
    if not shared:
        assert found is None
    else:
        assert found.places.tolist() == found.steps.tolist() == shared
        assert found.values.tolist() == [[grid[step] for step in shared] for grid in grids]


@settings(deadline=None)
@given(GRIDS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_every_part_of_a_mean_has_a_value_of_each_of_its_seeds_and_only_ended_seeds_leave(grids, ended):
    curves = [
        curve(
            [grid[step] for step in sorted(grid)],
            steps=np.array(sorted(grid), dtype=np.int64),
            seed=seed,
            ended="failed" if ended[seed] else "",
        )
        for seed, grid in enumerate(grids)
    ]
    parts = mean_parts(curves, "step")
    assert not parts or len(parts[0].curves) > 1
    for part in parts:
        for member, values in zip(part.curves, part.values, strict=True):
            assert values.tolist() == [grids[member.seed][step] for step in part.steps]
        left = [member for member in curves if member not in part.curves]
        assert all(member.ended and member.last_step <= part.steps[-1] for member in left)
    for before, after in zip(parts, parts[1:], strict=False):
        assert set(after.curves) < set(before.curves)
        assert before.steps[-1] <= after.steps[0] < after.steps[-1]


def falling(ended: str = "failed") -> list:
    """Four seeds, of which one ends after two of four points."""
    whole = [curve([4.0, 3.0, 2.0, 1.0 + seed], seed=seed) for seed in range(3)]
    return [*whole, curve([8.0, 7.0], seed=3, ended=ended)]


def test_where_a_seed_ended_early_the_mean_goes_on_over_the_seeds_left():
    found = parts(curves_figure(falling(), y_title="loss", x="step"))
    all_seeds, left = found["mean"]
    assert (list(all_seeds.x), list(all_seeds.y)) == ([0, 10], [5.0, 4.0])
    assert (list(left.x), list(left.y)) == ([10, 20, 30], [3.0, 2.0, 2.0])
    assert left.line.width < all_seeds.line.width
    assert "mean of 4 seeds</b>" in all_seeds.hovertemplate
    assert "mean of 3 of 4 seeds, seed 3 ended early</b>" in left.hovertemplate
    assert len(found["band"]) == 2
    assert {trace.name for trace in (*found["mean"], *found["band"])} == {"n = 1 (4 seeds, 1 ended early)"}


@pytest.mark.parametrize("reason", ["failed", "stopped", "interrupted"])
def test_the_line_of_a_run_that_ended_early_ends_in_a_cross(reason):
    (cross,) = parts(curves_figure(falling(reason), y_title="loss", x="step"))["cross"]
    assert (list(cross.x), list(cross.y), cross.marker.symbol) == ([10], [7.0], "x")
    assert f"seed 3: {reason}</b>" in cross.hovertemplate and "step 10" in cross.hovertemplate
    assert not cross.showlegend


def test_the_mean_goes_on_to_the_last_seed_which_has_no_interval():
    curves = [curve([1.0, 2.0, 3.0]), curve([3.0, 4.0], seed=1, ended="stopped")]
    found = parts(curves_figure(curves, y_title="loss", x="step"))
    assert [(list(trace.x), list(trace.y)) for trace in found["mean"]] == [
        ([0, 10], [2.0, 3.0]),
        ([10, 20], [2.0, 3.0]),
    ]
    assert len(found["band"]) == 1
    assert "mean of 1 of 2 seeds, seed 1 ended early" in found["mean"][1].hovertemplate
    assert "no interval" in found["mean"][1].hovertemplate and "t interval" not in found["mean"][1].hovertemplate


def test_several_seeds_that_ended_are_all_named():
    curves = [*falling(), curve([8.0, 7.0], seed=4, ended="stopped")]
    found = parts(curves_figure(curves, y_title="loss"))
    assert "3 of 5 seeds, seeds 3, 4 ended early" in found["mean"][1].hovertemplate
    assert found["mean"][0].name == "n = 1 (5 seeds, 2 ended early)"


def test_seeds_that_all_end_at_once_leave_nothing_to_go_on_with():
    curves = [curve([1.0, 2.0], seed=seed, ended="stopped") for seed in range(2)]
    found = parts(curves_figure(curves, y_title="loss"))
    assert len(found["mean"]) == 1 and len(found["cross"]) == 2


def test_a_seed_still_in_training_is_waited_for():
    curves = [curve([1.0, 2.0, 3.0]), curve([3.0, 4.0], seed=1)]
    found = parts(curves_figure(curves, y_title="loss", x="step"))
    assert [list(trace.x) for trace in found["mean"]] == [[0, 10]]
    assert not found["cross"]


def test_a_lone_run_that_ended_early_is_bold_with_a_cross_and_its_line_is_in_the_legend():
    figure = curves_figure([curve([1.0, 2.0], ended="failed")], y_title="loss")
    found = parts(figure)
    assert len(found["bold"]) == len(found["cross"]) == 1
    assert [trace.mode for trace in figure.data if trace.showlegend] == ["lines"]
    assert found["bold"][0].name == "n = 1 (1 seed, 1 ended early)"


@pytest.mark.parametrize("count", [MOST_POINTS - 1, MOST_POINTS, MOST_POINTS + 1, MOST_POINTS + 2, 5 * MOST_POINTS + 3])
def test_long_curves_are_thinned_and_keep_their_newest_point(count):
    figure = curves_figure([curve(np.arange(count), seed=seed) for seed in (0, 1)], y_title="loss", x="step")
    found = parts(figure)
    for trace in (*found["thin"], *found["mean"]):
        assert len(trace.x) <= MOST_POINTS
        assert trace.x[-1] == 10 * (count - 1)
        assert len(set(np.diff(trace.x))) == 1
    if count <= MOST_POINTS:
        assert len(found["mean"][0].x) == count


@pytest.mark.parametrize("count", [MOST_LINES - 1, MOST_LINES, MOST_LINES + 1, 10 * MOST_LINES])
def test_of_many_seeds_some_lines_are_drawn_and_the_mean_is_over_all(count):
    curves = [curve([4.0 + seed, 3.0, 1.0 - seed], seed=seed) for seed in range(count)][::-1]
    found = parts(curves_figure(curves, y_title="loss"))
    seeds = sorted(seed for line in found["thin"] for seed in line.seeds)
    assert len(set(seeds)) == min(count, MOST_LINES)
    assert (seeds[0], seeds[-1]) == (0, count - 1)
    assert np.ptp(np.diff(seeds)) <= 1  # evenly spread
    (mean,), (band,) = found["mean"], found["band"]
    assert list(mean.y) == pytest.approx(np.mean([line.values for line in curves], axis=0).tolist())
    assert mean.name == f"n = 1 ({count} seeds)" and f"mean of {count} seeds</b>" in mean.hovertemplate
    _, low, high = mean_and_band(np.array([line.values for line in curves]))
    assert list(band.y) == pytest.approx(high.tolist() + low[::-1].tolist())


def test_of_many_runs_that_end_early_or_do_not_count_a_trace_shows_all_that_are_drawn():
    ended = [curve([4.0, 3.0], seed=seed, ended="failed") for seed in range(2 * MOST_LINES)]
    others = [curve([9.0, 8.0, 7.0], seed=seed, in_mean=False) for seed in range(2 * MOST_LINES)]
    figure = curves_figure([*group(), *ended, *others], y_title="loss", x="step")
    found = parts(figure)
    (cross,) = found["cross"]
    drawn_ended = {seed for line in found["thin"] if list(line.y) == [4.0, 3.0] for seed in line.seeds}
    assert set(np.asarray(cross.customdata)[:, 0]) == drawn_ended and len(drawn_ended) < MOST_LINES
    assert set(cross.x) == {10} and set(cross.y) == {3.0}
    assert "seed %{customdata[0]}: ended early</b>" in cross.hovertemplate
    assert [list(line.y) for line in found["thin"]].count([9.0, 8.0, 7.0]) == MOST_LINES
    assert len(figure.data) == 1 + 1 + 1 + 2 * 2  # crosses, runs that do not count, seeds, two parts of the mean
    assert f"{3} of {3 + len(ended)} seeds, seeds 0, 1" in found["mean"][1].hovertemplate
    assert f"and {len(ended) - MOST_NAMED} more ended early" in found["mean"][1].hovertemplate


def test_a_few_runs_that_end_early_or_do_not_count_are_named():
    ended = [curve([4.0, 3.0], seed=seed, ended="failed", run=f"ended-{seed}") for seed in range(MOST_APART)]
    others = [curve([9.0, 8.0, 7.0], seed=seed, in_mean=False, run=f"other-{seed}") for seed in range(MOST_APART)]
    texts = [trace.hovertemplate or "" for trace in curves_figure([*group(), *ended, *others], y_title="loss").data]
    for name in (f"{kind}-{seed}" for kind in ("ended", "other") for seed in range(MOST_APART)):
        assert sum(name in text for text in texts) == 1


def test_every_group_has_its_colour_dash_and_exactly_one_legend_entry():
    curves = [
        trial
        for panel in ("offset 1", "offset 2")
        for trial in (
            *group(panel=panel),
            *group(2, panel=panel, control="trunk", label="n = 2, trunk"),
            curve([1.0], n_future=4, panel=panel),
        )
    ]
    figure = curves_figure(curves, y_title="loss")
    shown = Counter(trace.legendgroup for trace in figure.data if trace.showlegend)
    assert shown == {"n = 1": 1, "n = 2, trunk": 1, "n = 4": 1}
    lines = {trace.legendgroup: (trace.line.color, trace.line.dash) for trace in figure.data if trace.fill is None}
    assert lines == {
        "n = 1": (color_of(1), "solid"),
        "n = 2, trunk": (color_of(2), "dash"),
        "n = 4": (color_of(4), "solid"),
    }
    entries = [trace for trace in figure.data if trace.showlegend]
    assert all(trace.xaxis == "x" and trace.fill is None for trace in entries)
    assert [trace.line.width for trace in entries] == [3, 3, 2.2]


def test_a_group_missing_from_the_first_panel_is_in_the_legend_all_the_same():
    curves = [curve([1.0], panel="a"), curve([2.0], n_future=2, panel="b"), curve([2.0], panel="b")]
    figure = curves_figure(curves, y_title="loss")
    shown = Counter(trace.name for trace in figure.data if trace.showlegend)
    assert shown == {"n = 1 (1 seed)": 1, "n = 2 (1 seed)": 1}


@pytest.mark.parametrize(("panels", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (5, 2, 4), (8, 2, 4)])
def test_panels_share_the_vertical_axis_and_name_it_once_a_row(panels, rows, columns):
    curves = [curve([1.0, 2.0], n_future=8, panel=f"offset {k}") for k in range(1, panels + 1)]
    figure = curves_figure(curves, y_title="loss", height=300)
    layout = figure.layout
    assert [note.text for note in layout.annotations] == [f"offset {k}" for k in range(1, panels + 1)]
    assert layout.height == 300 * rows
    y_axes = [layout[f"yaxis{'' if i == 0 else i + 1}"] for i in range(panels)]
    assert [axis.title.text for axis in y_axes] == ["loss" if i % columns == 0 else None for i in range(panels)]
    assert all(axis.matches == "y" for axis in y_axes[1:])
    assert {trace.yaxis or "y" for trace in figure.data} == {f"y{'' if i == 0 else i + 1}" for i in range(panels)}


@pytest.mark.parametrize("x", ["tokens", "step"])
def test_the_horizontal_axis(x):
    figure = curves_figure([curve([1.0, 2.0])], y_title="loss", x=x)
    assert figure.layout.xaxis.title.text == X_TITLES[x]
    assert list(figure.data[0].x) == ([0, 10] if x == "step" else [0, 10 * TOKENS_A_STEP])


def test_references_are_named_lines_in_every_panel():
    references = [
        Reference(name="chance", value=0.05),
        Reference(name="ceiling", value=1.0, dash="longdash", side="left"),
    ]
    curves = [curve([0.1], panel="a"), curve([0.2], panel="b")]
    figure = curves_figure(curves, y_title="score", references=references, y_range=(-0.06, 1.06))
    assert levels(figure) == [0.05, 1.0, 0.05, 1.0]
    assert [shape.line.dash for shape in figure.layout.shapes] == ["dot", "longdash"] * 2
    assert [shape.yref for shape in figure.layout.shapes] == ["y", "y", "y2", "y2"]
    assert {(shape.x0, shape.x1) for shape in figure.layout.shapes} == {(0, 1)}
    names = {note.text: note for note in figure.layout.annotations if note.xref == "x domain"}
    assert (names["chance 0.05"].x, names["chance 0.05"].yanchor) == (1, "bottom")
    assert (names["ceiling 1"].x, names["ceiling 1"].yanchor) == (0, "top")
    assert texts(figure).count("chance 0.05") == 2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_a_span_holds_all_values_with_room_on_both_sides(values):
    low, high = span(values)
    assert low < min(values) and max(values) < high


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "curves",
    [[], group(), falling(), [curve([])], [curve([], ended="failed")]],
    ids=["nothing", "three seeds", "one of four ended", "no points", "ended before the first"],
)
def test_valid_in_both_styles(curves, style):
    dressed(curves_figure(curves, y_title="loss", style=style), style)
