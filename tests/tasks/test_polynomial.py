"""Polynomial expressions against an independent parser and algebra (galois), their rows, masks and scores."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import galois
import pytest
import torch
from torch import Tensor

from tasks.base import Batch, seeded_generator
from tasks.polynomial import Polynomial, PolynomialConfig
from tasks.polynomial_expressions import EMPTY, LEAF, sample_trees
from tasks.polynomial_grammar import OPERATIONS
from tasks.polynomial_ring import add, compose, multiply, negate
from tasks.polynomial_scoring import exact_matches, greedy_answers
from tasks.targets import IGNORED, future_targets

SMALL = {"prime": 2, "coefficients": 2, "n_ctx": 64, "test_per_m": 20, "quick_per_m": 10, "hold_out": False}


class Algebra:
    """F_p[X]/(X^k) by galois, and a parser of decoded text; shares nothing with the code under test."""

    def __init__(self, prime: int, size: int) -> None:
        self.field, self.size = galois.GF(prime, compile="python-calculate"), size  # the others compile for seconds

    def truncate(self, poly: galois.Poly) -> galois.Poly:
        return poly % galois.Poly([1] + [0] * self.size, field=self.field)

    def compose(self, outer: galois.Poly, inner: galois.Poly) -> galois.Poly:
        """The sum of coefficient times power, each power on its own."""
        result, power = galois.Poly.Zero(self.field), galois.Poly.One(self.field)
        for coefficient in reversed(outer.coeffs):
            result, power = result + galois.Poly([coefficient], field=self.field) * power, self.truncate(power * inner)
        return result

    def apply(self, symbol: str, first: galois.Poly, second: galois.Poly) -> galois.Poly:
        if symbol == "+":
            return first + second
        return self.truncate(first * second) if symbol == "*" else self.compose(first, second)

    def parse(self, words: Iterator[str]) -> galois.Poly:
        """Either notation: an opening bracket announces an operator between its operands."""
        word = next(words)
        if word == "neg":
            return -self.parse(words)
        if word == "(":
            first, symbol, second = self.parse(words), next(words), self.parse(words)
            assert next(words) == ")"
            return self.apply(symbol, first, second)
        if word in ("+", "*", "o"):
            return self.apply(word, self.parse(words), self.parse(words))
        return self.poly([int(word), *(int(next(words)) for _ in range(self.size - 1))])

    def poly(self, ascending: Sequence[int]) -> galois.Poly:
        return galois.Poly(list(reversed(ascending)), field=self.field)

    def coefficients(self, poly: galois.Poly) -> list[int]:
        ascending = [int(coefficient) for coefficient in reversed(poly.coeffs)]
        return ascending + [0] * (self.size - len(ascending))

    def check(self, text: str, pause: int = 0) -> str:
        """Assert that "| expression . . = answer" is right, and give the expression back."""
        left, right = text.split("=")
        words = left.split()
        assert words[0] == "|"
        assert words.count(".") == pause
        assert words[len(words) - pause :] == ["."] * pause
        remaining = iter(words[1 : len(words) - pause])
        value = self.parse(remaining)
        assert list(remaining) == []
        assert self.coefficients(value) == [int(word) for word in right.split()]
        return " ".join(words[1 : len(words) - pause])


def documents(task: Polynomial, batch: Batch) -> list[tuple[str, list[bool], list[int]]]:
    """Each document of a batch: its text, its loss mask and its operation counts."""
    found = []
    for tokens, numbers, mask, operations in zip(
        batch.tokens, batch.documents, batch.loss_mask, batch.info["operations"], strict=True
    ):
        for number in range(int(numbers.max()) + 1):
            own = numbers == number
            found.append((task.decode(tokens[own].tolist()), mask[own].tolist(), operations[own].tolist()))
    return found


def is_complete(text: str, size: int) -> bool:
    return "=" in text and len(text.split("=")[1].split()) == size


def clairvoyant(d_vocab: int) -> Any:
    """Sees the tokens to come, and predicts them."""

    def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        logits = torch.zeros(*tokens.shape, len(offsets), d_vocab)
        for column, offset in enumerate(offsets):
            ahead = tokens.roll(-offset, dims=1)
            logits[:, :, column] = torch.nn.functional.one_hot(ahead, d_vocab).float()
        return logits

    return predict


@pytest.mark.parametrize(("prime", "size"), [(7, 5), (2, 3), (3, 1), (11, 4)])
def test_ring_operations_against_galois(prime: int, size: int) -> None:
    algebra = Algebra(prime, size)
    a, b = torch.randint(prime, (2, 200, size), generator=seeded_generator(0))
    results = {"+": add(a, b, prime), "*": multiply(a, b, prime), "o": compose(a, b, prime)}
    for row in range(200):
        first, second = algebra.poly(a[row].tolist()), algebra.poly(b[row].tolist())
        assert negate(a, prime)[row].tolist() == algebra.coefficients(-first)
        for symbol, result in results.items():
            assert result[row].tolist() == algebra.coefficients(algebra.apply(symbol, first, second))


def test_the_worked_example_of_the_ring() -> None:
    a, b = torch.tensor([[1, 2, 0]]), torch.tensor([[0, 3, 1]])
    assert add(a, b, 7).tolist() == [[1, 5, 1]]
    assert multiply(a, b, 7).tolist() == [[0, 3, 0]]
    assert compose(a, b, 7).tolist() == [[1, 6, 2]]


@pytest.mark.parametrize(
    "fields",
    [
        {"notation": "prefix"},
        {"notation": "infix"},
        {"notation": "infix", "tree_shape": "chain", "pause": 3, "prime": 3, "coefficients": 2},
        {"notation": "prefix", "operations": ("composition", "negation"), "prime": 5, "coefficients": 3, "pause": 1},
        {"notation": "infix", "operations": ("negation",), "prime": 2, "coefficients": 1},
    ],
)
def test_answers_against_galois(fields: dict[str, Any]) -> None:
    config = PolynomialConfig(test_per_m=20, quick_per_m=10, hold_out=False, **fields)
    task, algebra = Polynomial(config), Algebra(config.prime, config.coefficients)
    found = documents(task, task.sample(150, seeded_generator(0))) + documents(task, task.test_batch(200))
    checked = 0
    for text, _, operations in found:
        if is_complete(text, config.coefficients):
            expression = algebra.check(text, config.pause)
            assert sum(expression.count(symbol) for symbol in OPERATIONS.values()) == operations[0]
            checked += 1
    assert checked > 600


def test_the_worked_row_of_the_docstring() -> None:
    """The text of the example is found among samples, laid out and masked as drawn there."""
    config = PolynomialConfig(
        prime=7,
        coefficients=2,
        pause=1,
        max_operations=2,
        test_operations=2,
        n_ctx=14,
        packed=False,
        hold_out=False,
        test_per_m=1,
        quick_per_m=1,
        operations=("negation", "addition"),
    )
    task = Polynomial(config)
    Algebra(7, 2).check("| + neg 1 2 3 0 . = 2 5", 1)
    batch = task.sample(4000, seeded_generator(0))
    drawn = [re.sub(r"\d", "0", task.decode(row.tolist())) for row in batch.tokens]
    row = drawn.index("| + neg 0 0 0 0 . = 0 0 _ _ _")
    assert batch.documents[row].tolist() == [0] * 11 + [-1] * 3
    scored = [False] * 9 + [True] * 2 + [False] * 3
    assert batch.score_mask[row].tolist() == batch.loss_mask[row].tolist() == scored


def test_the_worked_tree_of_the_docstring() -> None:
    """Every tree written "( neg L + ( L * L ) )" has the kinds, depths and joints of the table."""
    config = PolynomialConfig(prime=7, coefficients=2)
    trees = sample_trees(torch.full((3000,), 3), 3, config.grammar, seeded_generator(0))
    plus, times = 1, 2
    rows = (trees.kind == torch.tensor([plus, 0, LEAF, times, LEAF, LEAF, EMPTY])).all(dim=1)
    assert rows.any()
    for row in rows.nonzero()[:, 0].tolist():
        assert trees.depth[row].tolist() == [0, 1, 1, 1, 2, 2, 0]
        assert trees.joint[row].tolist() == [EMPTY, EMPTY, EMPTY, plus, EMPTY, times, EMPTY]


def test_numbers_of_operations_operators_and_coefficients_are_uniform() -> None:
    config = PolynomialConfig(packed=False, test_per_m=2, quick_per_m=1, hold_out=False)
    task = Polynomial(config)
    batch = task.sample(8000, seeded_generator(0))
    numbers = batch.info["operations"][:, 0].bincount().tolist()
    assert numbers[0] == 0
    assert max(abs(count / 8000 - 0.2) for count in numbers[1:]) < 0.02
    prompt = batch.tokens[(batch.documents >= 0) & ~batch.score_mask]
    counts = prompt.bincount(minlength=task.d_vocab).double()
    for group in (counts[:7], counts[7:11]):
        assert ((group / group.sum() - 1 / len(group)).abs() < 0.01).all()


@pytest.mark.parametrize("shape", ["split", "chain"])
def test_tree_shapes(shape: Any) -> None:
    config = PolynomialConfig(tree_shape=shape, operations=("addition",))
    trees = sample_trees(torch.full((8000,), 4), 4, config.grammar, seeded_generator(0))
    # The left operand takes slots 1 .. 2 * size + 1; the right one is the slot at depth 1 with an operator before it.
    right_at = ((trees.depth == 1) & (trees.joint != EMPTY)).long().argmax(dim=1)
    shares = ((right_at - 2) // 2).bincount(minlength=4) / 8000
    expected = torch.tensor([0.0, 0.0, 0.0, 1.0] if shape == "chain" else [0.25] * 4)
    assert (shares - expected).abs().max() < 0.02


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_masks(loss_on: Any) -> None:
    task = Polynomial(PolynomialConfig(**SMALL, loss_on=loss_on, pause=2, notation="infix"))
    batch = task.sample(40, seeded_generator(0))
    for text, mask, _ in documents(task, batch):
        words = text.split()
        equals = words.index("=") if "=" in words else len(words)
        for position, word in enumerate(words):
            wanted = position > equals if loss_on == "answer" else word not in "|."
            assert mask[position] == wanted
    padding = batch.documents < 0
    assert not (batch.loss_mask | batch.score_mask)[padding].any()
    assert (batch.tokens[padding] == task.d_vocab - 1).all()
    begins = batch.tokens == task.d_vocab - 2
    assert torch.equal(begins[:, 1:], batch.documents.diff(dim=1) > 0)
    assert begins[:, 0].all()
    assert (future_targets(batch, 1)[:, :-1][begins[:, 1:]] == IGNORED).all()


def test_packed_rows_are_full_and_others_hold_one_expression() -> None:
    packed = Polynomial(PolynomialConfig(**SMALL)).sample(500, seeded_generator(0))
    assert (packed.documents >= 0).double().mean() > 0.98
    assert packed.documents.max() >= 3
    single = Polynomial(PolynomialConfig(**SMALL, packed=False)).sample(50, seeded_generator(0))
    assert single.documents.max() == 0
    assert (single.score_mask.sum(dim=1) == 2).all()


def test_test_expressions_are_never_targets_in_training() -> None:
    fields = SMALL | {"hold_out": True, "test_per_m": 5, "quick_per_m": 5, "loss_on": "all"}
    task = Polynomial(PolynomialConfig(**fields))
    assert task.held_out_operations == (2, 3, 4, 5)
    held_out = {text for text, _, operations in documents(task, task.test_batch(50)) if operations[0] > 1}
    met = Counter(
        any(mask) for text, mask, _ in documents(task, task.sample(2000, seeded_generator(0))) if text in held_out
    )
    assert met[False] > 5
    assert met[True] == 0


def test_small_rings_hold_out_only_where_enough_is_left() -> None:
    assert Polynomial(PolynomialConfig(test_per_m=100)).held_out_operations == (1, 2, 3, 4, 5)
    small = PolynomialConfig(prime=3, coefficients=2, test_per_m=1000)
    assert small.grammar.count(1) == 9 + 3 * 81
    assert Polynomial(small).held_out_operations == (3, 4, 5)


def test_numbers_of_expressions_and_lengths_by_enumeration() -> None:
    """All expressions of a tiny ring, as long as sampling finds them all."""
    for notation in ("prefix", "infix"):
        config = PolynomialConfig(
            prime=2,
            coefficients=1,
            max_operations=2,
            test_operations=2,
            notation=notation,
            packed=False,
            test_per_m=1,
            quick_per_m=1,
            n_ctx=20,
            hold_out=False,
        )
        task = Polynomial(config)
        found = documents(task, task.sample(6000, seeded_generator(0)))
        lengths = [len(text.split()) for text, _, _ in found]
        for number in (1, 2):
            texts = {text for text, _, operations in found if operations[0] == number}
            assert len(texts) == config.grammar.count(number)
            assert max(len(text.split()) for text in texts) == config.grammar.longest(number)
        assert abs(sum(lengths) / len(lengths) - config.grammar.mean_length(1.5)) < 0.05


def test_test_set_has_all_numbers_in_turn_and_is_fixed() -> None:
    task, again = Polynomial(PolynomialConfig(**SMALL)), Polynomial(PolynomialConfig(**SMALL))
    batch = task.test_batch(25)
    assert batch.info["operations"][:, 0].tolist() == [*range(1, 11), *range(1, 11), *range(1, 6)]
    assert torch.equal(batch.tokens, again.test_batch(200).tokens[:25])
    first, second = task.sample(3, seeded_generator(1)), again.sample(3, seeded_generator(1))
    assert torch.equal(first.tokens, second.tokens)
    assert not torch.equal(first.tokens, task.sample(3, seeded_generator(2)).tokens)


def test_an_oracle_is_always_right() -> None:
    task = Polynomial(PolynomialConfig(test_per_m=30, quick_per_m=10, hold_out=False))
    for full, per_m in ((False, 10), (True, 30)):
        evaluation = task.evaluate(clairvoyant(task.d_vocab), n_future=2, full=full)
        assert [score.name for score in evaluation.scores] == [
            "exact_match",
            *(f"exact_match_m{number}" for number in range(1, 11)),
        ]
        assert all(score.value == 1.0 == score.ceiling for score in evaluation.scores)
        assert [score.count for score in evaluation.scores] == [5 * per_m] + [per_m] * 10
        assert all(1 / 7**5 < score.chance < 0.2 for score in evaluation.scores)
        assert len(evaluation.loss) == 2


@pytest.mark.parametrize("wrong", range(3))
def test_one_wrong_coefficient_is_a_wrong_answer(wrong: int) -> None:
    config = PolynomialConfig(prime=5, coefficients=3, test_per_m=10, quick_per_m=10, hold_out=False)
    task = Polynomial(config)
    equals = config.grammar.token("=")

    def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        logits = clairvoyant(task.d_vocab)(tokens, offsets)
        rows, positions = (tokens == equals).nonzero(as_tuple=True)
        logits[rows, positions + wrong] = logits[rows, positions + wrong].roll(1, dims=-1)
        return logits

    assert {score.value for score in task.evaluate(predict).scores} == {0.0}


def test_one_forward_scores_what_greedy_decoding_would() -> None:
    task = Polynomial(PolynomialConfig(**SMALL | {"test_per_m": 60, "quick_per_m": 60}))
    table = torch.rand(task.d_vocab, generator=seeded_generator(0))

    def causal(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        """Prefers 0 or 1, by all tokens up to the position."""
        position = torch.arange(tokens.shape[1])
        state = (table[tokens] * (1 + position)).cumsum(dim=1)
        logits = torch.zeros(*tokens.shape, len(offsets), task.d_vocab)
        logits[..., 0], logits[..., 1] = 2 + torch.sin(40 * state)[..., None], 2.0
        return logits

    batch = task.test_batch(600)
    answers = batch.tokens[batch.score_mask].view(-1, 2)
    decoded = greedy_answers(causal, batch, 2)
    _, exact = exact_matches(causal, batch.split(70), 1)
    assert torch.equal((decoded == answers).all(dim=1), exact)
    assert 0.1 < exact.double().mean() < 0.5


def test_greedy_decoding_does_not_see_the_answers() -> None:
    task = Polynomial(PolynomialConfig(**SMALL))
    decoded = greedy_answers(clairvoyant(task.d_vocab), task.test_batch(40), 2)
    assert (decoded == 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prime": 6}, "prime is 6, which is not a prime; write 2, 3, 5, 7"),
        ({"prime": 1}, "write at least 2"),
        ({"coefficients": 0}, "write at least 1"),
        ({"operations": ()}, "write some of negation, addition, multiplication, composition"),
        ({"operations": ("addition", "addition")}, "each once"),
        ({"operations": ("plus",)}, "write some of"),
        ({"max_operations": 0}, "max_operations is 0; write at least 1"),
        ({"test_operations": 4}, "write at least 5"),
        ({"pause": -1}, "write at least 0"),
        ({"quick_per_m": 3000}, "write 1 to 2000"),
        ({"n_ctx": 71}, "write n_ctx=72 or more"),
        ({"n_ctx": 100, "notation": "infix", "pause": 10}, "write n_ctx=102 or more"),
        ({"n_ctx": 26, "operations": ("negation",), "pause": 5}, "write n_ctx=27 or more"),
    ],
)
def test_wrong_configurations_say_what_to_write(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PolynomialConfig(**fields)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("notation", "notation is 'other'; write 'prefix' or 'infix'"),
        ("tree_shape", "tree_shape is 'other'; write 'split' or 'chain'"),
        ("loss_on", "loss_on is 'other'; write 'answer' or 'all'"),
    ],
)
def test_wrong_choices_say_what_to_write(field: str, message: str) -> None:
    config = PolynomialConfig()
    object.__setattr__(config, field, "other")  # building it so would be stopped by the type check of the tests
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_the_needed_context_is_enough() -> None:
    config = PolynomialConfig(n_ctx=72, test_per_m=200, quick_per_m=1, hold_out=False)
    batch = Polynomial(config).test_batch(2000)
    assert (batch.score_mask.sum(dim=1) == 5).all()
    assert (batch.documents[:, -1] == 0).any()
