"""Groups of runs that repeat one experiment with other seeds; means and intervals are taken over a group. Needs no torch.

Each configuration field declares whether it is part of the experiment (`setting` in playground/config/checks.py). All fields of
a task are.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from playground.config import NAMED, fields_by_place, short_value
from playground.config.checks import default_of
from playground.runs.record import RunRecord

ASIDE = frozenset(place for place, item in fields_by_place().items() if not item.metadata["experiment"])
"""Fields that change how a run is computed or observed, but not what is trained."""
BEFORE = {"model.init": "by next-token depth"}
"""Values that older runs had where the default has changed since. `by next-token depth`: outputs scaled by the depth of the
next-token path, and all weights from one random stream, so that models of different n shared no initial weights."""
LATER = {place: default_of(item) for place, item in fields_by_place().items() if item.metadata.get("since")} | BEFORE
"""Values of fields that older runs do not store."""
HASHED_AT_DEFAULT = {
    f"train.{name}": LATER[f"train.{name}"] for name in ("accumulate", "recompute", "graphs", "compiled", "parallel")
}
"""Fields that were part of the experiment until 2026-11-29. Hashes stored by runs on a base contain them at their defaults."""
MOST_DIFFERENCES = 3
MOST_CHARACTERS = 100
"""Most characters of a value in a label."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that share one configuration except for the seed."""

    label: str
    """`n = 2, layers`; with objective and type of the future heads if they are not the default (`n = 2, causal, layers`), and
    with whatever else distinguishes the group from the others."""
    n_future: int
    control: str
    variant: int = 0
    """Index among the groups with equal n_future and control; figures shade their colour by it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """The part of a run's configuration that determines what is trained."""

    values: Mapping[str, Any]
    """Values by field, such as `model.n_layers`."""
    identity: frozenset[tuple[str, str]]
    """Equal for runs that repeat one experiment with other seeds."""


def experiment_of(config: Mapping[str, Any], precision: str = "") -> Experiment:
    """The experiment of a run, from the contents of its config.json and its training precision (`precision_of`).

    The device is not part of an experiment, but the precision is: it depends on the device and changes what is learned.
    """
    values = _settled(_flatten(config)) | ({"precision": precision} if precision else {})
    return Experiment(values=values, identity=_identity(values))


def precision_of(record: RunRecord) -> str:
    """The precision of a run's matrix products: `float32` or `bfloat16`."""
    return precision_on(record.device)


def precision_on(device: str) -> str:
    """The precision of matrix products on a device: float32 on the CPU, bfloat16 on a GPU. An empty name counts as a CPU.

    >>> precision_on("cpu (2 threads)"), precision_on("NVIDIA H200")
    ('float32', 'bfloat16')
    """
    return "float32" if device.startswith("cpu") or not device else "bfloat16"


def group_runs(
    configs: Mapping[str, Mapping[str, Any]], records: Mapping[str, RunRecord] | None = None
) -> dict[str, Group]:
    """The group of each run by run id, from the contents of the runs' config.json.

    With `records`, runs that were trained in different precisions are in different groups.

    Runs on different bases are in one group if the bases themselves repeat one experiment. With n = 1 both controls, all types
    of future heads but `linear`, and both kinds of unembedding define the same model, and so share a group.

    >>> model = {"n_future": 2, "control": "layers"}
    >>> groups = group_runs({"a": {"model": model, "seed": 0}, "b": {"model": model, "seed": 1}})
    >>> groups["a"].label, groups["a"] == groups["b"]
    ('n = 2, layers', True)
    """
    precisions = {run: precision_of(record) for run, record in (records or {}).items()}
    return group_experiments({run: experiment_of(config, precisions.get(run, "")) for run, config in configs.items()})


def counted_runs(records: Iterable[RunRecord], groups: Mapping[str, Group]) -> set[str]:
    """Ids of the runs that count in the statistics of a group: one per seed, the newest that did not end early.

    So no run is counted twice: neither a seed that was trained again, nor the n = 1 model that belongs to both controls. In a
    group in which every run ended early all count, each seed once.
    """
    members: dict[Group, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: record.created):
        members.setdefault(groups[record.run], []).append(record)
    counted: set[str] = set()
    for group in members.values():
        whole = [record for record in group if record.state in ("finished", "running")] or group
        counted |= set({record.seed: record.run for record in whole}.values())
    return counted


def group_experiments(experiments: Mapping[str, Experiment]) -> dict[str, Group]:
    """`group_runs`, for experiments that were already read."""
    members: dict[frozenset[tuple[str, str]], Experiment] = {}
    for experiment in experiments.values():
        members.setdefault(experiment.identity, experiment)
    short: dict[str, list[Experiment]] = {}
    for experiment in members.values():
        short.setdefault(_short_label(experiment.values), []).append(experiment)
    groups: dict[frozenset[tuple[str, str]], Group] = {}
    seen: dict[tuple[int, str], int] = {}
    for label, alike in short.items():
        differences = _differences([experiment.values for experiment in alike])
        for experiment, difference in zip(alike, differences, strict=True):
            n_future, control = _n_future(experiment.values), str(experiment.values.get("model.control", "layers"))
            variant = seen.setdefault((n_future, control), 0)
            seen[n_future, control] += 1
            whole = f"{label}, {difference}" if difference else label
            groups[experiment.identity] = Group(label=whole, n_future=n_future, control=control, variant=variant)
    return {run: groups[experiment.identity] for run, experiment in experiments.items()}


def experiment_hash(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that identify a group's configuration; stable across versions of this program."""
    flat = _settled(_flatten(config))
    later = {place for place, value in LATER.items() if value == flat[place] and place.partition(".")[2] not in NAMED}
    told = _identity({place: value for place, value in flat.items() if place not in later})
    identity = sorted(told | {(place, repr(value)) for place, value in HASHED_AT_DEFAULT.items()})
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:8]


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values by field, such as `model.n_layers`; lists as tuples, since JSON stores tuples as lists."""
    flat: dict[str, Any] = {}
    for part, values in config.items():
        for name, value in values.items() if isinstance(values, Mapping) else (("", values),):
            place = f"{part}.{name}" if name else part
            if value or part != "clamp":  # an empty clamp adds no information
                flat[place] = tuple(value) if isinstance(value, list) else value
    return flat


def _settled(flat: dict[str, Any]) -> dict[str, Any]:
    """Normalised values: defaults for fields that older runs lack or that have no effect with n = 1; a base by its group."""
    base = flat.get("base.experiment") or flat.get("base.run")
    flat = LATER | {place: value for place, value in flat.items() if not place.startswith("base.")}
    if base:
        flat["base"] = base
    if set(flat["train.offset_weights"]) == {1.0}:  # the default, written out
        flat["train.offset_weights"] = ()
    if _n_future(flat) == 1:
        flat |= {place: LATER[place] for place in _named_places() if flat[place] != "linear"}
    return flat


def _n_future(flat: Mapping[str, Any]) -> int:
    value = flat.get("model.n_future", 1)
    return value if isinstance(value, int) else 1


def _named_places() -> list[str]:
    return [f"model.{name}" for name in NAMED]


def _identity(flat: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    ignored = ASIDE | ({"model.control"} if _n_future(flat) == 1 else set())
    return frozenset((place, _written(place, value)) for place, value in flat.items() if place not in ignored)


def _written(place: str, value: Any) -> str:
    """A value as text, equal for equal values: a whole number in a float field is written as 1.0."""
    item = fields_by_place().get(place)
    if item is not None and item.type is float and type(value) is int:
        value = float(value)
    return repr(value)


def _short_label(flat: Mapping[str, Any]) -> str:
    n_future = _n_future(flat)
    types = [str(flat[place]) for place in ("train.objective", *_named_places()) if flat[place] != LATER[place]]
    control = [] if n_future == 1 else [str(flat.get("model.control", "layers"))]
    on_base = ["on a base"] if "base" in flat else []
    return ", ".join([f"n = {n_future}", *types, *control, *on_base])


def _differences(configs: list[Mapping[str, Any]]) -> list[str]:
    """A suffix for each of several equal labels: the preset if that distinguishes them, else the fields that differ."""
    if len(configs) < 2:
        return [""] * len(configs)
    presets = [str(config.get("preset") or "own settings") for config in configs]
    if len(set(presets)) == len(presets):
        return presets
    keys = sorted({key for config in configs for key in config} - ASIDE)
    varying = [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
    texts = [
        ", ".join(_told(key, config) for key in varying[:MOST_DIFFERENCES] if key in config or "clamp." not in key)
        for config in configs
    ]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{text}, variant {number}" for number, text in enumerate(texts, start=1)]


def _told(key: str, config: Mapping[str, Any]) -> str:
    """One field in a label: `lr 0.003`; `forbid_previous_token all`."""
    value = config.get(key)
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{key.rpartition('.')[2]} {text if len(text) <= MOST_CHARACTERS else short_value(text)}"
