"""One row a run: which score stands in it, when it crossed, and what an unfinished run says."""

import dataclasses
import json
from typing import Any

import pandas as pd
import pytest

from playground.experiments.compare import StoredMetrics, compare, compare_run
from playground.results import ScoreInfo
from playground.runs.record import RunRecord
from playground.runs.store import load_run
from tests.fake_runs import STATES, write_run

HEADLINE = ScoreInfo(name="accuracy", chance=0.0, ceiling=1.0, unit="share", higher_is_better=True)
OTHER = ScoreInfo(name="loss", chance=4.0, ceiling=0.0, unit="nats", higher_is_better=False)


class FakeRun:
    """A record and rows of metrics, without a folder."""

    def __init__(self, values: list[Any], *, name: str = "accuracy", **record: Any) -> None:
        parts = {"run": "r", "status": "stopped", "task": "induction", "preset": None, "n_future": 2, "seed": 3,
                 "control": "trunk", "config_hash": "0", "steps": 100, "scores": (HEADLINE, OTHER)}  # fmt: skip
        self.record = RunRecord(**(parts | record))
        rows = [{"kind": "eval", "step": i, "tokens": 640 * i, name: value} for i, value in enumerate(values)]
        rows += [{"kind": "train", "step": 99, "tokens": 99 * 640, "loss_1": 2.0}]
        self.metrics = pd.DataFrame(rows)


def test_fakes_and_stored_runs_are_what_is_compared(tmp_path):
    assert isinstance(FakeRun([]), StoredMetrics)
    assert isinstance(load_run(write_run(tmp_path, steps=40)), StoredMetrics)


@pytest.mark.parametrize(
    ("values", "final", "score", "t50"),
    [
        ([0.1, 0.6, 0.7], {}, 0.7, 640),
        ([0.1, 0.6, 0.4], {}, 0.4, None),
        ([0.1, 0.6, 0.7], {"accuracy": 0.72, "loss": 1.0}, 0.72, 640),
        ([0.1, 0.6, None], {}, 0.6, 640),
        ([None, None], {}, None, None),
        ([None, None], {"accuracy": 0.2}, 0.2, None),
        ([], {}, None, None),
    ],
    ids=str,
)
def test_the_score_is_the_final_one_or_the_last_measured(values, final, score, t50):
    row = compare_run(FakeRun(values, final=final))
    assert (row.score_name, row.chance, row.ceiling, row.higher_is_better) == ("accuracy", 0.0, 1.0, True)
    assert (row.score, row.t50_tokens) == (score, t50)
    assert json.loads(json.dumps(row.to_dict(), allow_nan=False)) == dataclasses.asdict(row)


def test_a_score_that_falls():
    row = compare_run(FakeRun([4.0, 1.9, 1.0], name="loss", scores=(OTHER,)))
    assert (row.score, row.t50_tokens, row.higher_is_better) == (1.0, 640, False)


def test_a_score_that_is_not_in_the_rows_yet():
    row = compare_run(FakeRun([0.1], name="another"))
    assert (row.score_name, row.score, row.t50_tokens) == ("accuracy", None, None)


def test_a_score_named_like_the_column_of_kinds_is_no_number():
    row = compare_run(FakeRun([0.1], scores=(dataclasses.replace(HEADLINE, name="kind"),)))
    assert (row.score_name, row.score, row.t50_tokens) == ("kind", None, None)


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_arrays_and_tables_give_the_same_row(tmp_path, state):
    run = load_run(write_run(tmp_path, steps=100, state=state))
    assert compare(run.record, run.read_metrics().columns) == compare(run.record, run.metrics) == compare_run(run)


def test_a_run_that_has_measured_nothing_has_a_row_all_the_same():
    row = compare_run(FakeRun([0.1], scores=()))
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
        before, after = (evaluated[part(evaluated.tokens, row.t50_tokens)].repeat_accuracy for part in
                         (pd.Series.lt, pd.Series.ge))  # fmt: skip
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
