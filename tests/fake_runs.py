"""Stored runs without training: folders as the runner writes them, with curves as real ones look."""

import dataclasses
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from playground.config import RunConfig, hash_values, read_values
from playground.results import AttentionScores, Behaviour, Composition, ScoreInfo, heads_of
from playground.running.presets import make_config
from playground.runs.lock import acquire
from playground.runs.probes import store_result
from playground.runs.record import FORMAT, RunRecord
from playground.runs.writing import append_line, write_json

STATES = ("running", "finished", "stopped", "failed", "interrupted")
GONE = 2**22 + 1
"""A process id that no process has."""
LOSS = {"induction": (4.2, 1.6), "stories": (4.6, 2.1), "polynomial": (2.6, 1.1), "bytes": (5.4, 1.2)}
"""Loss at the first step and far along, by task."""
MOST_PROBED = 12
"""Steps at which the probes on the task's rows are written."""


def score_infos(task: str, n_future: int) -> list[ScoreInfo]:
    """The scores that each task really reports."""

    def info(name: str, chance: float, ceiling: float = 1.0, unit: str = "share of tokens") -> ScoreInfo:
        return ScoreInfo(name=name, chance=chance, ceiling=ceiling, unit=unit, higher_is_better=ceiling > chance)

    suffixes = [""] + [f"_offset_{k}" for k in range(2, n_future + 1)]
    if task == "polynomial":
        by_m = [info(f"exact_match_m{m}", 0.1 + 0.05 / m, unit="share of expressions") for m in range(1, 11)]
        return [info("exact_match", 0.12, unit="share of expressions"), *by_m]
    if task == "bytes":
        return [info(f"bits_per_byte{suffix}", 8.0, 0.0, "bits per byte") for suffix in suffixes]
    name, chance = {"stories": ("second_name_token", 0.42)}.get(task, ("repeat", 0.05))
    pairs = [
        (info(f"{name}_accuracy{suffix}", chance), info(f"{name}_loss{suffix}", 4.1, 0.0, "nats per token"))
        for suffix in suffixes
    ]
    return [score for pair in pairs for score in pair]


def write_run(
    folder: Path,
    preset: str = "induction-cpu",
    *,
    n_future: int = 1,
    seed: int = 0,
    state: str = "finished",
    control: Any = None,
    steps: int | None = None,
    done: float | None = None,
    **record: Any,
) -> Path:
    """One run folder; `done` is the share of its steps that it holds (all, or 0.6 of a run that is not finished)."""
    config = make_config(preset, n_future=n_future, control=control, seed=seed, steps=steps)
    path = folder / f"{config.label()}-{config.hash()}"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{config.label()}-{config.hash()}-{number}"
    path.mkdir(parents=True)
    write_json(path / "config.json", config.to_dict())
    share = (1.0 if state == "finished" else 0.6) if done is None else done
    rows = _write_rows(path, config, share)
    write_json(path / "run.json", dataclasses.replace(_record(path.name, config, state, rows), **record).to_dict())
    if state == "running":
        hold(path)
    return path


def settle(path: Path) -> None:
    """Make run.json tell of the configuration that config.json holds, after a test has changed it."""
    values = read_values(json.loads((path / "config.json").read_text()))
    record = json.loads((path / "run.json").read_text())
    told = {name: values["model"][name] for name in ("n_future", "control", "future_heads")}
    told |= {"task": values["task"]["name"], "preset": values["preset"], "seed": values["seed"]}
    told |= {"steps": values["train"]["steps"], "config_hash": hash_values(values)}
    write_json(path / "run.json", record | told)
    for file in (path / "checkpoints").glob("*/checkpoint.json"):
        write_json(file, json.loads(file.read_text()) | {"config_hash": told["config_hash"]})


_held: dict[Path, Any] = {}


def hold(path: Path) -> None:
    """Keep a run's lock, as the process that trains it does, until `let_go`."""
    _held[path] = acquire(path)


def let_go(path: Path) -> None:
    """Give up a run's lock, as the end of its process does."""
    _held.pop(path).release()


def write_many(folder: Path, presets: Iterable[str] = ("induction-cpu",), **options: Any) -> list[Path]:
    """n = 1 and 2 with three seeds of each preset."""
    return [
        write_run(folder, preset, n_future=n_future, seed=seed, **options)
        for preset in presets
        for n_future in (1, 2)
        for seed in range(3)
    ]


def write_seeds(folder: Path, count: int, preset: str = "induction-cpu", written: int = 10) -> list[Path]:
    """Runs of n = 1 and n = 2 in turns, with seeds 0, 0, 1, 1, ..; only the first `written` have curves of their own."""
    whole = [
        write_run(folder, preset, n_future=1 + number % 2, seed=number // 2) for number in range(min(count, written))
    ]
    paths = list(whole)
    for number in range(len(whole), count):
        source, seed = whole[number % len(whole)], number // 2
        config = dataclasses.replace(RunConfig.from_dict(json.loads((source / "config.json").read_text())), seed=seed)
        path = folder / f"{config.label()}-{config.hash()}"
        shutil.copytree(source, path)
        write_json(path / "config.json", config.to_dict())
        changed = {"seed": seed, "config_hash": config.hash(), "run": path.name}
        write_json(path / "run.json", json.loads((source / "run.json").read_text()) | changed)
        paths.append(path)
    return paths


def write_weights(path: Path, steps: Iterable[int]) -> None:
    """Checkpoints of a fresh model, for what opens one; writes the resolved configuration too."""
    import torch

    from playground.model.transformer import MTPTransformer
    from playground.runs.checkpoint import save_checkpoint
    from playground.runs.config import read_config
    from playground.training.optim import make_optimizer
    from tasks.registry import make_task

    config = read_config(path)
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    write_json(path / "config.json", config.to_dict())
    record = json.loads((path / "run.json").read_text())
    write_json(path / "run.json", record | {"config_hash": config.hash()})
    model = MTPTransformer(config.model, torch.Generator().manual_seed(config.seed))
    for step in steps:
        save_checkpoint(
            path / "checkpoints",
            step,
            model,
            make_optimizer(model, config.optim),
            {"step": torch.tensor(step)},
            config.hash(),
        )


def _record(run: str, config: RunConfig, state: str, rows: dict[str, Any]) -> RunRecord:
    model, step = config.model, int(rows["step"])
    alive = state == "running"
    scores = score_infos(config.task.name, model.n_future) if rows["final"] else []
    pid = os.getpid() if alive else GONE
    now = time.time()
    return RunRecord(
        run=run, status="running" if state == "interrupted" else state,
        reason={"failed": "the loss of offset 1 became nan at step 3", "stopped": "stopped by SIGTERM"}.get(state, ""),
        task=config.task.name, preset=config.preset, n_future=model.n_future, control=model.control, seed=config.seed,
        config_hash=config.hash(), steps=config.train.steps, step=step, tokens=rows["tokens"], seconds=rows["seconds"],
        tokens_per_second=rows["tokens"] / rows["seconds"] if step else 0.0, created=now - 3600, updated=now,
        finished=now if state == "finished" else None,
        parameters={"total": 212_000 + 1000 * model.n_future, "non_embedding": 196_000},
        next_token_depth=model.next_token_depth, scores=tuple(scores),
        final=rows["final"] if state == "finished" else {}, pid=pid,
        pid_started=psutil.Process().create_time() if alive else 0.0, host=socket.gethostname(), format=FORMAT,
        device="cpu (1 thread)", threads=1, versions={"python": "3.11"},
    )  # fmt: skip


def _write_rows(path: Path, config: RunConfig, share: float) -> dict[str, Any]:
    """metrics.jsonl and the attention scores; returns where the run stands and its last scores."""
    train, model, task = config.train, config.model, config.task.name
    random = np.random.default_rng([config.seed, model.n_future])
    start = train.steps * (0.35 + 0.1 * model.n_future + 0.04 * random.standard_normal())
    per_step = train.batch_size * config.task.n_ctx
    last = int(share * train.steps)
    evaluated = [step for step in range(last + 1) if share > 0 and (step % train.eval_every == 0 or step == last)]
    probed = set(evaluated[:: -(-len(evaluated) // MOST_PROBED) or 1]) | set(evaluated[-1:])
    final: dict[str, float] = {}
    for step in range(last + 1):
        where = {"step": step, "tokens": step * per_step, "seconds": step * 0.03 + 1e-9}
        learned = _learned(step, start, train.steps)
        if step and step % train.log_every == 0:
            losses = {f"loss_{k}": value for k, value in _losses(task, model.n_future, learned, random).items()}
            append_line(path / "metrics.jsonl", {"kind": "train", **where, "lr": 1e-3, "grad_norm": 0.5, **losses})
        if step in evaluated:
            losses = {f"test_loss_{k}": value for k, value in _losses(task, model.n_future, learned, random).items()}
            final = _scores(task, model.n_future, learned, random)
            append_line(path / "metrics.jsonl", {"kind": "eval", **where, **losses, **final})
            store_result(path, "attention", _attention(config, learned, random), step=step, tokens=step * per_step)
        if step in probed:
            for name, result in _probes(config, step, start).items():
                store_result(path, name, result, step=step, tokens=step * per_step)
    return {"step": last, "tokens": last * per_step, "seconds": last * 0.03 + 1e-9, "final": final}


def _learned(step: float, start: float, steps: int) -> float:
    """From 0 to 1, steepest at `start`."""
    return 1 / (1 + math.exp(-(step - start) / (0.04 * steps)))


def _losses(task: str, n_future: int, learned: float, random: np.random.Generator) -> dict[int, float]:
    first, far = LOSS[task]
    return {
        k: round(first - (first - far) * learned / k**0.3 + 0.02 * random.standard_normal(), 4)
        for k in range(1, n_future + 1)
    }


def _scores(task: str, n_future: int, learned: float, random: np.random.Generator) -> dict[str, float]:
    values: dict[str, float] = {}
    for info in score_infos(task, n_future):
        harder = 1.0
        if "_m" in info.name and info.name[-1].isdigit():
            harder = math.exp(-0.35 * (int(info.name.rpartition("_m")[2]) - 1))
        goal = info.chance + (info.ceiling - info.chance) * (0.8 if task == "bytes" else 0.97) * harder
        values[info.name] = float(info.chance + (goal - info.chance) * learned + 0.005 * random.standard_normal())
    return values


def _probes(config: RunConfig, step: int, start: float) -> dict[str, Any]:
    """What is measured on the task's rows: previous-token head, composition, induction and accuracy form in this order."""
    steps = config.train.steps
    at = {
        name: _learned(step, start + late * steps, steps)
        for name, late in (("previous_token", -0.12), ("composition", -0.06), ("induction", 0.0), ("accuracy", 0.03))
    }
    random = np.random.default_rng([config.seed, step])
    scores = _attention(config, at["induction"], random, rows_from="task", previous=at["previous_token"])
    return {
        "task_attention": scores,
        "composition": _composition(config, at["composition"], random),
        "behaviour": _behaviour(config, at["accuracy"]),
    }


def _composition(config: RunConfig, formed: float, random: np.random.Generator) -> Composition:
    """The induction head of `_attention` comes to read its previous-token head by its keys."""
    model = config.model
    trunk = [f"blocks.{i}" for i in range(model.n_trunk_layers)]
    senders = heads_of(trunk, model.n_heads)
    receivers = heads_of([*trunk, *(f"future_heads.{i}" for i in range(model.n_future))], model.n_heads)
    shape = (len(senders), len(receivers))
    layer_of = [number // model.n_heads for number in range(len(receivers))]
    later = np.array([[layer_of[j] > layer_of[i] for j in range(shape[1])] for i in range(shape[0])])
    q, k, v = (0.012 * random.standard_normal(shape) for _ in range(3))
    k[1, model.n_trunk_layers * model.n_heads + 2] += 0.2 * formed
    tables = {name: np.where(later, values, np.nan) for name, values in (("q", q), ("k", k), ("v", v))}
    bands = {name: np.where(later, 0.04, np.nan) for name in ("null_qk", "null_v")}
    strongest = {name: np.where(later.any(axis=0), 0.05, np.nan) for name in ("strongest_qk", "strongest_v")}
    return Composition(senders=senders, receivers=receivers, random=(0.12,) * 3, **tables, **bands, **strongest)


def _behaviour(config: RunConfig, learned: float) -> Behaviour:
    first, far = LOSS[config.task.name]
    offsets = np.arange(1, config.model.n_future + 1)
    accuracy = 0.05 + 0.92 * learned / offsets**0.2
    loss = first - (first - far) * learned / offsets**0.3
    return Behaviour(
        loss=loss,
        score_loss=0.8 * loss,
        accuracy=accuracy,
        early=(1, 8),
        late=(48, 62),
        in_context=-0.6 * learned * loss,
    )


def _attention(
    config: RunConfig,
    learned: float,
    random: np.random.Generator,
    *,
    rows_from: str = "random repeats",
    previous: float | None = None,
) -> AttentionScores:
    """One head of the first layer looks at the previous token, one of the first future head becomes an induction head.

    `previous` is how far the former has formed, by default twice as far as the latter. With n > 1 a head of the second
    future head becomes a 2-ahead induction head.
    """
    model = config.model
    layers = [f"blocks.{i}" for i in range(model.n_trunk_layers)]
    layers += [f"future_heads.{i}" for i in range(model.n_future)]
    shape = (len(layers), model.n_heads)
    before, matching = (0.03 + 0.02 * random.random(shape) for _ in range(2))
    before[0, 1] += 0.9 * (min(1.0, 2 * learned) if previous is None else previous)
    matching[model.n_trunk_layers, 2] += 0.9 * learned
    ahead = np.stack([matching, *np.full((max(3, model.n_future - 1), *shape), 0.03)])
    if model.n_future > 1:
        ahead[1, model.n_trunk_layers + 1, 0] += 0.8 * learned
    more = (len(ahead), *shape)
    return AttentionScores(
        layers=tuple(layers),
        rows_from=rows_from,
        duplicate_token=np.full(shape, 0.02),
        back=np.stack([before, *np.full((len(ahead) - 1, *shape), 0.03)]),
        null_back=np.full(more, 0.05),
        ahead=ahead,
        null_duplicate_token=np.full(shape, 0.06),
        null_ahead=np.full(more, 0.06),
    )
