"""Every field says whether it is part of the experiment; hashes and labels stay what they were when runs were stored."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from playground.analysis.groups import experiment_hash, group_runs
from playground.config import (
    BaseConfig,
    ClampConfig,
    OptimConfig,
    RunConfig,
    fields_by_place,
    hash_values,
    read_values,
)
from playground.config.run import PARTS
from playground.running.presets import make_config
from tasks.registry import config_class, task_names

STORED = Path(__file__).parent.parent / "data" / "stored_before"

EXPERIMENT = {
    "model": {"n_layers", "n_heads", "d_model", "n_future", "control", "future_heads", "unembedding", "mlp", "normalization",
              "positions", "rotary_base", "eps", "init", "init_std"},
    "optim": {"lr", "warmup_steps", "min_lr_ratio", "weight_decay", "beta1", "beta2", "clip", "clip_by"},
    "train": {"steps", "batch_size", "offset_weights", "objective", "objective_settings"},
    "clamp": {"force_previous_token", "forbid_previous_token", "force_induction", "forbid_induction", "freeze_heads"},
    "base": {"experiment"},
}  # fmt: skip
ASIDE = {
    "": {"seed", "preset"},
    "model": {"d_vocab", "n_ctx"},
    "train": {
        "eval_every",
        "log_every",
        "checkpoint_every",
        "probes",
        "probe_points",
        "backward",
        "accumulate",
        "recompute",
        "graphs",
        "compiled",
        "parallel",
        "device",
        "threads",
    },
    "base": {"run", "config_hash"},
}
"""How a run is computed or looked at, and not what is trained."""
OF_TASKS = {
    "bytes": {"n_ctx", "path", "suffixes", "test_fraction", "test_rows", "quick_rows", "test_seed"},
    "induction": {"n_ctx", "d_vocab", "min_distance", "max_distance", "fixed_distance", "repeats", "test_rows", "quick_rows",
                  "test_seed"},
    "polynomial": {"n_ctx", "prime", "coefficients", "operations", "max_operations", "test_operations", "notation", "tree_shape",
                   "pause", "loss_on", "packed", "hold_out", "test_per_m", "quick_per_m", "test_seed"},
    "stories": {"n_ctx", "n_first_names", "n_second_names", "min_characters", "max_characters", "name_ambiguity", "scenery",
                "min_sentences", "max_sentences", "n_templates", "n_words", "test_stories", "test_seed", "path", "bpe_vocab",
                "max_stories"},
}  # fmt: skip
"""All fields of a task are part of the experiment. A later one needs `field(metadata={"since": ...})` (RunConfig.to_dict)."""


def places(table: dict[str, set[str]]) -> list[str]:
    return sorted(f"{part}.{name}" if part else name for part, names in table.items() for name in names)


def based() -> dict:
    """A configuration in which every part is present."""
    config = make_config("induction-cpu", n_future=2, control="trunk")
    base = BaseConfig(run="/runs/base", config_hash="12345678", experiment="abcdefgh")
    return dataclasses.replace(config, base=base).to_dict()


def changed(place: str) -> dict:
    values = copy.deepcopy(based())
    part, _, name = place.rpartition(".")
    (values[part] if part else values)[name] = ("another",)
    return values


def grouped(place: str) -> bool:
    groups = group_runs({"a": based(), "b": changed(place)})
    assert (groups["a"] == groups["b"]) == (experiment_hash(based()) == experiment_hash(changed(place)))
    return groups["a"] == groups["b"]


def test_every_field_has_an_answer_here():
    assert sorted(places(EXPERIMENT) + places(ASIDE)) == sorted(fields_by_place())
    assert {name: {item.name for item in dataclasses.fields(config_class(name))} for name in task_names()} == OF_TASKS


def test_every_field_says_itself_whether_it_is_part_of_the_experiment():
    """A field that is not declared with `setting` has no answer, and may not exist."""
    for place, item in fields_by_place().items():
        assert isinstance(item.metadata.get("experiment"), bool), place
    assert sorted(place for place, item in fields_by_place().items() if item.metadata["experiment"]) == places(
        EXPERIMENT
    )


@pytest.mark.parametrize("place", places(EXPERIMENT))
def test_runs_that_differ_in_the_experiment_are_apart(place):
    assert not grouped(place)


@pytest.mark.parametrize("place", places(ASIDE))
def test_runs_that_differ_in_how_they_are_computed_or_looked_at_are_together(place):
    assert grouped(place)


@pytest.mark.parametrize("task", OF_TASKS)
def test_runs_that_differ_in_a_field_of_the_task_are_apart(task):
    values = RunConfig(task=config_class(task)()).to_dict()
    for name in OF_TASKS[task]:
        other = values | {"task": values["task"] | {name: "another"}}
        groups = group_runs({"a": values, "b": other})
        assert groups["a"] != groups["b"], name


# --- what was stored --------------------------------------------------------------------------------------------------


def variant(preset: str = "induction-cpu", *, seed: int = 0, **changes) -> RunConfig:
    """A preset with fields set by the names `train_steps`, `model_n_future`, or with whole parts."""
    config = make_config(preset, seed=seed)
    for name, value in changes.items():
        part, _, field = name.partition("_")
        new = dataclasses.replace(getattr(config, part), **{field: value}) if field else value
        config = dataclasses.replace(config, **{part: new})
    return config


PINNED = [
    (variant(), "3ce8ff30", "induction-cpu-n1-layers-s0", "f7c0f5c3"),
    (variant(model_n_future=2), "4ef773d7", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (make_config("induction-cpu", n_future=2, control="trunk", future_heads="causal", seed=3), "d8137a61", "induction-cpu-n2-causal-trunk-s3", "b4fa711a"),
    (make_config("bytes-cpu", n_future=4, control="trunk", future_heads="medusa_mlp"), "97d545a7", "bytes-cpu-n4-medusa_mlp-trunk-s0", "960a1f90"),
    (make_config("polynomial-cpu", n_future=2, seed=3), "0df91a5d", "polynomial-cpu-n2-layers-s3", "07f5d14c"),
    (make_config("stories-gpu", n_future=4, future_heads="linear"), "631ad803", "stories-gpu-n4-linear-layers-s0", "d86b631b"),
    (make_config("decoding-cpu"), "4e301ffc", "decoding-cpu-n4-hydra-trunk-s0", "e54e7e32"),
    (variant(model_n_future=2, train_accumulate=2), "109042a7", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (variant(model_n_future=2, train_recompute=True), "a0c60b58", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (variant(model_n_future=2, train_graphs=False), "b9f9400d", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (variant(model_n_future=2, train_compiled=True), "4b9a8f18", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (variant(model_n_future=2, train_threads=2), "2b3db0f8", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (variant(model_n_future=2, model_unembedding="replicated"), "b4993211", "induction-cpu-n2-replicated-layers-s0", "c7392c9d"),
    (variant(model_n_future=2).resolve(d_vocab=64, n_ctx=64), "a7b50388", "induction-cpu-n2-layers-s0", "22df8f4a"),
    (variant(model_n_future=2, clamp=ClampConfig(freeze_heads=("all",), force_induction=("blocks.0", "future_heads.1.2"))), "0ae62d97", "induction-cpu-n2-layers-clamped-s0", "440ed517"),
    (variant(model_n_future=2, model_control="trunk", base=BaseConfig(run="/x/y")), "f252ef90", "induction-cpu-n2-trunk-on-base-s0", None),
    (variant(model_n_future=2, model_control="trunk", base=BaseConfig(run="/x/y", config_hash="12345678", experiment="abcdefgh")), "e2bb875b", "induction-cpu-n2-trunk-on-base-s0", "eb838d22"),
    (variant(model_n_future=2, optim=OptimConfig(lr=1)), "56ef4c3b", "induction-cpu-n2-layers-s0", None),
]  # fmt: skip
"""Hash, label and hash of the experiment as the version of 2026-11-28 gave them, where that one had the seven fields of
execution outside of the experiment."""


@pytest.mark.parametrize(("config", "digits", "label", "experiment"), PINNED, ids=lambda value: str(value)[:40])
def test_hashes_and_labels_are_what_they_were(config, digits, label, experiment):
    assert (config.hash(), config.label()) == (digits, label)
    stored = json.loads(json.dumps(config.to_dict()))
    assert hash_values(stored) == hash_values(read_values(stored)) == RunConfig.from_dict(stored).hash() == digits
    if experiment is not None:
        assert (
            experiment_hash(config.to_dict()) == experiment_hash(stored) != experiment
        )  # the initial weights are others
        del stored["model"]["init"]
        assert experiment_hash(stored) == experiment


@pytest.mark.parametrize("path", sorted(STORED.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_stored_runs_keep_their_hash(path):
    values, record = (json.loads((path.parent / name).read_text()) for name in ("config.json", "run.json"))
    config = RunConfig.from_dict(values)
    assert config.hash() == hash_values(values) == hash_values(read_values(values)) == record["config_hash"]
    for read in (config.to_dict(), read_values(values)):
        plain = json.loads(json.dumps(read))
        assert {part: values[part] for part in values} == {
            part: {name: plain[part][name] for name in values[part]} if isinstance(values[part], dict) else plain[part]
            for part in values
        }


def without_later(values: dict) -> dict:
    """What the first version would have stored."""
    older = copy.deepcopy(values)
    for place, item in fields_by_place().items():
        part, _, name = place.rpartition(".")
        if item.metadata.get("since"):
            del older[part][name]
    return older


def test_what_the_first_version_stored_is_the_same_run_and_the_same_experiment():
    new = make_config("induction-cpu", n_future=2, seed=3)
    old = without_later(new.to_dict())
    assert len(old["train"]) + 8 == len(new.to_dict()["train"]) and RunConfig.from_dict(old) == new
    assert hash_values(old) == hash_values(read_values(old)) == new.hash()
    as_then = new.to_dict()
    del as_then["model"]["init"]
    assert experiment_hash(old) == experiment_hash(as_then)
    groups = group_runs({"old": old, "as then": as_then})
    assert groups["old"] == groups["as then"]


def test_runs_with_other_initial_weights_are_apart_and_those_of_before_have_a_name():
    """Until 2026-11-30 the scale of initial weights came from the next-token depth, and models of different n shared none."""
    new = make_config("induction-cpu", n_future=2).to_dict()
    old = copy.deepcopy(new)
    del old["model"]["init"], old["model"]["init_std"]
    normal = copy.deepcopy(new)
    normal["model"] |= {"init": "normal", "init_std": 0.05}
    labels = {name: group.label for name, group in group_runs({"new": new, "old": old, "normal": normal}).items()}
    assert labels == {
        "new": "n = 2, layers, init fan_in_scaled, init_std 0.02",
        "old": "n = 2, layers, init by next-token depth, init_std 0.02",
        "normal": "n = 2, layers, init normal, init_std 0.05",
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaterTask(config_class("induction")):
    """A task of which a later version has a field more."""

    noise: float = dataclasses.field(default=0.0, metadata={"since": "2027-01-01"})


def test_a_later_field_of_a_task_leaves_runs_as_they_were():
    before = make_config("induction-cpu")
    after = dataclasses.replace(before, task=LaterTask(**vars(before.task)))
    assert after.to_dict() == before.to_dict() and after.hash() == before.hash()
    noisy = dataclasses.replace(before, task=LaterTask(**vars(before.task), noise=0.5))
    assert noisy.to_dict()["task"]["noise"] == 0.5 and noisy.hash() != before.hash()


def test_parts_are_the_fields_of_a_run():
    own = {item.name for item in dataclasses.fields(RunConfig)}
    assert own == {"task", *PARTS, "preset", "seed"}


def test_weights_of_one_written_out_are_the_default():
    plain = make_config("induction-cpu", n_future=2).to_dict()
    ones = copy.deepcopy(plain)
    ones["train"]["offset_weights"] = [1.0, 1.0]
    groups = group_runs({"plain": plain, "ones": ones})
    assert groups["plain"] == groups["ones"] and experiment_hash(plain) == experiment_hash(ones)
