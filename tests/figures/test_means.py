"""Means over seeds of which some end early, against a plain search point by point; and groups of hundreds of seeds."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.figures.means import MOST_PARTS, MOST_POINTS, Curve, MeanPart, mean_parts
from tests.figures.shown import TOKENS_A_STEP, curve

GRIDS = st.lists(
    st.dictionaries(st.integers(0, 9), st.floats(-5, 5) | st.just(float("nan")), max_size=8), min_size=1, max_size=5
)


def from_grid(grid: dict[int, float], seed: int, ended: bool) -> Curve:
    steps = np.array(sorted(grid), dtype=np.int64)
    return curve([grid[step] for step in sorted(grid)], steps=steps, seed=seed, ended="failed" if ended else "")


def slow_parts(group: Sequence[Curve], x: str) -> list[tuple[list[int], list[int], list[int], list[list[float]]]]:
    """Seeds, steps, places and values of each part, by dictionaries."""
    parts = []
    left, joint, after = list(group), -1, -1
    while len(left) > 1 or (left and parts):
        until = min((member.last_step for member in left if member.ended), default=None)
        tables = [
            {
                int(step): (int(place), float(value))
                for step, place, value in zip(member.steps, member.at(x), member.values, strict=True)
                if np.isfinite(value)
            }
            for member in left
        ]
        common = set(tables[0]).intersection(*tables[1:])
        shared = sorted(step for step in common if step == joint or (step > after and (until is None or step <= until)))
        if shared and (len(shared) > 1 or not parts):
            places = [tables[0][step][0] for step in shared]
            values = [[table[step][1] for step in shared] for table in tables]
            parts.append(([member.seed for member in left], shared, places, values))
            joint = shared[-1]
        if until is None:
            break
        after = until
        left = [member for member in left if not member.ended or member.last_step > until]
    return parts


def told(parts: Sequence[MeanPart]) -> list[tuple[list[int], list[int], list[int], list[list[float]]]]:
    return [
        ([member.seed for member in part.curves], part.steps.tolist(), part.places.tolist(), part.values.tolist())
        for part in parts
    ]


@settings(deadline=None)
@given(GRIDS, st.lists(st.booleans(), min_size=5, max_size=5), st.sampled_from(["step", "tokens"]))
def test_the_parts_of_a_mean_equal_a_search_point_by_point(grids, ended, x):
    group = [from_grid(grid, seed, ended[seed]) for seed, grid in enumerate(grids)]
    assert told(mean_parts(group, x)) == slow_parts(group, x)


def test_of_two_rows_of_a_step_the_later_counts():
    twice = curve([1.0, 2.0, 3.0, float("nan")], steps=np.array([0, 10, 10, 10]))
    (part,) = mean_parts([twice, curve([5.0, 7.0], seed=1)], "step")
    assert part.steps.tolist() == [0, 10] and part.values.tolist() == [[1.0, 3.0], [5.0, 7.0]]


def early(count: int, ends: int) -> list[Curve]:
    """Seeds that end at `ends` different points, and one that does not."""
    lengths = [2 + seed % ends for seed in range(count)]
    found = [curve([1.0 + seed] * length, seed=seed, ended="failed") for seed, length in enumerate(lengths)]
    return [*found, curve([0.5] * (ends + 5), seed=count)]


@pytest.mark.parametrize("ends", [1, 2, MOST_PARTS - 1, MOST_PARTS])
def test_up_to_so_many_ends_have_a_part_each(ends):
    group = early(3 * MOST_PARTS, ends)
    parts = mean_parts(group, "step")
    assert told(parts) == slow_parts(group, "step") and len(parts) == ends + 1


@pytest.mark.parametrize("ends", [MOST_PARTS + 1, 10 * MOST_PARTS])
def test_many_ends_share_parts_and_no_part_has_a_point_that_one_of_its_seeds_lacks(ends):
    group = early(20 * MOST_PARTS, ends)
    parts = mean_parts(group, "tokens")
    assert len(parts) == MOST_PARTS + 1
    assert len(parts[0].curves) == len(group) and parts[-1].curves == [group[-1]]
    for before, after in zip(parts, parts[1:], strict=False):
        assert set(after.curves) < set(before.curves) and before.steps[-1] == after.steps[0]
    for part in parts:
        for member, values in zip(part.curves, part.values, strict=True):
            assert part.steps[-1] <= member.last_step
            assert values.tolist() == [member.seed + 1.0 if member.ended else 0.5] * len(part.steps)
        assert part.places.tolist() == (part.steps * TOKENS_A_STEP).tolist()
    assert parts[-1].steps[-1] == group[-1].last_step


def test_hundreds_of_long_curves_are_thinned_once_for_all():
    group = [curve(np.arange(5 * MOST_POINTS) + seed, seed=seed) for seed in range(300)]
    (part,) = mean_parts(group, "step")
    assert part.values.shape == (300, MOST_POINTS) and part.steps[-1] == group[0].last_step
    assert part.values.mean(axis=0).tolist() == (part.steps / 10 + 149.5).tolist()
