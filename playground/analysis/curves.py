"""Converts stored runs into the curves that figures draw. Needs no torch.

`Curve.in_mean` depends on the other runs of a figure, so the caller sets it: `dataclasses.replace(curve, in_mean=False)`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from playground.analysis.groups import Group
from playground.config import future_head_paths
from playground.figures.losses import panel_name
from playground.figures.means import Curve
from playground.results import AttentionHistory, heads_of, used_by
from playground.runs.metrics import Columns, numbers_of, of_kind
from playground.runs.record import RunRecord


def loss_curves(
    record: RunRecord, metrics: Columns, group: Group, *, kind: str = "eval", scale: float = 1.0
) -> list[Curve]:
    """The losses: on the test set (kind "eval") or during training (kind "train"), times `scale`.

    First the loss of each offset, then those that only the run's objective has: the other columns that begin with `loss_`.
    """
    prefix = "test_loss_" if kind == "eval" else "loss_"
    scores = {info.name for info in record.scores}
    named = sorted(
        rest
        for column in metrics
        if column not in scores and column.startswith(prefix) and not (rest := column.removeprefix(prefix)).isdigit()
    )
    curves = [
        _curve(record, metrics, group, kind, f"{prefix}{loss}", panel_name(loss), scale)
        for loss in [*map(str, range(1, record.n_future + 1)), *named]
    ]
    return [curve for curve in curves if curve is not None]


def score_curve(record: RunRecord, metrics: Columns, group: Group, name: str) -> Curve | None:
    """One score along training; None if the run has not measured it (yet)."""
    return _curve(record, metrics, group, "eval", name)


def clipping_curve(record: RunRecord, metrics: Columns, group: Group, name: str) -> Curve | None:
    """`grad_norm`, the gradient norm before clipping, or `clipped`, the share of clipped steps, along training."""
    return _curve(record, metrics, group, "train", name)


def throughput(metrics: Columns) -> NDArray[np.float64]:
    """`[row]`: input tokens per second of training, from one row of training losses to the next; NaN where no time has passed.

    The time of evaluations, checkpoints and probes is excluded: the column `seconds` of these rows does not contain it.
    """
    here = of_kind(metrics, "train")
    tokens, seconds = (np.append(0.0, np.asarray(metrics[name])[here]) for name in ("tokens", "seconds"))
    spent = np.diff(seconds)
    return np.divide(np.diff(tokens), spent, out=np.full_like(spent, np.nan), where=spent > 0)


def throughput_curve(record: RunRecord, metrics: Columns, group: Group) -> Curve | None:
    """`throughput` along training; None before the first row."""
    rates = throughput(metrics)
    return _from_arrays(record, group, *_places(metrics, "train"), rates) if np.isfinite(rates).any() else None


def strongest_head_curve(record: RunRecord, history: AttentionHistory, group: Group) -> Curve | None:
    """Along training the largest prefix-matching score of the attention heads that the next token depends on.

    Future heads of further offsets are excluded: they can have an induction head of their own, which does not help offset 1.
    """
    if not history.steps:
        return None
    layers = history.results[-1].layers
    paths = future_head_paths(record.future_heads, record.n_future)
    used = {head.layer for head in used_by(heads_of(layers, 1), 1, paths)}
    rows = [number for number, layer in enumerate(layers) if layer in used]
    if not rows:
        return None
    values = np.array([np.nanmax(scores.prefix_matching[rows]) for scores in history.results])
    return _from_arrays(record, group, np.array(history.steps), np.array(history.tokens), values)


def _curve(
    record: RunRecord, metrics: Columns, group: Group, kind: str, column: str, panel: str = "", scale: float = 1.0
) -> Curve | None:
    values = numbers_of(metrics, column, kind)
    if values is None or not np.isfinite(values).any():
        return None
    steps, tokens = _places(metrics, kind)
    return _from_arrays(record, group, steps, tokens, values if scale == 1 else values * scale, panel)


def _places(metrics: Columns, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and tokens of the rows of one kind."""
    here = of_kind(metrics, kind)
    return np.asarray(metrics["step"])[here], np.asarray(metrics["tokens"])[here]


def _from_arrays(
    record: RunRecord,
    group: Group,
    steps: NDArray[Any],
    tokens: NDArray[Any],
    values: NDArray[np.float64],
    panel: str = "",
) -> Curve:
    state = record.state
    return Curve(
        run=record.run,
        label=group.label,
        n_future=record.n_future,
        control=group.control,
        seed=record.seed,
        variant=group.variant,
        panel=panel,
        ended="" if state in ("running", "finished") else state,
        steps=steps.astype(np.int64, copy=False),
        tokens=tokens.astype(np.int64, copy=False),
        values=values,
    )
