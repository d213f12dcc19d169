"""Curves of runs along training, and their means over seeds: the numbers that curves.py draws.

The mean of a group is defined where every seed has a value; it ends at the slowest seed still in training. If a seed ended
early, the mean continues over the remaining seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

X = Literal["tokens", "step"]
MOST_POINTS = 300
"""Most points of a line."""
MOST_PARTS = 20
"""Most parts of a group's mean."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One quantity of one run along training."""

    run: str
    label: str
    """Name of the run's group in the legend."""
    n_future: int
    control: str
    seed: int
    variant: int = 0
    """Index among the groups of equal n_future and control; chooses the shade."""
    panel: str = ""
    """Title of the panel in which it is drawn."""
    in_mean: bool = True
    """Whether it counts in the group's mean; a run that repeats a seed does not, and is drawn as a thin line."""
    ended: str = ""
    """Reason why it ended before its last step: `stopped`, `failed` or `interrupted`; empty if complete or in training."""
    steps: NDArray[np.int64]
    """`[point]`, ascending."""
    tokens: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, x: X) -> NDArray[np.int64]:
        """Horizontal positions of the values."""
        return self.tokens if x == "tokens" else self.steps

    @cached_property
    def measured(self) -> NDArray[np.intp]:
        """Indices of the points that have a value."""
        return np.flatnonzero(np.isfinite(self.values))

    @property
    def last_step(self) -> int:
        """The last step with a value; -1 without values."""
        return int(self.steps[self.measured[-1]]) if len(self.measured) else -1


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanPart:
    """A section of a group's mean, with the seeds that it is taken over."""

    curves: Sequence[Curve]
    steps: NDArray[np.int64]
    places: NDArray[np.int64]
    """Horizontal positions of the points."""
    values: NDArray[np.float64]
    """`[seed, point]`."""


def mean_parts(group: Sequence[Curve], x: X, most: int = MOST_PARTS) -> list[MeanPart]:
    """The mean over all seeds of a group, then over the remaining seeds after one ended early, and so on.

    A part begins where the previous one ends, so that the jump between the two means is visible. Only the first part needs two
    seeds. If seeds end at more than `most` different steps, some parts end before some of their seeds do, to limit their
    number.
    """
    ends = _spread_ends(sorted({curve.last_step for curve in group if curve.ended}), most)
    lefts = [[i for i, curve in enumerate(group) if not curve.ended or curve.last_step >= end] for end in ends]
    lefts.append([i for i, curve in enumerate(group) if not curve.ended])
    stretches = [(left, until) for left, until in zip(lefts, [*ends, None], strict=True) if left]
    if not stretches:
        return []
    shared = _Shared(group, stretches[-1][0])
    parts: list[MeanPart] = []
    joint, after = -1, -1
    for left, until in stretches:
        if len(left) == 1 and not parts:
            break
        part = shared.part(left, x, joint=joint, after=after, until=until)
        if part is not None and (len(part.steps) > 1 or not parts):
            parts.append(part)
            joint = int(part.steps[-1])
        after = after if until is None else until
    return parts


def shared_part(curves: Sequence[Curve], x: X) -> MeanPart | None:
    """The points at which every curve has a value; None if there are none."""
    everyone = list(range(len(curves)))
    return _Shared(curves, everyone).part(everyone, x)


class _Shared:
    """The values of curves at the steps shared by the curves that continue longest (`longest`).

    The steps shared by any larger set of curves are a subset of these.
    """

    def __init__(self, curves: Sequence[Curve], longest: Sequence[int]) -> None:
        self.curves = curves
        steps = [curves[i].steps[curves[i].measured] for i in longest]
        self.steps = np.unique(steps[0])
        for other in steps[1:]:
            if not np.array_equal(other, self.steps):
                self.steps = np.intersect1d(self.steps, other)
        self._rows = [_rows_of(curve, self.steps) for curve in curves]
        self._there = np.array([rows >= 0 for rows in self._rows])
        # Row index -1 means "no value": indexing then reads the last entry, which is never used.
        self._values = np.array(
            [
                curve.values[rows] if len(curve.values) else np.full(len(rows), np.nan)
                for curve, rows in zip(curves, self._rows, strict=True)
            ]
        )

    def part(
        self, left: Sequence[int], x: X, *, joint: int = -1, after: int = -1, until: int | None = None
    ) -> MeanPart | None:
        """The points at which all of `left` have a value: the step `joint`, and those after `after` up to `until`."""
        wanted = (self.steps > after) if until is None else (self.steps > after) & (self.steps <= until)
        shared = np.flatnonzero(self._there[left].all(axis=0) & (wanted | (self.steps == joint)))
        if not len(shared):
            return None
        every = -(-len(shared) // MOST_POINTS)
        # Thinned out from the end, so that the newest point is always included.
        shared = shared[(len(shared) - 1) % every :: every]
        curves = [self.curves[i] for i in left]
        places = curves[0].at(x)[self._rows[left[0]][shared]]
        return MeanPart(curves=curves, steps=self.steps[shared], places=places, values=self._values[left][:, shared])


def _rows_of(curve: Curve, steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Index in a curve's arrays for each step, -1 without a value. If a step occurs twice, the later value counts."""
    own = curve.steps[curve.measured]
    if np.array_equal(own, steps):
        return curve.measured
    if not len(own):
        return np.full(len(steps), -1)
    at = np.searchsorted(own, steps, side="right") - 1
    return np.where((at >= 0) & (own[at] == steps), curve.measured[at], -1)


def _spread_ends(ends: Sequence[int], most: int) -> list[int]:
    """At most `most` of the steps at which seeds end, spread evenly, including the first and the last."""
    return list(ends) if len(ends) <= most else [ends[i * (len(ends) - 1) // (most - 1)] for i in range(most)]
