"""How a module of this folder declares its probe: `PROBE = Probe(...)` at the end of the file; several probes are a tuple.

A probe is prepared once for a task, with fixed rows and fixed randomness, and then measures any model of that task. The rows
are equal for every run, so that runs can be compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch

from playground.figures.style import Style
from playground.model.transformer import MTPTransformer
from playground.probes.repeated import Measure
from playground.probes.rows import ROWS, probe_batch
from playground.results import Result
from tasks.base import Batch, Task, seeded_generator

PROBE_SEED = 20240430
"""Seed of the probe rows and the null distributions; equal for every run."""
MANY_ROWS = 64
"""Rows of probes that run a model many times, or whose numbers vary much between rows."""
Make = Callable[[Task, int], Measure]
"""Prepares a probe for a task and n_future."""
Figure = Callable[[Mapping[str, Any], Style], go.Figure]
"""Draws results of one or several runs, by their titles, each at one step."""
FigureAlong = Callable[[Mapping[str, Any], str, Style], go.Figure]
"""Draws histories of one or several runs, by their titles; the text is the column of `Result.rows()` that is chosen."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe. `playground/probes/catalogue.py` reads name and summary from the source, so they are plain texts."""

    name: str
    """Its name for commands, and that of the file of stored results, probes/NAME.jsonl: letters, digits and underscores."""
    summary: str
    """One sentence: what it measures."""
    result: type[Result]
    make: Make
    figure: Figure | None = None
    """None: a chart is made from `Result.rows()` (playground/figures/rows.py)."""
    figure_along: FigureAlong | None = None
    """The figure along a training. None: lines over training tokens, made from `Result.rows()`."""
    may_refuse: bool = False
    """True if the rows of a task may contain nothing for it to measure; then preparing it raises NoPairs."""


def probe_generator() -> torch.Generator:
    """A fresh generator with the seed of all probes, on the CPU."""
    return seeded_generator(PROBE_SEED)


def on_rows(probe: Callable[[MTPTransformer, Batch], Result], rows: int = ROWS) -> Make:
    """A probe of a model and `rows` test rows of the task."""

    def make(task: Task, _n_future: int) -> Measure:
        batch = probe_batch(task, rows)
        return lambda model: probe(model, batch)

    return make


def of_weights(probe: Callable[[MTPTransformer], Result]) -> Make:
    """A probe that reads the weights alone."""
    return lambda _task, _n_future: probe
