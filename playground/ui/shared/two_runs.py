"""Chooser for two stored runs, by default a next-token run and its n-token partner."""

from collections.abc import Mapping, Sequence

from streamlit.delta_generator import DeltaGenerator

from playground.analysis.groups import Group
from playground.runs.store import Run
from playground.text import visible
from playground.ui.shared.text import MOST
from playground.ui.shared.words import STATES

LONGEST_TITLE = 40
"""A run whose title would be longer than this, in letters, is called by its id."""


def choose_two(
    runs: Sequence[Run], groups: Mapping[str, Group], places: tuple[DeltaGenerator, DeltaGenerator], key: str = ""
) -> tuple[Run, Run | None]:
    """Two choice boxes; by default the newest n = 1 run that has a partner of the same preset and seed, and that partner.

    The second run is None if there is only one. `key` is a prefix of the keys of the two boxes.
    """
    newest_first = list(runs)[::-1]
    names = {run.id: run_name(run, groups[run.id]) for run in newest_first}
    by_id = {run.id: run for run in newest_first}
    default_left, default_right = default_pair(newest_first)
    ids = list(by_id)
    left = places[0].selectbox(
        "Left", ids, index=ids.index(default_left.id), format_func=names.__getitem__, key=f"{key}left"
    )
    if len(ids) == 1:
        places[1].caption("Train a second model of this task with another n to compare two runs here.")
        return by_id[left], None
    right = places[1].selectbox(
        "Right", ids, index=ids.index(default_right.id), format_func=names.__getitem__, key=f"{key}right"
    )
    return by_id[left], by_id[right]


def default_pair(newest_first: Sequence[Run]) -> tuple[Run, Run]:
    """The newest n > 1 run with an n = 1 run of its preset and seed (which comes first); else the newest run of either kind."""

    def kind(run: Run) -> tuple[str | None, int]:
        return run.record.preset, run.record.seed

    more = [run for run in newest_first if run.record.n_future > 1]
    for right in more:
        for left in newest_first:
            if left.record.n_future == 1 and kind(left) == kind(right):
                return left, right
    single = [run for run in newest_first if run.record.n_future == 1]
    left = (single or newest_first)[0]
    others = [run for run in (more or newest_first) if run.id != left.id]
    return left, (others or [left])[0]


def run_name(run: Run, group: Group) -> str:
    """A run in the list of a selectbox, which does not interpret Markdown."""
    record = run.record
    name = f"{group.label}, seed {record.seed} ({STATES[record.state]}, step {record.step:,}): {run.id}"
    return visible(name, MOST)


def titles(names: Sequence[str], steps: Sequence[int], ids: Sequence[str]) -> list[str]:
    """Titles of the chosen models: group, seed and step, or the run's id if that is too long or ambiguous."""
    short = [name if len(name) <= LONGEST_TITLE else run for name, run in zip(names, ids, strict=True)]
    found = [f"{name}, step {step:,}" for name, step in zip(short, steps, strict=True)]
    return [
        f"{run}, step {step:,}" if found.count(title) > 1 else title
        for title, step, run in zip(found, steps, ids, strict=True)
    ]
