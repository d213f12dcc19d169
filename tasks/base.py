"""What a task is: where batches come from, what counts as a target, and how a model is scored.

Everything here is plain torch and knows nothing of models. A task hands out batches of tokens with masks,
and scores any callable that turns tokens into logits.

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
"""Where a tensor lives, as torch takes it."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of tokens, and which of them may be predicted and which are scored.

    `loss_mask[b, t]` says that `tokens[b, t]` may be a training TARGET (at whatever offset predicts it).
    `score_mask[b, t]` says that predicting `tokens[b, t]` counts for the task's score.
    `documents[b, t]` numbers the document a token belongs to, within its row; targets never cross from one
    document into another. Padding belongs to no document: its number is -1 and both masks are False there.
    """

    tokens: Int[Tensor, "batch pos"]
    loss_mask: Bool[Tensor, "batch pos"]
    score_mask: Bool[Tensor, "batch pos"]
    documents: Int[Tensor, "batch pos"]
    info: dict[str, Tensor] = field(default_factory=dict)
    """Whatever else a task knows of its rows (repeat distance, number of operations, ...), batch dimension first."""
    places: Int[Tensor, "batch pos"] | None = None
    """Numbers from 0 on by which tokens of different rows are compared, where the position in the row says nothing: in a
    polynomial, how far away its end is. None: the position in the row."""

    @property
    def real(self) -> Bool[Tensor, "batch pos"]:
        """Which tokens are no padding."""
        return self.documents >= 0

    @property
    def alignment(self) -> Int[Tensor, "batch pos"]:
        """`places`, or the position in the row; -1 for padding. Equal numbers in different rows can be averaged over."""
        positions = torch.arange(self.tokens.shape[1], device=self.tokens.device).expand_as(self.tokens)
        return (positions if self.places is None else self.places).where(self.real, -1)

    def to(self, device: Device) -> "Batch":
        """The same batch on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self, start: int, stop: int) -> "Batch":
        """The rows `start` to `stop` (excluded), as views."""
        return self._map(lambda tensor: tensor[start:stop])

    def split(self, batch_size: int) -> "list[Batch]":
        """The rows in order, `batch_size` at a time."""
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
    """One measured figure with the two values without which it means nothing.

    `chance` is what a model reaches that has not learned the thing measured; `ceiling` what a perfect one reaches.
    """

    name: str
    value: float
    chance: float
    ceiling: float
    unit: str
    higher_is_better: bool = True
    count: int
    """How many predictions (or expressions) the value is a mean over."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a model on a task's fixed test set; `scores[0]` is the task's headline score."""

    scores: tuple[Score, ...]
    loss: tuple[float, ...]
    """Mean cross-entropy on the test set, nats per token, one per offset 1..n_future; NaN where nothing is predicted."""


@runtime_checkable
class Predict(Protocol):
    """A model as tasks see it: logits of the tokens `offsets` ahead of every position."""

    def __call__(
        self, tokens: Int[Tensor, "batch pos"], offsets: Sequence[int]
    ) -> Float[Tensor, "batch pos offset d_vocab"]: ...


@runtime_checkable
class Task(Protocol):
    """A source of batches with a score. One file in `tasks/` adds one (docs/add-a-task.md)."""

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
        """Draw a training batch. All randomness comes from `generator`, which lives on `device`."""
        ...

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Score `predict` on the task's fixed test set (with `full`, on all of it; otherwise on a fixed part)."""
        ...

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        """The first `batch_size` rows of the fixed test set (fewer if it is smaller), the same at every call."""
        ...

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        """One readable string per token."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The tokens as text a person can read."""
        ...

    def encode(self, text: str) -> list[int]:
        """Text a person has written as tokens: what `decode` writes, and token strings with spaces between them.

        The inverse of `decode` as far as that loses nothing. Raises ValueError for a text without tokens, and, with its
        place and what is near it, for a word that is no token.
        """
        ...


@runtime_checkable
class HasPlaces(Protocol):
    """A task whose tokens are compared across rows by other numbers than their positions."""

    def places(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
        """The places of tokens without padding, such as a person types, as `Batch.places` has them."""
        ...


@runtime_checkable
class ReadsText(Protocol):
    """A task whose batches come from files. A run keeps what it needs of them, apart from the text to train on."""

    @property
    def data_hash(self) -> str:
        """Fingerprint of the text: equal texts have equal ones."""
        ...

    def save(self, folder: Path) -> None:
        """Write what everything but `sample` needs into an existing empty folder: small files in plain formats."""
        ...

    def read_text(self) -> None:
        """Read the text to train on, unless it has been read. `sample` does so by itself.

        Raises TextMissing or TextChanged when it is not the text that the task was built from.
        """
        ...


class TextMissing(ValueError):
    """The text of a task is not where it is looked for, or cannot be read."""


class TextChanged(ValueError):
    """The text of a task is not the one that its run was trained on."""


def seeded_generator(seed: int, device: Device = "cpu") -> torch.Generator:
    """A generator on `device`, seeded: the one way this package makes one."""
    return torch.Generator(device=device).manual_seed(seed)


def stream_seed(seed: int, name: str) -> int:
    """A seed for one named stream of randomness; those of other names, and of other seeds, are independent of it."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)[0] >> 1)
