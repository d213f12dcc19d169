"""Compare with several seeds: bands, seeds that ended early, and what the runs took."""

import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from playground.config import ModelConfig
from playground.config.flops import training_flops_per_token
from playground.runs.store import Run
from playground.runs.writing import append_line
from playground.ui.shared.system import flops_text
from playground.ui.shared.words import short
from tests.fake_runs import settle, write_run, write_seeds
from tests.ui.compare.test_page import compare, evaluations, table
from tests.ui.support import (
    Downloads,
    array,
    assert_well,
    change_json,
    figures,
    labels,
    legend,
    widget,
    words,
)

COMPUTED = (
    "playground.ui.compare.comparisons.compare_run",
    "playground.ui.compare.figures.score_curve",
    "playground.ui.compare.figures.loss_curves",
    "playground.ui.shared.selection.experiment_of",
    "playground.ui.shared.system.throughput",
)
"""What the page computes of every run."""


def test_seeds_are_thin_and_their_mean_is_bold(runs: Path) -> None:
    paths = [write_run(runs, seed=seed) for seed in range(3)]
    figure = figures(compare())["induction-repeat_accuracy"]
    lines = figure["data"]
    assert [line["line"]["width"] for line in lines] == [1.0, 0, 3]
    mean = np.mean([evaluations(path)["repeat_accuracy"] for path in paths], axis=0)
    np.testing.assert_allclose(array(lines[-1]["y"]), mean)
    assert "mean of 3 seeds" in lines[-1]["hovertemplate"]
    assert legend(figure) == ["n = 1 (3 seeds)"]


@pytest.mark.parametrize("state", ["stopped", "failed", "interrupted"])
def test_a_seed_that_ended_early_is_in_the_mean_as_far_as_it_went(runs: Path, state: str) -> None:
    paths = [write_run(runs, seed=seed) for seed in range(3)]
    short_run = write_run(runs, seed=3, state=state, done=0.4)
    app = compare()
    figure = figures(app)["induction-repeat_accuracy"]
    tables = [evaluations(path)["repeat_accuracy"].tolist() for path in (*paths, short_run)]
    length = len(tables[3])
    before, after = (line for line in figure["data"] if line["line"]["width"] in (3, 1.8))
    np.testing.assert_allclose(array(before["y"]), np.mean([table[:length] for table in tables], axis=0))
    np.testing.assert_allclose(array(after["y"]), np.mean([table[length - 1 :] for table in tables[:3]], axis=0))
    assert "mean of 3 of 4 seeds, seed 3 ended early" in after["hovertemplate"]
    (cross,) = (line for line in figure["data"] if line["mode"] == "markers")
    assert array(cross["x"]).tolist() == [evaluations(short_run)["tokens"].iloc[-1]]
    assert legend(figure) == ["n = 1 (4 seeds, 1 ended early)"]
    assert "A cross marks where a seed ended early" in words(app)


def test_of_a_seed_that_was_trained_again_only_the_new_run_is_in_the_mean(runs: Path) -> None:
    write_run(runs, seed=0, created=1.0)
    write_run(runs, seed=1, state="stopped", created=2.0)
    write_run(runs, seed=1, created=3.0)
    write_run(runs, seed=2, state="stopped", created=4.0)
    write_run(runs, seed=2, state="failed", done=0.2, created=5.0)
    figure = figures(compare())["induction-repeat_accuracy"]
    assert legend(figure) == ["n = 1 (3 seeds, 1 ended early)"]
    thick = [line for line in figure["data"] if line["line"]["width"] in (3, 1.8)]
    assert ["seeds</b>" in line["hovertemplate"] for line in thick] == [True, False]
    assert "mean of 2 of 3 seeds, seed 2 ended early" in thick[1]["hovertemplate"]


@pytest.mark.parametrize(
    ("seeds", "says", "says_not"),
    [
        ({1: 1}, ["1 seed here: a claim needs at least 8."], ["t interval"]),
        ({1: 2, 2: 2}, ["2 seeds here", "95% t interval of the mean over seeds", "normally distributed"], []),
        ({1: 8, 2: 1}, ["Few seeds (n = 2, layers: 1): a claim needs at least 8.", "t interval"], ["seed here"]),
        ({1: 2, 2: 1}, ["Few seeds (n = 1: 2; n = 2, layers: 1)"], []),
        ({1: 8}, ["t interval"], ["a claim needs", "A cross"]),
    ],
)
def test_above_the_curves_stands_what_a_band_is(
    runs: Path, seeds: dict[int, int], says: list[str], says_not: list[str]
) -> None:
    for n_future, count in seeds.items():
        for seed in range(count):
            write_run(runs, n_future=n_future, seed=seed, steps=40)
    text = words(compare())
    assert all(phrase in text for phrase in says)
    assert not any(phrase in text for phrase in says_not)


def test_of_many_models_with_few_seeds_the_first_are_named(runs: Path) -> None:
    for place, seed in [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]:
        path = write_run(runs, steps=40, seed=seed)
        change_json(path / "config.json", preset=f"own-{place}", optim={"lr": place + 1.0})
        settle(path)
    named = "; ".join(f"n = 1, own-{place}: {2 if place == 0 else 1}" for place in range(4))
    assert f"Few seeds ({named}; and 2 more): a claim needs at least 8." in words(compare())


@pytest.mark.parametrize(("count", "drawn"), [(3, {0, 1, 2}), (5, {0, 2, 4})])
def test_of_many_seeds_some_lines_are_drawn_which_the_page_says(
    runs: Path, monkeypatch: pytest.MonkeyPatch, count: int, drawn: set[int]
) -> None:
    monkeypatch.setattr("playground.figures.curves.MOST_LINES", 3)
    paths = write_seeds(runs, 2 * count)
    app = compare()
    says = "At most 3 single seeds of a model are drawn as lines, spread evenly over all of them"
    assert (says in words(app)) == (len(drawn) < count)
    figure = figures(app)["induction-repeat_accuracy"]
    assert legend(figure) == [f"n = 1 ({count} seeds)", f"n = 2, layers ({count} seeds)"]
    thin, _, mean = figure["data"][:3]
    assert set(array(thin["customdata"])[:, 2]) == drawn
    values = [evaluations(path)["repeat_accuracy"] for path in paths if "-n1-" in path.name]
    np.testing.assert_allclose(array(mean["y"]), np.mean(values, axis=0))
    assert len(table(app)) == 2 * count and len(array(figures(app)["induction-t50"]["data"][0]["x"])) == count


def test_of_many_seeds_that_ended_early_some_are_named(runs: Path) -> None:
    for path in write_seeds(runs, 14):
        change_json(path / "run.json", status="failed" if "-n1-" in path.name else "finished", reason="gone")
    write_run(runs, seed=99)
    text = words(compare())
    assert "seeds 0, 1, 2, 3 and 3 more failed and are not counted" in text
    assert "several may be dropped from the mean" not in text


def test_a_click_computes_no_curve_row_or_group_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_seeds(runs, 12)
    app = compare()
    computed: list[str] = []

    def counting(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            computed.append(name)
            return work(*args, **options)

        return count

    for place in COMPUTED:
        module, name = place.rsplit(".", 1)
        monkeypatch.setattr(place, counting(name, getattr(importlib.import_module(module), name)))
    widget(app, "axis").set_value("steps")
    app.run()
    assert_well(app)
    assert figures(app)["induction-repeat_accuracy"]["layout"]["xaxis"]["title"]["text"] == "training step"
    assert not computed
    append_line(
        next(runs.glob("*-n1-*-s0-*")) / "metrics.jsonl",
        {"kind": "eval", "step": 9999, "tokens": 10**9, "seconds": 1.0, "repeat_accuracy": 0.5},
    )
    app.run()
    assert sorted(computed) == sorted(place.rsplit(".", 1)[1] for place in COMPUTED)  # of one run


def test_the_system_stands_below_the_runs(runs: Path, downloads: Downloads) -> None:
    path = write_run(runs, steps=100, matmul_flops=2e11, peak_memory=2**30, replicas=4, device="NVIDIA H200", threads=3)
    write_run(runs, steps=100, n_future=2)
    model = json.loads((path / "config.json").read_text())["model"] | {"d_vocab": 64, "n_ctx": 64}
    change_json(path / "config.json", model=model)
    settle(path)
    app = compare()
    shown = app.dataframe[1].value.set_index("run").loc[path.name]
    record = Run(path).record
    rate = training_flops_per_token(ModelConfig(**model)) * 4 * record.tokens_per_second
    assert shown["speed"] == f"{short(record.tokens_per_second)} tokens/s"
    assert shown["model FLOP/s"] == flops_text(rate)
    assert shown["MFU"] == f"{100 * rate / 2e11:.0f}% of 200 GFLOP/s"
    assert (shown["peak memory"], shown["device"], shown["threads"]) == ("1 GiB", "NVIDIA H200", 3)
    assert shown["models a process"] == 4
    assert "MFU: the operations" in words(app)
    saved = pd.read_csv(io.StringIO(downloads["system.csv"])).set_index("run").loc[path.name]
    assert saved["flops"] == pytest.approx(rate, rel=1e-3) and saved["peak_memory"] == 2**30


def test_what_no_run_knows_of_its_device_has_no_column(runs: Path) -> None:
    write_run(runs, steps=100)
    app = compare()
    assert list(app.dataframe[1].value) == [
        "model",
        "seed",
        "status",
        "speed",
        "device",
        "threads",
        "models a process",
        "run",
    ]
    assert "MFU" not in words(app)


def test_runs_that_measured_nothing_stand_in_the_table(runs: Path) -> None:
    write_run(runs, state="running", done=0)
    app = compare()
    assert table(app)["status"].tolist() == ["training"]
    assert table(app)["t50 (tokens)"].tolist() == ["-"]
    assert "Look again" in labels(app, "button")
    assert len(app.dataframe) == 1


def test_lines_that_cannot_be_read_are_named(runs: Path) -> None:
    paths = [write_run(runs, steps=40, seed=seed) for seed in range(2)]
    with (paths[0] / "metrics.jsonl").open("a") as file:
        file.write("{\n")
    text = words(compare())
    assert f"{paths[0].name}" in text and "cannot be read" in text
    assert text.count("cannot be read") == 1
