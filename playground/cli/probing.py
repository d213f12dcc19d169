"""The commands `probe` and `formation`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from playground.cli.parsing import Json, RunName, RunNames, RunsDir, Text, run_command
from playground.config import TrainConfig
from playground.results import Formation
from playground.runs.errors import RunError
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, find_run
from playground.terminal import result_table, rows_table, say

if TYPE_CHECKING:
    from playground.analysis.groups import Group

DEFAULT_PROBES = ("task_attention", "composition", "knockout")
Probes = Annotated[tuple[str, ...], arg(help="Probes to run; `--probe list` lists all.")]
Step = Annotated[str, arg(help="A stored step, `last`, or `all` stored steps.")]


def probe_command(argv: list[str]) -> int:
    """Run probes on a stored run."""

    def probe(
        run: RunName,
        probe: Probes = DEFAULT_PROBES,
        step: Step = "last",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        text: Text = None,
        runs_dir: RunsDir = default_runs_dir(),
        as_json: Json = False,
    ) -> int:
        """Run probes on the models of a stored run; the results are stored in its folder, in probes/NAME.jsonl."""
        from playground.probes.catalogue import all_probes, find_probe
        from playground.running.probing import probe_run

        if not probe:
            raise ValueError(f"--probe needs a name; there are: {', '.join(all_probes())}")
        for name in probe:
            find_probe(name)
        found = find_run(run, runs_dir, text=text)
        steps = _steps(found, step)
        for probed in probe_run(found, probe, steps, device=device):
            if as_json:
                values = {"run": found.id, "probe": probed.probe, "step": probed.step} | probed.result.to_dict()
                print(json.dumps(values, allow_nan=False), flush=True)
            elif probed.step == steps[-1]:
                result_table(probed.result, f"{find_probe(probed.probe).summary} {found.id}, step {probed.step:,}")
        if not as_json:
            say(
                f"stored in {found.path / 'probes'} for {'step' if len(steps) == 1 else 'steps'} "
                f"{', '.join(map(str, steps))}"
            )
        return 0

    if ("--probe", "list") in zip(argv, argv[1:], strict=False) or "--probe=list" in argv:
        return _list_probes()
    return run_command(probe, argv, "probe")


def _list_probes() -> int:
    from playground.probes.catalogue import all_probes

    usual = TrainConfig().probes
    rows_table(
        [
            {
                "probe": name,
                "along training": "by default" if name in usual else f"--probes {name}",
                "says": probe.summary,
            }
            for name, probe in all_probes().items()
        ],
        "Probes",
    )
    return 0


def _steps(run: Run, wanted: str) -> list[int]:
    stored = run.checkpoints
    if not stored:
        raise RunError(f"run {run.id} has no checkpoint yet")
    if wanted == "all":
        return stored
    if wanted == "last":
        return stored[-1:]
    if not wanted.isdecimal() or int(wanted) not in stored:
        raise RunError(
            f"run {run.id} has no checkpoint at step {wanted}; write last, all or one of {', '.join(map(str, stored))}"
        )
    return [int(wanted)]


def formation_command(argv: list[str]) -> int:
    """Show when heads and behaviour formed in stored runs."""

    def formation(runs: RunNames, runs_dir: RunsDir = default_runs_dir(), as_json: Json = False) -> int:
        """When heads and behaviour formed, from probe results stored during training. Runs of one configuration are a group."""
        from playground.analysis.formation import compare_formation, event_order
        from playground.analysis.formation import formation as form
        from playground.analysis.groups import counted_runs, group_runs

        if not runs:
            raise ValueError("write at least one run: python -m playground formation RUN RUN ...")
        found = [find_run(name, runs_dir) for name in runs]
        formed = {run.id: form(run) for run in found}
        if as_json:
            for each in formed.values():
                print(json.dumps(each.to_dict(), allow_nan=False))
            return 0
        groups = group_runs({run.id: run.values for run in found}, {run.id: run.record for run in found})
        counted = counted_runs([run.record for run in found], groups)
        by_group: dict[str, list[Formation]] = {}
        for run in sorted(formed.values(), key=lambda run: (run.n_future, run.seed)):
            if run.run in counted:
                by_group.setdefault(groups[run.run].label, []).append(run)
        for label, members in by_group.items():
            if len(members) == 1:
                result_table(members[0], f"Events of {label}")
            else:
                rows_table(event_order(members), f"Order of events, {label}: in how many of {len(members)} runs")
        _say_left_out([run for run in found if run.id not in counted], groups)
        if len(counted) > 1:
            rows_table(
                compare_formation(by_group), "Tokens to half of the final value: median over seeds, 95% interval"
            )
        return 0

    return run_command(formation, argv, "formation")


def _say_left_out(runs: list[Run], groups: "Mapping[str, Group]") -> None:
    """Print which runs are not counted, and why: each seed counts once, and runs that ended early do not count."""
    for run in dict.fromkeys(runs):
        state = run.record.state
        why = (
            f"it is {state}"
            if state not in ("finished", "running")
            else "a newer run has the same configuration and seed"
        )
        say(f"run {run.id} ({groups[run.id].label}, seed {run.record.seed}) is not counted: {why}")
