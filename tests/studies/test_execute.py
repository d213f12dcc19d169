"""Studies are trained, stopped and taken up: what is missing, in a balanced order, each training once."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from playground.running.presets import make_config
from playground.runs.store import list_runs
from playground.studies.definition import NEXT_TOKEN, Arm, Study, at_seed, looking_ahead, over
from playground.studies.execute import left_to_train, read_study, run_study
from tests.studies.support import store

TINY = make_config("induction-cpu", steps=4)
TINY = dataclasses.replace(
    TINY,
    preset=None,
    task=dataclasses.replace(TINY.task, test_rows=8, quick_rows=8),
    model=dataclasses.replace(TINY.model, n_layers=2, n_heads=2, d_model=16),
    train=dataclasses.replace(TINY.train, batch_size=4, eval_every=2, checkpoint_every=2, probe_points=0, threads=1),
)


def a_study(**options) -> Study:
    kept = {"name": "s", "question": "Does it help?", "base": TINY, "arms": (NEXT_TOKEN, *looking_ahead(2, ["trunk"]))}
    return Study(**(kept | {"seeds": (0, 1)} | options))


def test_trainings_start_one_seed_of_everything_after_another(tmp_path):
    study = a_study(axes=(over("optim.lr", [1e-3, 2e-3]),), seeds=(5, 3))
    store(tmp_path, at_seed(study.cells[0].configs["n = 1"], 5), 10.0)
    left = left_to_train(read_study(study, tmp_path))
    assert [(one.seed, one.cell, one.arm) for one in left] == [
        (5, 0, "n = 2, trunk"),
        (5, 1, "n = 1"),
        (5, 1, "n = 2, trunk"),
        (3, 0, "n = 1"),
        (3, 0, "n = 2, trunk"),
        (3, 1, "n = 1"),
        (3, 1, "n = 2, trunk"),
    ]
    only = {"lr": ["0.002"], "arm": ["n = 1"]}
    assert [(one.seed, one.cell) for one in left_to_train(read_study(study, tmp_path), only)] == [(5, 1), (3, 1)]


def test_a_sweep_comes_before_the_comparison(tmp_path):
    study = a_study(rates=(1e-3, 2e-3), rate_seeds=(9,))
    assert {one.sweep for one in left_to_train(read_study(study, tmp_path))} == {True}
    for arm in ("n = 1", "n = 2, trunk"):
        for rate in study.rates:
            store(tmp_path, at_seed(study.cells[0].configs[arm], 9, rate), 10.0 if rate == 2e-3 else None)
    left = left_to_train(read_study(study, tmp_path))
    assert len(left) == 4 and {one.rate for one in left} == {2e-3}


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ({"size": ["big"]}, "has no axis 'size'"),
        ({"arm": ["n = 3"]}, "has no value 'n = 3'; write one of: n = 1 . n = 2, trunk"),
    ],
)
def test_unknown_parts_are_refused(only, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(a_study(), tmp_path, only=only)
    assert not any(tmp_path.iterdir())


def test_a_study_is_trained_once_and_grows(tmp_path):
    study = a_study(seeds=(0,))
    for _ in range(2):
        assert run_study(study, tmp_path).count("finished") == 2 == len(list_runs(tmp_path)[0])
    more = dataclasses.replace(study, seeds=(0, 1))
    assert run_study(more, tmp_path).count("finished") == 4 == len(list_runs(tmp_path)[0])


def test_a_failed_training_is_a_row_and_no_end(tmp_path):
    changes = {"model.n_future": 2, "model.control": "trunk", "optim.lr": 1e20, "optim.clip": 1e20}
    broken = Arm(label="diverges", changes=changes, control="trunk")
    found = run_study(a_study(arms=(NEXT_TOKEN, broken), seeds=(0,)), tmp_path)
    assert found.count("finished") == 1 and found.count("failed") == 1
    (one,) = [one for one in found.trainings if one.state == "failed"]
    assert "loss" in one.reason
    assert left_to_train(found) == []


def test_a_stopped_study_goes_on_from_its_checkpoints(tmp_path):
    """The second look says stop: the running trainings write a checkpoint; the next call resumes them, with equal results."""
    long = dataclasses.replace(
        TINY, train=dataclasses.replace(TINY.train, steps=60, eval_every=20, checkpoint_every=20)
    )
    study = a_study(base=long, seeds=(0,))
    whole = run_study(study, tmp_path / "whole")
    looks = Counter()

    def soon() -> str:
        looks["asked"] += 1
        begun = any((tmp_path / "stopped").glob("*/metrics.jsonl"))
        return "enough" if begun else ""

    stopped = run_study(study, tmp_path / "stopped", should_stop=soon)
    assert looks["asked"] and stopped.count("finished") < 2
    done = run_study(study, tmp_path / "stopped")
    assert done.count("finished") == 2 == len(list_runs(tmp_path / "stopped")[0])
    finals = [[one.run.record.final for one in found.trainings] for found in (whole, done)]
    assert finals[0] == finals[1]


PROGRAM = """
import json, sys
from playground.config import RunConfig
from playground.studies.definition import NEXT_TOKEN, Study, looking_ahead
from playground.studies.execute import run_study
base = RunConfig.from_dict(json.loads(sys.argv[1]))
arms = (NEXT_TOKEN, *looking_ahead(2, ["trunk"]))
run_study(Study(name="s", question="Does it help?", base=base, arms=arms, seeds=(0,)), sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_study_ends_with_the_same_numbers(tmp_path):
    study = a_study(seeds=(0,))
    whole = run_study(study, tmp_path / "whole")
    command = [sys.executable, "-c", PROGRAM, json.dumps(TINY.to_dict()), str(tmp_path / "killed")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        time.sleep(7.0)  # about when the trainings begin
        os.kill(process.pid, signal.SIGKILL)
    subprocess.run(command, check=True)
    done = read_study(study, tmp_path / "killed")
    assert [one.run.record.final for one in done.trainings] == [one.run.record.final for one in whole.trainings]
    assert len(list_runs(tmp_path / "killed")[0]) == 2
