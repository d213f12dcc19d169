"""Stored models for the pages that analyse them: loaded on first use, cached for later reruns.

A model is shared by all sessions, and a probe puts hooks on it while it runs: so only one computation runs at a time.
"""

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
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
"""Held by the session that runs a model. Not a cache: it keeps hooks of two sessions apart."""
_numbers = itertools.count()


@dataclass(frozen=True)
class Loaded:
    """A stored model with its task. Shared by all sessions: it must not be changed; probes leave it as it was."""

    model: "MTPTransformer"
    task: "Task"
    number: int = field(default_factory=lambda: next(_numbers))
    """Different for every model that this server has loaded: caches are keyed by it."""


def load_stored(run: Run, step: int) -> Loaded | None:
    """The model of a stored step; None, with a sentence on the page, if it cannot be opened."""
    weights = run.path / "checkpoints" / str(step)
    try:
        with st.spinner("Loading the model"):
            return _load(str(run.path), step, weights.stat().st_mtime_ns)
    except (Absent, FileNotFoundError):
        st.info("The weights of this step are gone; choose another step.", icon=":material/info:")
    except (ValueError, OSError) as error:
        st.info(f"This model cannot be opened: {plain(error)}", icon=":material/info:")
    return None


@st.cache_resource(max_entries=MOST_MODELS, show_spinner=False)
def _load(path: str, step: int, version: int) -> Loaded:  # noqa: ARG001 (a part of the key)
    """The model, loaded once for each `version` of its weights, by a `Run` of its own: the listed one would keep the task."""
    run = Run(path)
    return Loaded(model=run.model(step), task=run.task)


def kept(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep what a function computes, for its newest `most` calls and all sessions: returned values must not be changed.

    Write it under `one_at_a_time`, not above: a session that computes a value while it waits for its turn, and one that waits
    for this value during its own turn, would wait for each other forever.
    """
    return st.cache_resource(max_entries=most, show_spinner=False, hash_funcs={Loaded: lambda loaded: loaded.number})


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


def is_large(loaded: Loaded) -> bool:
    """Whether the model has more than `LARGE` parameters."""
    return sum(parameter.numel() for parameter in loaded.model.parameters()) > LARGE
