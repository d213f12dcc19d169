"""Endpoints: what a study reads from each run. A time (with runs that never got there), or the final value of a score.

| name | kind | what it is |
|---|---|---|
| `t50`, `t90` | time | tokens to half, or nine tenths, of the way from chance to ceiling of the task's first score |
| `t50:NAME` | time | the same for the score NAME |
| `formation:EVENT` | time | tokens to half of its own final value of an event of heads, such as `induction` |
| `final`, `final:NAME` | score | the final value of the first score, or of the score NAME |
| `loss` | score | test loss of the next token at the end, in nats |

Needs no torch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from playground.analysis.formation import ORDER, formation
from playground.analysis.statistics import crossing
from playground.config import listed, nearest, short_value
from playground.results import ScoreInfo
from playground.runs.metrics import Columns, numbers_of, of_kind
from playground.runs.store import Run

SHARES = {"t50": 0.5, "t90": 0.9}
KINDS = (*SHARES, "formation", "final", "loss")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an endpoint is in one run."""

    value: float | None
    """Tokens or score; None for a time that was not reached, and where the run has no such value."""
    seen: float
    """Tokens up to which the run was measured."""


Measure = Callable[[Run], Measured]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One number of a run."""

    name: str
    title: str
    """For an axis of a figure."""
    kind: Literal["time", "score"]
    rises: bool | None
    """Whether a larger value is better; None: as the score itself says."""
    measure: Measure

    def larger_is_better(self, score: ScoreInfo | None) -> bool:
        """Whether a larger value is better, for a run whose first score is `score`."""
        if self.rises is not None:
            return self.rises
        return score.higher_is_better if score is not None else True


def find_endpoint(name: str) -> Endpoint:
    """An endpoint by its name. Raises ValueError for an unknown one."""
    kind, colon, subject = name.partition(":")
    if kind not in KINDS or (colon and not subject) or (kind == "loss" and colon):
        raise ValueError(f"there is no endpoint {short_value(name)}{nearest(name, KINDS)}")
    if kind in SHARES:
        share = "half" if kind == "t50" else "nine tenths"
        title = f"tokens to {share} of the way from chance to ceiling" + (f" of {subject}" if subject else "")
        return Endpoint(name=name, title=title, kind="time", rises=False, measure=_crossing(SHARES[kind], subject))
    if kind == "formation":
        if subject not in ORDER:
            raise ValueError(f"there is no event {short_value(subject)} of formation; write {listed(ORDER)}")
        return Endpoint(
            name=name, title=f"tokens to half of {subject}", kind="time", rises=False, measure=_event(subject)
        )
    if kind == "loss":
        title = "test loss of the next token at the end (nats)"
        return Endpoint(name=name, title=title, kind="score", rises=False, measure=_last("test_loss_1"))
    title = f"{subject or 'the score'} at the end"
    return Endpoint(name=name, title=title, kind="score", rises=None, measure=_final(subject))


def score_of(run: Run, name: str = "") -> ScoreInfo | None:
    """A score of a run's task by its name, or the first one; None if the task has no such score."""
    return next((info for info in run.record.scores if not name or info.name == name), None)


def _crossing(share: float, name: str) -> Measure:
    def measure(run: Run) -> Measured:
        info = score_of(run, name)
        metrics: Columns = run.metrics
        values = None if info is None else numbers_of(metrics, info.name, "eval")
        if info is None or values is None or not len(values):
            return Measured(value=None, seen=0.0)
        tokens = np.asarray(metrics["tokens"])[of_kind(metrics, "eval")]
        known = np.isfinite(values)
        seen = float(tokens[known].max()) if known.any() else 0.0
        found = crossing(tokens.tolist(), values.tolist(), info.chance, info.ceiling, share)
        return Measured(value=found, seen=seen)

    return measure


def _event(name: str) -> Measure:
    def measure(run: Run) -> Measured:
        try:
            event = formation(run).event(name)
        except ValueError:  # no stored attention scores
            return Measured(value=None, seen=0.0)
        return Measured(value=None if event is None else event.half, seen=float(run.record.tokens))

    return measure


def _final(name: str) -> Measure:
    def measure(run: Run) -> Measured:
        info = score_of(run, name)
        value = None if info is None else run.record.final.get(info.name)
        known = value is not None and math.isfinite(value)
        return Measured(value=value if known else None, seen=float(run.record.tokens))

    return measure


def _last(column: str) -> Measure:
    def measure(run: Run) -> Measured:
        values = numbers_of(run.metrics, column, "eval")
        known = np.zeros(0) if values is None else values[np.isfinite(values)]
        return Measured(value=float(known[-1]) if len(known) else None, seen=float(run.record.tokens))

    return measure
