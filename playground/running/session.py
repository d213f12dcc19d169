"""Files of one run during its training: metrics, record and checkpoints; restoring its state; the ways it ends.

A run is prepared, then begun: all checks that can refuse to resume it are made before its folder is changed.
"""

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from playground.config import RunConfig
from playground.model.clamp import apply_clamp
from playground.model.transformer import MTPTransformer
from playground.results import Result, ScoreInfo
from playground.running.base import open_base
from playground.running.environment import peak_memory
from playground.running.process_keys import read_process_key
from playground.running.reporter import Reporter
from playground.runs.checkpoint import load_checkpoint, save_checkpoint
from playground.runs.errors import Absent, Damaged, RunError
from playground.runs.lock import LOCK
from playground.runs.metrics import FILE as METRICS
from playground.runs.metrics import read_metrics
from playground.runs.probes import store_result
from playground.runs.reading import sha256_of
from playground.runs.record import RunRecord
from playground.runs.resumption import check_layout, drop_set_aside, set_lines_aside, sync_lines
from playground.runs.steps import resumable, stored_steps
from playground.runs.store import Run
from playground.runs.writing import append_line, write_json
from playground.training.base import start_on_base
from playground.training.evaluation import evaluate_losses
from playground.training.loop import Clock, TrainState, start_state
from playground.training.objectives.registry import objective_of
from playground.training.process_group import ProcessGone
from playground.training.sampler import Sampler
from playground.training.step_result import StepResult, from_rows, stacked, to_rows
from tasks.base import Evaluation, ReadsText, Task, seeded_generator, stream_seed


class NonFiniteLoss(RuntimeError):
    """The loss or the norm of its gradient became infinite or NaN; the message has the step and, for a loss, the offset."""

    run: Run | None = None
    """The stored run, with status "failed"."""


class Replaced(RunError):
    """The run's folder was moved, removed or replaced during training, so writing to its path could damage another run."""


class Session:
    """Reads and writes the folder of one run during training. trainer.py decides when, and which runs train together."""

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        task: Task,
        record: RunRecord,
        device: torch.device,
        reporter: Reporter,
        *,
        fresh: bool = True,
    ) -> None:
        self.path, self.config, self.task, self.record = path, config, task, record
        self.device, self.reporter = device, reporter
        self.checkpoints = path / "checkpoints"
        self.objective = objective_of(config.train)
        self.loss_names = self.objective.loss_names(config.model.n_future)
        self.fresh = fresh
        """True if this process created the run; its folder then has no earlier results to protect."""
        self.text: str | None = None
        """Path of the text that the task reads, if the text was moved."""
        self.kept = -1
        """Step of the checkpoint from which the run resumes; -1 for a new run."""
        self.logged_at = -math.inf
        """Time of the last write of run.json by `log`, in seconds of the monotonic clock."""
        self.ended = False
        """True if the run has finished, stopped or failed."""
        self.identity = _identity(path)
        self.others: dict[str, torch.Tensor] = {}
        """Counters of the other processes' samplers, by name, for the checkpoint."""
        self.state: TrainState
        self.sampler: Sampler

    def prepare(self) -> bool:
        """Build the state before the first step, or load that of the newest undamaged checkpoint; True for a new run.

        The run's folder is not changed. Raises RunError if the run cannot resume: another text, another kind of device, no
        undamaged checkpoint.
        """
        seed = self.config.seed
        check_layout(self.path)
        if isinstance(self.task, ReadsText):
            try:
                self.task.read_text()
            except ValueError as error:
                raise RunError(f"run {self.path.name} cannot go on: {error}") from error
        steps = resumable(self.checkpoints)
        if not steps:
            self._check_new()
        # Initial weights come first, also for a resumed run: frozen heads are held at them (start_state). They are drawn on
        # the CPU, so that a seed gives the same weights on every device.
        model = MTPTransformer(self.config.model, seeded_generator(stream_seed(seed, "weights")))
        base = None if steps else open_base(self.config)  # checkpoints hold the base's weights as well
        if base is not None:
            start_on_base(model, base.model(base.record.step).state_dict())
        model = apply_clamp(model.to(self.device), self.config.clamp)
        generator = seeded_generator(stream_seed(seed, "data"), self.device)
        self.state = start_state(model, self.config, generator)
        rows = self.config.train.batch_size // self.record.processes
        self.sampler = Sampler(self.task, rows, generator, self.device)
        if steps:  # last, because it writes into model, optimizer, generator and sampler
            self._restore(self._load(steps))
        return not steps

    def _check_new(self) -> None:
        """Raises RunError if the run has trained but has no checkpoint to resume from: it would start again from step 0."""
        columns = read_metrics(self.path / METRICS).columns
        reached = max([self.record.step, *stored_steps(self.checkpoints), *columns["step"]])
        if reached > 0:
            raise RunError(
                f"run {self.path.name} has come to step {reached}, and no checkpoint to go on from is left in "
                f"{self.checkpoints}; put the files back, or train a new run"
            )

    def begin(self) -> None:
        """Set aside the lines after the restored step, which will be written again, and mark the run as training.

        Call it after `prepare`.
        """
        set_lines_aside(self.path, self.kept)
        self.write_record(**({} if self.kept < 0 else self._progress()))

    def _load(self, steps: list[int]) -> dict[str, torch.Tensor]:
        """Load the newest undamaged checkpoint into model and optimizer; returns its counters.

        Damaged checkpoints are skipped and reported. Raises RunError if all of `steps` are damaged.
        """
        damaged: list[RunError] = []
        for step in reversed(steps):
            folder = self.checkpoints / str(step)
            try:
                counters = load_checkpoint(folder, self.state.model, self.state.optimizer, self.record.config_hash)
            except (Damaged, Absent) as error:
                damaged.append(error)
                continue
            self.kept = step
            for error in damaged:
                self.reporter.note(f"{self.path.name} goes on from step {step}: {error}")
            return counters
        raise RunError(f"run {self.path.name} has no whole checkpoint to go on from: {damaged[0]}") from damaged[0]

    def _restore(self, counters: dict[str, torch.Tensor]) -> None:
        """Set sampler, step, tokens, pending results and clock from the counters of checkpoint `kept`.

        Raises Damaged for missing or malformed counters, RunError for a checkpoint from another kind of device.
        """
        where = self.checkpoints / str(self.kept)
        try:
            self.sampler.restore(counters)
            self.others = {key: value for key, value in counters.items() if read_process_key(key)[1]}
            self.state.step, self.state.tokens = (int(value) for value in counters["step_tokens"])
            self.state.pending = from_rows(counters["pending"].to(self.device), self.loss_names)
            self.state.clock = Clock(float(counters["seconds"]))
        except (KeyError, ValueError, TypeError) as error:
            raise Damaged(f"the checkpoint in {where} is damaged: its counters are not whole ({error})") from error
        except RuntimeError:  # generator states of CPU and CUDA differ in size, which `set_state` refuses
            raise RunError(
                f"the checkpoint is from another kind of device ({self.record.device}) than {self.device.type}; resume it on "
                "such a device"
            ) from None

    def log(self) -> None:
        """Write a row of metrics: means of losses (nats per target) and gradient norm over the steps since the last row.

        `clipped` is the share of these steps whose gradient was clipped. Waits for the device. Raises NonFiniteLoss.
        """
        values = self.check_pending()
        if values is None:
            return
        self.state.pending.clear()
        losses = dict(zip(values.names, values.losses.mean(dim=0).tolist(), strict=True))
        self.check_folder()
        norm = float(values.grad_norm.mean())
        clipped = float((values.grad_norm > self.config.optim.clip).double().mean())
        row = self._row("train") | {"lr": self.state.lr, "grad_norm": norm, "clipped": clipped} | losses
        append_line(self.path / METRICS, row)
        if time.monotonic() - self.logged_at > PROGRESS_EVERY:
            self.logged_at = time.monotonic()
            self.write_record(**self._progress())
        self.reporter.row(row, self.record)

    def check_pending(self) -> StepResult | None:
        """Results of the steps since the last row, on the CPU, or None. Raises NonFiniteLoss for the first not finite."""
        if not self.state.pending:
            return None
        values = stacked(self.state.pending).to_host()
        broken = values.first_not_finite()
        if broken is not None:
            step = self.state.step - len(self.state.pending) + broken[0] + 1
            self.write_record(**self._progress())
            raise NonFiniteLoss(
                f"the {broken[1]} became {broken[2]} at step {step}; "
                "train with a lower learning rate (--lr) or a longer warm-up (--warmup-steps)"
            )
        return values

    def store_evaluation(self, result: Evaluation) -> None:
        """Write a row of metrics with the scores and test losses of an evaluation on a part of the test set."""
        self.check_folder()
        losses = {
            f"test_loss_{offset + 1}": value for offset, value in enumerate(result.loss)
        } | self._own_test_losses()
        row = self._row("eval") | _finite_or_none(losses | {score.name: score.value for score in result.scores})
        append_line(self.path / METRICS, row)
        if not self.record.scores:
            self.write_record(scores=_score_infos(result))
        self.reporter.row(row, self.record)

    def _own_test_losses(self) -> dict[str, float]:
        """Losses that only the objective defines, not the task, on as many rows of the test set as a pass of training has."""
        if all(name.removeprefix("loss_").isdigit() for name in self.loss_names):
            return {}
        rows = max(1, self.config.train.batch_size // (self.config.train.accumulate * self.record.processes))
        with self.state.clock.paused():
            found = evaluate_losses(self.state.model, self.objective, self.task.test_batch(rows, self.device))
        return {f"test_{name}": value for name, value in found.items() if not name.removeprefix("loss_").isdigit()}

    def store_probe(self, name: str, result: Result) -> None:
        """Store the result of a probe at the present step."""
        self.check_folder()
        store_result(self.path, name, result, step=self.state.step, tokens=self.state.tokens)

    def count_probe_time(self, seconds: float) -> None:
        """Add to the seconds that probes have taken, which the record stores."""
        self.record = dataclasses.replace(self.record, probe_seconds=self.record.probe_seconds + seconds)

    def checkpoint(self) -> None:
        """Store a checkpoint of the present step. Raises OSError, as for a full disk; earlier checkpoints then stay."""
        self.check_folder()
        state = self.state
        counters = {
            "step_tokens": torch.tensor([state.step, state.tokens]),
            "seconds": torch.tensor(state.clock.seconds, dtype=torch.float64),
            "pending": to_rows(state.pending, self.loss_names),
        }
        counters |= self.sampler.counters() | self.others
        sync_lines(self.path)  # first: a resumed run writes only the lines after its checkpoint again
        save_checkpoint(self.checkpoints, state.step, state.model, state.optimizer, counters, self.record.config_hash)

    def stop(self, reason: str) -> None:
        """End the run with status "stopped", so that it can resume. No checkpoint is written here."""
        # Ctrl-C may come within a step, when step and tokens do not agree with the weights.
        progress = self._progress() if reason != INTERRUPTED else {}
        self._end(status="stopped", reason=reason, **progress)

    def finish(self, result: Evaluation) -> None:
        """End the run with status "finished", after the last step, and store the scores on the whole test set."""
        final = {score.name: score.value for score in result.scores if math.isfinite(score.value)}
        done = {"finished": time.time(), "final": final, "scores": _score_infos(result)}
        self._end(status="finished", metrics_sha256=sha256_of(self.path / METRICS), **self._progress(), **done)
        drop_set_aside(self.path)

    def fail(self, error: BaseException) -> None:
        """End the run with status "failed". If a full disk prevents that, the run is later read as interrupted."""
        with contextlib.suppress(OSError, Replaced):
            self._end(status="failed", reason=_describe(error))
        if isinstance(error, NonFiniteLoss):
            error.run = Run(self.path)

    def write_record(self, **changes: Any) -> None:
        """Change fields of the record, and write run.json. Raises Replaced as `check_folder` does."""
        self.check_folder()
        self.record = dataclasses.replace(self.record, updated=time.time(), **changes)
        write_json(self.path / "run.json", self.record.to_dict())

    def check_folder(self) -> None:
        """Raises Replaced if the folder at the run's path is not the folder that this process has locked."""
        if _identity(self.path) != self.identity:
            raise Replaced(
                f"the folder of run {self.path.name} was moved, removed or replaced while it was trained, so nothing more is "
                f"written to {self.path}; resume the run from where it lies now"
            )

    def _end(self, **changes: Any) -> None:
        self.ended = True
        self.write_record(**changes)
        self.reporter.ended(self.record)

    def _row(self, kind: str) -> dict[str, Any]:
        """First columns of a row of metrics; `seconds` is training time."""
        state = self.state
        return {"kind": kind, "step": state.step, "tokens": state.tokens, "seconds": round(state.clock.seconds, 4)}

    def _progress(self) -> dict[str, Any]:
        """Fields of the record that describe progress: tokens are those of all processes, peak memory is in bytes."""
        state, seconds = self.state, self.state.clock.seconds
        rate = state.tokens / seconds if state.step else 0.0
        return {
            "step": state.step,
            "tokens": state.tokens,
            "seconds": seconds,
            "tokens_per_second": rate,
            "peak_memory": peak_memory(self.device),
        }


PROGRESS_EVERY = 1.0
"""Shortest time, in seconds, between two writes of run.json for progress alone."""
INTERRUPTED = "interrupted"
"""Stop reason of a run that Ctrl-C stopped within a step."""


def _identity(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Identity of the run's folder: device and inode of the folder and of its lock file, None for one that is missing.

    The inode of a removed folder can be reused; that of the lock file cannot while this process has it open.
    """
    found: list[tuple[int, int] | None] = []
    for place in (path, path / LOCK):
        try:
            status = place.stat()
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def _finite_or_none(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _score_infos(result: Evaluation) -> tuple[ScoreInfo, ...]:
    return tuple(
        ScoreInfo(
            name=score.name,
            chance=score.chance,
            ceiling=score.ceiling,
            unit=score.unit,
            higher_is_better=score.higher_is_better,
        )
        for score in result.scores
    )


def _describe(error: BaseException) -> str:
    """The reason that the record of a failed run stores."""
    if isinstance(error, torch.OutOfMemoryError):
        return "the device ran out of memory; train with a smaller --batch-size, model or context"
    return f"{error}" if isinstance(error, NonFiniteLoss | ProcessGone) else f"{type(error).__name__}: {error}"
