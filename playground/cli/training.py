"""The commands `train` and `resume`."""

import argparse
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, SuppressFixed, arg

from playground.cli.left import left_to_train, print_outcome
from playground.cli.parsing import Json, RunNames, RunsDir, Text, parse, run_command
from playground.commands import resume_line
from playground.config import MOST_SEED, SIZES, RunConfig, check_name, nearest, short_value
from playground.running.stopping import Interrupted, catching_signals
from playground.runs.errors import RunError
from playground.runs.reading import read_json
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, find_run
from playground.terminal import make_reporter, say
from playground.torchrun import launched

MOST_TRAININGS = 10_000
"""Most trainings of one command: seeds times learning rates."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of `train` besides the fields of the configuration."""

    preset: str | None = None
    """Start from this named configuration."""
    task: str | None = None
    """Or start from this task's defaults."""
    config: Annotated[Path | None, arg(metavar="FILE")] = None
    """Or start from a configuration file, such as the config.json in a run's folder."""
    base: str | None = None
    """Or train further future heads on the frozen trunk of this finished next-token run (its id, or the path of its folder).
    By default task, sizes, optimizer and length are the run's, and the heads medusa_mlp for 4 tokens."""
    size: str | None = None
    """Take d_model, n_layers and n_heads from one of the paper's sizes: 1M, 3M, 10M, 30M, 100M, 300M, 1B."""
    seed: int = 0
    """Determines the initial weights and the training data; on a base the base's by default."""
    seeds: Annotated[str | None, arg(metavar="SEEDS")] = None
    """Several seeds, trained side by side, one stored run each: 0..15, or 0,3,5."""
    lrs: Annotated[str | None, arg(metavar="RATES")] = None
    """Several learning rates, each with every seed, trained side by side, one stored run each: 1e-3,3e-3."""
    runs_dir: Path = field(default_factory=default_runs_dir)
    """Folder that holds the stored runs. PLAYGROUND_RUNS_DIR sets another default."""
    run_id: str | None = None
    """Name of the run and its folder, or several names separated by commas; by default made from the configuration."""
    again: bool = False
    """Train even if a finished run of this training is stored. With --run-id a run is always trained."""
    json: bool = False
    """Print one JSON line for each run at the end and nothing else."""


def train_command(argv: list[str]) -> int:
    return _on_all_processes(_train, argv)


def resume_command(argv: list[str]) -> int:
    return _on_all_processes(_resume, argv)


def _on_all_processes(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command. Under torchrun rank 0 runs it, and the other ranks take part in its training."""
    if not launched():
        return command(argv)
    from playground.running.distributed_runs import follow
    from playground.training.process_group import ProcessFailed, ProcessGone, joined

    rank = 0
    with catching_signals() as should_stop:  # torchrun sends SIGTERM while this rank still reports the error
        try:
            with joined() as group:
                rank = group.rank
                if rank == 0:
                    return command(argv)
                follow(group, should_stop)
                return 0
        except Interrupted as interrupted:
            if rank == 0:
                raise
            return 128 + interrupted.number
        except ProcessFailed as error:
            if rank == 0 and error.run is not None:
                say(f"error: {error}; go on with: {resume_line(error.run)}")
            return 1
        except ProcessGone as error:
            if error.run is not None:
                say(f"error: {error}; go on with: {resume_line(error.run)}")
            sys.stdout.flush()
            os._exit(1)  # a normal exit could hang: NCCL may still wait for the lost rank


def _train(argv: list[str]) -> int:
    from playground.running.presets import PRESETS
    from playground.running.runner import train
    from playground.training.objectives.registry import with_objective

    config = _start_from(argv)
    given = _parse_train(argv, config, PRESETS)
    config = RunConfig(
        task=given.task_config,
        model=given.model,
        optim=given.optim,
        train=given.train,
        clamp=given.clamp,
        base=config.base,
        preset=given.preset or config.preset,
        seed=given.seed,
    )
    config = with_objective(config)
    reporter = make_reporter(quiet=given.json)
    if given.seeds is None and given.lrs is None:
        if given.run_id is not None:
            check_name(given.run_id, "run id")
        if not left_to_train(
            [config], given.runs_dir, again=given.again or given.run_id is not None, as_json=given.json
        ):
            return 0
        return _until_stopped(
            lambda should_stop: [
                train(config, given.runs_dir, run_id=given.run_id, reporter=reporter, should_stop=should_stop)
            ],
            given.json,
        )
    from playground.running.replicas import train_many

    _check_one_process("several seeds or learning rates")
    configs = _several(config, given, seed_given=any(word.split("=")[0] == "--seed" for word in argv))
    names = None if given.run_id is None else given.run_id.split(",")
    for name in names or ():
        check_name(name, "run id")
    configs = left_to_train(configs, given.runs_dir, again=given.again or given.run_id is not None, as_json=given.json)
    if not configs:
        return 0
    options = {"run_ids": names, "reporter": reporter, "by": "command line"}

    def work(should_stop: Callable[[], str]) -> list[Run]:
        return train_many(configs, given.runs_dir, should_stop=should_stop, **options)

    return _until_stopped(work, given.json, wanted=len(configs))


def _several(config: RunConfig, given: TrainOptions, *, seed_given: bool) -> list[RunConfig]:
    """A configuration for each seed and learning rate."""
    if given.seeds is not None and seed_given:
        raise ValueError("--seed and --seeds were both given; leave one out")
    seeds = parse_seeds(given.seeds) if given.seeds is not None else [config.seed]
    rates = parse_rates(given.lrs) if given.lrs is not None else [config.optim.lr]
    if len(seeds) * len(rates) > MOST_TRAININGS:
        raise ValueError(
            f"{len(seeds)} seeds and {len(rates)} learning rates are {len(seeds) * len(rates)} trainings; write at most "
            f"{MOST_TRAININGS}"
        )
    return [
        dataclasses.replace(config, seed=seed, optim=dataclasses.replace(config.optim, lr=rate))
        for rate in rates
        for seed in seeds
    ]


def parse_seeds(text: str) -> list[int]:
    """Parse a list of seeds: single ones, and ranges with both ends included. Raises ValueError for anything else.

    >>> parse_seeds("0..3,8")
    [0, 1, 2, 3, 8]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        low, high = _seed(first), _seed(last if dots else first)
        if not 0 <= low <= high:
            raise ValueError(
                f"--seeds is {short_value(text)}, in which {short_value(part.strip())} is no seed or range; write 0..15, or "
                f"0,3,5 (seeds go up to {MOST_SEED})"
            )
        if len(seeds) + high - low >= MOST_TRAININGS:
            raise ValueError(f"--seeds is {short_value(text)}, too many seeds; write at most {MOST_TRAININGS}")
        seeds += range(low, high + 1)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds is {short_value(text)}, which names a seed twice; write each once")
    return seeds


def _seed(text: str) -> int:
    """A seed from its text; -1 for an invalid one."""
    known = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_SEED)) and int(text) <= MOST_SEED
    return int(text) if known else -1


def parse_rates(text: str) -> list[float]:
    """Parse learning rates separated by commas. Raises ValueError for anything else.

    >>> parse_rates("1e-3,3e-3")
    [0.001, 0.003]
    """
    parts = text.split(",")
    if len(parts) > MOST_TRAININGS:
        raise ValueError(f"--lrs names {len(parts)} rates; write at most {MOST_TRAININGS}")
    try:
        rates = [float(part) for part in parts]
    except ValueError:
        rates = []
    if not rates or not all(map(math.isfinite, rates)):
        raise ValueError(f"--lrs is {short_value(text)}; write numbers separated by commas, such as 1e-3,3e-3")
    if len(set(rates)) < len(rates):
        raise ValueError(f"--lrs is {short_value(text)}, which names a rate twice; write each once")
    return rates


def _start_from(argv: list[str]) -> RunConfig:
    """The configuration from which the other options start: of a preset, a task, a file, or a base."""
    from playground.running.base import make_config_on
    from playground.running.presets import find_preset
    from tasks.registry import config_class

    start = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--preset", "--task", "--size", "--base"):
        start.add_argument(name)
    start.add_argument("--config", type=Path)
    start.add_argument("--runs-dir", type=Path, default=default_runs_dir())
    try:
        chosen, _ = start.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    _check_starts(chosen, asks_help="--help" in argv or "-h" in argv)
    if chosen.base is not None:
        return make_config_on(find_run(chosen.base, chosen.runs_dir))
    if chosen.config is not None:
        return _read_config(chosen.config)
    if chosen.task is not None:
        config = RunConfig(task=config_class(chosen.task)())
    else:
        config = find_preset("induction-cpu" if chosen.preset is None else chosen.preset).build()  # none: for --help
    if chosen.size is not None:
        if chosen.size not in SIZES:
            raise ValueError(f"there is no size '{chosen.size}'{nearest(chosen.size, SIZES)}")
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **SIZES[chosen.size]))
    return config


def _read_config(path: Path) -> RunConfig:
    """A configuration from a file in the format of a run's config.json. Raises ValueError."""
    try:
        return RunConfig.from_dict(read_json(path))
    except RunError as error:
        raise ValueError(f"cannot read the configuration: {error}; write the config.json of a run") from error


_HAS = {
    "base": "a base has its own task and sizes",
    "config": "the file is a complete configuration",
    "preset": "a preset has its task",
}
"""Why these starting points exclude others."""


def _check_starts(chosen: argparse.Namespace, *, asks_help: bool) -> None:
    """Raises ValueError for two starting points at once, and for none."""
    from playground.running.presets import PRESETS
    from tasks.registry import task_names

    beside = {"base": ("config", "preset", "task", "size"), "config": ("preset", "task", "size"), "preset": ("task",)}
    for name, others in beside.items():
        for other in others:
            if getattr(chosen, name) is not None and getattr(chosen, other) is not None:
                raise ValueError(f"--{name} and --{other} were both given, and {_HAS[name]}; leave one out")
    if not asks_help and all(getattr(chosen, name) is None for name in ("base", "config", "preset", "task")):
        raise ValueError(
            f"write --preset (one of {', '.join(PRESETS)}), --task (one of {', '.join(task_names())}), --base RUN "
            "or --config FILE"
        )


def _parse_train(argv: list[str], config: RunConfig, presets: dict[str, Any]) -> Any:
    """Parse the command line of `train`, with the fields of this configuration as options and defaults."""
    checked = {"task_config": config.task} | {
        name: getattr(config, name) for name in ("model", "optim", "train", "clamp")
    }
    parts = {name: _unchecked(part) for name, part in checked.items()}
    command = make_dataclass(
        "Train",
        [(name, type(part), field(default=part)) for name, part in parts.items()],
        bases=(TrainOptions,),
        frozen=True,
        kw_only=True,
    )
    from playground.training.objectives.registry import describe_objectives

    width = max(len(name) for name in presets)
    objectives = "\n".join(f"  {line}" for line in describe_objectives())
    lines = "\n".join(f"  {name:{width}}  {preset.summary}" for name, preset in presets.items())
    description = (
        f"Train one model and store the run.\n\nPresets:\n{lines}\n\nObjectives:\n{objectives}\n\n"
        "Task options are those of the preset's task."
    )
    usual = command(seed=config.seed)
    options = {"description": description, "default": usual, "config": (OmitArgPrefixes, SuppressFixed)}
    given = parse(command, argv, "train", **options)
    if config.base is not None:
        config.base.check(given.model.n_future, given.model.future_heads)
    return dataclasses.replace(
        given, **{name: type(part)(**vars(getattr(given, name))) for name, part in checked.items()}
    )


def _unchecked(part: Any) -> Any:
    """A copy in a subclass without checks: tyro would turn errors of impossible combinations into a box."""
    cls = type(part)
    body = {"__post_init__": lambda self: None, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), body)(**vars(part))


def _check_one_process(what: str) -> None:
    if launched():
        raise ValueError(f"{what} need a single process; start without torchrun, or train one")


def _resume(argv: list[str]) -> int:
    def resume(
        runs: RunNames,
        text: Text = None,
        runs_dir: RunsDir = default_runs_dir(),
        as_json: Json = False,
    ) -> int:
        """Resume runs that were stopped, were killed or failed, from their last checkpoints. Several train side by side."""
        from playground.running.replicas import resume_many
        from playground.running.runner import resume as resume_run

        if not runs:
            raise ValueError("write at least one run: python -m playground resume RUN")
        found = [find_run(run, runs_dir, text=text) for run in runs]
        reporter = make_reporter(quiet=as_json)

        def work(should_stop: Callable[[], str]) -> list[Run]:
            if len(found) == 1:
                return [resume_run(found[0], reporter=reporter, should_stop=should_stop)]
            _check_one_process("several runs")
            return resume_many(found, reporter=reporter, should_stop=should_stop)

        return _until_stopped(work, as_json, wanted=len(found))

    return run_command(resume, argv, "resume")


def _until_stopped(work: Callable[[Callable[[], str]], list[Run]], as_json: bool, *, wanted: int = 1) -> int:
    """Train `wanted` runs to the end, or until a signal, after which they have checkpoints. Returns the exit status."""
    import torch

    from playground.running.runner import NonFiniteLoss
    from playground.training.memory import TooLarge

    try:
        with catching_signals() as stopping:
            runs = work(stopping)
    except NonFiniteLoss as error:
        if as_json and error.run is not None:
            print_outcome(error.run)
        say(f"error: {error}")
        return 1
    except TooLarge as error:
        say(f"error: {error}")
        return 2
    except (MemoryError, torch.OutOfMemoryError) as error:
        known = isinstance(error, MemoryError) and str(error)
        say(f"error: {known or 'memory ran out; train with a smaller --batch-size, model or context'}")
        return 1
    return _say_how_it_ended(runs, as_json, number=stopping.number, missing=wanted - len(runs))


def _say_how_it_ended(runs: list[Run], as_json: bool, *, number: int = 0, missing: int = 0) -> int:
    """Print outcomes as JSON lines, errors, and the command that resumes stopped runs; returns the exit status.

    `number` is the signal received, `missing` the number of trainings that did not begin.
    """
    if as_json:
        for run in runs:
            print_outcome(run)
    failed = [run for run in runs if run.record.state in ("failed", "interrupted")]
    for run in failed:
        reason = run.record.reason or f"its process was killed; go on with: {resume_line(run.path)}"
        say(f"error: {run.id}: {reason}")
    stopped = [run for run in runs if run.record.status == "stopped"]
    if stopped:
        record = stopped[0].record
        say(f"{record.reason} at step {record.step}; go on with: {resume_line(*(run.path for run in stopped))}")
    if number and missing:
        say(f"{missing} of {missing + len(runs)} trainings did not begin")
    if stopped or (number and missing):
        return 128 + (number or signal.SIGTERM)
    return 1 if failed else 0
