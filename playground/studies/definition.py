"""A study as a small object: the question, a base, axes, arms, seeds, endpoints and the contrast that is the answer.

    STUDY = Study(
        name="induction_formation",
        question="Does looking ahead bring induction earlier, and is it the loss?",
        base="induction-cpu",
        arms=(NEXT_TOKEN, *looking_ahead(2)),
        axes=(Axis("init", {"normal": {"model.init": "normal"}, "ours": {"model.init": "fan_in_scaled"}}),),
        seeds=tuple(range(8)),
        endpoint="t50",
    )

A module that defines `STUDY` is a study: those in this package's folder `shipped`, and any file that is named by its path.
Everything is checked when the study is made, before anything is trained. Needs no torch, but for the tasks' configurations.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from playground.analysis.groups import experiment_of
from playground.config import RunConfig, fields_by_place, nearest, short_value
from playground.running.presets import find_preset
from playground.studies.endpoints import find_endpoint
from tasks.registry import config_class

Changes = Mapping[str, Any]
"""Values by the dotted name of a field: `model.n_layers`, `task.d_vocab`, `optim.lr`, `train.steps`."""
PARTS = ("task", "model", "optim", "train", "clamp")
SET_BY_THE_STUDY = ("seed", "preset", "base")
MOST_CELLS = 1000
MOST_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the things that are compared in every cell."""

    label: str
    changes: Changes = field(default_factory=dict)
    control: str = ""
    """The control under which it looks ahead, by which verdicts name it; empty for the reference."""


@dataclass(frozen=True)
class Axis:
    """A dimension of the grid: a value's label, and the fields that it sets."""

    name: str
    values: Mapping[str, Changes]


def over(place: str, values: Sequence[Any], name: str = "") -> Axis:
    """An axis over one field: `over("model.n_layers", [3, 5])`.

    >>> over("model.init", ["normal", "fan_in_scaled"]).values["normal"]
    {'model.init': 'normal'}
    """
    return Axis(name or place.rpartition(".")[2], {_label(value): {place: value} for value in values})


NEXT_TOKEN = Arm(label="n = 1", changes={"model.n_future": 1})
CONTROLS = ("layers", "trunk", "detached")


def looking_ahead(n_future: int, controls: Sequence[str] = CONTROLS) -> tuple[Arm, ...]:
    """One arm of `n_future` offsets for each control."""
    return tuple(
        Arm(
            label=f"n = {n_future}, {control}",
            changes={"model.n_future": n_future, "model.control": control},
            control=control,
        )
        for control in controls
    )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid."""

    at: tuple[str, ...]
    """The label of its value on each axis."""
    configs: Mapping[str, RunConfig]
    """The configuration of each arm by its label, at the study's first seed."""

    @property
    def title(self) -> str:
        return ", ".join(self.at) or "the base"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question with its grid of trainings. Raises ValueError, naming the part, for anything that cannot be trained."""

    name: str
    """Letters, digits, `_` and `-`."""
    question: str
    """One sentence."""
    base: str | RunConfig
    """A preset's name, or a configuration: what all trainings share."""
    arms: tuple[Arm, ...]
    """What is compared; the first one is the reference."""
    axes: tuple[Axis, ...] = ()
    seeds: tuple[int, ...] = tuple(range(8))
    endpoint: str = "t50"
    """What is read from each run (playground/studies/endpoints.py)."""
    rates: tuple[float, ...] = ()
    """Learning rates to sweep: each arm of each cell is then compared at its own best one (`rate_seeds` for the sweep)."""
    rate_seeds: tuple[int, ...] = (1000, 1001)
    """Seeds of the sweep: others than those of the comparison, so that the choice of a rate does not decide the comparison."""
    changes: Changes = field(default_factory=dict)
    """Values of fields that differ from the base in every training."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", self.name):
            raise ValueError(f"a study's name is {short_value(self.name)}; write letters, digits, _ and -")
        if not self.question.strip():
            raise ValueError(f"study {self.name} asks no question; write it in one sentence")
        self._check_seeds()
        if len(self.arms) < 2:
            raise ValueError(
                f"study {self.name} has {len(self.arms)} arms; write a reference and at least one to compare with it"
            )
        for kind, labels in (("arm", [arm.label for arm in self.arms]), ("axis", [axis.name for axis in self.axes])):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"study {self.name} has two {kind}s '{twice[0]}'; give each a name of its own")
        for axis in self.axes:
            if not axis.values:
                raise ValueError(f"axis '{axis.name}' of study {self.name} has no values; write at least one")
        self._check_fields_once()
        find_endpoint(self.endpoint)
        self._check_cells_differ()

    def _check_seeds(self) -> None:
        for name, seeds in (("seeds", self.seeds), ("rate_seeds", self.rate_seeds)):
            if len(set(seeds)) != len(seeds) or not 0 < len(seeds) <= MOST_SEEDS:
                raise ValueError(
                    f"{name} of study {self.name} are {short_value(seeds)}; write 1 to {MOST_SEEDS} different numbers"
                )
        if self.rates and set(self.seeds) & set(self.rate_seeds):
            raise ValueError(
                f"seeds and rate_seeds of study {self.name} share a seed; sweep the rate on seeds of its own"
            )
        if len(set(self.rates)) != len(self.rates):
            raise ValueError(f"rates of study {self.name} repeat a learning rate: {short_value(self.rates)}")

    def _check_fields_once(self) -> None:
        """A field is set in one place, so that it is plain which value holds."""
        owners: dict[str, str] = {}
        groups = [("changes", set(self.changes)), ("rates", {"optim.lr"} if self.rates else set[str]())]
        groups += [
            (f"axis '{axis.name}'", {place for value in axis.values.values() for place in value}) for axis in self.axes
        ]
        groups.append(("the arms", {place for arm in self.arms for place in arm.changes}))
        for owner, places in groups:
            for place in places:
                if place in owners:
                    raise ValueError(
                        f"study {self.name} sets {place} in {owners[place]} and in {owner}; set it in one place"
                    )
                owners[place] = owner

    def _check_cells_differ(self) -> None:
        if self.n_cells > MOST_CELLS:
            raise ValueError(
                f"study {self.name} has {self.n_cells} cells; write axes of at most {MOST_CELLS} cells together"
            )
        seen: dict[Any, str] = {}
        for cell in self.cells:
            for label, config in cell.configs.items():
                here = f"{label} of {cell.title}"
                key = experiment_of(config.to_dict()).identity
                if key in seen:
                    raise ValueError(f"in study {self.name}, {here} and {seen[key]} are one experiment; leave one out")
                seen[key] = here

    @functools.cached_property
    def base_config(self) -> RunConfig:
        """The base with the study's own changes."""
        if isinstance(self.base, str):
            base = dataclasses.replace(find_preset(self.base).build(), preset=self.base)
        else:
            base = self.base
        return _built(
            _merged(base.to_dict(), self.changes, f"changes of study {self.name}"), f"the base of study {self.name}"
        )

    @property
    def reference(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def n_cells(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, the last axis fastest. Raises ValueError for a combination that cannot be trained, naming it."""
        return tuple(self._cell(at) for at in itertools.product(*(axis.values for axis in self.axes)))

    def _cell(self, at: tuple[str, ...]) -> Cell:
        cell = Cell(at=at, configs={})
        values = self.base_config.to_dict() | {"seed": self.seeds[0]}
        for axis, value in zip(self.axes, at, strict=True):
            values = _merged(values, axis.values[value], f"axis '{axis.name}', value '{value}'")
        configs = {
            arm.label: _built(
                _merged(values, arm.changes, f"arm '{arm.label}'"), f"study {self.name}, {arm.label} of {cell.title}"
            )
            for arm in self.arms
        }
        return Cell(at=at, configs=configs)


def at_seed(config: RunConfig, seed: int, rate: float | None = None) -> RunConfig:
    """A training of a cell's arm: its configuration with a seed, and with a learning rate if one is given."""
    optim = config.optim if rate is None else dataclasses.replace(config.optim, lr=rate)
    return dataclasses.replace(config, optim=optim, seed=seed)


def _merged(values: dict[str, Any], changes: Changes, where: str) -> dict[str, Any]:
    """Plain values of a configuration with changes by dotted name. Raises ValueError for a field that does not exist."""
    merged = {part: dict(value) if isinstance(value, dict) else value for part, value in values.items()}
    for place, value in changes.items():
        part, _, name = place.partition(".")
        if place in SET_BY_THE_STUDY or part == "base":
            raise ValueError(f"{where} sets '{place}', which a study sets itself; leave it out")
        known = _places(merged["task"]["name"])
        if place not in known:
            raise ValueError(f"{where} sets '{place}', which is no field{nearest(place, known)}")
        merged[part][name] = list(value) if isinstance(value, tuple) else value
    return merged


def _places(task: str) -> list[str]:
    """Dotted names of the fields that a study may set."""
    own = [f"task.{item.name}" for item in dataclasses.fields(config_class(task))]
    return own + [place for place in fields_by_place() if place.partition(".")[0] in PARTS]


def _built(values: dict[str, Any], where: str) -> RunConfig:
    try:
        return RunConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _label(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
