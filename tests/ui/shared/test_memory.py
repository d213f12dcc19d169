"""Reruns stay fast: the collector looks at what libraries hold once, when they are loaded."""

import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from playground.ui.shared import memory
from playground.ui.shared.memory import spare_libraries


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Generations of the collections that ran, while nothing else in the process asks for one."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.disable()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def new_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_looked_at", len(sys.modules))
    monkeypatch.setitem(sys.modules, "a_module_loaded_just_now", types.ModuleType("a_module_loaded_just_now"))


def test_a_new_library_is_collected_once_and_then_left_out(collections: list[int], new_module: None) -> None:
    before = gc.get_freeze_count()
    spare_libraries()
    assert collections == [2]
    assert gc.get_freeze_count() > before
    spare_libraries()
    assert collections == [2]


def test_what_is_dropped_later_is_still_collected(collections: list[int], new_module: None) -> None:
    spare_libraries()
    circle: list[Any] = []
    circle.append(circle)
    del circle
    assert gc.collect() >= 1
