"""What a training objective is: the names of its losses, their values for a batch, and a sentence for all that it cannot do.

Several replicas side by side (playground/model/stack.py) are here one model, whose batch holds the rows of all replicas.

Dimension letters: R replica, K offset, L loss (its index in the objective's names).
"""

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.training.step_result import loss_names
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets


class Losses(NamedTuple):
    """The losses of a batch."""

    total: Tensor
    """Scalar to differentiate: the sum of the weighted losses of all replicas."""
    each: Float[Tensor, "replica loss"]
    """Each loss without its weight, detached. Of the n-token loss: mean cross-entropy of each offset in nats per target, zero
    for an offset without targets."""


Weights = Sequence[float | None]
"""Weight of each loss in the sum; None: computed, not differentiated. Empty: every weight is 1."""


@runtime_checkable
class Loss(Protocol):
    """A function from model and batch to the losses.

    If the batch is a part of a larger one, `counts` is `Objective.counts` of the larger: the losses of the parts then add up to
    that of the whole.
    """

    def __call__(
        self, model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()
    ) -> Losses: ...


FEATURES = {
    "accumulate": "with accumulate above 1; write --accumulate 1",
    "recompute": "with recompute; leave --recompute out",
    "compiled": "with compiled layers; leave --compiled out",
    "base": "on a base; leave --base out",
    "clip_by": "with clip_by 'next_token'; write --clip-by all",
    "offset_weights": "with offset_weights; leave --offset-weights out",
    "processes": "on several processes; start without torchrun",
    "graphs": "as a CUDA graph",
    "replicas": "side by side with other models",
}
"""What an objective may be unable to do, with the end of the error. Without `graphs` a step on CUDA runs kernel by kernel, and
without `replicas` models are trained one after another."""
DECODING = {"plain": "plain decoding", "drafts": "decoding with drafts of the future heads"}
"""Ways of decoding that may not suit a model."""


class Objective(abc.ABC):
    """A training objective: one or several named losses, whose weighted sum is minimised.

    A subclass is a frozen dataclass. Its fields are the settings of the objective; each has a default and is declared with
    `setting` (playground/config/checks.py).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One sentence for `train --help` and the page Train."""
    source: ClassVar[str]
    """The paper, or a word on where the idea comes from."""
    cannot: ClassVar[Mapping[str, str]] = {}
    """The reason for each of FEATURES that does not work with this objective."""
    unfit_probes: ClassVar[Mapping[str, str]] = {}
    """By name of a probe, the reason why it says nothing of a model trained with this objective."""
    unfit_decoding: ClassVar[Mapping[str, str]] = {}
    """The reason for each way of DECODING that does not suit a model trained with this objective."""

    def loss_names(self, n_future: int) -> tuple[str, ...]:
        """Names of the losses as metrics.jsonl stores them, each beginning with `loss_`.

        `loss_k` is a cross-entropy of offset k. Raises ValueError for an n_future that this objective cannot train.
        """
        return loss_names(n_future)

    def weights(self, n_future: int) -> Weights:
        """Weight of each loss in the sum, unless `train.offset_weights` gives them; empty: every weight is 1."""
        return ()

    def counts(self, batch: Batch, n_future: int, replicas: int = 1) -> Float[Tensor, "replica loss"]:
        """The denominator of each loss, such as the number of its targets, which must add up over the rows of a batch."""
        return target_counts(batch, n_future, replicas)

    @abc.abstractmethod
    def losses(
        self, model: MTPTransformer, batch: Batch, counts: Tensor | None = None
    ) -> Float[Tensor, "replica loss"]:
        """All losses in one autograd graph: the definition of the objective.

        `counts` `[replica, loss]`, if given, replaces the denominators of `batch`, which is then a part of a larger batch.
        """

    def head_by_head(self) -> Loss | None:
        """A function that needs the memory of one future head at a time; losses and gradients are those of `losses`.

        None: there is only the plain form, which `backward: per_head` then takes as well.
        """
        return None

    def one_graph(
        self, model: MTPTransformer, batch: Batch, counts: Tensor | None = None, weights: Weights = ()
    ) -> Losses:
        """The losses as one autograd graph, which needs the memory of all future heads at once."""
        each_RL = self.losses(model, batch, counts)
        return Losses(weighted_sum(each_RL, weights), each_RL.detach())

    def loss(self, backward: str) -> Loss:
        """The form of computation that `train.backward` names."""
        by_head = self.head_by_head() if backward == "per_head" else None
        return by_head or self.one_graph

    def check(self, config: RunConfig, *, replicas: int = 1, processes: int = 1) -> None:
        """Raises ValueError for a configuration that this objective cannot train, with the reason."""
        names = self.loss_names(config.model.n_future)
        train, weights = config.train, bool(config.train.offset_weights)
        asked = {
            "accumulate": train.accumulate > 1,
            "recompute": train.recompute,
            "compiled": train.compiled,
            "base": config.base is not None,
            "clip_by": config.optim.clip_by == "next_token",
            "offset_weights": weights,
            "processes": processes > 1,
            "replicas": replicas > 1,
        }
        for feature in (feature for feature, wanted in asked.items() if wanted and feature in self.cannot):
            raise ValueError(f"objective '{self.name}' does not work {FEATURES[feature]}: {self.cannot[feature]}")
        if weights and names != loss_names(config.model.n_future):
            raise ValueError(
                f"offset_weights weight one loss of each offset, and objective '{self.name}' has {', '.join(names)}; leave "
                "offset_weights out"
            )
        if asked["clip_by"] and names[0] != "loss_1":
            raise ValueError(
                f"clip_by 'next_token' needs loss_1 as the first loss, and objective '{self.name}' has {names[0]}; write "
                "clip_by 'all'"
            )

    def fitting(self, probes: Sequence[str]) -> list[str]:
        """Those of the named probes that suit a model trained with this objective."""
        return [name for name in probes if name not in self.unfit_probes]

    def check_probe(self, name: str) -> None:
        """Raises ValueError if this probe says nothing of a model trained with this objective."""
        if name in self.unfit_probes:
            raise ValueError(
                f"probe '{name}' does not suit a model trained with objective '{self.name}': {self.unfit_probes[name]}"
            )

    def check_decoding(self, *, drafts: bool) -> None:
        """Raises ValueError if plain decoding, or decoding with drafts, does not suit a model trained with this objective."""
        way = "drafts" if drafts else "plain"
        if way in self.unfit_decoding:
            raise ValueError(
                f"{DECODING[way]} does not suit a model trained with objective '{self.name}': {self.unfit_decoding[way]}"
            )


def replicas_of(model: MTPTransformer) -> int:
    """Number of models that run side by side in this one: a batch has equally many rows of each, one model after another."""
    weight = model.unembed_of(1).weight
    return len(weight) if weight.ndim == 3 else 1


def target_counts(batch: Batch, n_future: int, replicas: int = 1) -> Float[Tensor, "replica offset"]:
    """Number of targets of each offset: the denominator of its mean cross-entropy."""
    counts = [
        (future_targets(batch, offset) != IGNORED).view(replicas, -1).sum(dim=1) for offset in range(1, n_future + 1)
    ]
    return torch.stack(counts, dim=1).float()


def weighted_sum(each_RL: Tensor, weights: Weights) -> Tensor:
    """The sum of the losses of all replicas, without those whose weight is None."""
    if not weights:
        return each_RL.sum()
    counted = [loss_R.sum() * w for loss_R, w in zip(each_RL.unbind(1), weights, strict=True) if w is not None]
    return torch.stack(counted).sum()
