"""Runs that repeat one another but for the seed: the groups that means and intervals are taken over. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_PART_OF_THE_EXPERIMENT = {
    "seed", "preset", "train.threads", "train.device", "train.backward", "train.eval_every", "train.log_every",
    "train.checkpoint_every", "train.probes", "train.probe_points", "model.d_vocab", "model.n_ctx",
}  # fmt: skip
"""Fields that tell runs apart without changing what is trained."""
MOST_DIFFERENCES = 3


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one configuration, seeds aside."""

    label: str
    """`n = 2, layers`, with what else tells it from the other groups."""
    n_future: int
    control: str
    variant: int = 0
    """Number among the groups of equal n_future and control."""


def group_runs(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Group]:
    """The group of each run, from the contents of the runs' config.json by run id.

    With n = 1 both controls name the same model, so that they fall into one group.

    >>> model = {"n_future": 2, "control": "layers"}
    >>> groups = group_runs({"a": {"model": model, "seed": 0}, "b": {"model": model, "seed": 1}})
    >>> groups["a"].label, groups["a"] == groups["b"]
    ('n = 2, layers', True)
    """
    flat = {run: _flatten(config) for run, config in configs.items()}
    identity = {run: _identity(values) for run, values in flat.items()}
    members: dict[frozenset[tuple[str, str]], str] = {}
    for run, key in identity.items():
        members.setdefault(key, run)
    short: dict[str, list[str]] = {}
    for run in members.values():
        short.setdefault(_short_label(flat[run]), []).append(run)
    groups: dict[str, Group] = {}
    for label, runs in short.items():
        differences = _differences([flat[run] for run in runs])
        for variant, (run, difference) in enumerate(zip(runs, differences, strict=True)):
            groups[run] = Group(
                label=f"{label}, {difference}" if difference else label,
                n_future=int(flat[run].get("model.n_future", 1)),
                control=str(flat[run].get("model.control", "layers")),
                variant=variant,
            )
    return {run: groups[members[key]] for run, key in identity.items()}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif value or prefix != "clamp.":  # what is not clamped tells nothing
            flat[prefix + key] = value
    return flat


def _identity(flat: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    ignored = NOT_PART_OF_THE_EXPERIMENT | ({"model.control"} if flat.get("model.n_future") == 1 else set())
    return frozenset((key, repr(value)) for key, value in flat.items() if key not in ignored)


def _short_label(flat: Mapping[str, Any]) -> str:
    n_future = flat.get("model.n_future", 1)
    return f"n = {n_future}" if n_future == 1 else f"n = {n_future}, {flat.get('model.control', 'layers')}"


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
