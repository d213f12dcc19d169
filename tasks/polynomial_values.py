"""Intermediate results of polynomial expressions: the value of every subexpression, at the token that completes it.

Worked row, p = 7, k = 2, prefix notation:

    position    0   1   2   3   4   5   6   7   8   9  10
    tokens      |   +  neg  1   2   *   3   0   0   1   =
    value                      6 5                 0 3

-(1 + 2X) = 6 + 5X is complete at position 4, and 3 * X = 3X at position 9. These are the PROPER subexpressions with an
operation in them: a plain polynomial needs no computation, and the whole expression (also complete at 9) is the answer.
Where one token completes several, the value is that of the largest, which the rest of the expression needs.

Tokens are read from left to right with a stack of operations that lack operands, one row after another: for probes, not
for training. The trees from which the expressions were drawn are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from tasks.polynomial_grammar import Grammar
from tasks.polynomial_ring import BINARY, negate

NO_VALUE = -1
"""The value of every coefficient at tokens that complete no subexpression."""

Value = tuple[int, ...]
"""The coefficients of a polynomial, the constant first."""


def intermediate_values(tokens: Int[Tensor, "batch pos"], grammar: Grammar) -> Int[Tensor, "batch pos coef"]:
    """The subexpression values of every row (see the module's docstring), on the tokens' device; NO_VALUE elsewhere.

    A row may have several expressions, each begun by "|", and the last one may be cut. Raises ValueError if the tokens are
    not expressions in the grammar's notation.
    """
    values = torch.full((*tokens.shape, grammar.coefficients), NO_VALUE)
    for row, read in zip(values, tokens.tolist(), strict=True):
        for position, value in subexpression_values(read, grammar).items():
            row[position] = torch.tensor(value)
    return values.to(tokens.device)


def subexpression_values(tokens: Sequence[int], grammar: Grammar) -> dict[int, Value]:
    """The subexpression values of one row, by position."""
    found: dict[int, Value] = {}
    reader: _Reader | None = None
    for position, token in enumerate(tokens):
        if token == grammar.token("|"):
            reader = _Reader(grammar)
        elif reader is not None and not reader.done:
            value = reader.read(token)
            if value is not None:
                found[position] = value
    return found


@dataclass
class _Waiting:
    """An operation that lacks operands; in brackets its symbol is "(" until its operator has been read."""

    symbol: str
    in_brackets: bool
    operands: list[Value] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.in_brackets and len(self.operands) == (1 if self.symbol == "neg" else 2)

    def result(self, prime: int) -> Value:
        first, *second = (torch.tensor([operand]) for operand in self.operands)
        value = BINARY[self.symbol](first, second[0], prime) if second else negate(first, prime)
        return tuple(value[0].tolist())


class _Reader:
    """Reads one expression token by token."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.done = False
        self._waiting: list[_Waiting] = []
        self._digits: list[int] = []
        self._text: list[str] = []

    def read(self, token: int) -> Value | None:
        """Read one token; returns the value of the largest proper subexpression that it completes, or None."""
        grammar = self.grammar
        symbol = grammar.string(token) if token < grammar.d_vocab else str(token)
        self._text.append(symbol)
        if token < grammar.prime:
            self._digits.append(token)
            if len(self._digits) < grammar.coefficients:
                return None
            value, self._digits = tuple(self._digits), []
            return self._hand_on(value, is_plain=True)
        infix, top = grammar.notation == "infix", self._waiting[-1] if self._waiting else None
        self._expect(not self._digits)
        if symbol == "neg" or (symbol in BINARY and not infix) or (symbol == "(" and infix):
            self._waiting.append(_Waiting(symbol, in_brackets=symbol == "("))
            return None
        self._expect(top is not None and top.in_brackets)
        assert top is not None
        if symbol in BINARY:
            self._expect(top.symbol == "(" and len(top.operands) == 1)
            top.symbol = symbol
            return None
        self._expect(symbol == ")" and top.symbol in BINARY and len(top.operands) == 2)
        return self._hand_on(self._waiting.pop().result(grammar.prime), is_plain=False)

    def _hand_on(self, value: Value, *, is_plain: bool) -> Value | None:
        """Add a value as operand to the operation on top of the stack; repeat with its result while that completes it."""
        largest: Value | None = None
        while self._waiting:
            if not is_plain:
                largest = value  # proper: it is still an operand of another operation
            self._waiting[-1].operands.append(value)
            if not self._waiting[-1].complete:
                return largest
            value, is_plain = self._waiting.pop().result(self.grammar.prime), False
        self.done = True
        return largest

    def _expect(self, holds: bool) -> None:
        if not holds:
            raise ValueError(
                f"'| {' '.join(self._text)}' is not the beginning of an expression in {self.grammar.notation} notation modulo "
                f"{self.grammar.prime} with {self.grammar.coefficients} coefficients; read rows of this very task"
            )
