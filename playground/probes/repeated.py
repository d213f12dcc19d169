"""Probes that run repeatedly while a model trains, and their joint execution as one CUDA graph.

Such a probe has two parts: `read` computes figures on the device, and `result` makes the result from them on the host. On CUDA
the `read` parts of all probes are recorded as one graph and replayed. For a small model they are about eight hundred kernels of
a few microseconds each, and launching them one by one takes several times as long as running them.
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
"""A probe prepared for a task: takes a model, returns a result."""
PLAIN = 4
"""Passes that run kernel by kernel before the graph is recorded, as for the training step (training/step.py)."""


def replicas_of(models: MTPTransformer | Stack) -> list[MTPTransformer]:
    """The single model as a list, or the models of the stack."""
    return models.models if isinstance(models, Stack) else [models]


def joint_of(models: MTPTransformer | Stack) -> MTPTransformer:
    """The module to run: the model itself, or the stack's joint model, whose batch holds the rows of all replicas."""
    return models.joint if isinstance(models, Stack) else models


def device_of(models: MTPTransformer | Stack) -> torch.device:
    """The device of the parameters."""
    return replicas_of(models)[0].W_E.device


class RepeatedProbe(ABC, Generic[R]):
    """A probe in two parts, `read` on the device and `result` on the host. Calling it with a model measures that model."""

    @abstractmethod
    def read(self, models: MTPTransformer | Stack) -> Float[Tensor, "replica *figures"]:
        """All figures of each replica, on its device.

        From the second call with a model on it must not synchronise with the host, copy from the host, or change shapes: a CUDA
        graph can then record it. Tensors that it moves to the device stay there until a call with another model.
        """

    @abstractmethod
    def result(self, model: MTPTransformer, figures: Float[np.ndarray, "*figures"]) -> R:
        """The result of one replica, from its figures."""

    def __call__(self, model: MTPTransformer) -> R:
        """Measure one model."""
        return self.result(model, self.read(model)[0].cpu().numpy())


class ProbePass:
    """All probes of a training, measured together: `dict(ProbePass(probes)(model))`, or with a stack.

    `recorded`, on CUDA, replays the `read` parts as a CUDA graph instead of launching their kernels. Until the end of the
    training the parameters must then keep their addresses, the hooks must not change, and no other code may call the probes.
    If the graph does not fit into memory, or another model is passed, the probes run kernel by kernel from then on.
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
        if models is not self._models:  # a probe may then move its rows to addresses that the graph does not read
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
            # Leaving the capture after running out of memory raises a second error; the first is then its context.
            if not any(isinstance(each, torch.cuda.OutOfMemoryError) for each in (error, error.__context__)):
                raise
            self._recorded = False
        else:
            self._graph = graph
