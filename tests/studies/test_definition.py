"""Studies are checked when they are made: fields, combinations, cells that are one experiment."""

import dataclasses

import pytest

from playground.running.presets import make_config
from playground.studies.definition import NEXT_TOKEN, Arm, Axis, Study, at_seed, looking_ahead, over

SMALL = dataclasses.replace(make_config("induction-cpu", steps=20), preset=None)


def study(**options) -> Study:
    kept = {
        "name": "s",
        "question": "Does it help?",
        "base": SMALL,
        "arms": (NEXT_TOKEN, *looking_ahead(2)),
        "seeds": (0, 1),
    }
    return Study(**(kept | options))


def test_the_grid_is_the_product_of_its_axes():
    sizes = Axis("size", {"small": {"model.d_model": 32}, "deep": {"model.n_layers": 5, "model.d_model": 32}})
    found = study(axes=(sizes, over("model.init", ["normal", "fan_in_scaled"])))
    assert [cell.at for cell in found.cells] == [
        ("small", "normal"),
        ("small", "fan_in_scaled"),
        ("deep", "normal"),
        ("deep", "fan_in_scaled"),
    ]
    config = found.cells[2].configs["n = 2, trunk"]
    assert (config.model.n_layers, config.model.init, config.model.control) == (5, "normal", "trunk")
    assert at_seed(config, 7, 0.5).seed == 7 and at_seed(config, 7, 0.5).optim.lr == 0.5


def test_a_base_may_be_a_preset_with_changes():
    found = study(base="induction-cpu", changes={"train.steps": 30, "task.d_vocab": 16})
    assert found.base_config.preset == "induction-cpu" and found.base_config.train.steps == 30
    assert found.cells[0].title == "the base" and found.cells[0].configs["n = 1"].task.d_vocab == 16


REFUSED = {
    "unknown field": (
        {"changes": {"model.n_layer": 3}},
        "'model.n_layer', which is no field; did you mean 'model.n_layers'",
    ),
    "field of another task": ({"changes": {"task.n_words": 3}}, "'task.n_words', which is no field"),
    "bad value": ({"axes": (over("model.n_layers", [3, "many"]),)}, "n_layers is 'many'"),
    "impossible combination": ({"axes": (over("model.n_heads", [4, 5]),)}, "n = 1 of 5"),
    "one experiment twice": ({"axes": (over("train.threads", [1, 2]),)}, "are one experiment"),
    "equal arms": ({"arms": (NEXT_TOKEN, Arm(label="again", changes={"model.n_future": 1}))}, "are one experiment"),
    "field set twice": (
        {"axes": (over("model.n_future", [1, 2]),)},
        "sets model.n_future in axis 'n_future' and in the arms",
    ),
    "a rate and a sweep": (
        {"rates": (1e-3, 3e-3), "changes": {"optim.lr": 1e-3}},
        "sets optim.lr in changes and in rates",
    ),
    "the seed": ({"changes": {"seed": 3}}, "which a study sets itself"),
    "equal seeds": ({"seeds": (0, 0)}, "different numbers"),
    "shared seeds": ({"rates": (1e-3,), "rate_seeds": (1, 2)}, "share a seed"),
    "one arm": ({"arms": (NEXT_TOKEN,)}, "has 1 arms"),
    "arms of one name": ({"arms": (NEXT_TOKEN, NEXT_TOKEN)}, "two arms 'n = 1'"),
    "axis without values": ({"axes": (Axis("none", {}),)}, "has no values"),
    "endpoint": ({"endpoint": "t51"}, "there is no endpoint 't51'; did you mean 't50'"),
    "event": ({"endpoint": "formation:nothing"}, "there is no event 'nothing'"),
    "name": ({"name": "../x"}, "write letters"),
    "question": ({"question": " "}, "asks no question"),
    "base": ({"base": "induction-gpuu"}, "did you mean 'induction-gpu'"),
    "too many": ({"axes": (over("optim.lr", [1e-3 * k for k in range(1, 1002)]),)}, "1001 cells"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_is_trained(options, message):
    with pytest.raises(ValueError, match=message):
        study(**options)
