"""Heads: the two runs it offers, each score, and the pattern of a head on a real row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.probes.attention_scores import attention_patterns
from playground.runs.checkpoint import WEIGHTS
from playground.runs.store import Run
from tests.fake_runs import write_many, write_run, write_weights
from tests.ui.support import (
    Downloads,
    annotations,
    array,
    assert_well,
    cut_last_line,
    figures,
    labels,
    open_page,
    widget,
    words,
)

PREFIX, PREVIOUS = "prefix matching (induction)", "previous token"


def heads(**query: str) -> AppTest:
    return open_page("heads", **query)


def chosen(app: AppTest) -> list[str]:
    """Ids of the runs on the left and on the right."""
    return [str(box.value) for box in app.selectbox if box.key in ("left", "right")]


def maps(app: AppTest) -> list[np.ndarray]:
    """The heat-maps as drawn first: the scores of every head at the last step."""
    return [array(trace["z"]) for trace in figures(app)["heads"]["data"]]


def panels(app: AppTest) -> list[str]:
    """Titles of the heat-maps, without their figures."""
    return [text.partition(":")[0] for text in annotations(figures(app)["heads"]).splitlines()]


@pytest.mark.parametrize(
    ("written", "left", "right"),
    [
        ([(1, 0), (2, 0)], 0, 1),
        ([(2, 0), (1, 0)], 1, 0),
        ([(1, 0), (1, 1), (2, 0)], 0, 2),
        ([(1, 0), (2, 0), (1, 1), (2, 1)], 2, 3),
        ([(1, 0), (2, 1)], 0, 1),
        ([(1, 0), (1, 1)], 1, 0),
        ([(2, 0), (2, 1)], 1, 0),
    ],
)
def test_the_newest_pair_that_differs_in_n_alone_is_shown(
    runs: Path, written: list[tuple[int, int]], left: int, right: int
) -> None:
    paths = [
        write_run(runs, steps=20, n_future=n_future, seed=seed, created=float(created))
        for created, (n_future, seed) in enumerate(written)
    ]
    assert chosen(heads()) == [paths[left].name, paths[right].name]


def test_every_run_with_scores_is_offered_on_both_sides(runs: Path) -> None:
    paths = write_many(runs, steps=100)
    (paths[0] / "probes/attention.jsonl").unlink()
    app = heads()
    for side in ("left", "right"):
        offered = "\n".join(widget(app, side).options)
        assert [path.name in offered for path in paths] == [False, *[True] * 5]
    assert "n = 2, layers, seed 1 (finished, step 100): " in offered


def test_another_pair_can_be_chosen(runs: Path) -> None:
    paths = write_many(runs, steps=40)
    app = heads()
    widget(app, "left").set_value(paths[1].name)
    widget(app, "right").set_value(paths[2].name)
    app.run()
    assert_well(app)
    assert panels(app) == ["<b>n = 1, seed 1</b><br>" + PREFIX, "<b>n = 1, seed 2</b><br>" + PREFIX] + [
        "<b>n = 1, seed 1</b><br>" + PREVIOUS, "<b>n = 1, seed 2</b><br>" + PREVIOUS,
    ]  # fmt: skip
    for drawn, path in zip(maps(app), (paths[1], paths[2]), strict=False):
        np.testing.assert_allclose(drawn, Run(path).attention.scores[-1].prefix_matching)


def test_the_same_run_on_both_sides_is_drawn_once(runs: Path) -> None:
    paths = write_many(runs, steps=40)
    app = heads()
    widget(app, "left").set_value(paths[0].name)
    widget(app, "right").set_value(paths[0].name)
    assert len(maps(app.run())) == 2


def test_two_runs_of_one_name_are_told_apart(runs: Path) -> None:
    """The same model trained twice: the second goes by its id."""
    paths = [write_run(runs, steps=20, created=float(number)) for number in range(2)]
    titles = panels(heads())
    assert len(set(titles)) == 4
    assert any(paths[0].name in title for title in titles)


def test_one_run_stands_alone(runs: Path) -> None:
    path = write_run(runs, steps=40)
    app = heads()
    assert chosen(app) == [path.name]
    assert "With a second run of this task" in words(app)
    assert len(maps(app)) == 2


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        (["prefix_matching"], ["prefix_matching"]),
        (["previous_token"], ["previous_token"]),
        (["previous_token", "prefix_matching"], ["prefix_matching", "previous_token"]),
        ([], ["prefix_matching", "previous_token"]),
    ],
)
def test_each_score_can_be_chosen(runs: Path, scores: list[str], shown: list[str]) -> None:
    pair = [write_run(runs, n_future=n_future) for n_future in (1, 2)]
    app = heads()
    widget(app, "scores").set_value(scores)
    app.run()
    assert_well(app)
    expected = [getattr(Run(path).attention.scores[-1], name) for name in shown for path in pair]
    for drawn, values in zip(maps(app), expected, strict=True):
        np.testing.assert_allclose(drawn, values)


def test_training_can_be_replayed(runs: Path) -> None:
    path = write_run(runs, steps=100)
    figure = figures(heads())["heads"]
    history = Run(path).attention
    assert [frame["name"] for frame in figure["frames"]] == [str(step) for step in history.steps]
    for frame, scores in zip(figure["frames"], history.scores, strict=True):
        np.testing.assert_allclose(array(frame["data"][0]["z"]), scores.prefix_matching)
    assert [button["label"] for button in figure["layout"]["updatemenus"][0]["buttons"]] == ["Play", "Pause"]
    assert len(figure["layout"]["sliders"][0]["steps"]) == len(history.steps)


def test_layers_are_named_after_trunk_and_future_heads(runs: Path) -> None:
    path = write_run(runs, "stories-cpu", n_future=2, steps=50)
    trunk = [f"trunk {layer}" for layer in range(Run(path).config.model.n_trunk_layers)]
    layout = figures(heads())["heads"]["layout"]
    assert layout["yaxis"]["ticktext"] == [*trunk, "future head 1", "future head 2"]


def test_a_history_cut_short_is_shown_as_far_as_it_goes(runs: Path) -> None:
    path = write_run(runs, steps=100)
    whole = [str(step) for step in Run(path).attention.steps]
    cut_last_line(path / "probes/attention.jsonl")
    frames = figures(heads())["heads"]["frames"]
    assert [frame["name"] for frame in frames] == whole[:-1]


def test_the_task_can_be_chosen(runs: Path) -> None:
    induction = write_run(runs, steps=40, created=1.0)
    stories = write_run(runs, "stories-cpu", steps=40, created=2.0)
    app = heads()
    assert chosen(app) == [stories.name]
    widget(app, "task").set_value("induction")
    assert chosen(app.run()) == [induction.name]
    assert chosen(heads(task="Induction")) == [induction.name]


def test_the_figure_can_be_saved(runs: Path, downloads: Downloads) -> None:
    write_run(runs, steps=40)
    heads()
    assert downloads.names == {"heads.html"}
    assert "previous token" in downloads["heads.html"] and "Play" in downloads["heads.html"]


def test_a_figure_for_a_document(runs: Path) -> None:
    write_run(runs, steps=40)
    app = heads()
    widget(app, "paper").set_value(True)
    app.run()
    assert app.get("plotly_chart")[0].proto.theme != "streamlit"


def test_runs_without_scores_say_why(runs: Path) -> None:
    (write_run(runs, steps=20) / "probes/attention.jsonl").unlink()
    app = heads()
    assert "None of these runs has stored attention scores yet." in words(app)
    assert labels(app, "page_link") == ["Train"]


@pytest.fixture
def weighted(runs: Path) -> list[Path]:
    """A run for n = 1 and one for n = 2, each with weights at two steps."""
    paths = [write_run(runs, n_future=n_future, steps=40) for n_future in (1, 2)]
    for path in paths:
        write_weights(path, (0, 40))
    return paths


def pattern(app: AppTest) -> dict[str, Any]:
    return figures(app)["pattern"]


def test_the_pattern_of_the_strongest_induction_head_is_shown(weighted: list[Path]) -> None:
    app = heads()
    scores = Run(weighted[0]).attention.scores[-1].prefix_matching
    layer, head = np.unravel_index(np.argmax(scores), scores.shape)
    assert widget(app, f"pattern-head-{weighted[0].name}").value == (layer, head)
    figure = pattern(app)
    assert figure["layout"]["title"]["text"].startswith(f"future head 1, head {head}, step 40")
    weights = array(figure["data"][0]["z"]).astype(float)
    length = min(64, Run(weighted[0]).task.n_ctx)
    assert weights.shape == (length, length)
    np.testing.assert_allclose(np.nansum(weights, axis=1), 1, atol=1e-4)
    assert np.isnan(weights[np.triu_indices(length, 1)]).all()
    assert figure["data"][1]["name"] == "where an ideal induction head looks"


def test_the_tokens_of_the_row_stand_along_both_axes(weighted: list[Path]) -> None:
    app = heads()
    task = Run(weighted[0]).task
    rows = task.test_batch(8).tokens[:, :64]
    for row in (0, 3):
        widget(app, "pattern-row").set_value(row)
        layout = pattern(app.run())["layout"]
        expected = list(task.token_strings(rows[row].tolist()))
        assert layout["xaxis"]["ticktext"] == expected == layout["yaxis"]["ticktext"]


@pytest.mark.parametrize("row", [0, 3])
def test_the_weights_are_what_the_model_computes_on_that_row(weighted: list[Path], row: int) -> None:
    app = heads()
    widget(app, "pattern-row").set_value(row)
    widget(app, f"pattern-head-{weighted[0].name}").set_value((1, 3))
    shown = array(pattern(app.run())["data"][0]["z"])
    run = Run(weighted[0])
    computed = attention_patterns(run.model(40), run.task.test_batch(8).tokens[:, :64])["blocks.1"][row, 3].numpy()
    np.testing.assert_allclose(np.nan_to_num(shown), computed, atol=1e-5)


def test_the_pattern_is_the_models_own(weighted: list[Path]) -> None:
    """Another head, another step or another run is another pattern, and coming back brings the first one back."""
    app = heads()
    one, two = (path.name for path in weighted)
    first = array(pattern(app)["data"][0]["z"])

    def after(key: str, value: Any) -> np.ndarray:
        widget(app, key).set_value(value)
        app.run()
        assert_well(app)
        return array(pattern(app)["data"][0]["z"])

    assert not np.array_equal(after(f"pattern-head-{one}", (0, 1)), first, equal_nan=True)
    assert pattern(app)["layout"]["title"]["text"].startswith("trunk 0, head 1, step 40")
    after(f"pattern-step-{one}", 0)
    assert "step 0" in pattern(app)["layout"]["title"]["text"]
    other = after("pattern-run", two)
    assert two in pattern(app)["layout"]["title"]["text"]
    assert not np.array_equal(other, first, equal_nan=True)
    after("pattern-run", one)
    after(f"pattern-step-{one}", 40)
    scores = Run(weighted[0]).attention.scores[-1].prefix_matching
    best = tuple(int(i) for i in np.unravel_index(np.argmax(scores), scores.shape))
    np.testing.assert_array_equal(after(f"pattern-head-{one}", best), first)


def test_every_head_is_offered_with_its_score(weighted: list[Path]) -> None:
    options = widget(heads(), f"pattern-head-{weighted[0].name}").options
    scores = Run(weighted[0]).attention.scores[-1].prefix_matching
    assert len(options) == scores.size
    told = [float(option.rpartition(" ")[2].rstrip(")")) for option in options]
    assert told == sorted(told, reverse=True)
    assert told[0] == pytest.approx(scores.max(), abs=0.006)


def test_one_stored_step_needs_no_slider(runs: Path) -> None:
    path = write_run(runs, steps=40)
    write_weights(path, (40,))
    app = heads()
    assert "step 40" in pattern(app)["layout"]["title"]["text"]
    assert not app.get("select_slider") and not app.get("slider")


def test_weights_that_cannot_be_opened_are_told(weighted: list[Path]) -> None:
    (weighted[0] / "checkpoints" / "40" / WEIGHTS).write_bytes(b"cut short")
    app = heads()
    assert "This model cannot be opened:" in words(app)
    assert "pattern" not in figures(app)


def test_weights_that_are_gone_are_told(weighted: list[Path]) -> None:
    (weighted[0] / "checkpoints" / "40" / WEIGHTS).unlink()
    app = heads()
    assert "The weights of this step are gone; choose another step." in words(app)
    widget(app, f"pattern-step-{weighted[0].name}").set_value(0)
    assert "step 0" in pattern(app.run())["layout"]["title"]["text"]


def test_a_configuration_that_is_gone_is_told(weighted: list[Path]) -> None:
    (weighted[0] / "config.json").unlink()
    app = heads()
    assert "This model cannot be opened: there is no configuration in" in words(app)


def test_a_model_of_another_shape_than_its_configuration_is_told(weighted: list[Path]) -> None:
    config = json.loads((weighted[0] / "config.json").read_text())
    config["model"]["d_model"] = 32
    (weighted[0] / "config.json").write_text(json.dumps(config))
    app = heads()
    assert "This model cannot be opened:" in words(app)


def test_runs_without_weights_say_so(runs: Path) -> None:
    write_run(runs, steps=20)
    app = heads()
    assert "These runs have no stored weights, which this view needs." in words(app)
    assert "heads" in figures(app)


@pytest.mark.parametrize("preset", ["stories-cpu", "polynomial-cpu", "bytes-cpu"])
def test_the_pattern_of_every_task(runs: Path, preset: str) -> None:
    path = write_run(runs, preset, n_future=2, steps=20)
    write_weights(path, (20,))
    layout = pattern(heads())["layout"]
    assert 0 < len(layout["xaxis"]["ticktext"]) <= 64
