"""Train what a study lacks, in an order in which a study that is stopped is balanced, and go on where it was stopped.

Trainings are jobs of the one scheduler (playground/running/jobs.py). A failed training is a row of the study with its reason
and does not end the others. A stopped one goes on from its last checkpoint. Only runs and jobs are stored, so that a study
can be killed at any moment.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from playground.config import nearest, short_value
from playground.running.jobs import Job, arranged, choose_ids, choosing_ids, lock_name, new_job
from playground.running.scheduler import Scheduler
from playground.runs.store import list_runs
from playground.studies.definition import Study
from playground.studies.matching import Training
from playground.studies.results import StudyResult, study_result

Only = Mapping[str, Collection[str]]
"""Labels of values to keep, by the name of an axis; `arm` keeps arms."""


def read_study(study: Study, runs_dir: Path | str) -> StudyResult:
    """What the runs in a folder hold of a study."""
    return study_result(study, list_runs(runs_dir)[0])


def check_only(study: Study, only: Only) -> None:
    """Raises ValueError for an axis or a value that the study does not have."""
    known = {axis.name: list(axis.values) for axis in study.axes} | {"arm": [arm.label for arm in study.arms]}
    for axis, values in only.items():
        if axis not in known:
            raise ValueError(f"study {study.name} has no axis {short_value(axis)}{nearest(axis, known)}")
        for value in values:
            if value not in known[axis]:
                choices = " | ".join(known[axis])  # labels may have commas
                raise ValueError(
                    f"axis '{axis}' of study {study.name} has no value {short_value(value)}; write one of: {choices}"
                )


def left_to_train(result: StudyResult, only: Only | None = None) -> list[Training]:
    """The trainings that are missing, in the order in which they start: one seed of every cell and arm after another.

    While a sweep of learning rates is not complete, only its trainings: the others need its answer. Failed trainings are not
    tried again.
    """
    study, only = result.study, only or {}
    names = [axis.name for axis in study.axes]

    def is_kept(one: Training) -> bool:
        values = dict(zip(names, study.cells[one.cell].at, strict=True)) | {"arm": one.arm}
        return all(values[axis] in kept for axis, kept in only.items())

    missing = [one for one in result.trainings if one.state == "missing" and is_kept(one)]
    sweep = [one for one in missing if one.sweep]
    order = [arm.label for arm in study.arms]
    seeds = list(study.rate_seeds if sweep else study.seeds)
    return sorted(sweep or missing, key=lambda one: (seeds.index(one.seed), one.cell, order.index(one.arm), one.rate))


def run_study(
    study: Study,
    runs_dir: Path | str,
    *,
    only: Only | None = None,
    parallel: int | None = None,
    should_stop: Callable[[], str] = lambda: "",
) -> StudyResult:
    """Train what is missing, and return what the study then has.

    `should_stop` is asked several times a second; when it returns a reason, running trainings write a checkpoint and end. At
    most `parallel` trainings at a time, by default as many as there are cores. Raises ValueError for an unknown axis or value.
    """
    check_only(study, only or {})
    tried: set[tuple[int, str, int, float]] = set()
    while True:
        result = read_study(study, runs_dir)
        # What was tried in this call and is missing still was stopped, or could not be stored; it is not tried for ever.
        missing = [one for one in left_to_train(result, only) if _key(one) not in tried]
        if not missing or should_stop():
            return result
        tried |= {_key(one) for one in missing}
        _train(missing, Path(runs_dir), parallel, should_stop)


def _key(one: Training) -> tuple[int, str, int, float]:
    return one.cell, one.arm, one.seed, one.rate


def _train(missing: Sequence[Training], folder: Path, parallel: int | None, should_stop: Callable[[], str]) -> None:
    configs, parallel, stacked = arranged([one.config for one in missing], parallel)
    with choosing_ids(folder) as planned:
        fresh = [config for one, config in zip(missing, configs, strict=True) if one.run is None]
        ids = iter(choose_ids(fresh, folder, planned))
        names = [next(ids) if one.run is None else one.run.id for one in missing]
        resumed = {one.run.id for one in missing if one.run is not None}
        job: Job = new_job(
            configs, names, folder, by="command line", parallel=parallel, stacked=stacked, resumed=resumed
        )
        assert job.path is not None
        lock = FileLock(job.path.with_name(lock_name(job.id)))
        lock.acquire()
        job.write()  # under the lock of the ids, so that another job sees which ones are planned
    with lock, Scheduler(job, folder) as scheduler:
        lock.release()  # acquired twice: here and by `with`
        scheduler.work(should_stop)
