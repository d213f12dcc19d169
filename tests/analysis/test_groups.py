"""Which runs repeat one another, and what their groups are called."""

import copy
import itertools
import json

import pytest

from playground.analysis.groups import MOST_CHARACTERS, experiment_hash, group_runs
from playground.running.presets import PRESETS, make_config
from playground.runs.store import load_run
from tests.fake_runs import write_run

BASE = make_config("induction-cpu", n_future=2).to_dict()


def changed(*changes: tuple[str, object], base: dict = BASE) -> dict:
    """The configuration with some of its fields, named as `model.n_layers`, set to other values."""
    values = copy.deepcopy(base)
    for name, value in changes:
        *folders, last = name.split(".")
        place = values
        for folder in folders:
            place = place[folder]
        place[last] = value
    return values


def labels(*configs: dict) -> list[str]:
    groups = group_runs({str(number): config for number, config in enumerate(configs)})
    return [groups[str(number)].label for number in range(len(configs))]


def test_no_runs_no_groups():
    assert group_runs({}) == {}


CHANGES = [
    (("optim.lr", 0.5), "lr 0.5"),
    (("train.steps", 33), "steps 33"),
    (("train.batch_size", 3), "batch_size 3"),
    (("model.n_layers", 9), "n_layers 9"),
    (("task.d_vocab", 12), "d_vocab 12"),
    (("task.fixed_distance", True), "fixed_distance True"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=str)
def test_what_changes_the_experiment_parts_runs_and_is_said(change, said):
    first, second = labels(BASE, changed(change))
    assert first.startswith("n = 2, layers, ") and said not in first
    assert second == f"n = 2, layers, {said}"


def test_each_n_and_control_has_its_label():
    configs = [
        make_config("induction-cpu", n_future=n, control=control).to_dict()
        for n, control in [(1, "layers"), (1, "trunk"), (2, "layers"), (2, "trunk")]
    ]
    assert labels(*configs) == ["n = 1", "n = 1", "n = 2, layers", "n = 2, trunk"]
    groups = group_runs(dict(zip("abcd", configs, strict=True)))
    assert [(group.n_future, group.control, group.variant) for group in groups.values()] == [
        (1, "layers", 0),
        (1, "layers", 0),
        (2, "layers", 0),
        (2, "trunk", 0),
    ]


def test_presets_are_told_apart_by_their_names():
    configs = [make_config(name, n_future=2).to_dict() for name in PRESETS]
    types = {name: "hydra, trunk" if name.startswith("decoding") else "layers" for name in PRESETS}
    assert labels(*configs) == [f"n = 2, {kind}, {name}" for name, kind in types.items()]


def test_variants_are_numbered_in_order_of_appearance():
    configs = [BASE, changed(("optim.lr", 0.5)), BASE, changed(("optim.lr", 0.7))]
    groups = group_runs(dict(zip("abcd", configs, strict=True)))
    assert [group.variant for group in groups.values()] == [0, 1, 0, 2]
    assert groups["a"] == groups["c"]


def test_runs_that_differ_in_much_are_still_told_apart():
    many = [("optim.lr", 0.5), ("optim.clip", 2.0), ("optim.beta1", 0.5), ("train.steps", 3), ("task.n_ctx", 99)]
    sets = [changed(*chosen) for size in range(3) for chosen in itertools.combinations(many, size)]
    found = labels(*sets)
    assert len(set(found)) == len(sets)
    assert all(label.startswith("n = 2, layers, ") for label in found)


def test_stored_runs_group_by_seed(tmp_path):
    from playground.runs.store import load_run

    runs = [load_run(write_run(tmp_path, n_future=n, seed=seed, steps=20)) for n in (1, 2) for seed in range(2)]
    groups = group_runs({run.id: run.config.to_dict() for run in runs})
    assert [groups[run.id].label for run in runs] == ["n = 1", "n = 1", "n = 2, layers", "n = 2, layers"]


def test_a_configuration_of_a_later_version_is_grouped_by_what_it_says():
    assert labels({"model": {"n_future": 4}}, {"model": {"n_future": 4}, "mood": "good"}) == [
        "n = 4, layers, mood None",
        "n = 4, layers, mood good",
    ]


def test_seeds_of_one_experiment_stay_together_however_they_were_computed():
    ways = [
        BASE,
        changed(("seed", 1), ("train.accumulate", 2), ("train.recompute", True)),
        changed(("seed", 2), ("train.graphs", False), ("train.compiled", True), ("train.device", "cuda")),
        changed(("seed", 3), ("train.parallel", "fsdp"), ("train.backward", "one_graph"), ("train.threads", 3)),
    ]
    assert labels(*ways) == ["n = 2, layers"] * 4
    assert len({experiment_hash(config) for config in ways}) == 1


def test_numbers_and_lists_are_equal_however_json_wrote_them():
    heads = changed(("clamp.freeze_heads", ("all",)), ("optim.clip", 1.0))
    assert labels(heads, changed(("optim.clip", 1), base=json.loads(json.dumps(heads)))) == ["n = 2, layers"] * 2


def test_runs_on_a_base_that_has_no_hash_yet_are_told_apart_by_its_name():
    on = [changed(("base", {"run": run, "config_hash": "", "experiment": ""})) for run in ("a", "b")]
    assert labels(BASE, *on, on[0])[0] == "n = 2, layers"
    groups = group_runs(dict(zip("abc", [*on, on[0]], strict=True)))
    assert groups["a"] == groups["c"] != groups["b"]


def test_labels_stay_short_whatever_differs():
    long = [changed(("task.path", "/" + name * 5000)) for name in "ab"]
    assert all(len(label) < 2 * MOST_CHARACTERS for label in labels(*long)) and len(set(labels(*long))) == 2


def test_one_offset_is_one_experiment_under_both_controls_and_all_types_but_linear():
    one = [
        changed(
            ("model.n_future", 1),
            ("model.control", control),
            ("model.future_heads", kind),
            ("model.unembedding", shared),
        )
        for control in ("layers", "trunk")
        for kind in ("independent", "causal", "hydra")
        for shared in ("shared", "replicated")
    ]
    assert set(labels(*one)) == {"n = 1"} and len({experiment_hash(config) for config in one}) == 1
    assert labels(one[0], changed(("model.n_future", 1), ("model.future_heads", "linear"))) == [
        "n = 1",
        "n = 1, linear",
    ]


def test_seeds_trained_in_float32_and_in_bfloat16_are_two_groups(tmp_path):
    """The device itself makes no difference: nothing else may."""
    devices = ["cpu (1 thread)", "cpu (8 threads)", "NVIDIA H200", "NVIDIA A100"]
    runs = [load_run(write_run(tmp_path, seed=seed, steps=20, device=device)) for seed, device in enumerate(devices)]
    configs, records = {run.id: run.config.to_dict() for run in runs}, {run.id: run.record for run in runs}
    groups = group_runs(configs, records)
    labels = [groups[run.id].label for run in runs]
    assert labels == ["n = 1, precision float32"] * 2 + ["n = 1, precision bfloat16"] * 2
    alone = group_runs({run.id: configs[run.id] for run in runs[2:]}, records)
    assert {group.label for group in alone.values()} == {"n = 1"}
