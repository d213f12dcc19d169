"""Runs that are trained side by side in one process, or one run alone: what is done after which step, and how it ends.

One that diverges fails alone, and the others go on.
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
    """Which observers run after a step."""

    log: bool = False
    evaluation: bool = False
    probes: bool = False
    checkpoint: bool = False

    @property
    def model(self) -> bool:
        """Whether one of them reads the weights."""
        return self.evaluation or self.probes or self.checkpoint


def due(config: RunConfig, step: int) -> Due:
    """The observers of this step; after the last step all but the probes."""
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
    """Trains runs whose configurations differ in the seed and the optimizer alone, one or several at once, and stores them."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = list(sessions)
        one = self.sessions[0]
        self.config, self.task, self.device, self.train = one.config, one.task, one.device, one.config.train
        self.stack: Stack | None = None
        self.probes = ProbePass({})

    def run(self, should_stop: Callable[[], str]) -> list[Run]:
        """Train to the end, to a stop or to a failure; the records say which. While steps run, signals wait for `should_stop`.

        Raises what went wrong; a diverged run's NonFiniteLoss only when no run is left.
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
            if not reason:  # the final evaluation: nothing is lost with it
                self._end(reason)
        except KeyboardInterrupt as error:  # it may come in the middle of a step: only the last checkpoint is whole
            going = self.going
            for one in going:
                one.stop(INTERRUPTED)
            if not (going and isinstance(error, Interrupted)):  # the records tell of an Interrupted
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
        """Build or load the state of every run; whether each begins. What refuses a resumed run leaves its folder as it was."""
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
        for one in self.sessions:
            one.begin()
        started = time.perf_counter()
        names = self.train.probes if self.config.probe_steps else ()
        probes = make_probes(names, self.task, self.config.model.n_future)
        self.probes = ProbePass(probes, recorded=self.train.graphs and current_process_group() is None)
        self._count_probe_time(started)
        if len(self.sessions) > 1:
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
            self._each(Session.check_pending)  # which waits for the device: the steps that are queued are training time
        if wanted.evaluation:
            self._evaluate()
        if wanted.probes:
            self._probe()
        if wanted.checkpoint:
            self._checkpoint()

    def _each(self, work: Callable[[Session], object]) -> None:
        """For every run that goes on. One that diverged ends; when it was the last, its error is raised."""
        for one in self.going:
            try:
                work(one)
            except NonFiniteLoss as error:
                one.fail(error)
                if not self.going:
                    raise

    def _evaluate(self, *, full: bool = False) -> None:
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
        if self.going and reason and self.sessions[0].state.step < self.config.steps:
            self._each(Session.check_pending)
            self._checkpoint()
            for one in self.going:
                one.stop(reason)
        elif self.going:
            self._evaluate(full=True)
