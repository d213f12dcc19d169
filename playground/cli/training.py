"""`train` and `resume`."""

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes, SuppressFixed

from playground.cli.parsing import Json, RunName, RunsDir, parse, run_command
from playground.config import SIZES, RunConfig, nearest
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, find_run
from playground.terminal import make_reporter, say


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `train` takes besides the fields of the configuration."""

    preset: str | None = None
    """Start from this named configuration."""
    task: str | None = None
    """Or start from this task's defaults."""
    base: str | None = None
    """Or train further future heads on the frozen trunk of this finished next-token run (its id, or the path of its folder):
    task, sizes, optimizer and length are the run's, and the heads medusa_mlp for 4 tokens, unless told otherwise."""
    size: str | None = None
    """Take d_model, n_layers and n_heads from one of the paper's sizes: 1M, 3M, 10M, 30M, 100M, 300M, 1B."""
    seed: int = 0
    """Decides the initialisation and the training data; on a base the base's by default."""
    runs_dir: Path = field(default_factory=default_runs_dir)
    """Folder that holds the stored runs. PLAYGROUND_RUNS_DIR sets another default."""
    run_id: str | None = None
    """Name of the run and its folder; made from the configuration by default."""
    json: bool = False
    """Print one JSON line at the end and nothing else."""


def train_command(argv: list[str]) -> int:
    from playground.experiments.presets import PRESETS
    from playground.experiments.runner import train

    config = _start_from(argv)
    given = _parse_train(argv, config, PRESETS)
    config = RunConfig(
        task=given.task_config, model=given.model, optim=given.optim, train=given.train,
        clamp=given.clamp, base=config.base, preset=given.preset, seed=given.seed,
    )  # fmt: skip
    _check_run_id(given.run_id)
    reporter = make_reporter(quiet=given.json)
    return _until_stopped(
        lambda should_stop: train(
            config, given.runs_dir, run_id=given.run_id, reporter=reporter, should_stop=should_stop
        ),
        given.runs_dir,
        given.json,
    )


def _start_from(argv: list[str]) -> RunConfig:
    """The configuration that the other options change: of a preset, of a task, or on a base."""
    from playground.experiments.base import make_config_on
    from playground.experiments.presets import PRESETS, find_preset
    from tasks.registry import config_class, task_names

    start = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--preset", "--task", "--size", "--base"):
        start.add_argument(name)
    start.add_argument("--runs-dir", type=Path, default=default_runs_dir())
    try:
        chosen, _ = start.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    asks_help = "--help" in argv or "-h" in argv
    if chosen.base is not None:
        for name in ("preset", "task", "size"):
            if getattr(chosen, name) is not None:
                raise ValueError(f"--base and --{name} were both given, and a base has its {_HAS[name]}; leave one out")
        return make_config_on(find_run(chosen.base, chosen.runs_dir))
    if chosen.preset is not None and chosen.task is not None:
        raise ValueError("--preset and --task were both given, and a preset has its task; leave one out")
    if chosen.preset is None and chosen.task is None and not asks_help:
        raise ValueError(
            f"write --preset (one of {', '.join(PRESETS)}), --task (one of {', '.join(task_names())}) or --base RUN"
        )
    if chosen.task is not None:
        config = RunConfig(task=config_class(chosen.task)())
    else:
        config = find_preset(chosen.preset or "induction-cpu").build()
    if chosen.size is not None:
        if chosen.size not in SIZES:
            raise ValueError(f"there is no size '{chosen.size}'{nearest(chosen.size, SIZES)}")
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **SIZES[chosen.size]))
    return config


_HAS = {"preset": "own configuration", "task": "task", "size": "size"}
"""What a base has already, by the option that would say it again."""


def _parse_train(argv: list[str], config: RunConfig, presets: dict[str, Any]) -> Any:
    """The command line of `train` as an object, with the fields of this configuration as options and defaults."""
    checked = {"task_config": config.task, "model": config.model, "optim": config.optim, "train": config.train,
               "clamp": config.clamp}  # fmt: skip
    parts = {name: _unchecked(part) for name, part in checked.items()}
    command = make_dataclass(
        "Train",
        [(name, type(part), field(default=part)) for name, part in parts.items()],
        bases=(TrainOptions,),
        frozen=True,
        kw_only=True,
    )
    width = max(len(name) for name in presets)
    lines = "\n".join(f"  {name:{width}}  {preset.summary}" for name, preset in presets.items())
    description = (
        f"Train one model and store the run.\n\nPresets:\n{lines}\n\nTask options are those of the preset's task."
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
    """The same values in a class that checks nothing: impossible combinations then raise our sentence, not a box."""
    cls = type(part)
    body = {"__post_init__": lambda self: None, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), body)(**vars(part))


def _check_run_id(run_id: str | None) -> None:
    if run_id is not None and (not run_id or "/" in run_id or run_id.startswith(".")):
        raise ValueError(f"run id '{run_id}' cannot name a folder; write letters, digits, '-' and '_'")


def resume_command(argv: list[str]) -> int:
    def resume(
        run: RunName,
        runs_dir: RunsDir = default_runs_dir(),
        as_json: Json = False,
    ) -> int:
        """Go on with a run that was stopped, killed or failed, from its last checkpoint."""
        from playground.experiments.runner import resume as resume_run

        found = find_run(run, runs_dir)
        reporter = make_reporter(quiet=as_json)
        return _until_stopped(
            lambda should_stop: resume_run(found, reporter=reporter, should_stop=should_stop), runs_dir, as_json
        )

    return run_command(resume, argv, "resume")


def _until_stopped(work: Callable[[Callable[[], str]], Run], runs_dir: Path, as_json: bool) -> int:
    """Train until done, or until Ctrl-C or SIGTERM, which leave a checkpoint. Returns the exit status."""
    import torch

    from playground.experiments.runner import NonFiniteLoss

    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        if received:  # a second signal does not wait for the checkpoint
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)

    def should_stop() -> str:
        if not received:
            return ""
        return "stopped by Ctrl-C" if received[0] == signal.SIGINT else "stopped by SIGTERM"

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run = work(should_stop)
    except NonFiniteLoss as error:
        if as_json and error.run is not None:
            _print_outcome(error.run)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (MemoryError, torch.OutOfMemoryError):
        print("error: memory ran out; a smaller --batch-size, model or context fits", file=sys.stderr)
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    record = run.record
    if as_json:
        _print_outcome(run)
    if record.status == "stopped":
        say(f"{record.reason} at step {record.step}; go on with: python -m playground resume {run.id} "
            f"--runs-dir {runs_dir}")  # fmt: skip
        return 128 + received[0]
    return 0


def _print_outcome(run: Run) -> None:
    print(json.dumps({"run": run.id, "path": str(run.path.resolve()), "status": run.record.status}), flush=True)
