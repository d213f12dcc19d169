"""Probes that run again and again while a model trains, and how they run together.

Such a probe has two parts: what it reads on the device, and the result that is made of it afterwards. On CUDA the first parts
of all of them are recorded as one graph and replayed. With a small model they are some eight hundred kernels of a few
microseconds, and starting them one by one takes several times as long as they do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.results import Result

R = TypeVar("R", bound=Result)
Measure = Callable[[MTPTransformer], Result]
"""A probe made ready for a task."""
PLAIN = 4
"""Times that probes run kernel by kernel before they are recorded, which the training step is first (training/step.py)."""


def replicas_of(models: MTPTransformer | Stack) -> list[MTPTransformer]:
    """The one, or those of the stack."""
    return models.models if isinstance(models, Stack) else [models]


def joint_of(models: MTPTransformer | Stack) -> MTPTransformer:
    """What runs: the one itself, or all of the stack in one, whose batch holds the rows of each."""
    return models.joint if isinstance(models, Stack) else models


def device_of(models: MTPTransformer | Stack) -> torch.device:
    """Where they are."""
    return replicas_of(models)[0].W_E.device


class RepeatedProbe(ABC, Generic[R]):
    """A probe in two parts. Calling it with a model measures that model."""

    @abstractmethod
    def read(self, models: MTPTransformer | Stack) -> Float[Tensor, "replica *figures"]:
        """All figures of each replica, on its device.

        From the second call with a model on it must neither wait for the device nor copy from the host, and shapes must stay as
        they are: then a CUDA graph can hold it. What it moved to the device it keeps until it is called with another one.
        """

    @abstractmethod
    def result(self, model: MTPTransformer, figures: Float[np.ndarray, "*figures"]) -> R:
        """The result, from the figures of one replica."""

    def __call__(self, model: MTPTransformer) -> R:
        """Of one model."""
        return self.result(model, self.read(model)[0].cpu().numpy())


class ProbePass:
    """All probes of a training, measured together: `dict(ProbePass(probes)(model))`, or with a stack.

    `recorded`, on CUDA, replays the probes in two parts instead of launching their kernels. The parameters of the model or
    stack must then stay where they lie and its hooks must stay as they are, as they do while a training runs, and nobody else
    may call the probes. Where the graph does not fit into memory, and when another model comes, they go on kernel by kernel.
    """

    def __init__(self, probes: Mapping[str, Measure], *, recorded: bool = False) -> None:
        self.probes = dict(probes)
        self._repeated = {name: probe for name, probe in probes.items() if isinstance(probe, RepeatedProbe)}
        self._recorded = recorded
        self._passes = 0
        self._models: MTPTransformer | Stack | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._figures: dict[str, Tensor] = {}

    def __call__(self, models: MTPTransformer | Stack) -> Iterator[tuple[str, list[Result]]]:
        """Each probe's name, and its result for each replica."""
        replicas = replicas_of(models)
        figures = {name: read.cpu().numpy() for name, read in self._read(models).items()}
        for name, probe in self.probes.items():
            if isinstance(probe, RepeatedProbe):
                yield name, [probe.result(model, own) for model, own in zip(replicas, figures[name], strict=True)]
            else:
                yield name, [probe(model) for model in replicas]

    def _read(self, models: MTPTransformer | Stack) -> dict[str, Tensor]:
        self._models = self._models or models
        if models is not self._models:  # its rows may be moved away from where the graph reads them
            self._recorded, self._graph = False, None
        if not self._recorded or device_of(models).type != "cuda":
            return self._plainly(models)
        if self._graph is None and self._passes >= PLAIN:
            self._record(models)
        self._passes += 1
        if self._graph is None:
            return self._plainly(models)
        self._graph.replay()
        return self._figures

    def _plainly(self, models: MTPTransformer | Stack) -> dict[str, Tensor]:
        return {name: probe.read(models) for name, probe in self._repeated.items()}

    def _record(self, models: MTPTransformer | Stack) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._figures = self._plainly(models)
        except RuntimeError as error:
            if not any(isinstance(each, torch.cuda.OutOfMemoryError) for each in (error, error.__context__)):
                raise
            self._recorded = False
        else:
            self._graph = graph
