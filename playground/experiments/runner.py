"""Training that is stored: a configuration in, a run folder out; killed at any moment, it goes on where it stood.

The loop (playground/training/loop.py) knows nothing of this file; logging, evaluating and checkpointing are callbacks.
"""

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from playground.config import RunConfig
from playground.experiments.base import describe_base, open_base
from playground.experiments.environment import describe_device, environment, pick_device, stream, threads
from playground.experiments.reporter import Reporter, Silent
from playground.model.clamp import apply_clamp
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.probes.registry import find_probe, make_probes
from playground.results import ScoreInfo
from playground.runs.checkpoint import load_checkpoint, resumable, save_checkpoint
from playground.runs.lock import run_lock
from playground.runs.probes import probe_files, store_result
from playground.runs.record import (
    RunRecord,
    append_line,
    default_runs_dir,
    keep_lines_until,
    this_process,
    write_json,
)
from playground.runs.store import Run, RunError, read_record
from playground.training.base import start_on_base
from playground.training.evaluation import evaluate
from playground.training.loop import Callback, Clock, TrainState, fit, start_state
from tasks.base import Evaluation, Task, seeded_generator
from tasks.config import TaskConfig
from tasks.registry import make_task


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient became infinite or NaN; the message names the step and the offset."""

    run: Run | None = None
    """The stored run, failed."""


def train(
    config: RunConfig,
    runs_dir: Path | str | None = None,
    *,
    run_id: str | None = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], str] = lambda: "",
) -> Run:
    """Train one model and store everything about it in `runs_dir/<id>` (by default in the folder of `default_runs_dir`).

    `should_stop()` is asked before every step; a non-empty answer stops the run with that reason, resumable.
    Raises NonFiniteLoss when the loss diverges (the run is stored as failed), ValueError for a configuration that the
    task or the model refuses, RunError when a run of that id exists already, or its base is none (open_base).
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config is {config!r}; write a RunConfig, such as make_config('induction-cpu')")
    config = dataclasses.replace(config, task=_with_whole_path(config.task))
    for name in config.train.probes:
        find_probe(name)
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    device = pick_device(config.train.device)
    folder = Path(default_runs_dir() if runs_dir is None else runs_dir)
    base = open_base(config, folder)
    if base is not None:
        config = dataclasses.replace(config, base=describe_base(base))
    path = folder / (run_id or new_run_id(config, folder))
    record = _new_record(config, task, path.name, device, base)
    _make_folder(path, config, record)
    with run_lock(path):
        return _Session(path, config, task, record, device, reporter or Silent()).run(should_stop)


def resume(run: Run, *, reporter: Reporter | None = None, should_stop: Callable[[], str] = lambda: "") -> Run:
    """Go on with a run that was stopped, killed or failed, from its last checkpoint.

    On the CPU, with the same number of threads, the result is the same to the last bit as without the interruption.
    Raises RunError when the run is finished or still training, when its checkpoint comes from another kind of device, or
    when the text that its task reads has changed.
    """
    with run_lock(run.path):
        record = read_record(run.path)
        if record.state in ("finished", "running"):
            raise RunError(f"run {run.id} is {record.state}; there is nothing to resume")
        if record.data_hash and _data_hash(run.task) != record.data_hash:
            raise RunError(
                f"run {run.id} was trained on other text than its task reads now; put the files back, or train anew"
            )
        device = pick_device(run.config.train.device)
        record = dataclasses.replace(record, status="running", reason="", **this_process())
        return _Session(run.path, run.config, run.task, record, device, reporter or Silent()).run(should_stop)


def new_run_id(config: RunConfig, runs_dir: Path, taken: Collection[str] = ()) -> str:
    """A readable id that is free: label and hash of the configuration, with a number behind it when trained again."""
    base = f"{config.label()}-{config.hash()}"
    number, name = 1, base
    while (runs_dir / name).exists() or name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def _with_whole_path(task: TaskConfig) -> TaskConfig:
    """The configuration of a task that reads files, with a path that means the same from any folder."""
    path = getattr(task, "path", None)
    return task if path is None else dataclasses.replace(task, path=str(Path(path).expanduser().resolve()))


def _data_hash(task: Task) -> str:
    """What tells apart the texts of a task that reads files; empty for the others."""
    return getattr(task, "data_hash", "")


def _make_folder(path: Path, config: RunConfig, record: RunRecord) -> None:
    """A run's folder with its first two files, there all at once. Raises RunError when the name is taken."""
    if path.exists():
        raise RunError(f"there is a run '{path.name}' in {path.parent} already; choose another id")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        write_json(folder / "config.json", config.to_dict())
        write_json(folder / "run.json", record.to_dict())
        folder.rename(path)


def _new_record(config: RunConfig, task: Task, run: str, device: torch.device, base: Run | None) -> RunRecord:
    counts = count_parameters(config.model)
    parts = ("embedding", "trunk", "future_heads", "final_norm", "unembedding", "total", "non_embedding", "next_token")
    n_threads = threads(config.train.threads)
    stands_on = {"base": base.id, "base_config_hash": base.config.hash(), "base_step": base.record.step} if base else {}
    return RunRecord(
        run=run, status="running", task=config.task.name, preset=config.preset, n_future=config.model.n_future,
        control=config.model.control, future_heads=config.model.future_heads, seed=config.seed,
        config_hash=config.hash(), steps=config.train.steps,
        created=time.time(), parameters={part: getattr(counts, part) for part in parts},
        next_token_depth=config.model.next_token_depth, threads=n_threads, device=describe_device(device, n_threads),
        data_hash=_data_hash(task), **stands_on, **this_process(), **environment(),
    )  # fmt: skip


class _Session:
    """One process's work on one run."""

    def __init__(
        self, path: Path, config: RunConfig, task: Task, record: RunRecord, device: torch.device, reporter: Reporter
    ) -> None:
        self.path, self.config, self.task, self.record = path, config, task, record
        self.device, self.reporter = device, reporter
        self.checkpoints = path / "checkpoints"
        self.probe_steps = frozenset(config.train.probe_steps)
        with self._probe_time():
            self.probes = make_probes(config.train.probes if self.probe_steps else (), task, config.model.n_future)
        self.logged_at = 0.0

    def run(self, should_stop: Callable[[], str]) -> Run:
        """Train to the end, to a stop or to a failure; the record says which."""
        threads_before = torch.get_num_threads()
        torch.set_num_threads(self.record.threads)
        self._write_record()
        try:
            state = self._restore()
            self.reporter.started(self.record)
            reason = ""

            def stop() -> bool:
                nonlocal reason
                reason = should_stop()
                return bool(reason)

            fit(state, self._sampler(state), self.config, self._callbacks(), stop)
            self._end(state, reason)
        except KeyboardInterrupt:  # it may come in the middle of a step: only the last checkpoint is whole
            self._write_record(status="stopped", reason="interrupted")
            self.reporter.ended(self.record)
            raise
        except BaseException as error:
            self._write_record(status="failed", reason=_describe(error))
            self.reporter.ended(self.record)
            if isinstance(error, NonFiniteLoss):
                error.run = Run(self.path)
            raise
        finally:
            torch.set_num_threads(threads_before)
        return Run(self.path)

    def _sampler(self, state: TrainState) -> Callable[[], Any]:
        rows = self.config.train.batch_size
        return lambda: self.task.sample(rows, state.generator, self.device)

    def _callbacks(self) -> list[Callback]:
        train = self.config.train

        def every(steps: int, callback: Callback) -> Callback:
            def at_step(state: TrainState) -> None:
                if state.step % steps == 0 or state.step == train.steps:
                    callback(state)

            return at_step

        return [
            every(train.log_every, self._log),
            every(train.eval_every, self._evaluate),
            self._run_probes,
            every(train.checkpoint_every, self._checkpoint),
        ]

    def _restore(self) -> TrainState:
        """The state of the last checkpoint, or a fresh one with its first evaluation and checkpoint written."""
        seed = self.config.seed
        steps = resumable(self.checkpoints)
        model = MTPTransformer(self.config.model, seeded_generator(stream(seed, "weights")))
        base = None if steps else open_base(self.config)  # checkpoints hold the base's weights as well
        if base is not None:
            start_on_base(model, base.model(base.record.step).state_dict())
        model = apply_clamp(model.to(self.device), self.config.clamp)
        state = start_state(model, self.config, seeded_generator(stream(seed, "data"), self.device))
        kept = steps[-1] if steps else -1
        for path in (self.path / "metrics.jsonl", *probe_files(self.path)):
            keep_lines_until(path, kept)
        if not steps:
            self._evaluate(state)
            self._run_probes(state)
            self._checkpoint(state)
            state.clock = Clock()
            return state
        counters = load_checkpoint(self.checkpoints / str(kept), model, state.optimizer)
        try:
            state.generator.set_state(counters["generator"])
        except RuntimeError:
            raise RunError(
                f"the checkpoint is from another kind of device ({self.record.device}) than {self.device.type}; resume it there"
            ) from None
        state.step, state.tokens = (int(value) for value in counters["step_tokens"])
        state.pending = list(counters["pending"].to(self.device))
        state.clock = Clock(float(counters["seconds"]))
        self._write_record(**self._progress(state))
        return state

    def _log(self, state: TrainState) -> None:
        """Average the losses since the last row, check that they are finite, write the row."""
        values = self._check_pending(state)
        state.pending.clear()
        losses = {f"loss_{offset + 1}": value for offset, value in enumerate(values.mean(dim=0)[:-1].tolist())}
        row = self._row("train", state) | {"lr": state.lr, "grad_norm": float(values[:, -1].mean())} | losses
        append_line(self.path / "metrics.jsonl", row)
        if time.time() - self.logged_at > 0.5:
            self.logged_at = time.time()
            self._write_record(**self._progress(state))
        self.reporter.row(row, self.record)

    def _check_pending(self, state: TrainState) -> torch.Tensor:
        """The losses and gradient norms since the last row. Raises NonFiniteLoss for the first that is not finite."""
        values = torch.stack(state.pending).double().cpu()
        broken = _first_broken(values)
        if broken is not None:
            step = state.step - len(values) + broken[0] + 1
            self._write_record(**self._progress(state))
            raise NonFiniteLoss(
                f"the {broken[1]} became {broken[2]} at step {step}; "
                "a lower learning rate (--lr) or a longer warm-up (--warmup-steps) usually helps"
            )
        return values

    def _evaluate(self, state: TrainState) -> None:
        if state.pending:
            self._check_pending(state)
        with state.clock.paused():
            result = evaluate(state.model, self.task)
        losses = {f"test_loss_{offset + 1}": value for offset, value in enumerate(result.loss)}
        row = self._row("eval", state) | _finite_or_none(losses | {score.name: score.value for score in result.scores})
        append_line(self.path / "metrics.jsonl", row)
        if not self.record.scores:
            self._write_record(scores=_score_infos(result))
        self.reporter.row(row, self.record)

    def _run_probes(self, state: TrainState) -> None:
        if state.step not in self.probe_steps:
            return
        with state.clock.paused(), self._probe_time():
            for name, measure in self.probes.items():
                store_result(self.path, name, measure(state.model), step=state.step, tokens=state.tokens)

    @contextlib.contextmanager
    def _probe_time(self) -> Iterator[None]:
        """Time spent in here counts as the probes'."""
        started = time.perf_counter()
        yield
        spent = self.record.probe_seconds + time.perf_counter() - started
        self.record = dataclasses.replace(self.record, probe_seconds=spent)

    def _checkpoint(self, state: TrainState) -> None:
        if state.pending:
            self._check_pending(state)
        with state.clock.paused():
            width = self.config.model.n_future + 1
            pending = torch.stack(state.pending).cpu() if state.pending else torch.zeros(0, width)
            counters = {
                "generator": state.generator.get_state(),
                "step_tokens": torch.tensor([state.step, state.tokens]),
                "seconds": torch.tensor(state.clock.seconds, dtype=torch.float64),
                "pending": pending,
            }
            save_checkpoint(self.checkpoints, state.step, state.model, state.optimizer, counters)

    def _end(self, state: TrainState, reason: str) -> None:
        if reason and state.step < self.config.train.steps:
            self._checkpoint(state)
            self._write_record(status="stopped", reason=reason, **self._progress(state))
        else:
            with state.clock.paused():
                result = evaluate(state.model, self.task, full=True)
            final = {score.name: score.value for score in result.scores if math.isfinite(score.value)}
            done = self._progress(state) | {"finished": time.time(), "final": final, "scores": _score_infos(result)}
            self._write_record(status="finished", **done)
        self.reporter.ended(self.record)

    def _row(self, kind: str, state: TrainState) -> dict[str, Any]:
        return {"kind": kind, "step": state.step, "tokens": state.tokens, "seconds": round(state.clock.seconds, 4)}

    def _progress(self, state: TrainState) -> dict[str, Any]:
        seconds = state.clock.seconds
        rate = state.tokens / seconds if state.step else 0.0
        return {"step": state.step, "tokens": state.tokens, "seconds": seconds, "tokens_per_second": rate}

    def _write_record(self, **changes: Any) -> None:
        self.record = dataclasses.replace(self.record, updated=time.time(), **changes)
        write_json(self.path / "run.json", self.record.to_dict())


def _first_broken(values: torch.Tensor) -> tuple[int, str, float] | None:
    """Row, name and value of the first loss that is not finite, or, when all are, of the first gradient that is not."""
    for column in (slice(0, -1), slice(-1, None)):
        broken = (~values[:, column].isfinite()).nonzero()
        if len(broken):
            row, which = broken[0].tolist()
            what = f"loss of offset {which + 1}" if column.start == 0 else "gradient"
            return row, what, values[row, column][which].item()
    return None


def _finite_or_none(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _score_infos(result: Evaluation) -> tuple[ScoreInfo, ...]:
    return tuple(
        ScoreInfo(name=score.name, chance=score.chance, ceiling=score.ceiling, unit=score.unit,
                  higher_is_better=score.higher_is_better)
        for score in result.scores
    )  # fmt: skip


def _describe(error: BaseException) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "the device ran out of memory; a smaller --batch-size, model or context fits"
    return f"{error}" if isinstance(error, NonFiniteLoss) else f"{type(error).__name__}: {error}"
