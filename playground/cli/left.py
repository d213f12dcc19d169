"""The configurations of a command that still need training, and messages about runs that are already stored."""

import dataclasses
import json
from pathlib import Path

from playground.commands import run_line
from playground.config import RunConfig
from playground.runs.store import Run, find_run
from playground.terminal import say
from playground.torchrun import launched


def left_to_train(configs: list[RunConfig], runs_dir: Path, *, again: bool, as_json: bool) -> list[RunConfig]:
    """Configurations without a finished stored run, or all with `again`; prints the stored runs of the others."""
    if again or launched():
        return configs
    from playground.running.existing import existing_runs
    from playground.running.runner import with_whole_path

    whole = [dataclasses.replace(config, task=with_whole_path(config.task)) for config in configs]
    found = existing_runs(whole, runs_dir)
    for name in found.values():
        run = find_run(name, runs_dir)
        if as_json:
            print_outcome(run)
        else:
            say(f"{name} is this training already, finished; look at it with: {run_line('compare', run.path)}")
    if found:
        say(f"trainings stored already: {len(found)} of {len(configs)}; write --again to train them again")
    return [config for place, config in enumerate(configs) if place not in found]


def print_outcome(run: Run) -> None:
    """Print a run's id, path and status as a JSON line."""
    print(json.dumps({"run": run.id, "path": str(run.path.resolve()), "status": run.record.state}), flush=True)
