"""The command line: train, resume, compare, runs. `python -m playground COMMAND --help` describes each.

Exit status: 0 success, 1 a training that failed, 2 bad input (one sentence on stderr), 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import contextlib
import dataclasses
import errno
import functools
import io
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional, SuppressFixed, arg

from playground.config import SIZES, RunConfig, nearest
from playground.experiments.compare import compare_run
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, RunError, find_run, list_runs, remove_run
from playground.terminal import comparison_table, make_reporter, print_broken, print_run, runs_table, say

COMMANDS = {
    "train": "Train one model on one task and store the run.",
    "resume": "Go on with a run that was stopped, killed or failed.",
    "compare": "Set stored runs side by side.",
    "runs": "List, show or remove stored runs.",
}
RunsDir = Annotated[Path, arg(help="Folder that holds the stored runs. PLAYGROUND_RUNS_DIR sets another default.")]
Json = Annotated[bool, arg(name="json", help="Print JSON lines and nothing else.")]
RunNames = Annotated[tuple[str, ...], Positional, arg(metavar="RUN", help="Run ids, or unique beginnings of them.")]


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    command, rest = (argv[0] if argv else "--help"), list(argv[1:])
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train, "resume": _resume, "compare": _compare, "runs": _runs,
    }  # fmt: skip
    try:
        if command in ("--help", "-h"):
            _print_help()
            return 0
        if command not in commands:
            raise ValueError(f"there is no command '{command}'{nearest(command, COMMANDS)}")
        return commands[command](rest)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return 0
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        return 1 if error.errno in (errno.ENOSPC, errno.EIO) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _print_help() -> None:
    print("usage: python -m playground COMMAND [options]\n")
    for name, summary in COMMANDS.items():
        print(f"  {name:10}{summary}")
    print("\n`python -m playground COMMAND --help` describes a command. `streamlit run app.py` opens the app.")


# --- train and resume ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainBase:
    """What `train` takes besides the fields of the configuration."""

    preset: str | None = None
    """Start from this named configuration."""
    task: str | None = None
    """Or start from this task's defaults."""
    size: str | None = None
    """Take d_model, n_layers and n_heads from one of the paper's sizes: 1M, 3M, 10M, 30M, 100M, 300M, 1B."""
    seed: int = 0
    """Decides the initialisation and the training data."""
    runs_dir: Path = field(default_factory=default_runs_dir)
    """Folder that holds the stored runs. PLAYGROUND_RUNS_DIR sets another default."""
    run_id: str | None = None
    """Name of the run and its folder; made from the configuration by default."""
    json: bool = False
    """Print one JSON line at the end and nothing else."""


def _train(argv: list[str]) -> int:
    from playground.experiments.presets import PRESETS, find_preset
    from playground.experiments.runner import train
    from tasks.registry import config_class, task_names

    start = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--preset", "--task", "--size"):
        start.add_argument(name)
    try:
        chosen, _ = start.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    asks_help = "--help" in argv or "-h" in argv
    if chosen.preset is not None and chosen.task is not None:
        raise ValueError("--preset and --task were both given, and a preset has its task; leave one out")
    if chosen.preset is None and chosen.task is None and not asks_help:
        raise ValueError(f"write --preset (one of {', '.join(PRESETS)}) or --task (one of {', '.join(task_names())})")
    if chosen.task is not None:
        config = RunConfig(task=config_class(chosen.task)())
    else:
        config = find_preset(chosen.preset or "induction-cpu").build()
    if chosen.size is not None:
        if chosen.size not in SIZES:
            raise ValueError(f"there is no size '{chosen.size}'{nearest(chosen.size, SIZES)}")
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **SIZES[chosen.size]))
    given = _parse_train(argv, config, PRESETS)
    config = RunConfig(
        task=given.task_config, model=given.model, optim=given.optim, train=given.train,
        preset=given.preset, seed=given.seed,
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


def _parse_train(argv: list[str], config: RunConfig, presets: dict[str, Any]) -> Any:
    """The command line of `train` as an object, with the fields of this configuration as options and defaults."""
    checked = {"task_config": config.task, "model": config.model, "optim": config.optim, "train": config.train}
    parts = {name: _unchecked(part) for name, part in checked.items()}
    command = make_dataclass(
        "Train",
        [(name, type(part), field(default=part)) for name, part in parts.items()],
        bases=(TrainBase,),
        frozen=True,
        kw_only=True,
    )
    width = max(len(name) for name in presets)
    lines = "\n".join(f"  {name:{width}}  {preset.summary}" for name, preset in presets.items())
    description = (
        f"Train one model and store the run.\n\nPresets:\n{lines}\n\nTask options are those of the preset's task."
    )
    given = _parse(command, argv, "train", description=description, config=(OmitArgPrefixes, SuppressFixed))
    return dataclasses.replace(
        given, **{name: type(part)(**vars(getattr(given, name))) for name, part in checked.items()}
    )


def _parse(command: Callable[..., Any], argv: list[str], name: str, **options: Any) -> Any:
    """Run tyro, with what it prints of a wrong option as one sentence."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(command, args=argv, prog=f"python -m playground {name}", **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(_sentence(said.getvalue())) from None


def _run(command: Callable[..., int], argv: list[str], name: str) -> int:
    """Parse the arguments of a function, then call it; what it prints is its own."""

    @functools.wraps(command)
    def later(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return lambda: command(*args, **kwargs)

    return _parse(later, argv, name)()


def _sentence(box: str) -> str:
    """What a box says: its first part, and of a suggestion in the second the name. Boxes have lines, or dashes in ASCII.

    >>> _sentence("╭─ Wrong ─╮\\n│ Unrecognized: --a │\\n│ ─── │\\n│ Perhaps you meant: │\\n│   --b INT │\\n╰───╯")
    'Unrecognized: --a; perhaps you meant --b'
    >>> _sentence(" Wrong \\n ----- \\n Unrecognized: --a \\n ----- \\n For full help \\n")
    'Unrecognized: --a'
    """
    parts: list[list[str]] = [[]]
    for line in (line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))):
        if line and not line.strip("─-"):
            parts.append([])
        elif line:
            parts[-1].append(line)
    said = parts if box.startswith("╭") else parts[1:]
    if not said:
        return box.strip()
    hint = said[1] if len(said) > 1 and said[1][:1] == ["Perhaps you meant:"] else []
    return " ".join(said[0]) + (f"; perhaps you meant {hint[1].split()[0]}" if len(hint) > 1 else "")


def _unchecked(part: Any) -> Any:
    """The same values in a class that checks nothing: impossible combinations then raise our sentence, not a box."""
    cls = type(part)
    body = {"__post_init__": lambda self: None, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), body)(**vars(part))


def _check_run_id(run_id: str | None) -> None:
    if run_id is not None and (not run_id or "/" in run_id or run_id.startswith(".")):
        raise ValueError(f"run id '{run_id}' cannot name a folder; write letters, digits, '-' and '_'")


def _resume(argv: list[str]) -> int:
    def resume(
        run: Annotated[str, Positional, arg(metavar="RUN", help="Run id, or the unique beginning of one.")],
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

    return _run(resume, argv, "resume")


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


# --- compare and runs ---------------------------------------------------------------------------------------------


def _compare(argv: list[str]) -> int:
    def compare(runs: RunNames, runs_dir: RunsDir = default_runs_dir(), as_json: Json = False) -> int:
        """Set stored runs side by side: score, chance, ceiling, when the score crossed half way, size and speed."""
        if not runs:
            raise ValueError("write at least one run: python -m playground compare RUN RUN ...")
        rows = [compare_run(find_run(name, runs_dir)) for name in runs]
        if as_json:
            for row in rows:
                print(json.dumps(row.to_dict()))
        else:
            comparison_table(rows)
        return 0

    return _run(compare, argv, "compare")


def _remove(names: Sequence[str], runs_dir: Path) -> int:
    if not names:
        raise ValueError("write at least one run: python -m playground runs rm RUN ...")
    found = {run.path: run for run in (find_run(name, runs_dir) for name in names)}.values()
    for run in found:
        if run.record.state == "running":
            raise RunError(f"run {run.id} is still training; stop it first")
    for run in found:
        remove_run(run)
        say(f"removed {run.id}")
    return 0


def _runs(argv: list[str]) -> int:
    def list_(runs_dir: RunsDir = default_runs_dir(), as_json: Json = False) -> int:
        """List the stored runs, oldest first."""
        runs, broken = list_runs(runs_dir)
        if as_json:
            for run in runs:
                print(json.dumps(run.record.to_dict() | {"status": run.record.state, "path": str(run.path)}))
        else:
            runs_table(runs, runs_dir)
            print_broken(broken)
        return 0

    def show(
        run: Annotated[str, Positional, arg(metavar="RUN", help="Run id, or the unique beginning of one.")],
        runs_dir: RunsDir = default_runs_dir(),
        as_json: Json = False,
    ) -> int:
        """Show one run: configuration, parameters, status, scores."""
        found = find_run(run, runs_dir)
        if as_json:
            print(json.dumps(found.record.to_dict() | {"config": found.config.to_dict()}))
        else:
            print_run(found)
        return 0

    def rm(runs: RunNames, runs_dir: RunsDir = default_runs_dir()) -> int:
        """Remove stored runs, for good. Runs that are still training are refused."""
        return _remove(runs, runs_dir)

    commands: dict[str, Callable[..., int]] = {"list": list_, "show": show, "rm": rm}
    chosen = argv[0] if argv else ""
    if chosen in commands:
        return _run(commands[chosen], argv[1:], f"runs {chosen}")
    if chosen not in ("--help", "-h"):
        unknown = f"there is no command 'runs {chosen}'{nearest(chosen, commands)}"
        raise ValueError(unknown if chosen else "write what to do: runs list, runs show RUN or runs rm RUN ...")
    return tyro.extras.subcommand_cli_from_dict(
        commands, args=argv, prog="python -m playground runs", description=COMMANDS["runs"]
    )
