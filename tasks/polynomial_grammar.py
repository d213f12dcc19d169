"""How polynomial expressions are written: tokens, notations, lengths, and how many expressions there are.

Token ids, for coefficients modulo p: 0..p-1 are the coefficients themselves, then come the ten `SYMBOLS`. They are
the same in every notation, so that a model's embedding means the same under each.
"""

from dataclasses import dataclass
from typing import Literal

OPERATIONS = {"negation": "neg", "addition": "+", "multiplication": "*", "composition": "o"}
"""Every operation of the task and how it is written; `a o b` is a(b(X))."""

SYMBOLS = (*OPERATIONS.values(), "(", ")", "=", ".", "|", "_")
"""The tokens after the coefficients. "." is a pause, "|" begins an expression and "_" pads a row."""

Notation = Literal["prefix", "infix"]
TreeShape = Literal["split", "chain"]


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """Which expressions there are and how they are written; every field is explained in `PolynomialConfig`."""

    prime: int
    coefficients: int
    operations: tuple[str, ...]
    notation: Notation
    tree_shape: TreeShape
    pause: int

    @property
    def d_vocab(self) -> int:
        return self.prime + len(SYMBOLS)

    def token(self, symbol: str) -> int:
        """The id of a symbol."""
        return self.prime + SYMBOLS.index(symbol)

    def string(self, token: int) -> str:
        """The text of a token: a digit or a symbol."""
        return str(token) if token < self.prime else SYMBOLS[token - self.prime]

    @property
    def binary(self) -> int:
        """How many of the operations take two operands."""
        return sum(operation != "negation" for operation in self.operations)

    def longest(self, operations: int) -> int:
        """Tokens of the longest expression of that many operations, from "|" to the last coefficient of the answer."""
        return round(self._length(float(operations), float(operations if self.binary else 0)))

    def mean_length(self, operations: float) -> float:
        """Mean length over random expressions; linear in the number of operations, so that a mean number may be given."""
        return self._length(operations, operations * self.binary / len(self.operations))

    def _length(self, operations: float, binary: float) -> float:
        brackets = 2 * binary if self.notation == "infix" else 0
        return 1 + operations + (binary + 1) * self.coefficients + brackets + self.pause + 1 + self.coefficients

    def count(self, operations: int) -> int:
        """How many different expressions of that many operations there are."""
        return self.counts(operations)[operations]

    def counts(self, operations: int, most: int | None = None) -> list[int]:
        """`count` of 0, 1, .. operations; with `most`, of more than that it is that (the exact numbers grow without bound)."""
        unary = len(self.operations) - self.binary
        counts: list[int] = []
        for rest in range(-1, operations):
            splits = range(rest + 1) if self.tree_shape == "split" else (rest,)
            pairs = sum(counts[left] * counts[rest - left] for left in splits) if self.binary and counts else 0
            count = unary * counts[rest] + self.binary * pairs if counts else self.prime**self.coefficients
            counts.append(count if most is None else min(count, most))
        return counts
