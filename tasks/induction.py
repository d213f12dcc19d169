"""Random tokens that repeat: the simplest task on which induction heads form (Olsson et al. 2022, 2209.11895).

A row is a block of random tokens, repeated until the row is full. Worked row, `distance` 3:

    position    0   1   2   3   4   5   6   7
    tokens      7   2   5   7   2   5   7   2
    scored      .   .   .   .   x   x   x   x

Position 3 is the first that repeats, but no earlier token determines it. From position 4 on, the token before the scored one
has occurred earlier, and the scored token is the one that followed it then. The distance differs between rows, so that a head
which attends a fixed number of tokens back does not solve the task; `fixed_distance` switches that off, as a control.

The score shows that a model repeats, but not how: since a block repeats as a whole, the rule "the token not seen for the
longest time" is right too (docs/reference/tasks.md). Attention scores show whether a head matches tokens
(playground/probes). With `repeats` "pieces", the block is followed by pieces of itself, each from a random place to its end.
The first token of a piece is not determined and not scored. That rule is then right only about twice as often as a guess
among the block's tokens. The row above with pieces:

    position    0   1   2   3   4   5   6   7   8
    tokens      7   2   5   2   5   5   7   2   5
    scored      .   .   .   .   x   .   .   x   x

If `d_vocab` is less than `max_distance`, a block has some tokens twice, and then the previous token alone does not determine
the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from tasks.base import Batch, Device, Evaluation, Predict, Score, TaskConfig, seeded_generator
from tasks.config import MOST_CONTEXT, MOST_SEED, MOST_VOCAB, check_fields, check_test_size
from tasks.encoding import encode_words
from tasks.scoring import rows_at_once, teacher_forced

MOST_ROWS = 10**6
"""Most rows in the fixed test set."""
MOST_NUMBERS = 2**26
"""Most tokens in the test set, and most random numbers to draw it (`d_vocab` per row)."""


@dataclass(frozen=True, kw_only=True)
class InductionConfig(TaskConfig):
    """Random repeats, in rows of `n_ctx` tokens out of `d_vocab`."""

    name: ClassVar[str] = "induction"

    d_vocab: int = 64
    """Number of different tokens."""
    min_distance: int = 8
    """Length of the shortest block."""
    max_distance: int = 32
    """Length of the longest block."""
    fixed_distance: bool = False
    """Control: every block is `max_distance` long, so that a head can solve the task by position alone."""
    repeats: Literal["whole", "pieces"] = field(default="whole", metadata={"since": "2026-11-30"})
    """What follows the block: repeats of the whole block, or "pieces", each from a random place in it to its end."""
    test_rows: int = 512
    """Rows in the fixed test set."""
    quick_rows: int = 128
    """Number of these rows used by a quick evaluation, or all if there are fewer."""
    test_seed: int = 1_000_003
    """Seed of the fixed test set."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            n_ctx=(3, MOST_CONTEXT),
            d_vocab=(2, MOST_VOCAB),
            min_distance=(1, MOST_CONTEXT),
            test_rows=(1, MOST_ROWS),
            quick_rows=(1, MOST_ROWS),
            test_seed=(-MOST_SEED, MOST_SEED),
        )
        if not 1 <= self.min_distance <= self.max_distance:
            raise ValueError(
                f"min_distance {self.min_distance} and max_distance {self.max_distance} do not make a range; "
                "write 1 <= min_distance <= max_distance"
            )
        if self.repeats == "pieces" and self.min_distance < 2:
            raise ValueError("a block of one token has no pieces in which something is scored; write min_distance >= 2")
        if self.max_distance + 2 > self.n_ctx:
            raise ValueError(
                f"max_distance {self.max_distance} leaves nothing to score in a context of {self.n_ctx}; "
                f"write max_distance <= {self.n_ctx - 2} or a larger n_ctx"
            )
        check_test_size("test_rows", self.test_rows, max(self.n_ctx, self.d_vocab), MOST_NUMBERS)


class Induction:
    """Random repeats with repeat accuracy as the score."""

    def __init__(self, config: InductionConfig) -> None:
        self.config = config
        self._test_set = self.sample(config.test_rows, seeded_generator(config.test_seed))

    @property
    def d_vocab(self) -> int:
        return self.config.d_vocab

    @property
    def n_ctx(self) -> int:
        return self.config.n_ctx

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Draw rows of random repeats; `info["distance"]` `[batch]` is each row's repeat distance."""
        config = self.config
        low = config.max_distance if config.fixed_distance else config.min_distance
        distance_B1 = torch.randint(low, config.max_distance + 1, (batch_size, 1), generator=generator, device=device)
        blocks = self._blocks(batch_size, generator, device)
        position_T = torch.arange(config.n_ctx, device=device)
        place_BT, determined_BT = position_T % distance_B1, position_T > distance_B1
        if config.repeats == "pieces":
            place_BT, determined_BT = self._pieces(distance_B1, generator)
        tokens = blocks.gather(1, place_BT)
        return Batch(
            tokens=tokens,
            loss_mask=torch.ones_like(tokens, dtype=torch.bool),
            score_mask=determined_BT,
            documents=torch.zeros_like(tokens),
            info={"distance": distance_B1[:, 0]},
        )

    def _blocks(self, batch_size: int, generator: torch.Generator, device: Device) -> torch.Tensor:
        """Random tokens `[batch, max_distance]`; every `d_vocab` consecutive ones are drawn without replacement."""
        d_vocab, length = self.config.d_vocab, self.config.max_distance
        drawn: list[torch.Tensor] = []
        while length > 0:
            keys = torch.rand(batch_size, d_vocab, generator=generator, device=device)
            drawn.append(keys.argsort(dim=1)[:, :length])
            length -= d_vocab
        return torch.cat(drawn, dim=1)

    def _pieces(self, distance_B1: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Per token, its place in the block, and True if it is determined: not in the block itself, nor first of a piece."""
        n_ctx, device = self.config.n_ctx, distance_B1.device
        keys_BP = torch.rand(len(distance_B1), n_ctx, generator=generator, device=device)
        begin_BP = (keys_BP * distance_B1).long().clamp(max=distance_B1 - 1)
        begin_BP[:, 0] = 0  # the first piece is the block
        ends_BP = (distance_B1 - begin_BP).cumsum(dim=1)
        position_BT = torch.arange(n_ctx, device=device).expand_as(ends_BP).contiguous()
        piece_BT = torch.searchsorted(ends_BP, position_BT, right=True)
        within_BT = distance_B1 - ends_BP.gather(1, piece_BT) + position_BT - begin_BP.gather(1, piece_BT)
        return begin_BP.gather(1, piece_BT) + within_BT, (piece_BT > 0) & (within_BT > 0)

    @property
    def chance(self) -> tuple[float, float]:
        """Accuracy and loss (nats) of a uniform guess among the tokens of the row's block, means over scored tokens."""
        low = self.config.max_distance if self.config.fixed_distance else self.config.min_distance
        distances = torch.arange(low, self.config.max_distance + 1, dtype=torch.float64)
        different = distances.clamp(max=self.config.d_vocab)
        share = self.config.n_ctx - 1 - distances
        if self.config.repeats == "pieces":
            # A piece has (distance + 1) / 2 tokens on average, of which the first is not scored.
            share *= (distances - 1) / (distances + 1)
        share /= share.sum()
        return float((share / different).sum()), float((share * different.log()).sum())

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        return self._test_set.rows(0, batch_size).to(device)

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Accuracy and loss on the tokens that are determined by an earlier occurrence, per offset."""
        rows = self.config.test_rows if full else self.config.quick_rows
        at_once = rows_at_once(256, self.n_ctx * self.d_vocab * n_future)
        result = teacher_forced(predict, self.test_batch(rows, device).split(at_once), n_future)
        accuracy, loss = self.chance
        scores: list[Score] = []
        for row in range(n_future):
            suffix = "" if row == 0 else f"_offset_{row + 1}"
            count = result.count[row]
            scores.append(
                Score(
                    name=f"repeat_accuracy{suffix}",
                    value=result.accuracy[row],
                    chance=accuracy,
                    ceiling=1.0,
                    unit="share of determined tokens",
                    count=count,
                )
            )
            scores.append(
                Score(
                    name=f"repeat_loss{suffix}",
                    value=result.score_loss[row],
                    chance=loss,
                    ceiling=0.0,
                    unit="nats per token",
                    higher_is_better=False,
                    count=count,
                )
            )
        return Evaluation(scores=tuple(scores), loss=result.loss)

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        return [str(int(token)) for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.token_strings(tokens))

    def encode(self, text: str) -> list[int]:
        """The tokens of numbers separated by spaces."""
        return encode_words(text, {str(token): token for token in range(self.d_vocab)})


CONFIG, TASK = InductionConfig, Induction
