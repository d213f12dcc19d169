"""The grammar of polynomial expressions: tokens, notations, lengths, and the number of expressions.

Token ids, for coefficients modulo p: 0..p-1 are the coefficients themselves, then come the ten `SYMBOLS`. Ids do not
depend on the notation, so that a model's embeddings have one meaning in all notations.
"""

from dataclasses import dataclass
from typing import Literal

OPERATIONS = {"negation": "neg", "addition": "+", "multiplication": "*", "composition": "o"}
"""Every operation of the task with its symbol; `a o b` is a(b(X))."""

SYMBOLS = (*OPERATIONS.values(), "(", ")", "=", ".", "|", "_")
"""The tokens after the coefficients. "." is a pause, "|" begins an expression and "_" pads a row."""

Notation = Literal["prefix", "infix"]
TreeShape = Literal["split", "chain"]


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """The set of expressions and their notation; the fields are explained in `PolynomialConfig`."""

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
        """Number of operations with two operands."""
        return sum(operation != "negation" for operation in self.operations)

    def longest(self, operations: int) -> int:
        """Tokens of the longest expression with that many operations, from "|" to the last coefficient of the answer."""
        return round(self._length(float(operations), float(operations if self.binary else 0)))

    def mean_length(self, operations: float) -> float:
        """Mean length of random expressions; linear in the number of operations, which may therefore be a mean itself."""
        return self._length(operations, operations * self.binary / len(self.operations))

    def _length(self, operations: float, binary: float) -> float:
        brackets = 2 * binary if self.notation == "infix" else 0
        return 1 + operations + (binary + 1) * self.coefficients + brackets + self.pause + 1 + self.coefficients

    def count(self, operations: int) -> int:
        """Number of different expressions with that many operations."""
        return self.counts(operations)[operations]

    def counts(self, operations: int, most: int | None = None) -> list[int]:
        """`count` of 0, 1, .. operations; with `most`, capped at that number (exact counts grow without bound)."""
        unary = len(self.operations) - self.binary
        counts: list[int] = []
        for rest in range(-1, operations):
            splits = range(rest + 1) if self.tree_shape == "split" else (rest,)
            pairs = sum(counts[left] * counts[rest - left] for left in splits) if self.binary and counts else 0
            count = unary * counts[rest] + self.binary * pairs if counts else self.prime**self.coefficients
            counts.append(count if most is None else min(count, most))
        return counts
