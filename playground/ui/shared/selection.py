"""Controls for the stored runs that a page shows, and the groups that these runs form."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import streamlit as st

from playground.analysis.groups import Experiment, Group, experiment_of, group_experiments, precision_of
from playground.runs.store import Run, Store
from playground.text import visible
from playground.ui.shared.remembered import remembered
from playground.ui.shared.text import MOST, plain
from playground.ui.shared.words import CONTROL_HELP, STATES, TASKS, task_title


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The user's choice of filters; an empty choice means everything."""

    n_futures: Sequence[int] = ()
    controls: Sequence[str] = ()
    presets: Sequence[str] = ()
    states: Sequence[str] = ()
    ids: Sequence[str] = ()

    def keep(self, runs: Iterable[Run]) -> list[Run]:
        """The runs that pass. With n = 1 both controls name the same model, so it passes with either."""

        def passes(run: Run) -> bool:
            record = run.record
            return (
                (not self.n_futures or record.n_future in self.n_futures)
                and (not self.controls or record.control in self.controls or record.n_future == 1)
                and (not self.presets or preset_name(run) in self.presets)
                and (not self.states or record.state in self.states)
                and (not self.ids or run.id in self.ids)
            )

        return [run for run in runs if passes(run)]


def preset_name(run: Run) -> str:
    """The preset that a run was derived from."""
    return run.record.preset or "own settings"


def choose_task(store: Store) -> str:
    """The task whose runs are shown; by default that of the newest run. The choice is stored in the page's address."""
    tasks = {run.record.task for run in store.runs}
    ordered = [task for task in TASKS if task in tasks] + sorted(tasks - set(TASKS))
    newest = store.runs[-1].record.task
    chosen = st.segmented_control(
        "Task",
        ordered,
        default=newest,
        format_func=lambda name: plain(task_title(name)),
        key="task",
        required=True,
        bind="query-params",
    )
    return chosen or newest


def choose_filters(runs: Sequence[Run]) -> Filters:
    """Filters side by side, each with the values that occur in the runs."""
    columns = st.columns(5)
    n_futures = columns[0].multiselect(
        "n", sorted({run.record.n_future for run in runs}), placeholder="all", key="filter-n"
    )
    controls = columns[1].multiselect(
        "Control",
        sorted({run.record.control for run in runs}),
        placeholder="all",
        key="filter-control",
        help=CONTROL_HELP,
    )
    presets = columns[2].multiselect(
        "Preset",
        sorted({preset_name(run) for run in runs}),
        placeholder="all",
        format_func=_option,
        key="filter-preset",
    )
    present = {run.record.state for run in runs}
    states = columns[3].multiselect(
        "Status",
        [state for state in STATES if state in present],
        placeholder="all",
        format_func=lambda state: STATES[state],
        key="filter-status",
    )
    ids = columns[4].multiselect(
        "Run", [run.id for run in runs][::-1], placeholder="all", format_func=_option, key="filter-run"
    )
    return Filters(n_futures=n_futures, controls=controls, presets=presets, states=states, ids=ids)


def _option(text: str) -> str:
    """An entry of a multiselect, which does not interpret Markdown."""
    return visible(text, MOST)


def groups_of(runs: Sequence[Run]) -> dict[str, Group]:
    """The group of each run by its id, from cached experiments."""
    return group_experiments(experiments_of(runs))


def experiments_of(runs: Sequence[Run]) -> dict[str, Experiment]:
    """The experiment of each run by its id."""
    return {run.id: _experiment(run) for run in runs}


@remembered
def _experiment(run: Run) -> Experiment:
    return experiment_of(run.values, precision_of(run.record))
