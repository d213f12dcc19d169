"""Polynomial arithmetic modulo X^k: the algorithmic task of Gloeckle et al. 2024 (2404.19737), section 4.2.

An expression of m operations on polynomials over F_p, then "=", then its value. Worked row, p = 7, k = 2, m = 2,
prefix notation, 1 pause, loss on the answer:

    position    0   1   2   3   4   5   6   7   8   9  10  11  12  13
    tokens      |   +  neg  1   2   3   0   .   =   2   5   _   _   _
    documents   0   0   0   0   0   0   0   0   0   0   0  -1  -1  -1
    scored      .   .   .   .   .   .   .   .   .   x   x   .   .   .

reads -(1 + 2X) + 3 = 2 + 5X. A polynomial is always its k coefficients, the constant first; "neg", "+", "*", "o" stand
for negation, addition, multiplication and composition (polynomial_ring.py says what composition means modulo X^k).
In infix notation every binary operation has brackets: "( neg 1 2 + 3 0 )".

The paper does not say how expressions are drawn and written. Here m is uniform, then operators, shape (`tree_shape`)
and coefficients are. A training row has as many expressions as fit (`packed`), each a separate document, although
attention reads the whole row; a test row has one expression, at the start. The last expression of a training row is
cut, which happens more often to long ones: of the complete ones 21% have m = 1 and 18% have m = 5 with the default
configuration (23% and 17% with p = 3, k = 2, infix, `n_ctx` 64). Without `packed` each m has 20%.
Pause tokens and "|" are never targets.

No expression of the test set is a target in training (`hold_out`), except for numbers of operations with fewer than
100 x `test_per_m` expressions: without those, too few would be left for training. There a model can memorise the answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from tasks.base import Batch, Device, Evaluation, Predict, Score, TaskConfig, seeded_generator
from tasks.config import MOST_SEED, check_fields, shown
from tasks.encoding import encode_words
from tasks.polynomial_expressions import sample_expressions
from tasks.polynomial_grammar import OPERATIONS, Grammar, Notation, TreeShape
from tasks.polynomial_rows import LossOn, are_among, fingerprints, pack, places_of
from tasks.polynomial_scoring import exact_matches, without_arithmetic
from tasks.polynomial_values import intermediate_values
from tasks.scoring import TeacherForced

MOST_CONTEXT = 2**14
MOST_PRIME = 2**16
MOST_COEFFICIENTS = 64
MOST_OPERATIONS = 256
MOST_TEST = 10**6
"""The five bounds above are the largest values of the fields."""
MOST_NUMBERS = 2**25
"""Most numbers in a tensor during the construction of the test set."""
WORK = 16
"""Number of multiplications that take as long as the other work on one number."""


@dataclass(frozen=True, kw_only=True)
class PolynomialConfig(TaskConfig):
    """Arithmetic in F_p[X]/(X^k), with p = `prime` and k = `coefficients`."""

    name: ClassVar[str] = "polynomial"

    n_ctx: int = 128
    """Context length: tokens in one row. It must hold the longest test expression."""
    prime: int = 7
    """Coefficients are integers modulo this prime."""
    coefficients: int = 5
    """Number of coefficients of a polynomial; powers of X from this one on are dropped."""
    operations: tuple[str, ...] = tuple(OPERATIONS)
    """Operations used, out of negation, addition, multiplication, composition; fewer make the task easier."""
    max_operations: int = 5
    """Training expressions have 1 to this many operations, each number equally often."""
    test_operations: int = 10
    """Test expressions have 1 to this many operations; above `max_operations` they are out of domain."""
    notation: Notation = "prefix"
    """How expressions are written: operator first ("prefix"), or between its operands, with brackets ("infix")."""
    tree_shape: TreeShape = "split"
    """How many of the remaining operations are in the left operand: a uniform number ("split"), or all ("chain")."""
    pause: int = 0
    """Pause tokens before "=", as additional computation. The paper has 0, 5 and 10."""
    loss_on: LossOn = "answer"
    """Training targets: the coefficients of the answer, or "all" tokens."""
    packed: bool = True
    """Fill a row with expressions. Otherwise a row has one expression and padding."""
    hold_out: bool = True
    """Exclude test expressions from the training targets, wherever enough others are left."""
    test_per_m: int = 2000
    """Test expressions per number of operations."""
    quick_per_m: int = 100
    """Number of these used by a quick evaluation."""
    test_seed: int = 1_000_003
    """Seed of the fixed test set."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            n_ctx=(4, MOST_CONTEXT),
            prime=(2, MOST_PRIME),
            coefficients=(1, MOST_COEFFICIENTS),
            max_operations=(1, MOST_OPERATIONS),
            test_operations=(1, MOST_OPERATIONS),
            pause=(0, MOST_CONTEXT),
            test_per_m=(1, MOST_TEST),
            quick_per_m=(1, MOST_TEST),
            test_seed=(-MOST_SEED, MOST_SEED),
        )
        _check(_is_prime(self.prime), f"prime is {self.prime}, which is not a prime; write 2, 3, 5, 7, ..")
        known = set(self.operations) <= set(OPERATIONS) and len(set(self.operations)) == len(self.operations) > 0
        _check(known, f"operations is {shown(self.operations)}; write some of {', '.join(OPERATIONS)}, each once")
        _check(
            self.test_operations >= self.max_operations,
            f"test_operations {self.test_operations} does not reach max_operations; write at least {self.max_operations}",
        )
        _check(
            self.quick_per_m <= self.test_per_m,
            f"quick_per_m {self.quick_per_m} is not within 1..test_per_m; write 1 to {self.test_per_m}",
        )
        needed = self.grammar.longest(self.test_operations)
        _check(
            self.n_ctx >= needed,
            f"n_ctx {self.n_ctx} is too short for expressions of {self.test_operations} operations; "
            f"write n_ctx={needed} or more, or fewer test_operations",
        )
        most = MOST_NUMBERS // max(needed, self._work) // self.test_operations
        advice = f"a test_per_m of at most {most}, or fewer of the others" if most else "fewer of the last two"
        _check(
            self.test_per_m <= most,
            f"test_per_m {self.test_per_m} with {self.coefficients} coefficients and {self.test_operations} test_operations "
            f"takes too long to make; write {advice}",
        )

    @property
    def _work(self) -> int:
        """Cost of drawing and evaluating one test expression: numbers processed, where WORK multiplications count as one."""
        slots, size = 2 * self.test_operations + 1, self.coefficients
        power = 3 if "composition" in self.operations else 2 if "multiplication" in self.operations else 1
        return max(slots * size, slots * size**power // WORK)

    @property
    def grammar(self) -> Grammar:
        """The grammar of this configuration's expressions."""
        return Grammar(
            prime=self.prime,
            coefficients=self.coefficients,
            operations=self.operations,
            notation=self.notation,
            tree_shape=self.tree_shape,
            pause=self.pause,
        )


class Polynomial:
    """Polynomial expressions with the share of exactly right answers as the score."""

    def __init__(self, config: PolynomialConfig) -> None:
        self.config = config
        self._grammar = config.grammar
        generator = seeded_generator(config.test_seed)
        # Expression i has i % test_operations + 1 operations, so that every prefix of the test set has all numbers.
        numbers = (torch.arange(config.test_operations) + 1).repeat(config.test_per_m)
        self._test_set = sample_expressions(numbers, config.test_operations, self._grammar, generator)
        held_out = torch.isin(numbers, torch.tensor(self.held_out_operations))
        self._chances: dict[int, float] = {}
        self._held_out_on = cache(fingerprints(self._test_set, self._grammar)[held_out].sort().values.to)

    @property
    def d_vocab(self) -> int:
        return self._grammar.d_vocab

    @property
    def n_ctx(self) -> int:
        return self.config.n_ctx

    @property
    def held_out_operations(self) -> tuple[int, ...]:
        """The numbers of operations whose test expressions are never training targets."""
        config = self.config
        enough = 100 * config.test_per_m
        counts = self._grammar.counts(config.max_operations if config.hold_out else 0, enough)
        return tuple(number for number, count in enumerate(counts) if number and count == enough)

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Draw rows of expressions; `info["operations"]` `[batch, pos]` is m of each token's expression, 0 in padding."""
        config, grammar = self.config, self._grammar
        mean_length = grammar.mean_length((config.max_operations + 1) / 2)
        per_row = int(1.1 * config.n_ctx / mean_length) + 2 if config.packed else 1
        shape = (batch_size * per_row,)
        numbers = torch.randint(1, config.max_operations + 1, shape, generator=generator, device=device)
        drawn = sample_expressions(numbers, config.max_operations, grammar, generator)
        excluded = are_among(fingerprints(drawn, grammar), self._held_out_on(numbers.device))
        return pack(drawn, excluded, batch_size, config.n_ctx, grammar, config.loss_on)

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        """The first test expressions, one per row; the number of operations cycles through 1 .. test_operations."""
        return self._test_rows(slice(batch_size), self.n_ctx, device)

    def places(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
        """Number of tokens of its expression that follow each token."""
        return places_of(tokens, self._grammar)

    def intermediate_values(self, batch: Batch) -> Int[Tensor, "batch pos coef"]:
        """Values of the subexpressions in rows of this task, each at its last token, and -1 everywhere else.

        Computed on demand from the tokens (polynomial_values.py says which subexpressions count).
        """
        return intermediate_values(batch.tokens, self._grammar)

    def _test_rows(self, which: slice, n_ctx: int, device: Device) -> Batch:
        chosen = self._test_set[which]
        none = torch.zeros_like(chosen.length, dtype=torch.bool)
        return pack(chosen, none, len(none), n_ctx, self._grammar, self.config.loss_on).to(device)

    def chance(self, number: int) -> float:
        """Share of test expressions with `number` operations for which the best answer without arithmetic is right."""
        if number not in self._chances:
            batch = self._test_rows(self._of(number), self._grammar.longest(number), "cpu")
            self._chances[number] = without_arithmetic(batch, self.config.prime, self.config.coefficients)
        return self._chances[number]

    def _of(self, number: int, per_m: int | None = None) -> slice:
        """Slice of the first `per_m` test expressions with `number` operations, or of all of them."""
        step = self.config.test_operations
        return slice(number - 1, (per_m or self.config.test_per_m) * step, step)

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Share of expressions with all coefficients right under greedy decoding, per number of operations m.

        The headline score and the loss average over the training range of m. Chance is the share of the best answer without
        arithmetic for each m: a constant, or one of the polynomials in the expression (`without_arithmetic`). A uniform guess
        gives 1 / p^k, which is less.
        """
        config = self.config
        per_m = config.test_per_m if full else config.quick_per_m

        def score(numbers: range) -> tuple[TeacherForced, list[float]]:
            rows = [
                self._test_rows(self._of(number, per_m), self._grammar.longest(number), device) for number in numbers
            ]
            batches = [part for group in rows for part in group.split(500)]
            result, right = exact_matches(predict, batches, n_future)
            return result, right.view(len(numbers), per_m).double().mean(dim=1).tolist()

        inside = range(1, config.max_operations + 1)
        outside = range(config.max_operations + 1, config.test_operations + 1)
        result, values = score(inside)
        values += score(outside)[1] if outside else []
        chances = [self.chance(number) for number in (*inside, *outside)]
        mean_value, mean_chance = sum(values[: len(inside)]) / len(inside), sum(chances[: len(inside)]) / len(inside)
        scores = [_score("exact_match", mean_value, mean_chance, per_m * len(inside))]
        for number, value, chance in zip((*inside, *outside), values, chances, strict=True):
            scores.append(_score(f"exact_match_m{number}", value, chance, per_m))
        return Evaluation(scores=tuple(scores), loss=result.loss)

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        return [self._grammar.string(int(token)) for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.token_strings(tokens))

    def encode(self, text: str) -> list[int]:
        """The tokens of coefficients and symbols separated by spaces; they need not be a valid expression."""
        return encode_words(text, {self._grammar.string(token): token for token in range(self.d_vocab)})


def _score(name: str, value: float, chance: float, count: int) -> Score:
    return Score(name=name, value=value, chance=chance, ceiling=1.0, unit="share of expressions", count=count)


def _is_prime(number: int) -> bool:
    return number >= 2 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


CONFIG, TASK = PolynomialConfig, Polynomial
