"""Runs that repeat one another but for the seed: the groups that means and intervals are taken over. Needs no torch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_PART_OF_THE_EXPERIMENT = {
    "seed", "preset", "train.threads", "train.device", "train.backward", "train.eval_every", "train.log_every",
    "train.checkpoint_every", "train.probes", "train.probe_points", "model.d_vocab", "model.n_ctx",
}  # fmt: skip
"""Fields that tell runs apart without changing what is trained."""
LATER_FIELDS = {"model.future_heads": "independent", "model.unembedding": "shared"}
"""What older runs do not say, and what it was for them."""
MOST_DIFFERENCES = 3


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one configuration, seeds aside."""

    label: str
    """`n = 2, layers`, the type of the future heads where it is another (`n = 2, causal, layers`), and what else tells it from
    the other groups."""
    n_future: int
    control: str
    variant: int = 0
    """Number among the groups of equal n_future and control."""


def group_runs(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Group]:
    """The group of each run, from the contents of the runs' config.json by run id.

    Bases of runs count as one where they repeat one another themselves. With n = 1 both controls name the same model, so
    that they fall into one group, and so do all types of future heads but `linear`, and both unembeddings.

    >>> model = {"n_future": 2, "control": "layers"}
    >>> groups = group_runs({"a": {"model": model, "seed": 0}, "b": {"model": model, "seed": 1}})
    >>> groups["a"].label, groups["a"] == groups["b"]
    ('n = 2, layers', True)
    """
    flat = {run: _settled(_flatten(config)) for run, config in configs.items()}
    identity = {run: _identity(values) for run, values in flat.items()}
    members: dict[frozenset[tuple[str, str]], str] = {}
    for run, key in identity.items():
        members.setdefault(key, run)
    short: dict[str, list[str]] = {}
    for run in members.values():
        short.setdefault(_short_label(flat[run]), []).append(run)
    groups: dict[str, Group] = {}
    seen: dict[tuple[int, str], int] = {}
    for label, runs in short.items():
        differences = _differences([flat[run] for run in runs])
        for run, difference in zip(runs, differences, strict=True):
            n_future = int(flat[run].get("model.n_future", 1))
            control = str(flat[run].get("model.control", "layers"))
            variant = seen.setdefault((n_future, control), 0)
            seen[n_future, control] += 1
            label_of_run = f"{label}, {difference}" if difference else label
            groups[run] = Group(label=label_of_run, n_future=n_future, control=control, variant=variant)
    return {run: groups[members[key]] for run, key in identity.items()}


def experiment_hash(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that the configurations of a group share, and others do not."""
    identity = sorted(_identity(_settled(_flatten(config))))
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:8]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif value or prefix != "clamp.":  # what is not clamped tells nothing
            flat[prefix + key] = value
    return flat


def _settled(flat: dict[str, Any]) -> dict[str, Any]:
    """With what older runs leave out, types that say nothing for n = 1 as the default, and of a base what its group shares."""
    flat = LATER_FIELDS | {("base" if key == "base.experiment" else key): value for key, value in flat.items()}
    flat = {key: value for key, value in flat.items() if not key.startswith("base.")}
    if flat.get("model.n_future", 1) == 1:
        flat |= {name: value for name, value in LATER_FIELDS.items() if flat[name] != "linear"}
    return flat


def _identity(flat: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    ignored = NOT_PART_OF_THE_EXPERIMENT | ({"model.control"} if flat.get("model.n_future") == 1 else set())
    return frozenset((key, repr(value)) for key, value in flat.items() if key not in ignored)


def _short_label(flat: Mapping[str, Any]) -> str:
    n_future = flat.get("model.n_future", 1)
    types = [flat[name] for name, usual in LATER_FIELDS.items() if flat[name] != usual]
    control = [] if n_future == 1 else [flat.get("model.control", "layers")]
    on_base = ["on a base"] if "base" in flat else []
    return ", ".join([f"n = {n_future}", *types, *control, *on_base])


def _differences(configs: list[dict[str, Any]]) -> list[str]:
    """What to write behind each of several equal labels: the preset where that suffices, else what differs."""
    if len(configs) < 2:
        return [""] * len(configs)
    presets = [str(config.get("preset") or "own settings") for config in configs]
    if len(set(presets)) == len(presets):
        return presets
    keys = sorted({key for config in configs for key in config} - NOT_PART_OF_THE_EXPERIMENT)
    varying = [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
    texts = [
        ", ".join(_told(key, config) for key in varying[:MOST_DIFFERENCES] if key in config or "clamp." not in key)
        for config in configs
    ]
    if len(set(texts)) == len(texts):
        return texts
    return [f"{text}, variant {number}" for number, text in enumerate(texts, start=1)]


def _told(key: str, config: Mapping[str, Any]) -> str:
    """One field as it stands in a label: `lr 0.003`; `forbid_previous_token all`."""
    value = config.get(key)
    return f"{key.rpartition('.')[2]} {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
