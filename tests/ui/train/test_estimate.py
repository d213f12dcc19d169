"""How long a training will take, and what its seeds cost."""

import dataclasses
from typing import Any

import pytest

from playground.model.parameters import count_parameters
from playground.running.cores import cores
from playground.running.presets import make_config
from playground.runs.record import RunRecord
from playground.ui.train import estimate as module
from playground.ui.train.estimate import (
    SIDE_BY_SIDE,
    START_UP,
    Estimate,
    Plan,
    estimate,
    replica_cost,
    times,
)

PLAN = Plan(config=make_config("induction-cpu"), n_futures=(1,), seeds=(0,), control="layers", steps=100, parallel=1)
FINISHED = RunRecord(
    run="a",
    status="finished",
    task="induction",
    preset="induction-cpu",
    n_future=1,
    control="layers",
    seed=0,
    config_hash="",
    steps=100,
    step=100,
    seconds=20.0,
    created=1000.0,
    finished=1025.0,
)
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
        ({"n_futures": (4,), "control": "detached"}, 17.5),
        ({"n_futures": (1, 2, 4), "control": "flops"}, 30),
        ({"n_futures": (1, 2), "parallel": 2}, 10 * SIDE_BY_SIDE),
        ({"n_futures": (1, 2), "seeds": (0, 1), "parallel": 2}, 20 * SIDE_BY_SIDE),
        ({"seeds": (0, 1), "parallel": 8}, 10 * SIDE_BY_SIDE),
        ({"seeds": (0, 1, 2), "parallel": 2}, 20 * SIDE_BY_SIDE),
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


@pytest.mark.parametrize(
    ("changes", "measured"),
    [
        ({}, True),
        ({"task": "stories"}, False),
        ({"tokens": 4096 * 50}, False),
        ({"parameters": {"trunk": 5}}, False),
        ({"preset": "induction-cpu"}, False),
    ],
)
def test_without_a_preset_a_run_of_the_same_task_and_model_is_the_measure(
    changes: dict[str, Any], measured: bool
) -> None:
    config = dataclasses.replace(PLAN.config, preset=None)
    trunk = count_parameters(config.resolve(d_vocab=64, n_ctx=64).model).trunk
    record = finished(**({"preset": None, "parameters": {"trunk": trunk}, "tokens": 4096 * 100} | changes))
    found = estimate(planned(config=config), [record], seconds_per_step=0.1, n_layers=4)
    assert found.measured is measured


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
            6,
            2,
            False,
            "6 models, 2 at a time: about **3 minutes** (a guess until a first run has been measured here).",
        ),
    ],
)
def test_one_sentence(models: int, parallel: int, measured: bool, text: str) -> None:
    assert Estimate(seconds=170, models=models, parallel=parallel, measured=measured).text() == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seeds": 1}, "2 models, side by side: about **3 minutes** (from earlier runs here)."),
        (
            {"seeds": 16, "models": 16, "cost": 8.0},
            "16 models, 2 at a time: about **3 minutes** (from earlier runs here). "
            "16 seeds: about **8x** the time of one on this device.",
        ),
        (
            {"seeds": 16, "models": 16, "cost": 2.5, "shared": True},
            "16 models, the seeds of each n in one process: about **3 minutes** (from earlier runs here). "
            "16 seeds: about **2.5x** the time of one on this device.",
        ),
        (
            {"shared": True, "parallel": 1},
            "2 models, 1 at a time: about **3 minutes** (from earlier runs here).",
        ),
    ],
)
def test_what_seeds_cost_stands_behind_the_time(changes: dict[str, Any], text: str) -> None:
    usual: dict[str, Any] = {"seconds": 170, "models": 2, "parallel": 2, "measured": True}
    assert Estimate(**(usual | changes)).text() == text


@pytest.mark.parametrize(("ratio", "text"), [(1, "1x"), (2.5, "2.5x"), (2.0, "2x"), (19.2, "19x"), (128, "128x")])
def test_a_factor(ratio: float, text: str) -> None:
    assert times(ratio) == text


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({}, 1),
        ({"seeds": (0, 1, 2)}, 3),
        ({"seeds": tuple(range(16)), "parallel": 2}, 8),
        ({"seeds": tuple(range(3)), "parallel": 2}, 2),
        ({"seeds": tuple(range(4)), "parallel": 2, "n_futures": (1, 2)}, 4),
        ({"seeds": tuple(range(4)), "parallel": 16, "n_futures": (1, 2)}, 1),
        ({"seeds": ()}, 1),
        ({"n_futures": ()}, 1),
    ],
)
def test_on_the_cpu_seeds_wait_for_a_core(changes: dict[str, Any], cost: float) -> None:
    found = estimate(planned(**changes), [], seconds_per_step=0.1, n_layers=4)
    assert found.cost == pytest.approx(cost)
    assert not found.shared


@pytest.mark.parametrize(("n_futures", "parallel"), [((1,), 1), ((1, 2), 1), ((1, 2), 2)])
@pytest.mark.parametrize("seeds", [1, 4, 16])
def test_on_a_gpu_the_seeds_of_an_n_share_a_process(n_futures: tuple[int, ...], parallel: int, seeds: int) -> None:
    plan = planned(n_futures=n_futures, seeds=tuple(range(seeds)), parallel=parallel)
    found = estimate(plan, [], seconds_per_step=0.1, n_layers=4, device="cuda")
    cost = replica_cost(seeds, "cuda", 4096)
    assert found.shared and found.cost == pytest.approx(cost)
    assert found.seconds - START_UP == pytest.approx(10 * cost * len(n_futures) / parallel)


@pytest.mark.parametrize(
    ("count", "device", "cost"),
    [
        (1, "cuda", 1.0),
        (16, "cuda", 2.5),
        (6, "cuda", 1.5),
        (31, "cuda", 4.0),
        (1, "cpu", 1.0),
        (4, "cpu", 1.0),
        (5, "cpu", 2.0),
        (16, "cpu", 4.0),
    ],
)
def test_the_cost_of_replicas(monkeypatch: pytest.MonkeyPatch, count: int, device: str, cost: float) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)
    monkeypatch.setattr(module, "COST_OF_SIXTEEN", ((100, 1.5), (1000, 2.5)))
    assert replica_cost(count, device) == pytest.approx(cost)


@pytest.mark.parametrize(("tokens", "cost"), [(1, 2.0), (100, 2.0), (1000, 3.0), (10_000, 4.0), (1_000_000, 4.0)])
def test_few_tokens_leave_room_for_neighbours(monkeypatch: pytest.MonkeyPatch, tokens: int, cost: float) -> None:
    monkeypatch.setattr(module, "COST_OF_SIXTEEN", ((100, 2.0), (10_000, 4.0)))
    assert replica_cost(16, "cuda", tokens) == pytest.approx(cost)
    assert replica_cost(1, "cuda", tokens) == 1


def test_the_measured_costs_rise_with_the_tokens() -> None:
    tokens, costs = zip(*module.COST_OF_SIXTEEN, strict=True)
    assert list(tokens) == sorted(tokens) and list(costs) == sorted(costs)
    assert costs[0] >= 1 and costs[-1] <= 16


@pytest.mark.parametrize(
    ("count", "device", "says"), [(0, "cuda", "write 1 or more"), (-1, "cpu", "write 1 or more"), (2, "tpu", "'cuda'")]
)
def test_other_replicas_are_refused(count: int, device: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replica_cost(count, device)


@pytest.mark.parametrize(("device", "share"), [("NVIDIA H200", 2.5), ("cpu (1 thread)", 16)])
def test_a_run_that_shared_its_process_counts_for_its_share(
    monkeypatch: pytest.MonkeyPatch, device: str, share: float
) -> None:
    monkeypatch.setattr(module, "COST_OF_SIXTEEN", ((1000, 1.5), (10_000, 3.5)))
    tokens = round(100 * 10**3.5)  # in 100 steps; half way between the two
    assert seconds(PLAN, finished(replicas=16, device=device, tokens=tokens)) == pytest.approx(25 / share)


def test_the_cost_goes_by_the_cores_there_are() -> None:
    assert replica_cost(2 * cores(), "cpu") == 2
