"""Stored models for the pages that analyse them: loaded on first use, cached for later reruns.

A model is shared by all sessions, and a probe puts hooks on it while it runs: so only one computation runs at a time.
"""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import streamlit as st

from playground.runs.errors import Absent
from playground.runs.store import Run
from playground.ui.shared.text import plain

if TYPE_CHECKING:
    from playground.model.transformer import MTPTransformer
    from tasks.base import Task

MOST_MODELS = 8
LARGE = 3_000_000
"""A model with more parameters uses all threads, a smaller one a single thread."""
P = ParamSpec("P")
T = TypeVar("T")
_turn = threading.RLock()


@dataclass(frozen=True)
class Loaded:
    """A stored model with its task. Shared by all sessions: it must not be changed; probes leave it as it was."""

    model: "MTPTransformer"
    task: "Task"


def load_stored(run: Run, step: int) -> Loaded | None:
    """The model of a stored step; None, with a sentence on the page, if it cannot be opened."""
    weights = run.path / "checkpoints" / str(step)
    try:
        with st.spinner("Loading the model"):
            return _load(run.path, step, weights.stat().st_mtime_ns)
    except (Absent, FileNotFoundError):
        st.info("The weights of this step are gone; choose another step.", icon=":material/info:")
    except (ValueError, OSError) as error:
        st.info(f"This model cannot be opened: {plain(error)}", icon=":material/info:")
    return None


@functools.lru_cache(maxsize=MOST_MODELS)
def _load(path: Path, step: int, _version: int) -> Loaded:
    from playground.runs.store import Run

    run = Run(path)
    return Loaded(model=run.model(step), task=run.task)


def one_at_a_time(function: Callable[Concatenate[Loaded, P], T]) -> Callable[Concatenate[Loaded, P], T]:
    """Wrap a function that runs a shared model, so that one runs at a time, and small models on one thread.

    While a training uses all cores, two threads of a small model would wait for each other far longer than they compute.
    """

    @functools.wraps(function)
    def run(loaded: Loaded, *args: P.args, **kwargs: P.kwargs) -> T:
        import torch

        with _turn:
            threads = torch.get_num_threads()
            torch.set_num_threads(threads if is_large(loaded) else 1)
            try:
                return function(loaded, *args, **kwargs)
            finally:
                torch.set_num_threads(threads)

    return run


@functools.lru_cache(maxsize=32)
def is_large(loaded: Loaded) -> bool:
    return sum(parameter.numel() for parameter in loaded.model.parameters()) > LARGE
