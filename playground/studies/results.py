"""What a study has so far: the run of every training, the endpoint of every run, effects, and the verdict of every cell.

Trainings are named by the contents of their configuration: a finished run that is this training counts, whoever started it
(playground/running/existing.py). Nothing of a study is stored but its runs. Needs no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from playground.analysis.effects import Effect, difference_of_scores, holm, ratio_of_times
from playground.analysis.survival import Times, times_of
from playground.runs.store import Run
from playground.studies.definition import Cell, Study, at_seed
from playground.studies.endpoints import Endpoint, Measured, find_endpoint, score_of
from playground.studies.matching import State, Training, states_of
from playground.studies.verdict import Finding, Verdict, verdict


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmResult:
    """The runs of one arm in one cell, at the rate at which it is compared."""

    label: str
    control: str
    rate: float
    trainings: tuple[Training, ...]
    """One for each seed, in the order of `Study.seeds`."""
    measured: tuple[Measured | None, ...]
    """The endpoint of each; None where it has not finished."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds with a result."""
        return tuple(one.seed for one, found in zip(self.trainings, self.measured, strict=True) if found is not None)

    def times(self, seeds: Sequence[int] | None = None) -> Times:
        """The times of these seeds (by default of all with a result)."""
        found = self._of(self.seeds if seeds is None else seeds)
        return times_of([one.value for one in found], [one.seen for one in found])

    def scores(self, seeds: Sequence[int] | None = None) -> "np.ndarray":
        """The scores of these seeds; NaN where a run has none."""
        found = self._of(self.seeds if seeds is None else seeds)
        return np.array([math.nan if one.value is None else one.value for one in found], dtype=np.float64)

    def _of(self, seeds: Sequence[int]) -> list[Measured]:
        known = {one.seed: found for one, found in zip(self.trainings, self.measured, strict=True) if found is not None}
        return [known[seed] for seed in seeds]


@dataclass(frozen=True, kw_only=True, eq=False)
class CellResult:
    """One cell: its arms, the effect of each arm against the reference, and the verdict."""

    cell: Cell
    arms: tuple[ArmResult, ...]
    findings: Mapping[str, Finding]
    """By the label of the arm; only arms with at least two pairs of seeds."""
    verdict: Verdict

    @property
    def reference(self) -> ArmResult:
        return self.arms[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyResult:
    """Everything that a study has so far."""

    study: Study
    endpoint: Endpoint
    cells: tuple[CellResult, ...]
    sweep: tuple[Training, ...]
    """Trainings that choose the learning rates; empty without a sweep."""

    @property
    def trainings(self) -> list[Training]:
        """All trainings, the sweep first."""
        return [*self.sweep, *(one for cell in self.cells for arm in cell.arms for one in arm.trainings)]

    def count(self, state: State) -> int:
        return sum(one.state == state for one in self.trainings)


def study_result(study: Study, runs: Sequence[Run]) -> StudyResult:
    """Collect what `runs` hold of a study."""
    endpoint = find_endpoint(study.endpoint)
    sweep = tuple(states_of(sweep_trainings(study), runs))
    rates = best_rates(sweep, endpoint)
    trainings = states_of(
        [
            Training(
                cell=index,
                arm=arm.label,
                seed=seed,
                rate=rate,
                sweep=False,
                config=at_seed(cell.configs[arm.label], seed, rate),
            )
            for index, cell in enumerate(study.cells)
            for arm in study.arms
            for rate in [rates.get((index, arm.label), cell.configs[arm.label].optim.lr)]
            for seed in study.seeds
        ],
        runs,
    )
    return StudyResult(study=study, endpoint=endpoint, cells=_cells(study, endpoint, trainings), sweep=sweep)


def sweep_trainings(study: Study) -> list[Training]:
    """The trainings that choose the learning rate of each arm in each cell; none without rates."""
    return [
        Training(
            cell=index,
            arm=arm.label,
            seed=seed,
            rate=rate,
            sweep=True,
            config=at_seed(cell.configs[arm.label], seed, rate),
        )
        for index, cell in enumerate(study.cells)
        for arm in study.arms
        for rate in study.rates
        for seed in study.rate_seeds
    ]


def best_rates(sweep: Sequence[Training], endpoint: Endpoint) -> dict[tuple[int, str], float]:
    """The best learning rate of each arm (by cell and label) whose sweep is complete.

    The best is that of the least mean time, where a run that never got there counts as twice the tokens it was seen for, or of
    the best mean score; a failed training counts as the worst.
    """
    by_arm: dict[tuple[int, str], dict[float, list[Training]]] = {}
    for one in sweep:
        by_arm.setdefault((one.cell, one.arm), {}).setdefault(one.rate, []).append(one)
    return {
        key: min(by_rate, key=lambda rate: _cost(by_rate[rate], endpoint))
        for key, by_rate in by_arm.items()
        if all(one.state in ("finished", "failed") for trained in by_rate.values() for one in trained)
    }


def _cost(trained: Sequence[Training], endpoint: Endpoint) -> float:
    costs: list[float] = []
    for one in trained:
        if one.state != "finished" or one.run is None:
            return math.inf
        found = endpoint.measure(one.run)
        if endpoint.kind == "time":
            costs.append(2 * found.seen if found.value is None else found.value)
        elif found.value is None:
            return math.inf
        else:
            costs.append(-found.value if endpoint.larger_is_better(score_of(one.run)) else found.value)
    return float(np.mean(costs))


def _cells(study: Study, endpoint: Endpoint, trainings: Sequence[Training]) -> tuple[CellResult, ...]:
    by_arm: dict[tuple[int, str], list[Training]] = {}
    for one in trainings:
        by_arm.setdefault((one.cell, one.arm), []).append(one)
    arms = [
        tuple(_arm(endpoint, arm.label, arm.control, by_arm[index, arm.label]) for arm in study.arms)
        for index in range(len(study.cells))
    ]
    effects = {
        (index, arm.label): effect
        for index, of_cell in enumerate(arms)
        for arm in of_cell[1:]
        if (effect := effect_of(arm, of_cell[0], endpoint)) is not None
    }
    adjusted = dict(zip(effects, holm([effect.p for effect in effects.values()]), strict=True))
    found: list[CellResult] = []
    for index, (cell, of_cell) in enumerate(zip(study.cells, arms, strict=True)):
        earlier = endpoint.kind == "time" or not _larger_is_better(endpoint, of_cell)
        findings = {
            arm.label: Finding(
                effect=effects[index, arm.label], p_adjusted=adjusted[index, arm.label], earlier_is_better=earlier
            )
            for arm in of_cell[1:]
            if (index, arm.label) in effects
        }
        by_control = {arm.control: findings[arm.label] for arm in of_cell[1:] if arm.control and arm.label in findings}
        found.append(CellResult(cell=cell, arms=of_cell, findings=findings, verdict=verdict(by_control)))
    return tuple(found)


def effect_of(arm: ArmResult, reference: ArmResult, endpoint: Endpoint) -> Effect | None:
    """The effect over the seeds that both arms have; None for fewer than two."""
    seeds = [seed for seed in reference.seeds if seed in arm.seeds]
    if endpoint.kind == "time":
        return ratio_of_times(arm.times(seeds), reference.times(seeds)) if len(seeds) > 1 else None
    first, second = arm.scores(seeds), reference.scores(seeds)
    known = np.isfinite(first) & np.isfinite(second)
    return difference_of_scores(first[known], second[known]) if known.sum() > 1 else None


def _larger_is_better(endpoint: Endpoint, arms: Sequence[ArmResult]) -> bool:
    runs = [one.run for arm in arms for one in arm.trainings if one.run is not None]
    return endpoint.larger_is_better(score_of(runs[0], endpoint.name.partition(":")[2]) if runs else None)


def _arm(endpoint: Endpoint, label: str, control: str, trainings: Sequence[Training]) -> ArmResult:
    measured = tuple(
        endpoint.measure(one.run) if one.state == "finished" and one.run is not None else None for one in trainings
    )
    return ArmResult(
        label=label, control=control, rate=trainings[0].rate, trainings=tuple(trainings), measured=measured
    )
