"""From names to tasks, and what an unknown name is answered."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasks import (
    ReadsText,
    TextChanged,
    config_class,
    make_task,
    needs_text,
    open_task,
    register_task,
    registry,
    task_names,
)
from tasks.base import Task, TaskConfig
from tasks.induction import Induction, InductionConfig


@dataclass(frozen=True, kw_only=True)
class CopyConfig(InductionConfig):
    name: ClassVar[str] = "copy-for-this-test"
    width: int = 3


class Copy(Induction):
    pass


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


def test_the_shipped_tasks_are_found() -> None:
    assert {"induction", "polynomial", "bytes"} <= set(task_names())
    assert task_names() == sorted(task_names())


@pytest.mark.parametrize("name", ["induction", "polynomial", "bytes"])
def test_shipped_tasks_follow_the_protocol(name: str) -> None:
    task = make_task(name)
    assert isinstance(task, Task)
    assert isinstance(task.config, config_class(name))
    assert task.config.name == name
    assert task.n_ctx == task.config.n_ctx


def test_overrides_and_configurations_build_the_same() -> None:
    assert make_task("induction", d_vocab=20).config == make_task(InductionConfig(d_vocab=20)).config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inducton", "there is no task 'inducton'; did you mean 'induction'?"),
        ("polynomials", "did you mean 'polynomial'?"),
        ("zzzz", "there is no task 'zzzz'; there are: .*bytes.*induction"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        make_task(name)
    with pytest.raises(ValueError, match="there is no task"):
        config_class(name)


def test_unknown_fields_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"task 'induction' has no field 'vocab'; did you mean 'd_vocab'\?"):
        make_task("induction", vocab=3)


def test_a_configuration_takes_no_overrides() -> None:
    with pytest.raises(ValueError, match="not both"):
        make_task(InductionConfig(), d_vocab=20)


@pytest.mark.usefixtures("clean_registry")
def test_a_task_from_elsewhere_can_be_registered() -> None:
    register_task(CopyConfig, Copy)
    assert "copy-for-this-test" in task_names()
    assert config_class("copy-for-this-test") is CopyConfig
    made = make_task("copy-for-this-test", width=5)
    assert isinstance(made, Copy)
    assert made.config == CopyConfig(width=5)
    register_task(CopyConfig, Copy)  # once more, as when a notebook cell runs again


@pytest.mark.usefixtures("clean_registry")
def test_a_taken_name_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Other(TaskConfig):
        name: ClassVar[str] = "induction"

    with pytest.raises(ValueError, match="'induction' is taken by InductionConfig"):
        register_task(Other, Copy)


@dataclass(frozen=True, kw_only=True)
class NumberedConfig(InductionConfig):
    name: ClassVar[str] = "numbered-for-this-test"

    @property
    def reads_text(self) -> bool:
        return True


class Numbered(Induction):
    """Reads a text that is different from what its run was trained on."""

    data_hash = "now"

    def save(self, folder: Path) -> None:
        (folder / "number").write_text("1")

    def read_text(self) -> None: ...


@pytest.mark.usefixtures("clean_registry")
def test_a_task_from_elsewhere_that_reads_files_is_opened_by_its_own_function(tmp_path: Path) -> None:
    asked: list[Any] = []

    def open_saved(config: NumberedConfig, folder: Path | None, data_hash: str, path: str | None) -> Numbered:
        asked.append((folder, data_hash, path))
        return Numbered(config)

    register_task(NumberedConfig, Numbered, open_saved)
    config = NumberedConfig()
    assert needs_text(config)
    assert isinstance(make_task(config), ReadsText)
    open_task(config, saved=tmp_path, data_hash="now", path="elsewhere")
    open_task(config, data_hash="now")
    assert asked == [(tmp_path, "now", "elsewhere"), (None, "now", None)]


@pytest.mark.usefixtures("clean_registry")
def test_a_task_from_elsewhere_without_one_is_built_and_compared(tmp_path: Path) -> None:
    register_task(NumberedConfig, Numbered)
    config = NumberedConfig()
    assert isinstance(open_task(config, data_hash="now"), Numbered)
    assert isinstance(open_task(config), Numbered)
    with pytest.raises(TextChanged, match="is not the one its run was trained on"):
        open_task(config, data_hash="before")
    with pytest.raises(ValueError, match="give register_task an open_saved"):
        open_task(config, saved=tmp_path, data_hash="now")


def test_a_long_unknown_name_is_answered_at_once() -> None:
    with pytest.raises(ValueError, match=r"there is no task 'a+\.\.\.a+'; there are: ") as caught:
        make_task("a" * 10**6)
    assert len(str(caught.value)) < 300
