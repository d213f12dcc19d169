"""The commands `compare` and `runs`."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from playground.analysis.claims import best_rate_note, control_notes, rate_note
from playground.analysis.claims import best_rates as best_of_rates
from playground.analysis.compare import compare_run
from playground.analysis.groups import Experiment, Group, experiment_of, group_experiments, precision_of
from playground.cli.parsing import Json, RunName, RunNames, RunsDir, run_command
from playground.config import nearest
from playground.runs.errors import RunError
from playground.runs.record import default_runs_dir
from playground.runs.removal import removable, remove_run
from playground.runs.store import Run, find_run, list_runs
from playground.terminal import comparison_table, print_broken, print_problems, print_run, runs_table, say, tell

MOST_NAMED = 10
Force = Annotated[bool, arg(help="Also remove runs whose record says that another machine trains them.")]


def compare_command(argv: list[str]) -> int:
    def compare(
        runs: RunNames,
        best_rates: Annotated[bool, arg(help="Show only the best learning rate of each model.")] = False,
        runs_dir: RunsDir = default_runs_dir(),
        as_json: Json = False,
    ) -> int:
        """Compare stored runs side by side: score, chance, ceiling, when the score crossed half way, size and speed."""
        if not runs:
            raise ValueError("write at least one run: python -m playground compare RUN RUN ...")
        found = [find_run(name, runs_dir) for name in runs]
        rows = {run.path: compare_run(run) for run in found}
        by_task = _experiments(found)
        chosen: dict[str, str] = {}
        if best_rates:
            rows_by_run = {run.id: rows[run.path] for run in found}
            for task, experiments in by_task.items():
                kept = best_of_rates(experiments, rows_by_run)
                chosen[task] = best_rate_note(experiments, kept)
                found = [run for run in found if run.id in kept or run.id not in experiments]
        if as_json:
            for run in found:
                print(json.dumps(rows[run.path].to_dict()))
        else:
            comparison_table([rows[run.path] for run in found])
            shown = {run.id for run in found}
            for task, experiments in by_task.items():
                told = {run: experiment for run, experiment in experiments.items() if run in shown}
                groups = group_experiments(told)
                for note in (*control_notes(groups.values()), chosen.get(task) or rate_note(told), _models(groups)):
                    if note:
                        tell(f"{task}: {note}" if len(by_task) > 1 else note)
        for run in found:
            for problem in run.problems:
                say(f"{run.id}: {problem}")
        return 0

    return run_command(compare, argv, "compare")


def _experiments(runs: Sequence[Run]) -> dict[str, dict[str, Experiment]]:
    """The experiment of each run, by its task and its id, without runs whose configuration cannot be read."""
    found: dict[str, dict[str, Experiment]] = {}
    for run in runs:
        with contextlib.suppress(RunError):
            experiment = experiment_of(run.values, precision_of(run.record))
            found.setdefault(run.record.task, {})[run.id] = experiment
    return found


def _models(groups: Mapping[str, Group]) -> str:
    """A sentence with the labels of all models, if some differ in more than n, control and type; else empty."""
    labels = dict.fromkeys(group.label for group in groups.values())
    plain = {(group.n_future, group.control) for group in groups.values()}
    return f"The models are: {'; '.join(labels)}." if len(labels) > len(plain) else ""


def _remove(names: Sequence[str], runs_dir: Path, *, force: bool) -> int:
    if not names:
        raise ValueError("write at least one run: python -m playground runs rm RUN ...")
    found = {run.path.resolve(): run for run in (find_run(name, runs_dir) for name in names)}.values()
    for run in found:
        removable(run, runs_dir, force=force)
    for run in found:
        kept = remove_run(run, runs_dir, force=force)
        named = f"; kept in {run.path}, not part of the run: {', '.join(kept[:MOST_NAMED])}" if kept else ""
        more = f" and {len(kept) - MOST_NAMED} more" if len(kept) > MOST_NAMED else ""
        say(f"removed {run.id}{named}{more}")
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
        print_problems(found)
        return 0

    def rm(runs: RunNames, runs_dir: RunsDir = default_runs_dir(), force: Force = False) -> int:
        """Remove stored runs permanently, except runs in training. Files that do not belong to a run are kept and named."""
        return _remove(runs, runs_dir, force=force)

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
