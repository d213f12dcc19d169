"""What the live view watches. How it looks is tested on the page Train."""

import dataclasses
from pathlib import Path

import pytest

from playground.runs.store import read_store
from playground.ui.train import trainings
from playground.ui.train.live import Watched, watch
from tests.fake_runs import write_run
from tests.ui.support import Training, entry, write_job


def watched(folder: Path, *chosen: str) -> Watched:
    return watch(folder, read_store(folder, lenient=True), chosen)


def ids(found: Watched) -> list[str]:
    return [run.id for run in found.runs]


def test_nothing_is_watched_in_a_folder_of_ended_runs(runs: Path) -> None:
    for seed, state in enumerate(("finished", "stopped", "failed", "interrupted")):
        write_run(runs, steps=20, seed=seed, state=state)
    write_job(runs, entry(status="finished"))
    found = watched(runs)
    assert found == Watched(jobs=(), runs=(), waiting=())
    assert not found.active and found.names == []


def test_a_run_in_training_is_watched_by_whoever_comes(runs: Path) -> None:
    write_run(runs, steps=20, seed=0)
    path = write_run(runs, steps=20, seed=1, state="running")
    found = watched(runs)
    assert ids(found) == [path.name] == found.names
    assert found.active


def test_a_chosen_run_is_watched_though_it_has_ended(runs: Path) -> None:
    path = write_run(runs, steps=20, state="stopped")
    found = watched(runs, path.name)
    assert ids(found) == [path.name] == found.names
    assert not found.active


def test_a_job_at_work_is_watched_with_its_runs_in_its_order(runs: Path, training: Training) -> None:
    second = write_run(runs, steps=20, seed=1, state="running", created=1.0).name
    first = write_run(runs, steps=20, seed=0, state="finished", created=2.0).name
    waiting = entry("third")
    job = write_job(runs, entry(first, "finished"), entry(second, "running"), waiting, by=training)
    found = watched(runs)
    assert found.jobs == (job,) and found.active
    assert ids(found) == [first, second]
    assert found.waiting == (waiting,)
    assert found.names == [job.id]


def test_a_run_of_no_job_is_watched_beside_a_job(runs: Path, training: Training) -> None:
    own = write_run(runs, steps=20, seed=0, state="running").name
    other = write_run(runs, steps=20, seed=1, state="running").name
    job = write_job(runs, entry(own, "running"), by=training)
    found = watched(runs)
    assert ids(found) == [own, other]
    assert found.names == [job.id, other]


def test_a_chosen_job_is_watched_though_it_is_done(runs: Path) -> None:
    run = write_run(runs, steps=20).name
    job = write_job(runs, entry(run, "finished"), entry("never", "failed", message="no memory"))
    assert watched(runs).jobs == ()
    found = watched(runs, job.id)
    assert found.jobs == (job,) and ids(found) == [run] and not found.active
    assert [item.message for item in found.waiting] == ["no memory"]


def test_a_job_whose_process_is_gone_is_not_active(runs: Path, training: Training) -> None:
    job = write_job(runs, entry(status="running"), entry("b"), by=training)
    assert watched(runs).active
    training.kill()
    assert not watched(runs, job.id).active


@pytest.mark.parametrize(
    ("status", "alive", "lost"),
    [
        ("queued", True, False),
        ("running", True, False),
        ("queued", False, True),
        ("running", False, True),
        ("failed", False, False),
        ("stopped", False, False),
    ],
)
def test_what_a_job_left_undone_is_lost_when_its_process_is_gone(
    runs: Path, training: Training, status: str, alive: bool, lost: bool
) -> None:
    left = entry("left", status)
    job = write_job(runs, left, entry("other", "running"), by=training)
    if not alive:
        training.kill()
    assert (left in watched(runs, job.id).lost) is lost


def test_a_run_asked_to_go_on_keeps_the_view_active(runs: Path, resumed: list) -> None:
    path = write_run(runs, steps=20, state="stopped")
    assert not watched(runs, path.name).active
    (run,) = read_store(runs, lenient=True).runs
    trainings.resume_run(run)
    found = watched(runs, path.name)
    assert found.resuming == (path.name,) and found.active


def test_what_is_watched_is_frozen(runs: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        watched(runs).runs = ()
