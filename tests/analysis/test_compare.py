"""One row a run: which score stands in it, when it crossed, and what an unfinished run says."""

import dataclasses
import json
from typing import Any

import pandas as pd
import pytest

from playground.analysis.compare import Comparison, compare, compare_run, flops_per_token
from playground.results import ScoreInfo
from playground.runs.record import RunRecord
from playground.runs.store import load_run
from tests.fake_runs import STATES, write_run

HEADLINE = ScoreInfo(name="accuracy", chance=0.0, ceiling=1.0, unit="share", higher_is_better=True)
OTHER = ScoreInfo(name="loss", chance=4.0, ceiling=0.0, unit="nats", higher_is_better=False)


def row_of(values: list[Any], *, name: str = "accuracy", **record: Any) -> Comparison:
    """The row of a record and rows of metrics, without a folder."""
    parts = {
        "run": "r",
        "status": "stopped",
        "task": "induction",
        "preset": None,
        "n_future": 2,
        "seed": 3,
        "control": "trunk",
        "config_hash": "0",
        "steps": 100,
        "scores": (HEADLINE, OTHER),
    }
    rows = [
        {"kind": "eval", "step": i, "tokens": 640 * i, "seconds": 3.0 * i, name: value}
        for i, value in enumerate(values)
    ]
    rows += [{"kind": "train", "step": 99, "tokens": 99 * 640, "seconds": 297.0, "loss_1": 2.0}]
    return compare(RunRecord(**(parts | record)), pd.DataFrame(rows), flops_per_token=10.0)


@pytest.mark.parametrize(
    ("values", "final", "score", "t50"),
    [
        ([0.1, 0.6, 0.7], {}, 0.7, 512),
        ([0.1, 0.6, 0.4], {}, 0.4, None),
        ([0.1, 0.6, 0.7], {"accuracy": 0.72, "loss": 1.0}, 0.72, 512),
        ([0.1, 0.6, None], {}, 0.6, 512),
        ([None, None], {}, None, None),
        ([None, None], {"accuracy": 0.2}, 0.2, None),
        ([], {}, None, None),
    ],
    ids=str,
)
def test_the_score_is_the_final_one_or_the_last_measured(values, final, score, t50):
    row = row_of(values, final=final)
    assert (row.score_name, row.chance, row.ceiling, row.higher_is_better) == ("accuracy", 0.0, 1.0, True)
    assert (row.score, row.t50_tokens) == (score, t50)
    assert json.loads(json.dumps(row.to_dict(), allow_nan=False)) == dataclasses.asdict(row)


def test_a_score_that_falls():
    row = row_of([4.0, 1.9, 1.0], name="loss", scores=(OTHER,))
    assert (row.score, row.t50_tokens, row.higher_is_better) == (1.0, 610, False)


def test_a_score_that_is_not_in_the_rows_yet():
    row = row_of([0.1], name="another")
    assert (row.score_name, row.score, row.t50_tokens) == ("accuracy", None, None)


def test_a_score_named_like_the_column_of_kinds_is_no_number():
    row = row_of([0.1], scores=(dataclasses.replace(HEADLINE, name="kind"),))
    assert (row.score_name, row.score, row.t50_tokens) == ("kind", None, None)


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_arrays_and_tables_give_the_same_row(tmp_path, state):
    run = load_run(write_run(tmp_path, steps=100, state=state))
    assert compare(run.record, run.read_metrics().columns) == compare(run.record, run.metrics)


def test_a_run_that_has_measured_nothing_has_a_row_all_the_same():
    row = row_of([0.1], scores=())
    assert (row.score_name, row.score, row.chance, row.ceiling, row.higher_is_better) == (None,) * 5
    assert (row.run, row.n_future, row.control, row.seed, row.parameters) == ("r", 2, "trunk", 3, 0)


@pytest.mark.parametrize("state", STATES)
def test_stored_runs_in_every_state(tmp_path, state):
    run = load_run(write_run(tmp_path, n_future=2, seed=1, steps=100, state=state))
    row = compare_run(run)
    assert (row.run, row.status, row.task, row.preset) == (run.id, state, "induction", "induction-cpu")
    assert (row.n_future, row.control, row.seed, row.steps) == (2, "layers", 1, 100)
    assert (row.tokens, row.step) == (run.record.tokens, run.record.step)
    evaluated = run.metrics[run.metrics.kind == "eval"]
    assert row.score == evaluated.repeat_accuracy.iloc[-1]
    assert row.parameters == run.record.parameters["total"]
    if state == "finished":
        before, after = (
            evaluated[part(evaluated.tokens, row.t50_tokens)].repeat_accuracy for part in (pd.Series.lt, pd.Series.ge)
        )
        half = (run.record.scores[0].chance + run.record.scores[0].ceiling) / 2
        assert (after >= half).all() and before.iloc[-1] < half


def test_a_run_is_known_as_far_as_it_was_evaluated(tmp_path):
    """Lines that are lost say nothing of whether the score came half way after them."""
    path = write_run(tmp_path, steps=200)
    whole = compare_run(load_run(path))
    rows = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [row for row in rows if json.loads(row)["step"] <= 100]
    (path / "metrics.jsonl").write_text("".join(kept))
    cut = compare_run(load_run(path))
    last = [json.loads(row)["tokens"] for row in kept if json.loads(row)["kind"] == "eval"][-1]
    assert (whole.measured_tokens, cut.measured_tokens) == (whole.tokens, last) and cut.tokens == whole.tokens


def test_the_crossing_in_seconds_and_in_flops():
    row = row_of([0.1, 0.6, 0.7])
    assert (row.t50_tokens, row.t50_seconds, row.t50_flops) == (512, pytest.approx(2.4), pytest.approx(5120.0))
    never = row_of([0.1, 0.2])
    assert never.t50_tokens is never.t50_seconds is never.t50_flops is None


def test_a_stored_run_knows_its_flops_and_how_often_it_was_clipped(tmp_path):
    path = write_run(tmp_path, steps=100)
    row, plain = compare_run(load_run(path)), compare(load_run(path).record, load_run(path).metrics)
    assert dataclasses.replace(row, t50_flops=None) == plain
    assert flops_per_token({"model": {"n_layers": 2}}) is None  # no vocabulary
    assert flops_per_token({"model": {"d_vocab": 9, "n_ctx": 8}, "base": {"run": "x"}}) is None
    assert flops_per_token({"model": {"d_vocab": 9, "n_ctx": 8}}) is not None
    stored = pd.DataFrame(
        {"kind": ["train"] * 3, "step": [1, 2, 3], "tokens": [1, 2, 3], "clipped": [1.0, 0.5, float("nan")]}
    )
    assert compare(load_run(path).record, stored).clipped == 0.75
