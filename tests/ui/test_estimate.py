"""How long a training will take."""

import dataclasses
from typing import Any

import pytest

from playground.runs.record import RunRecord
from playground.ui.estimate import SIDE_BY_SIDE, START_UP, Estimate, Plan, cores, estimate

PLAN = Plan(preset="induction-cpu", n_futures=(1,), seeds=(0,), control="layers", steps=100, parallel=1)
FINISHED = RunRecord(
    run="a", status="finished", task="induction", preset="induction-cpu", n_future=1, control="layers", seed=0,
    config_hash="", steps=100, step=100, seconds=20.0, created=1000.0, finished=1025.0,
)  # fmt: skip
"""A run that took 25 s, 20 of them training: 0.25 s a step."""


def planned(**changes: Any) -> Plan:
    return dataclasses.replace(PLAN, **changes)


def finished(**changes: Any) -> RunRecord:
    return dataclasses.replace(FINISHED, **changes)


def seconds(plan: Plan, *records: RunRecord) -> float:
    """Without the time to start up."""
    return estimate(plan, records, seconds_per_step=0.1, n_layers=4).seconds - START_UP


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 10),
        ({"steps": 200}, 20),
        ({"seeds": (0, 1, 2)}, 30),
        ({"n_futures": (1, 2)}, 20),
        ({"n_futures": (1, 2), "control": "trunk"}, 10 + 12.5),
        ({"n_futures": (4,), "control": "trunk"}, 17.5),
        ({"n_futures": (1, 2), "parallel": 2}, 10 * SIDE_BY_SIDE),
        ({"n_futures": (1, 2), "seeds": (0, 1), "parallel": 2}, 20 * SIDE_BY_SIDE),
        ({"seeds": (0, 1), "parallel": 8}, 10 * SIDE_BY_SIDE),
        ({"n_futures": ()}, 0),
        ({"seeds": (), "n_futures": ()}, 0),
    ],
)
def test_without_earlier_runs_the_preset_decides(changes: dict[str, Any], expected: float) -> None:
    assert seconds(planned(**changes)) == pytest.approx(expected)
    assert not estimate(planned(**changes), [], seconds_per_step=0.1, n_layers=4).measured


@pytest.mark.parametrize(
    ("plan", "record", "rate"),
    [
        ({}, {}, 0.25),
        ({}, {"control": "trunk"}, 0.25),
        ({"n_futures": (2,)}, {"n_future": 2}, 0.25),
        ({"n_futures": (2,), "control": "trunk"}, {"n_future": 2, "control": "trunk"}, 0.25),
        ({}, {"finished": 1010.0}, 0.2),
        ({}, {"finished": 90_000.0}, 0.2),
    ],
)
def test_a_finished_run_of_the_kind_is_the_measure(plan: dict, record: dict, rate: float) -> None:
    """Wall-clock time; training time where the run was interrupted in between."""
    found = estimate(planned(**plan), [finished(**record)], seconds_per_step=9, n_layers=4)
    assert found.seconds - START_UP == pytest.approx(100 * rate)
    assert found.measured


@pytest.mark.parametrize(
    ("plan", "record"),
    [
        ({}, {"status": "stopped"}),
        ({}, {"status": "failed"}),
        ({}, {"step": 0}),
        ({}, {"finished": None}),
        ({}, {"preset": "stories-cpu"}),
        ({}, {"preset": None}),
        ({}, {"n_future": 2}),
        ({"n_futures": (2,)}, {"n_future": 2, "control": "trunk"}),
    ],
)
def test_any_other_run_is_not(plan: dict, record: dict) -> None:
    found = estimate(planned(**plan), [finished(**record)], seconds_per_step=0.1, n_layers=4)
    assert found.seconds - START_UP == pytest.approx(10)
    assert not found.measured


def test_the_newest_run_counts() -> None:
    slow, fast = finished(finished=1050.0), finished(created=2000.0, finished=2022.0)
    assert seconds(PLAN, slow, fast) == pytest.approx(22)


def test_one_n_without_a_measurement_makes_it_a_guess() -> None:
    found = estimate(planned(n_futures=(1, 2)), [FINISHED], seconds_per_step=0.1, n_layers=4)
    assert found.seconds - START_UP == pytest.approx(25 + 10)
    assert not found.measured


def test_the_longest_training_is_the_least_that_it_takes() -> None:
    records = [finished(), finished(n_future=2, finished=1059.0, seconds=50.0)]
    assert seconds(planned(n_futures=(1, 2), parallel=2), *records) == pytest.approx(59)


@pytest.mark.parametrize(
    ("models", "parallel", "measured", "text"),
    [
        (1, 1, True, "1 model: about **3 minutes** (from earlier runs here)."),
        (2, 2, True, "2 models, side by side: about **3 minutes** (from earlier runs here)."),
        (
            6, 2, False,
            "6 models, 2 at a time: about **3 minutes** (a guess until a first run has been measured here).",
        ),
    ],
)  # fmt: skip
def test_one_sentence(models: int, parallel: int, measured: bool, text: str) -> None:
    assert Estimate(seconds=170, models=models, parallel=parallel, measured=measured).text() == text


def test_there_is_a_core() -> None:
    assert cores() >= 1
