"""Signals at chosen moments of a training: each leaves a run that goes on, and nothing that was trained is lost."""

import signal
from pathlib import Path

import pytest

from playground.running import replicas, runner, trainer
from playground.running.replicas import train_many
from playground.running.runner import resume, train
from playground.running.stopping import Interrupted, catching_signals
from tests.running.test_replicas import seeds
from tests.running.test_runner import same_numbers, tiny


def signal_at(monkeypatch: pytest.MonkeyPatch, holder: object, name: str, call: int) -> None:
    """SIGTERM comes at the beginning of the given call of a function, counted from 1."""
    function, calls = getattr(holder, name), iter(range(1, 10_000))

    def work(*given, **options):
        if next(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return function(*given, **options)

    monkeypatch.setattr(holder, name, work)


# Evaluations are at steps 0, 10, 20 and 30, and of the whole test set after step 30.
MOMENTS = {
    "first evaluation": (1, "interrupted", 0),
    "in the middle": (2, "stopped by SIGTERM", 10),
    "whole test set": (5, "interrupted", 30),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_an_evaluation_leaves_a_run_that_goes_on(tmp_path, monkeypatch, moment):
    call, reason, step = MOMENTS[moment]
    with monkeypatch.context() as patch, catching_signals() as stopping:
        signal_at(patch, trainer, "evaluate_together", call)
        run = train(tiny(), tmp_path / "stopped", should_stop=stopping)
    assert (run.record.state, run.record.reason, max([0, *run.checkpoints])) == ("stopped", reason, step)
    resumed = resume(run)
    assert resumed.record.state == "finished"
    same_numbers(resumed.path, train(tiny(), tmp_path / "whole").path)


def test_a_signal_while_the_task_loads_raises_and_stores_nothing(tmp_path, monkeypatch):
    signal_at(monkeypatch, runner, "make_task", 1)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), catching_signals() as stopping:
        train(tiny(), tmp_path / "runs", should_stop=stopping)
    assert not list(Path(tmp_path).glob("runs/*"))


def test_a_signal_while_a_later_group_loads_leaves_the_results_of_the_first(tmp_path, monkeypatch):
    first, second = *seeds(0), *seeds(1, batch_size=4)
    signal_at(monkeypatch, replicas, "make_session", 2)
    with catching_signals() as stopping:
        runs = train_many([first, second], tmp_path, stacked=True, should_stop=stopping)
    assert [run.record.status for run in runs] == ["finished"]
    assert stopping.number == signal.SIGTERM
