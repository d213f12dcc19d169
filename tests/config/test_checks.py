"""Bounds of fields, strict reading, and names that may become folders."""

import dataclasses
import math
from typing import Literal

import pytest

from playground.config import ClampConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig, fields_by_place
from playground.config.checks import MOST_CHARACTERS, check_fields, check_name, listed, nearest, setting, strict
from playground.config.run import PARTS
from playground.config.values import fits, hints_of, short_value
from playground.running.presets import make_config
from tasks.induction import InductionConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    count: int = setting(3, least=1, most=9)
    share: float = setting(0.5, above=0, below=1)
    free: int = 0
    name: str = setting("a", least=1, most=4)
    names: tuple[str, ...] = setting((), most=3)
    kind: Literal["a", "b"] = setting("a")
    maybe: int | None = setting(None, least=2)

    def __post_init__(self) -> None:
        check_fields(self)


WRONG = [
    ("count", 0, "count is 0; write at least 1"),
    ("count", 10, "count is 10; write at most 9"),
    ("count", 10**5000, "count is an integer of about 5001 digits; write at most 9"),
    ("count", True, "count is True; it must be int"),
    ("count", "3", "count is '3'; it must be int"),
    ("share", 0, "share is 0; write a number above 0, such as 0.5"),
    ("share", 1.0, "share is 1.0; write a number below 1, such as 0.5"),
    ("share", math.nan, "share is nan; write a finite number"),
    ("share", -math.inf, "share is -inf; write a finite number"),
    ("free", 2**63, "free is 9223372036854775808; write at most 9223372036854775807"),
    ("free", -(10**400), "free is an integer of 401 digits; write at least -9223372036854775807"),
    ("name", "", "name is ''; write at least 1 character"),
    ("name", "abcde", "name is 'abcde'; write at most 4 characters"),
    ("name", "a\0", "name is 'a\\x00'; write text that UTF-8 can hold, without NUL characters"),
    ("name", "\udc80", "name is '\\udc80'; write text that UTF-8 can hold, without NUL characters"),
    ("names", ("a",) * 4, "names is ('a', 'a', 'a', 'a'); write at most 3 entries"),
    ("names", ("a", "x" * 5000), f"write at most {MOST_CHARACTERS} characters"),
    ("names", ["a"], "names is ['a']; it must be tuple[str, ...]"),
    ("kind", "c", "kind is 'c'; write one of 'a', 'b'"),
    ("maybe", 1, "maybe is 1; write at least 2"),
    ("maybe", 1.5, "maybe is 1.5; it must be int | None"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=lambda value: short_value(value)[:40])
def test_a_field_out_of_bounds_says_what_to_write(name, value, message):
    with pytest.raises(ValueError, match=r"write|must be") as caught:
        Example(**{name: value})
    assert message in str(caught.value)
    with pytest.raises(ValueError, match=r"write|must be") as caught:
        strict(Example, {name: value if name != "names" else {"a": 1}}, "part")
    assert str(caught.value).startswith(f"part.{name} is ")


def test_bounds_that_are_kept():
    Example(count=9, share=0.999, free=2**63 - 1, name="abcd", names=("a", "b", "c"), kind="b", maybe=2)
    assert strict(Example, {"names": ["a", "b"]}, "part") == Example(names=("a", "b"))


def numbers() -> list[str]:
    hints = {f"{part}.{name}": hint for part, cls in PARTS.items() for name, hint in hints_of(cls).items()}
    hints["seed"] = int
    return [place for place, hint in hints.items() if fits(1, hint) and hint is not bool]


def built(place: str, value: object) -> object:
    """A part of a configuration with this value in the field of that place."""
    part, _, name = place.rpartition(".")
    return PARTS[part](**{name: value}) if part else RunConfig(task=InductionConfig(), **{name: value})


@pytest.mark.parametrize("place", numbers())
def test_every_number_of_a_configuration_is_bounded_on_both_sides(place):
    bounds = fields_by_place()[place].metadata
    least = bounds["above"] if bounds["least"] is None else bounds["least"]
    most = bounds["below"] if bounds["most"] is None else bounds["most"]
    assert least is not None and most is not None and least < most
    name = place.rpartition(".")[2]
    for value in (
        least - 1,
        most + max(1, most),
        10**400,
        -(10**400),
        10**5000,
        math.nan,
        math.inf,
        True,
        "3",
        [3],
        (3,),
    ):
        with pytest.raises(ValueError, match=f"^{name} is .*; (write|it must be) ") as caught:
            built(place, value)
        assert len(str(caught.value)) < 200


def test_what_is_trained_lies_far_within_the_bounds():
    ModelConfig(n_layers=200, n_heads=128, d_model=16384, n_future=32, control="trunk", d_vocab=256_000, n_ctx=128_000)
    TrainConfig(steps=10**8, batch_size=2**19, threads=512, probe_points=1000)
    OptimConfig(lr=100.0, clip=1e9)
    assert make_config("induction-cpu", seed=2**63 - 1).label() == "induction-cpu-n1-layers-s9223372036854775807"


def test_many_names_of_many_heads_are_chosen_at_once():
    model = ModelConfig(n_layers=1000, n_heads=1000, d_model=2000)
    names = tuple(f"blocks.{layer}.{head}" for layer in range(0, 900, 9) for head in range(100))
    ClampConfig(freeze_heads=names).check(model)
    with pytest.raises(ValueError, match=r"'blocks\.x' names no attention head .*, and 970 more, or a head") as caught:
        ClampConfig(freeze_heads=(*names[:-1], "blocks.x")).check(model)
    assert len(str(caught.value)) < 700


NAMES = ["a", "induction-cpu-n2-layers-s0-4ef773d7", "a.b_c-D9", "-x", "_", "x" * 200]
NO_NAMES = [
    "",
    ".",
    "..",
    ".a",
    "a/b",
    "../x",
    "a b",
    "a\nb",
    "a\0",
    "ä",
    "x" * 201,
    "a\\b",
    "C:",
    "x\n",
    None,
    3,
    ["a"],
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_folders(name):
    check_name(name, "run id")


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: repr(name)[:20])
def test_what_cannot_name_a_folder_is_refused(name):
    with pytest.raises(ValueError, match=r"^run id .* cannot name a folder; write letters, digits, '-', '_' and '\.'"):
        check_name(name, "run id")


@pytest.mark.parametrize("preset", ["../../x", "/x", "a/b", ".x", "x y", "", "x" * 101, 3, "\0"])
def test_a_preset_is_part_of_a_folder_name(preset):
    values = make_config("induction-cpu").to_dict() | {"preset": preset}
    with pytest.raises(ValueError, match="preset"):
        RunConfig.from_dict(values)
    with pytest.raises(ValueError, match="preset"):
        RunConfig(task=InductionConfig(), preset=preset)


def test_the_nearest_names_are_few():
    names = [f"run-{number}" for number in range(1000)]
    assert nearest("run-77x", names) in (
        "; did you mean 'run-77'?",
        "; did you mean 'run-776'?",
        "; did you mean 'run-775'?",
    )
    assert nearest("?" * 10**6, names).endswith(", and 970 more")
    assert nearest(3, names).startswith("; there are: run-0, ")
    assert listed(["a", "b"]) == "a, b"
