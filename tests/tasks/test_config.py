"""Configurations of tasks: whatever is written in a field, it is refused in one line, or the task works within seconds."""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tasks import config_class, make_task, task_names
from tasks.base import Task, seeded_generator
from tasks.config import TaskConfig, check_fields, shown

TEXT = Path(__file__).parents[1] / "data" / "stored_before" / "stories.txt"
MOST_LOGITS = 2**24
"""Tasks with larger logits are built, and not evaluated: that takes a model long as well."""

NUMBERS = st.one_of(
    st.integers(-2, 20),
    st.sampled_from(
        [31, 64, 97, 128, 256, 300, 1000, 4096, 2**14, 2**16, 2**20, 10**6, 10**9, 2**31, 2**63 - 1, 2**63, 2**64]
    ),
    st.sampled_from([10**30, -(10**30), 10**400, 10**5000, -(10**5000)]),
)
FLOATS = st.sampled_from([0.0, 1.0, 0.1, 0.5, 1e-300, 0.999, -0.0, -1.0, 2.0, 1e308, math.nan, math.inf, -math.inf])
WRONG = st.sampled_from(
    [None, True, "8", "", "\0", "a" * 10_000, 1.5, (), [], {}, b"8", object(), (1, "a"), ("a",) * 1000, ("\0",)]
)
PATHS = st.sampled_from(
    [None, str(TEXT), str(TEXT.parent), "/nowhere", "/dev/null", "~nobody-here/x", "x\0y", "", "y" * 5000, "a\nb"]
)
OTHER = st.sampled_from([
    (), ("negation",), ("addition",), ("multiplication", "composition"), ("addition", "addition"), ("", "addition"),
    (".txt",), (".txt", 3), "prefix", "infix", "chain", "split", "answer", "all", "Prefix", True, False, None,
])  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def wrong_types_reach_the_configuration() -> Iterator[None]:
    """The checks that run in tests alone would refuse them first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


def values_of(item: "dataclasses.Field[Any]") -> st.SearchStrategy[Any]:
    default = item.default
    if item.name == "path":
        return st.one_of(PATHS, WRONG)
    if isinstance(default, float):
        return st.one_of(FLOATS, NUMBERS, WRONG)
    if type(default) is int or (default is None and item.name != "suffixes"):
        return st.one_of(NUMBERS, NUMBERS, WRONG, FLOATS)
    return st.one_of(OTHER, OTHER, WRONG)


def fields_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """A few fields of a task's configuration, the others as they are by default."""
    items = dataclasses.fields(config_class(name))
    some = st.lists(st.sampled_from(items), unique_by=lambda item: item.name, min_size=1, max_size=5)
    return some.flatmap(lambda chosen: st.fixed_dictionaries({item.name: values_of(item) for item in chosen}))


def guess(task: Task) -> Any:
    generator = seeded_generator(0)

    def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        return torch.rand(*tokens.shape, len(offsets), task.d_vocab, generator=generator)

    return predict


def check_works(task: Task) -> None:
    batch = task.sample(2, seeded_generator(0))
    assert batch.tokens.shape == (2, task.n_ctx)
    assert 0 <= int(batch.tokens.min())
    assert int(batch.tokens.max()) < task.d_vocab
    rows = 256 if task.config.name == "induction" else 64
    if rows * task.n_ctx * task.d_vocab <= MOST_LOGITS:
        evaluation = task.evaluate(guess(task))
        assert all(math.isfinite(score.value) for score in evaluation.scores)


def check_fields_of(name: str, fields: dict[str, Any]) -> None:
    if name == "bytes" and "path" not in fields:
        fields = {"path": str(TEXT), **fields}
    started = time.process_time()
    try:
        task = make_task(name, **fields)
    except ValueError as error:
        assert len(str(error)) < 500
        assert str(error).isprintable()
    else:
        assert time.process_time() - started < 10  # 5 s, and shape checks on two threads
        check_works(task)
    assert time.process_time() - started < 30


@pytest.mark.parametrize("name", ["induction", "polynomial", "stories", "bytes"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_fields_are_refused_in_one_line_or_make_a_task_that_works(name: str, data: st.DataObject) -> None:
    check_fields_of(name, data.draw(fields_of(name)))


HOSTILE = [math.nan, math.inf, True, "8", None, 10**9, 10**400, 10**5000, -(10**5000), (1,), b"1"]


def number_fields() -> list[tuple[str, str]]:
    return [
        (name, item.name)
        for name in task_names()
        for item in dataclasses.fields(config_class(name))
        if type(item.default) in (int, float)
        or item.name in ("name_ambiguity", "n_templates", "n_words", "max_stories")
    ]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: shown(value))
def test_every_number_has_a_type_and_bounds(value: Any) -> None:
    for name, field in number_fields():
        if value is None and config_class(name).__dataclass_fields__[field].default is None:
            continue
        if value == 10**9 and field in ("test_seed", "max_stories"):
            continue
        with pytest.raises(ValueError, match=rf"^{field} .*; write ") as caught:
            config_class(name)(**{field: value})
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "field", "message"),
    [
        ("induction", "n_ctx", "n_ctx is 1000000000; write at most 65536"),
        ("induction", "d_vocab", "d_vocab is 1000000000; write at most 65536"),
        ("induction", "test_rows", "test_rows is 1000000000; write at most"),
        ("polynomial", "prime", "prime is 1000000000; write at most 65536"),
        ("polynomial", "max_operations", "max_operations is 1000000000; write at most 256"),
        ("bytes", "test_rows", "test_rows is 1000000000; write at most"),
        ("stories", "bpe_vocab", "bpe_vocab is 1000000000; write at most 65536"),
        ("stories", "test_stories", "test_stories is 1000000000; write at most"),
    ],
)
def test_sizes_that_would_take_all_memory_are_refused(name: str, field: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(name, **{field: 10**9})


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("induction", {"test_rows": 10**6, "n_ctx": 4096}),
        ("induction", {"test_rows": 1100, "d_vocab": 2**16}),
        ("polynomial", {"test_per_m": 10**6}),
        ("polynomial", {"coefficients": 60, "n_ctx": 4096}),
        ("polynomial", {"max_operations": 256, "test_operations": 256, "n_ctx": 2**14}),
        ("stories", {"test_stories": 10**5, "n_ctx": 2**16}),
        ("bytes", {"test_rows": 10**6, "n_ctx": 2**16}),
    ],
)
def test_sizes_that_are_too_large_together_are_refused(name: str, fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"; write .*at most \d+"):
        config_class(name)(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": ""}, "path is empty"),
        ({"path": "a\0b"}, "path is 'a\\x00b', which holds a NUL character"),
        ({"path": "a" * 5000}, "path has 5000 characters; write at most 4096"),
        ({"path": 3}, "path is 3; write a text or None"),
        ({"suffixes": ()}, "suffixes is empty"),
        ({"suffixes": ("",)}, "suffixes is empty"),
        ({"suffixes": (".py", 3)}, "suffixes is ('.py', 3); write a tuple, each entry a text or None"),
        ({"suffixes": (".py",) * 101}, "suffixes has 101 entries; write at most 100"),
        ({"test_fraction": math.nan}, "test_fraction is nan; write"),
    ],
)
def test_texts_have_types_and_bounds(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (compared whole)
        config_class("bytes")(**fields)
    assert message in str(caught.value)


@dataclass(frozen=True, kw_only=True)
class Mixed(TaskConfig):
    name: ClassVar[str] = "mixed-for-this-test"

    count: int = 3
    share: float = 0.5
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    names: tuple[str, ...] = ()
    table: Any = None


def test_types_of_every_kind() -> None:
    def check(**fields: Any) -> None:
        check_fields(Mixed(**fields), count=(1, 9), share=(0, 1), maybe=(1, 5))

    check(share=1, maybe=5, names=("x",), kind="b", table=[1, 2])
    for fields, message in (
        ({"count": 10}, "count is 10; write at most 9"),
        ({"count": 0}, "count is 0; write at least 1"),
        ({"count": 3.0}, "count is 3.0; write a whole number"),
        ({"share": True}, "share is True; write a number"),
        ({"flag": 1}, "flag is 1; write True or False"),
        ({"kind": "c"}, "kind is 'c'; write 'a' or 'b'"),
        ({"maybe": 6}, "maybe is 6; write at most 5"),
        ({"maybe": "6"}, "maybe is '6'; write a whole number or None"),
        ({"names": ["x"]}, "names is \\['x'\\]; write a tuple, each entry a text"),
        ({"names": ("x", 10**5000)}, "names is a tuple with a very large number; write"),
        ({"n_ctx": 10**5000}, "n_ctx is a number of about 5001 digits; write at most 9223372036854775807"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            check(**fields)


@given(st.one_of(st.integers(), st.text(), st.floats(), st.tuples(st.integers(), st.text())))
def test_what_is_shown_is_one_short_line(value: Any) -> None:
    assert len(shown(value)) < 200
    assert "\n" not in shown(value)
