"""The rows of the comparison table, computed once for each version of a run's files."""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from playground.analysis.compare import Comparison, compare_run
from playground.analysis.groups import Group
from playground.runs.store import Run
from playground.text import visible
from playground.ui.shared.remembered import remembered
from playground.ui.shared.text import MOST
from playground.ui.shared.words import STATES, short

NOT_REACHED = "not reached"


def comparison(run: Run) -> Comparison:
    """`compare_run`, cached; the state is always read fresh, since a process can end without writing."""
    row, state = _row(run), run.record.state
    return row if row.status == state else dataclasses.replace(row, status=state)


@remembered
def _row(run: Run) -> Comparison:
    return compare_run(run)


def t50_text(row: Comparison) -> str:
    """The token count of the crossing, or that it was not reached; a dash if nothing has been measured."""
    if row.t50_tokens is not None:
        return short(row.t50_tokens)
    return NOT_REACHED if row.score is not None else "-"


def _known(value: float | None) -> str:
    return "-" if value is None else short(value)


def shown_table(rows: Sequence[Comparison], groups: Mapping[str, Group]) -> pd.DataFrame:
    """The table on the page, one row per run."""
    return pd.DataFrame(
        {
            "model": [visible(groups[row.run].label, MOST) for row in rows],
            "seed": [row.seed for row in rows],
            "status": [STATES[row.status] for row in rows],
            "score": [row.score for row in rows],
            "t50 (tokens)": [t50_text(row) for row in rows],
            "t50 (FLOPs)": [_known(row.t50_flops) for row in rows],
            "t50 (seconds)": [_known(row.t50_seconds) for row in rows],
            "clipped": [row.clipped for row in rows],
            "parameters": [row.parameters for row in rows],
            "next-token depth": [row.next_token_depth for row in rows],
            "tokens/s": [round(row.tokens_per_second) for row in rows],
            "tokens seen": [row.tokens for row in rows],
            "step": [row.step for row in rows],
            "of steps": [row.steps for row in rows],
            "preset": [visible(row.preset or "own settings", MOST) for row in rows],
            "device": [visible(row.device, MOST) for row in rows],
            "run": [visible(row.run, MOST) for row in rows],
        }
    )


def table_csv(rows: Sequence[Comparison]) -> str:
    """All numbers of the table as CSV; `t50` says whether half way was reached."""
    table = pd.DataFrame([row.to_dict() for row in rows])
    table["t50"] = ["reached" if row.t50_tokens is not None else NOT_REACHED for row in rows]
    return table.to_csv(index=False)


def metrics_csv(runs: Sequence[Run]) -> str:
    """Every stored row of the runs' metrics as CSV, with columns that identify the run in front."""
    frames: list[pd.DataFrame] = []
    for run in runs:
        frame = run.metrics.copy()
        for place, name in enumerate(("run", "task", "preset", "n_future", "control", "seed")):
            frame.insert(place, name, getattr(run.record, name))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).to_csv(index=False) if frames else ""
