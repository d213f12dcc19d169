"""Compare: what stands in the verdict, the figures, the table, the notes and the files one can save."""

import io
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from playground.analysis.compare import compare_run
from playground.runs.store import Run, list_runs
from playground.ui.shared.words import short
from tests.fake_runs import let_go, write_many, write_run
from tests.ui.support import (
    Downloads,
    annotations,
    array,
    assert_well,
    change_json,
    figures,
    legend,
    open_page,
    widget,
    words,
)


def compare(**query: str) -> AppTest:
    return open_page("compare", **query)


def table(app: AppTest) -> pd.DataFrame:
    return app.dataframe[0].value


def trace(figure: dict[str, Any], name: str, **where: Any) -> dict[str, Any]:
    """The line of a group, in the panel with these axes."""
    found = [
        item
        for item in figure["data"]
        if item.get("legendgroup", item["name"]) == name and where.items() <= item.items()
    ]
    assert found, f"no line '{name}' among {legend(figure)}"
    return found[-1]


def evaluations(path: Path) -> pd.DataFrame:
    return Run(path).metrics.query("kind == 'eval'")


def test_the_table_holds_what_was_written(runs: Path) -> None:
    paths = [
        write_run(runs, n_future=1, seed=7),
        write_run(runs, n_future=2, seed=8, control="trunk", state="stopped"),
        write_run(runs, n_future=2, seed=9, state="failed", done=0.1),
        write_run(runs, n_future=1, seed=5, state="interrupted"),
    ]
    shown = table(compare()).set_index("run")
    assert set(shown.index) == {path.name for path in paths}
    for path in paths:
        record, row = Run(path).record, shown.loc[path.name]
        assert (row["seed"], row["status"], row["step"], row["of steps"]) == (
            record.seed,
            record.state,
            record.step,
            record.steps,
        )
        assert row["tokens seen"] == record.tokens
        assert row["parameters"] == record.parameters["total"]
        assert row["next-token depth"] == record.next_token_depth
        assert row["tokens/s"] == round(record.tokens_per_second)
        assert row["score"] == pytest.approx(evaluations(path)["repeat_accuracy"].iloc[-1])
    assert shown["model"].tolist() == ["n = 1", "n = 1", "n = 2, layers", "n = 2, trunk"]
    assert shown.loc[paths[2].name, "t50 (tokens)"] == "not reached"
    assert shown.loc[paths[0].name, "t50 (tokens)"] == short(compare_run(Run(paths[0])).t50_tokens)


def test_a_final_score_counts_more_than_the_last_evaluation(runs: Path) -> None:
    change_json(write_run(runs, steps=100) / "run.json", final={"repeat_accuracy": 0.1234})
    assert table(compare())["score"].tolist() == [0.1234]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ([1.0], "- **n = 1**: after **{middle} tokens** (1 seed)"),
        ([0.1], "- **n = 1**: not reached within {longest} tokens\n"),
        ([1.0, 1.0, 1.0], "- **n = 1**: after **{middle} tokens** (median, 3 of 3 seeds got there)"),
        ([1.0, 1.0, 1.0, 0.9], "- **n = 1**: after **{middle} tokens** (median, 4 of 4 seeds got there)"),
        ([1.0, 1.0, 0.1], "- **n = 1**: after **{first} to {middle} tokens** (median, 2 of 3 seeds got there)"),
        (
            [1.0, 0.1, 0.2],
            "- **n = 1**: the median is more than **{more} tokens** (1 of 3 seeds got there; the others not within {least} to "
            "{more} tokens)\n",
        ),
        ([0.1, 0.2], "- **n = 1**: not reached within {least} to {more} tokens\n"),
    ],
)
def test_the_verdict_is_the_median_over_seeds(runs: Path, written: list[float], says: str) -> None:
    """What a run that has not crossed needs is known as far as it went itself, not as far as the longest did."""
    paths = [write_run(runs, seed=seed, done=done) for seed, done in enumerate(written)]
    rows = [compare_run(Run(path)) for path in paths]
    crossed = sorted(math.inf if row.t50_tokens is None else row.t50_tokens for row in rows)
    middle = crossed[len(rows) // 2] if len(rows) % 2 else sum(crossed[len(rows) // 2 - 1 :][:2]) / 2
    missed = sorted(row.tokens for row in rows if row.t50_tokens is None) or [0]
    numbers = {
        "first": crossed[0],
        "middle": middle,
        "longest": max(row.tokens for row in rows),
        "least": missed[0],
        "more": missed[-1],
    }
    told = {name: short(value) if value < math.inf else "" for name, value in numbers.items()}
    assert says.format(**told) in words(compare())


def test_the_verdict_says_how_many_are_still_in_training(runs: Path) -> None:
    write_run(runs, seed=0)
    short_ones = [write_run(runs, seed=seed, state="running", done=0.1) for seed in (1, 2)]
    found = words(compare())
    for path in short_ones:
        let_go(path)
    tokens = short(Run(short_ones[0]).record.tokens)
    assert f"more than **{tokens} tokens** (1 of 3 seeds got there; the others not within {tokens} tokens)" in found
    assert "tokens); 2 of them still in training" in found


def test_a_run_that_ended_early_does_not_count_for_the_verdict(runs: Path) -> None:
    path = write_run(runs, seed=0)
    write_run(runs, seed=1, state="stopped", done=0.1)
    reached = short(compare_run(Run(path)).t50_tokens)
    app = compare()
    assert f"- **n = 1**: after **{reached} tokens** (1 seed)" in words(app)
    assert sum(len(array(line["x"])) for line in figures(app)["induction-t50"]["data"]) == 1


@pytest.mark.parametrize(
    ("failed", "says"),
    [
        ((4,), "(median, 2 of 2 seeds got there); seed 4 failed and is not counted\n"),
        ((5, 4), "(median, 2 of 2 seeds got there); seeds 4, 5 failed and are not counted\n"),
        ((1,), "(median, 2 of 2 seeds got there)\n"),
    ],
)
def test_seeds_that_failed_are_not_left_out_in_silence(runs: Path, failed: tuple[int, ...], says: str) -> None:
    """But for a seed that has been trained again since."""
    for seed in failed:
        write_run(runs, seed=seed, state="failed", done=0.1)
    for seed in (0, 1):
        write_run(runs, seed=seed)
    assert says in words(compare())


def test_the_verdict_names_its_aim_and_every_model(runs: Path) -> None:
    write_many(runs)
    text = words(compare())
    assert "from chance (0.05) to ceiling (1) in **repeat accuracy**, that is 0.525 (share of tokens)" in text
    assert "- **n = 1**: after" in text and "- **n = 2, layers**: after" in text


def test_a_score_that_falls_has_a_floor(runs: Path) -> None:
    write_run(runs, "bytes-cpu", steps=100)
    assert "from chance (8) to floor (0) in **bits per byte**, that is 4 (bits per byte)" in words(compare())


def test_a_score_is_drawn_with_chance_and_ceiling(runs: Path) -> None:
    paths = [write_run(runs, n_future=n_future) for n_future in (1, 2)]
    figure = figures(compare())["induction-repeat_accuracy"]
    assert legend(figure) == ["n = 1 (1 seed)", "n = 2, layers (1 seed)"]
    for path, name in zip(paths, ["n = 1", "n = 2, layers"], strict=True):
        line, rows = trace(figure, name), evaluations(path)
        np.testing.assert_allclose(array(line["y"]), rows["repeat_accuracy"])
        np.testing.assert_array_equal(array(line["x"]), rows["tokens"])
    assert "chance 0.05" in annotations(figure) and "ceiling 1" in annotations(figure)


def test_the_axis_may_be_steps(runs: Path) -> None:
    path = write_run(runs, steps=100)
    app = compare()
    widget(app, "axis").set_value("steps")
    drawn = figures(app.run())
    for name in ("induction-repeat_accuracy", "induction-loss-eval"):
        np.testing.assert_array_equal(array(trace(drawn[name], "n = 1")["x"]), evaluations(path)["step"])


def test_every_score_can_be_chosen(runs: Path) -> None:
    path = write_run(runs, n_future=2, steps=100)
    app = compare()
    assert widget(app, "score-induction").options == [
        "repeat accuracy",
        "repeat loss",
        "repeat accuracy offset 2",
        "repeat loss offset 2",
    ]
    widget(app, "score-induction").set_value("repeat_loss_offset_2")
    figure = figures(app.run())["induction-repeat_loss_offset_2"]
    np.testing.assert_allclose(array(figure["data"][0]["y"]), evaluations(path)["repeat_loss_offset_2"])
    assert "floor 0" in annotations(figure)


@pytest.mark.parametrize(("kind", "columns"), [("test set", "test_loss"), ("training batches", "loss")])
def test_the_loss_has_a_panel_for_each_offset(runs: Path, kind: str, columns: str) -> None:
    one, two = (write_run(runs, n_future=n_future, steps=200) for n_future in (1, 2))
    app = compare()
    widget(app, "loss-on").set_value(kind)
    figure = figures(app.run())[f"induction-loss-{'eval' if columns == 'test_loss' else 'train'}"]
    assert annotations(figure).splitlines() == ["offset 1 (next token)", "offset 2"]
    for path, name, offset, axis in [
        (one, "n = 1", 1, "x"),
        (two, "n = 2, layers", 1, "x"),
        (two, "n = 2, layers", 2, "x2"),
    ]:
        column = Run(path).metrics[f"{columns}_{offset}"].dropna()
        np.testing.assert_allclose(array(trace(figure, name, xaxis=axis)["y"]), column)
    assert "n = 1" not in [line["legendgroup"] for line in figure["data"] if line["xaxis"] == "x2"]


def test_tokens_to_half_way_are_dots_and_arrows(runs: Path) -> None:
    path = write_run(runs, seed=0)
    write_run(runs, seed=1, done=0.1)
    drawn = figures(compare())["induction-t50"]["data"]
    places = {line["marker"]["symbol"]: array(line["x"]).tolist() for line in drawn if len(array(line["x"]))}
    reached = table(compare())["tokens seen"].min()
    assert places["circle"] == [compare_run(Run(path)).t50_tokens]
    assert places["triangle-right-open"] == [reached]


def test_polynomials_are_drawn_by_number_of_operations(runs: Path) -> None:
    path = write_run(runs, "polynomial-cpu")
    app = compare()
    figure = figures(app)["polynomial-by-m"]
    record = Run(path).record
    line = trace(figure, "n = 1")
    assert array(line["x"]).tolist() == list(range(1, 11))
    np.testing.assert_allclose(array(line["y"]), [record.final[f"exact_match_m{m}"] for m in range(1, 11)])
    chance = [info.chance for info in record.scores if re.search(r"_m\d", info.name)]
    np.testing.assert_allclose(array(trace(figure, "chance")["y"]), chance)
    assert "more than in training" in annotations(figure)
    assert figure["layout"]["shapes"][0]["x0"] == Run(path).config.task.max_operations + 0.5
    assert "polynomial-exact_match" in figures(app)
    assert not [element for element in app.selectbox if element.key == "score-polynomial"]


def test_polynomials_of_a_run_in_training_show_their_newest_values(runs: Path) -> None:
    path = write_run(runs, "polynomial-cpu", state="running", steps=400)
    line = trace(figures(compare())["polynomial-by-m"], "n = 1")
    newest = evaluations(path).iloc[-1]
    np.testing.assert_allclose(array(line["y"]), [newest[f"exact_match_m{m}"] for m in range(1, 11)])


def test_bytes_are_drawn_in_bits_per_offset(runs: Path) -> None:
    path = write_run(runs, "bytes-cpu", n_future=2, steps=100)
    figure = figures(compare())["bytes-bits"]
    assert annotations(figure).splitlines() == ["offset 1 (next token)", "offset 2"]
    for offset, axis in ((1, "x"), (2, "x2")):
        bits = evaluations(path)[f"test_loss_{offset}"] / math.log(2)
        np.testing.assert_allclose(array(trace(figure, "n = 2, layers", xaxis=axis)["y"]), bits)
    assert figure["layout"]["yaxis"]["title"]["text"] == "bits per byte (held-out files)"


@pytest.mark.parametrize("preset", ["induction-cpu", "stories-cpu", "polynomial-cpu"])
def test_only_bytes_are_drawn_in_bits(runs: Path, preset: str) -> None:
    write_run(runs, preset, steps=100)
    assert not [name for name in figures(compare()) if name.endswith("-bits")]


def test_the_task_of_the_newest_run_is_shown_and_others_can_be_chosen(runs: Path) -> None:
    for created, preset in enumerate(("bytes-cpu", "stories-cpu", "induction-cpu", "polynomial-cpu")):
        write_run(runs, preset, steps=20, created=float(created))
    app = compare()
    assert widget(app, "task").options == ["Induction", "Stories", "Polynomials", "Bytes"]
    assert table(app)["preset"].tolist() == ["polynomial-cpu"]
    widget(app, "task").set_value("stories")
    assert table(app.run())["preset"].tolist() == ["stories-cpu"]
    assert table(compare(task="Bytes"))["preset"].tolist() == ["bytes-cpu"]


@pytest.fixture
def varied(runs: Path) -> Path:
    """Runs of one task that differ in all that one can filter by; the seed says which is which."""
    write_run(runs, steps=100, n_future=1, seed=0)
    write_run(runs, steps=100, n_future=2, seed=1, state="stopped")
    write_run(runs, steps=100, n_future=2, seed=2, control="trunk", state="failed")
    write_run(runs, "induction-gpu", steps=100, n_future=4, seed=3)
    return runs


@pytest.mark.parametrize(
    ("choices", "seeds"),
    [
        ({}, {0, 1, 2, 3}),
        ({"n": [2]}, {1, 2}),
        ({"n": [1, 4]}, {0, 3}),
        ({"control": ["trunk"]}, {0, 2}),
        ({"preset": ["induction-gpu"]}, {3}),
        ({"status": ["stopped"]}, {1}),
        ({"n": [2], "status": ["failed"]}, {2}),
    ],
)
def test_filters_hold_for_all_that_is_shown(
    varied: Path, downloads: Downloads, choices: dict[str, Iterable[Any]], seeds: set[int]
) -> None:
    app = compare()
    for name, values in choices.items():
        widget(app, f"filter-{name}").set_value(list(values))
    app.run()
    assert_well(app)
    assert set(table(app)["seed"]) == seeds
    assert set(pd.read_csv(io.StringIO(downloads["measurements.csv"]))["seed"]) == seeds
    assert set(pd.read_csv(io.StringIO(downloads["runs.csv"]))["seed"]) == seeds
    lines = figures(app)["induction-repeat_accuracy"]["data"]
    runs = [line for line in lines if "opacity" in line]
    assert {int(seed) for line in runs for seed in array(line["customdata"])[:, 2]} == seeds


def test_single_runs_can_be_chosen(varied: Path) -> None:
    app = compare()
    offered = widget(app, "filter-run").options
    assert set(offered) == {path.name for path in varied.iterdir()}
    widget(app, "filter-run").set_value([name for name in offered if "-s0-" in name])
    assert table(app.run())["seed"].tolist() == [0]


def test_filters_offer_what_there_is(varied: Path) -> None:
    app = compare()
    offered = {name: widget(app, f"filter-{name}").options for name in ("n", "control", "preset", "status")}
    assert offered == {
        "n": ["1", "2", "4"],
        "control": ["layers", "trunk"],
        "preset": ["induction-cpu", "induction-gpu"],
        "status": ["finished", "stopped", "failed"],
    }


def test_filters_that_nothing_passes_say_so(varied: Path) -> None:
    app = compare()
    widget(app, "filter-n").set_value([1])
    widget(app, "filter-status").set_value(["failed"])
    app.run()
    assert_well(app)
    assert "No run passes these filters; remove one of them." in words(app)
    assert not figures(app)


def test_filters_of_one_task_do_not_hide_the_runs_of_another(runs: Path) -> None:
    write_run(runs, steps=20, n_future=2)
    write_run(runs, "stories-cpu", steps=20)
    app = compare()
    widget(app, "filter-preset").set_value(["stories-cpu"])
    widget(app.run(), "task").set_value("induction")
    assert table(app.run())["preset"].tolist() == ["induction-cpu"]


def test_all_runs_can_be_saved_as_csv(runs: Path, downloads: Downloads) -> None:
    write_many(runs, steps=100)
    write_run(runs, seed=9, state="failed", steps=100)
    compare()
    found, _ = list_runs(runs)
    rows = pd.read_csv(io.StringIO(downloads["runs.csv"]))
    assert set(rows["run"]) == {run.id for run in found}
    measurements = pd.read_csv(io.StringIO(downloads["measurements.csv"]))
    assert measurements.groupby("run").size().to_dict() == {run.id: len(run.metrics) for run in found}
    assert {"loss_1", "test_loss_2", "repeat_accuracy"} <= set(measurements)


def test_every_figure_can_be_saved_as_a_page_that_needs_no_network(runs: Path, downloads: Downloads) -> None:
    write_run(runs, "polynomial-cpu", n_future=2)
    app = compare()
    pages = downloads.names - {"runs.csv", "measurements.csv", "system.csv"}
    assert pages == {f"{name}.html" for name in figures(app)}
    saved = downloads["polynomial-by-m.html"]
    assert "exact match (share of expressions)" in saved and "Plotly.newPlot" in saved
    assert 'src="http' not in saved


def test_a_figure_can_be_drawn_for_a_document(runs: Path) -> None:
    write_run(runs, steps=100)
    app = compare()
    (chart, *_) = app.get("plotly_chart")
    assert chart.proto.theme == "streamlit" and '"format":"png"' in chart.proto.config.replace(" ", "")
    widget(app, "paper").set_value(True)
    widget(app, "image_format").set_value("SVG")
    app.run()
    for chart in app.get("plotly_chart"):
        assert chart.proto.theme != "streamlit" and '"format":"svg"' in chart.proto.config.replace(" ", "")
