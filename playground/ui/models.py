"""Stored models for the pages that look inside: loaded when first needed, kept for the next rerun."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from safetensors import SafetensorError

from playground.ui.files import StoredRun

if TYPE_CHECKING:
    from playground.model.transformer import MTPTransformer
    from tasks.base import Task

MOST_MODELS = 8


@dataclass(frozen=True)
class Loaded:
    """A stored model with its task. Shared by all sessions: nobody may change it; probes leave no trace."""

    model: "MTPTransformer"
    task: "Task"


def load_stored(run: StoredRun, step: int) -> Loaded | None:
    """The model of a stored step; says on the page why, and gives None, when it cannot be opened."""
    weights = run.path / "checkpoints" / str(step)
    try:
        with st.spinner("Loading the model"):
            return _load(run.path, step, weights.stat().st_mtime_ns)
    except FileNotFoundError:
        st.info("The weights of this step are gone; choose another step.", icon=":material/info:")
    except (ValueError, OSError, RuntimeError, KeyError, SafetensorError) as error:
        st.info(f"This model cannot be opened: {error}", icon=":material/info:")
    return None


@functools.lru_cache(maxsize=MOST_MODELS)
def _load(path: Path, step: int, _version: int) -> Loaded:
    from playground.runs.store import Run

    run = Run(path)
    return Loaded(model=run.model(step), task=run.task)
