"""`compare` and `runs`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from playground.cli.parsing import Json, RunName, RunNames, RunsDir, run_command
from playground.config import nearest
from playground.experiments.compare import compare_run
from playground.runs.record import default_runs_dir
from playground.runs.store import RunError, find_run, list_runs, remove_run
from playground.terminal import comparison_table, print_broken, print_run, runs_table, say


def compare_command(argv: list[str]) -> int:
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

    return run_command(compare, argv, "compare")


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


def runs_command(argv: list[str]) -> int:
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
        run: RunName,
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
        return run_command(commands[chosen], argv[1:], f"runs {chosen}")
    if chosen not in ("--help", "-h"):
        unknown = f"there is no command 'runs {chosen}'{nearest(chosen, commands)}"
        raise ValueError(unknown if chosen else "write what to do: runs list, runs show RUN or runs rm RUN ...")
    return tyro.extras.subcommand_cli_from_dict(
        commands, args=argv, prog="python -m playground runs", description="List, show or remove stored runs."
    )
