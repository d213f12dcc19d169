"""Prepares probes by name (playground/probes/catalogue.py finds them) for a task; used by training, commands and pages."""

from collections.abc import Sequence

from playground.probes import catalogue
from playground.probes.catalogue import Listed, find_probe
from playground.probes.pairs import NoPairs
from playground.probes.probe import Probe
from playground.probes.repeated import Measure
from tasks.base import Task


def register_probe(probe: Probe) -> None:
    """List a probe that is defined outside of this folder, such as in a notebook.

    Raises ValueError when the name is taken by a probe with another result class.
    """
    catalogue.register(probe)


def check_probes(names: Sequence[str], task: Task, n_future: int) -> None:
    """Raises the errors of `make_probes`, without the time-consuming preparation."""
    make_probes([name for name in names if find_probe(name).declared().may_refuse], task, n_future)


def make_probes(names: Sequence[str], task: Task, n_future: int) -> dict[str, Measure]:
    """Prepare the named probes for a task.

    Raises ValueError for an unknown name, and NoPairs (a ValueError) if the task's rows contain nothing for a probe to measure.
    """
    found = [find_probe(name) for name in names]
    return {probe.name: _made(probe, task, n_future) for probe in found}


def _made(probe: Listed, task: Task, n_future: int) -> Measure:
    try:
        return probe.declared().make(task, n_future)
    except NoPairs as error:
        raise NoPairs(f"the probe {probe.name} cannot be used here: {error}; or leave the probe out") from error
