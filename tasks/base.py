"""The interface of a task: batches of tokens, masks of targets, and scores of a model.

Everything here is plain torch and independent of the models. A task draws batches of tokens with masks, and scores any
callable that turns tokens into logits.

Dimension letters in this package: B batch, T position, K offset, V vocabulary.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.config import TaskConfig

__all__ = [
    "Batch",
    "Device",
    "Evaluation",
    "HasPlaces",
    "Predict",
    "ReadsText",
    "Score",
    "Task",
    "TaskConfig",
    "TextChanged",
    "TextMissing",
    "seeded_generator",
]

Device = str | torch.device
"""A device in the forms that torch accepts."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of tokens, with masks of the tokens that may be targets and of those that are scored.

    `loss_mask[b, t]`: True if `tokens[b, t]` may be a training TARGET, for every offset.
    `score_mask[b, t]`: True if the prediction of `tokens[b, t]` counts for the task's score.
    `documents[b, t]`: number of the token's document within its row; targets never cross from one document into another.
    Padding has document number -1, and both masks are False there.
    """

    tokens: Int[Tensor, "batch pos"]
    loss_mask: Bool[Tensor, "batch pos"]
    score_mask: Bool[Tensor, "batch pos"]
    documents: Int[Tensor, "batch pos"]
    info: dict[str, Tensor] = field(default_factory=dict)
    """Further data of the rows, specific to the task (repeat distance, number of operations, ...), batch dimension first."""
    places: Int[Tensor, "batch pos"] | None = None
    """Numbers from 0 on that align tokens of different rows where the position in the row does not: in a polynomial, the
    distance to the end of its expression. None: the position in the row."""

    @property
    def real(self) -> Bool[Tensor, "batch pos"]:
        """True for tokens that are not padding."""
        return self.documents >= 0

    @property
    def alignment(self) -> Int[Tensor, "batch pos"]:
        """`places`, or the position in the row; -1 for padding. Tokens of different rows with equal numbers correspond."""
        positions = torch.arange(self.tokens.shape[1], device=self.tokens.device).expand_as(self.tokens)
        return (positions if self.places is None else self.places).where(self.real, -1)

    def to(self, device: Device) -> "Batch":
        """This batch on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self, start: int, stop: int) -> "Batch":
        """The rows `start` to `stop` (excluded), as views."""
        return self._map(lambda tensor: tensor[start:stop])

    def split(self, batch_size: int) -> "list[Batch]":
        """Batches of `batch_size` consecutive rows each, as views; the last may have fewer."""
        return [self.rows(start, start + batch_size) for start in range(0, len(self.tokens), batch_size)]

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(
            tokens=function(self.tokens),
            loss_mask=function(self.loss_mask),
            score_mask=function(self.score_mask),
            documents=function(self.documents),
            info={name: function(value) for name, value in self.info.items()},
            places=None if self.places is None else function(self.places),
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured value, with the two values needed to interpret it.

    `chance` is the value of a model that has not learned what is measured; `ceiling` that of a perfect model.
    """

    name: str
    value: float
    chance: float
    ceiling: float
    unit: str
    higher_is_better: bool = True
    count: int
    """Number of predictions (or expressions) over which the value is a mean."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a model on a task's fixed test set; `scores[0]` is the task's headline score."""

    scores: tuple[Score, ...]
    loss: tuple[float, ...]
    """Mean cross-entropy on the test set in nats per token, for each offset 1..n_future; NaN where nothing is predicted."""


@runtime_checkable
class Predict(Protocol):
    """A model as a function of tokens: logits of the tokens `offsets` ahead of every position."""

    def __call__(
        self, tokens: Int[Tensor, "batch pos"], offsets: Sequence[int]
    ) -> Float[Tensor, "batch pos offset d_vocab"]: ...


@runtime_checkable
class Task(Protocol):
    """A source of batches with a score. One file in `tasks/` adds one (docs/guides/add-a-task.md)."""

    config: TaskConfig

    @property
    def d_vocab(self) -> int:
        """Number of different tokens."""
        ...

    @property
    def n_ctx(self) -> int:
        """Tokens in one row of a batch."""
        ...

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Draw a training batch. All randomness comes from `generator`, which is on `device`."""
        ...

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Score `predict` on a fixed part of the task's fixed test set, or with `full` on all of it."""
        ...

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        """The first `batch_size` rows of the fixed test set (fewer if it is smaller), equal in every call."""
        ...

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        """One readable string per token."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The tokens as readable text."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text typed by a user: output of `decode`, or token strings separated by spaces.

        The inverse of `decode`, except for what `decode` loses. Raises ValueError for a text without tokens, and for an
        unknown word, with its place and similar tokens.
        """
        ...


@runtime_checkable
class HasPlaces(Protocol):
    """A task whose tokens are aligned across rows by numbers other than their positions."""

    def places(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
        """The places of unpadded tokens, such as a user's text, with the meaning of `Batch.places`."""
        ...


@runtime_checkable
class ReadsText(Protocol):
    """A task whose batches come from files. A run stores what it needs of them, except the training text."""

    @property
    def data_hash(self) -> str:
        """Fingerprint of the text; equal for equal texts."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files that all methods except `sample` need into an existing empty folder; small, in plain formats."""
        ...

    def read_text(self) -> None:
        """Read the training text, unless it has been read; `sample` does so when needed.

        Raises TextMissing or TextChanged if it is not the text from which the task was built.
        """
        ...


class TextMissing(ValueError):
    """The text of a task is missing at its path, or cannot be read."""


class TextChanged(ValueError):
    """The text of a task is not the one that its run was trained on."""


def seeded_generator(seed: int, device: Device = "cpu") -> torch.Generator:
    """A seeded generator on `device`; all generators of this package are made here."""
    return torch.Generator(device=device).manual_seed(seed)


def stream_seed(seed: int, name: str) -> int:
    """A seed for one named random stream, independent of the streams of other names and other seeds."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)[0] >> 1)
