"""Whatever a configuration file holds, reading it gives a configuration or one short sentence."""

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground.analysis.groups import experiment_hash, group_runs
from playground.config import RunConfig, hash_values, read_values, short_value
from playground.running.presets import make_config
from tasks.registry import task_names

pytestmark = pytest.mark.usefixtures("no_shape_checks")
LONGEST_SENTENCE = 1000


def full(task: str) -> dict[str, Any]:
    """A configuration in which every part is present."""
    values = make_config(f"{task}-cpu", n_future=2, control="trunk").to_dict()
    values["base"] = {"run": "/runs/base", "config_hash": "12345678", "experiment": "abcdefgh"}
    return json.loads(json.dumps(values))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


NASTY = [
    None, True, False, 0, -1, 1, 2, 10**9, 2**63, 10**400, -(10**400), 10**4000, 0.0, -0.5, 1e308, math.nan, math.inf, "", "3", "a",
    "\0", "\udcff", "x" * 100_000, "../../x", "all", [], [None], ["a"] * 20_000, [10**4000], nested(100), {}, {"a": 1}, {1: 2},
    {"name": []}, {"name": "induction"}, {"x" * 10_000: 1}, b"bytes", (), ("a",), object(), Exception("x"),
]  # fmt: skip
UNPRINTABLE = [nested(50_000), 10**5000, [10**5000], {"a": 10**5000}, (10**5000,)]
"""What Python refuses to write out (and so hypothesis)."""
KEYS = [None, 3, True, "", "x" * 100_000, "n_layer", "task", "model", "base", "\0\n", ("a",), b"a", 10**5000]


def outcome(read: Any, values: Any) -> Any:
    """What reading gives, or None and a sentence of bounded length on one line."""
    try:
        return read(values)
    except ValueError as error:
        assert 0 < len(str(error)) <= LONGEST_SENTENCE and "\n" not in str(error), str(error)[:2000]
        return None


def check_all(values: Any) -> None:
    config, plain = outcome(RunConfig.from_dict, values), outcome(read_values, values)
    assert config is None or plain is not None, "what makes a configuration is readable without its task"
    if config is not None:
        assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert len(config.hash()) == len(experiment_hash(config.to_dict())) == 8 and len(config.label()) < 200
    if plain is not None:
        assert json.loads(json.dumps(plain)) == plain and read_values(plain) == plain
        assert len(hash_values(plain)) == 8
        assert group_runs({"a": plain})["a"].label


@pytest.mark.parametrize("wrong", [*NASTY, *UNPRINTABLE], ids=lambda wrong: short_value(wrong)[:20])
def test_every_wrong_value_at_every_place_is_one_sentence(wrong):
    values = full("induction")
    check_all(copy.copy(wrong))
    for part in values:
        check_all(values | {part: wrong})
        for name in values[part] if isinstance(values[part], dict) else ():
            check_all(values | {part: values[part] | {name: wrong}})


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_every_wrong_key_is_one_sentence(key):
    values = full("stories")
    check_all(values | {key: 1})
    for part in values:
        if isinstance(values[part], dict):
            check_all(values | {part: values[part] | {key: 1}})


def test_every_missing_value_is_its_default_or_one_sentence():
    for task in task_names():
        values = full(task)
        for part in values:
            check_all({name: value for name, value in values.items() if name != part})
            for name in values[part] if isinstance(values[part], dict) else ():
                check_all(values | {part: {other: value for other, value in values[part].items() if other != name}})


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(task=st.sampled_from(task_names()), data=st.data())
def test_configurations_changed_at_random_are_read_or_refused(task, data):
    values = full(task)
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.sampled_from(sorted(values)))
        inside = values[part] if isinstance(values[part], dict) and data.draw(st.booleans()) else values
        key = data.draw(st.sampled_from(sorted(inside)) | st.text(max_size=9) if inside else st.text(max_size=9))
        if data.draw(st.booleans()):
            inside[key] = data.draw(plain_values)
        else:
            inside.pop(key, None)
        if not values:
            break
    check_all(values)


@settings(max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(values=plain_values)
def test_anything_at_all_is_read_or_refused(values):
    check_all(values)
    check_all({"task": values, "model": values, "seed": values})


def test_a_run_of_an_unknown_task_is_read_and_grouped():
    values = full("induction") | {"task": {"name": "my own", "n_ctx": 32, "noise": [0.5, 1.0], "more": {"deep": 1}}}
    plain = read_values(values)
    assert plain["task"] == values["task"] and len(hash_values(values)) == 8
    assert group_runs({"a": plain, "b": plain | {"seed": 9}})["b"].label == "n = 2, trunk, on a base"
    with pytest.raises(ValueError, match="there is no task 'my own'"):
        RunConfig.from_dict(values)


def test_impossible_parts_are_found_without_the_task_too():
    for part, name, value, said in [
        ("model", "n_future", 65, "n_future 65 reaches past the task's context of 64 tokens"),
        ("clamp", "freeze_heads", ["blocks.99"], "'blocks.99' names no attention head"),
        ("model", "d_model", 65, "d_model 65 is not divisible by n_heads 4"),
    ]:
        values = full("induction")
        values[part][name] = value
        for read in (read_values, RunConfig.from_dict):
            with pytest.raises(ValueError, match="write") as caught:
                read(values)
            assert said in str(caught.value)


def test_groups_take_what_older_and_later_versions_store():
    configs = {
        "empty": {},
        "odd": {"model": None, "task": [], "clamp": 3, "base": "x", "seed": []},
        "later": {"mood": {"a": 1}},
    }
    assert {group.n_future for group in group_runs(configs).values()} == {1}
    assert all(len(experiment_hash(config)) == 8 for config in configs.values())
