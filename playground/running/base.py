"""Trainings on the frozen trunk of a stored next-token run: their configuration, and checks of the base run.

playground/training/base.py freezes the parameters and copies the weights.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path

from playground.analysis.groups import experiment_hash
from playground.commands import resume_line
from playground.config import BaseConfig, ClampConfig, FutureHeads, ModelConfig, RunConfig, Unembedding, select_heads
from playground.runs.errors import RunError
from playground.runs.record import default_runs_dir
from playground.runs.steps import WEIGHTS
from playground.runs.store import Run, find_run, load_run

OWN = ("n_future", "control", "future_heads", "unembedding")
"""Fields of the model that may differ from those of the base."""


def make_config_on(
    run: Run | Path | str,
    *,
    n_future: int = 4,
    future_heads: FutureHeads = "medusa_mlp",
    unembedding: Unembedding = "shared",
    seed: int | None = None,
    steps: int | None = None,
    threads: int | None = None,
) -> RunConfig:
    """A configuration that trains the future heads of the offsets 2 .. n_future on the frozen trunk of a finished run.

    `run` is a stored run with n_future 1, or its folder. Everything not given here is taken from that run: task, sizes,
    optimizer, steps, threads, seed. With the run's seed, the new heads read the same training data in the same order.
    Raises RunError for a run that cannot be a base, ValueError for future heads that cannot be trained on one.
    """
    base = run if isinstance(run, Run) else load_run(run)
    _check_run(base)
    theirs, described = base.config, describe_base(base)
    described.check(n_future, future_heads)
    model = replace(
        theirs.model, n_future=n_future, control="trunk", future_heads=future_heads, unembedding=unembedding
    )
    train = {name: value for name, value in (("steps", steps), ("threads", threads)) if value is not None}
    return RunConfig(
        task=theirs.task,
        model=model,
        optim=theirs.optim,
        train=replace(theirs.train, **train),
        clamp=replace(theirs.clamp, freeze_heads=()),
        base=described,
        seed=theirs.seed if seed is None else seed,
    )


def describe_base(base: Run) -> BaseConfig:
    """Description of a run as the base of another, with its absolute path."""
    config = base.config
    return BaseConfig(
        run=str(base.path.resolve()), config_hash=config.hash(), experiment=experiment_hash(config.to_dict())
    )


def open_base(config: RunConfig, runs_dir: Path | None = None) -> Run | None:
    """The base run of a resolved configuration, by its path or its id in `runs_dir`; None without a base.

    Raises RunError for a run that is missing, is not finished, has no weights, predicts several offsets, or has another
    configuration hash than the one stored; ValueError if its task, model or clamped patterns differ from the configuration's.
    """
    if config.base is None:
        return None
    base = find_run(config.base.run, default_runs_dir() if runs_dir is None else runs_dir)
    _check_run(base)
    if config.base.config_hash not in ("", base.config.hash()):
        raise RunError(
            f"base run {base.id} is not the run that this configuration was made for; make a new configuration, or restore "
            "the run"
        )
    _check_task(config, base)
    _check_model(config.model, base)
    _check_clamp(config, base)
    return base


def _check_run(base: Run) -> None:
    record, model = base.record, base.config.model
    if model.n_future != 1:
        raise RunError(
            f"base run {base.id} predicts {model.n_future} tokens; write a run with n_future 1, whose trunk was trained on "
            "the next token alone"
        )
    if not model.head_type.module(0).is_trunk_layer:
        raise RunError(
            f"base run {base.id} has {model.future_heads} future heads, and future heads on a base need a layer for offset 1; "
            "write a run with independent ones"
        )
    if record.state != "finished":
        advice = "wait for it" if record.state == "running" else f"finish it first: {resume_line(base.path)}"
        raise RunError(f"base run {base.id} is {record.state} at step {record.step} of {record.steps}; {advice}")
    if not (base.path / "checkpoints" / str(record.step) / WEIGHTS).exists():
        raise RunError(
            f"base run {base.id} has no weights of its last step, {record.step}; write a run that has its checkpoints"
        )


def _check_task(config: RunConfig, base: Run) -> None:
    theirs = base.config
    if config.task.name != theirs.task.name:
        raise ValueError(
            f"the task is {config.task.name}, and base run {base.id} was trained on {theirs.task.name}; write that task"
        )
    for name, what in (("d_vocab", "tokens"), ("n_ctx", "positions")):
        ours, known = getattr(config.model, name), getattr(theirs.model, name)
        if ours != known:
            raise ValueError(
                f"the task has {name} {ours}, and base run {base.id} has {known} {what}; leave the task's settings as they "
                "are in the base"
            )


def _check_model(model: ModelConfig, base: Run) -> None:
    theirs = base.config.model
    for name in (item.name for item in dataclasses.fields(ModelConfig) if item.name not in OWN):
        ours, known = getattr(model, name), getattr(theirs, name)
        if ours != known:
            raise ValueError(
                f"{name} is {ours!r}, and in base run {base.id} it is {known!r}; write {name}={known!r} or leave it out"
            )
    if model.n_trunk_layers != theirs.n_trunk_layers:
        raise ValueError(
            f"control '{model.control}' leaves the trunk {model.n_trunk_layers} layers, and that of base run {base.id} has "
            f"{theirs.n_trunk_layers}; write control='trunk'"
        )


def _check_clamp(config: RunConfig, base: Run) -> None:
    """Clamped patterns in the base's layers must equal those of its training. Heads that were frozen then do not matter."""
    theirs = base.config
    for name in (item.name for item in dataclasses.fields(ClampConfig) if item.name != "freeze_heads"):
        ours = select_heads(getattr(config.clamp, name), config.model)
        known = select_heads(getattr(theirs.clamp, name), theirs.model)
        if {layer: heads for layer, heads in ours.items() if layer in theirs.model.attention_layers} != known:
            written = ", ".join(getattr(theirs.clamp, name)) or "nothing"
            raise ValueError(
                f"{name} names other heads of the base's layers than base run {base.id}, which was trained with {written}; "
                "write those heads"
            )
