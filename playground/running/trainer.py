"""Training of one run, or of several side by side in one process: the schedule of observers, stopping and failure.

If one of several runs diverges, only that run fails; the others continue.
"""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from playground.config import RunConfig, TrainConfig
from playground.model.stack import Stack
from playground.probes.registry import make_probes
from playground.probes.repeated import ProbePass
from playground.running.session import INTERRUPTED, NonFiniteLoss, Session
from playground.running.stopping import Interrupted, deferred
from playground.runs.store import Run
from playground.training.evaluation import evaluate_together
from playground.training.loop import Clock, Member, fit
from playground.training.process_group import current_process_group
from tasks.base import Batch


@dataclass(frozen=True, kw_only=True)
class Due:
    """Observers that run after a step."""

    log: bool = False
    evaluation: bool = False
    probes: bool = False
    checkpoint: bool = False

    @property
    def model(self) -> bool:
        """True if any scheduled observer reads the weights."""
        return self.evaluation or self.probes or self.checkpoint


def due(config: RunConfig, step: int) -> Due:
    """Observers scheduled after `step`. After the last step all of them run except probes, which have their own steps."""
    train, last = config.train, step == config.steps
    return Due(
        log=last or step % train.log_every == 0,
        evaluation=last or step % train.eval_every == 0,
        probes=step in _probe_steps(train, config.steps),
        checkpoint=last or step % train.checkpoint_every == 0,
    )


@functools.cache
def _probe_steps(train: TrainConfig, steps: int) -> frozenset[int]:
    return frozenset(train.probe_steps(steps))


class Trainer:
    """Trains and stores one run, or several side by side.

    The configurations of several runs may differ only in the seed and the settings of the optimizer.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = list(sessions)
        one = self.sessions[0]
        self.config, self.task, self.device, self.train = one.config, one.task, one.device, one.config.train
        self.stack: Stack | None = None
        self.probes = ProbePass({})

    def run(self, should_stop: Callable[[], str]) -> list[Run]:
        """Train until the last step, a stop or a failure, which the records store; returns the runs.

        `should_stop()` is called before every step; a non-empty result is the reason for stopping. During steps a signal raises
        nothing and must be reported by `should_stop`. Errors are raised again after they are stored; the NonFiniteLoss of a
        diverged run only if no other run is left.
        """
        threads_before = torch.get_num_threads()
        torch.set_num_threads(self.sessions[0].record.threads)
        reason = ""

        def stop() -> bool:
            nonlocal reason
            reason = should_stop()
            return bool(reason) or not self.going

        try:
            self._begin()
            with deferred():
                self._fit(stop)
                if reason:
                    self._end(reason)
            if not reason:  # a signal may interrupt the final evaluation: the last checkpoint is written
                self._end(reason)
        except KeyboardInterrupt as error:  # possibly within a step: only the last checkpoint is consistent
            going = self.going
            for one in going:
                one.stop(INTERRUPTED)
            if not (going and isinstance(error, Interrupted)):  # an Interrupted is stored in the records
                raise
        except BaseException as error:
            for one in self.going:
                one.fail(error)
            raise
        finally:
            torch.set_num_threads(threads_before)
        return [Run(one.path) for one in self.sessions]

    @property
    def going(self) -> list[Session]:
        """The runs that have not ended."""
        return [one for one in self.sessions if not one.ended]

    def _prepare(self) -> list[bool]:
        """Build or load the state of every run; True for each that is new.

        After an error new runs are stored as failed or stopped, and the folders of resumed runs stay unchanged.
        """
        try:
            return [one.prepare() for one in self.sessions]
        except BaseException as error:
            for one in self.sessions:
                if one.fresh:
                    one.stop(INTERRUPTED) if isinstance(error, KeyboardInterrupt) else one.fail(error)
                one.ended = True
            raise

    def _begin(self) -> None:
        began = self._prepare()
        for one in self.sessions:  # only now, when no run can be refused any more, are folders of resumed runs changed
            one.begin()
        started = time.perf_counter()
        names = self._fitting(self.train.probes if self.config.probe_steps else ())
        probes = make_probes(names, self.task, self.config.model.n_future)
        self.probes = ProbePass(probes, recorded=self.train.graphs and current_process_group() is None)
        self._count_probe_time(started)
        if len(self.sessions) > 1:  # after `_prepare`: the stack copies the loaded weights
            self.stack = Stack([one.state.model for one in self.sessions], self.config.clamp)
        clock = self.sessions[0].state.clock
        if all(began):
            self._evaluate()
            self._probe()
            self._checkpoint()
            clock = Clock()
        for one in self.sessions:
            one.state.clock = clock
            one.reporter.started(one.record)

    def _fitting(self, names: Sequence[str]) -> list[str]:
        """The probes that suit a model trained with this objective; the others are reported with the reason."""
        one = self.sessions[0]
        for name in names:
            try:
                one.objective.check_probe(name)
            except ValueError as error:
                one.reporter.note(f"{error}; it is left out")
        return one.objective.fitting(names)

    def _fit(self, stop: Callable[[], bool]) -> None:
        members = [Member(state=one.state, sample=self._sample(one), config=one.config) for one in self.sessions]
        fit(members, [self._after_step], stop, self.stack)

    def _sample(self, one: Session) -> Callable[[], Batch]:
        return one.sampler

    def _after_step(self) -> None:
        wanted = due(self.config, self.sessions[0].state.step)
        if wanted.log:
            self._each(Session.log)
        if wanted.model:
            self._each(Session.check_pending)  # waits for queued steps while the clock runs: they are training time
        if wanted.evaluation:
            self._evaluate()
        if wanted.probes:
            self._probe()
        if wanted.checkpoint:
            self._checkpoint()

    def _each(self, work: Callable[[Session], object]) -> None:
        """Apply `work` to every run that has not ended. A diverged run fails; its error is raised if no other run is left."""
        for one in self.going:
            try:
                work(one)
            except NonFiniteLoss as error:
                one.fail(error)
                if not self.going:
                    raise

    def _evaluate(self, *, full: bool = False) -> None:
        """Evaluate all models and store the results of the runs that have not ended; with `full`, these finish."""
        with self.sessions[0].state.clock.paused():
            models = [one.state.model for one in self.sessions]
            results = evaluate_together(models, self.task, self.stack, full=full)
        for one, result in zip(self.sessions, results, strict=True):
            if not one.ended:
                (one.finish if full else one.store_evaluation)(result)

    def _probe(self) -> None:
        started = time.perf_counter()
        with self.sessions[0].state.clock.paused():
            for name, results in self.probes(self.stack or self.sessions[0].state.model):
                for one, result in zip(self.sessions, results, strict=True):
                    if not one.ended:
                        one.store_probe(name, result)
        self._count_probe_time(started)

    def _count_probe_time(self, started: float) -> None:
        spent = time.perf_counter() - started
        for one in self.going:
            one.count_probe_time(spent)

    def _checkpoint(self) -> None:
        with self.sessions[0].state.clock.paused():
            for one in self.going:
                one.checkpoint()

    def _end(self, reason: str) -> None:
        """Store a checkpoint and the stop reason of stopped runs, or evaluate finished runs on the whole test set."""
        if self.going and reason and self.sessions[0].state.step < self.config.steps:
            self._each(Session.check_pending)
            self._checkpoint()
            for one in self.going:
                one.stop(reason)
        elif self.going:
            self._evaluate(full=True)
