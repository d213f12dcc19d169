"""Scores of simple rules (shortcuts) on the tasks: `python -m benchmarks.shortcuts [--only NAME] [--rows N]`.

A score shows that a model has learned what is measured only if no simpler rule scores as well. Each rule guesses a scored
token from the tokens before it in its document, on rows drawn like the task's test set. Some rules use counts of scored tokens
in training rows. One rule is not a shortcut: it does what induction heads do (`MECHANISM`). Plain Python, token by token. The
tables in docs/reference/tasks.md are its output.
"""

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from playground.running.presets import PRESETS, make_config
from tasks.base import Batch, Predict, Task, TaskConfig, seeded_generator
from tasks.byte_text import ByteText
from tasks.induction import InductionConfig
from tasks.polynomial import Polynomial, PolynomialConfig
from tasks.registry import make_task
from tasks.stories import Stories
from tasks.story_config import StoriesConfig

TOLERANCE = 0.03
"""Margin above chance that does not count, because rows are random."""
MECHANISM = "after the token before, last time"
LONGEST = "token not seen for the longest time"
BY_WORDS = "recency, by two words"
COUNTED = ("most frequent token", "most frequent token at this place", "bigram", "trigram")
ROWS = 2000
"""Test rows of the tables in docs/reference/tasks.md; twice as many training rows."""
MOST_CASES = 200_000
"""Most scored tokens that are used."""
WEIGHT = 4
"""Weight of the shorter context's probability, as a number of counts."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scored token."""

    tokens: Sequence[int]
    """The whole row."""
    start: int
    """First position of the token's document."""
    at: int
    place: int
    """The token's position in the row, or its place in the alignment of rows (`Batch.places`)."""

    @property
    def target(self) -> int:
        return self.tokens[self.at]

    @property
    def past(self) -> Sequence[int]:
        """The tokens before the scored one in its document."""
        return self.tokens[self.start : self.at]

    def before(self, count: int) -> tuple[int, ...]:
        """The last `count` tokens before the scored one in its document, or fewer at the document's start."""
        return tuple(self.tokens[max(self.start, self.at - count) : self.at])


Rule = Callable[[Case], int | None]
"""Returns a guess, or None."""
Key = Callable[[Case], Hashable]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The values of all rules in one score of one task."""

    score: str
    chance: float
    higher_is_better: bool
    count: int
    """Number of scored tokens (or answers)."""
    values: Mapping[str, float]

    @property
    def shortcuts(self) -> set[str]:
        """The rules that are better than chance by more than TOLERANCE, without MECHANISM."""
        sign = 1 if self.higher_is_better else -1
        better = {name for name, value in self.values.items() if sign * (value - self.chance) > TOLERANCE}
        return better - {MECHANISM}


def cases(batch: Batch) -> list[Case]:
    """The scored tokens of a batch, without the first token of a document, which nothing predicts."""
    found: list[Case] = []
    parts = (batch.tokens, batch.documents, batch.score_mask, batch.alignment)
    for tokens, documents, scored, places in zip(*(part.tolist() for part in parts), strict=True):
        start = 0
        for at in range(len(tokens)):
            if documents[at] != documents[start]:
                start = at
            if scored[at] and at > start:
                found.append(Case(tokens=tokens, start=start, at=at, place=places[at]))
        if len(found) >= MOST_CASES:
            break
    return found


# --- rules --------------------------------------------------------------------------------------------------------------


def rules_for(training: Sequence[Case]) -> dict[str, Rule]:
    """The rules for every task; those with counts use `training`."""
    pool = frozenset(case.target for case in training)
    return {
        **{name: most_frequent(training, *reversed(keys)) for name, keys in zip(COUNTED, KEYS, strict=True)},
        "token before": lambda case: case.tokens[case.at - 1],
        "token seen last": by_recency(pool, lambda case, seen: 0),
        LONGEST: by_recency(pool, lambda case, seen: seen - 1),
        BY_WORDS: by_recency(pool, rank_by_words(training, pool)),
        MECHANISM: after_last_time,
    }


def most_frequent(training: Sequence[Case], *keys: Key) -> Rule:
    """Guesses the most frequent target of training cases with the same key, for the first of `keys` seen in training."""
    best = [{name: counts.most_common(1)[0][0] for name, counts in _counted(training, key).items()} for key in keys]
    return lambda case: next(
        (found[key(case)] for key, found in zip(keys, best, strict=True) if key(case) in found), None
    )


def by_recency(pool: frozenset[int], rank: Callable[[Case, int], int]) -> Rule:
    """Guesses the token of `pool` with a recency rank, 0 for the one seen last. `rank` gets the number of tokens seen."""

    def rule(case: Case) -> int | None:
        order = newest_first(case.past, pool)
        place = rank(case, len(order))
        return order[place] if 0 <= place < len(order) else None

    return rule


def rank_by_words(training: Sequence[Case], pool: frozenset[int]) -> Callable[[Case, int], int]:
    """The most frequent recency rank in training after the same number of seen tokens and the same two words.

    The two words are those before the previous token.
    """
    counts: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for case in training:
        order = newest_first(case.past, pool)
        if case.target in order:
            for key in ((len(order), case.before(3)[:-1]), len(order)):
                counts[key][order.index(case.target)] += 1
    best = {key: found.most_common(1)[0][0] for key, found in counts.items()}
    return lambda case, seen: best.get((seen, case.before(3)[:-1]), best.get(seen, seen - 1))


def after_last_time(case: Case) -> int | None:
    """Guesses the token that followed the last earlier occurrence of the previous token."""
    past = case.past
    return next((past[at + 1] for at in reversed(range(len(past) - 1)) if past[at] == past[-1]), None)


def newest_first(past: Sequence[int], pool: frozenset[int]) -> list[int]:
    """The distinct tokens of `pool` in a text, the one seen last first."""
    return list(dict.fromkeys(token for token in reversed(past) if token in pool))


def _counted(training: Sequence[Case], key: Key) -> dict[Hashable, Counter[int]]:
    counts: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for case in training:
        counts[key(case)][case.target] += 1
    return counts


def _nothing(case: Case) -> Hashable:  # noqa: ARG001
    return ()


def _place(case: Case) -> Hashable:
    return case.place


def _one(case: Case) -> Hashable:
    return case.before(1)


def _two(case: Case) -> Hashable:
    return case.before(2)


# --- answers of polynomials ---------------------------------------------------------------------------------------------

Answer = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Expression:
    """One expression of the polynomial task."""

    question: Answer
    """Its tokens between "|" and "=". In prefix notation the first one is the operation computed last."""
    answer: Answer
    operations: int


def expressions(scored: Sequence[Case], task: Polynomial) -> list[Expression]:
    """The expressions whose last coefficient is among the scored tokens."""
    size, prime, equals = task.config.coefficients, task.config.prime, task.encode("=")[0]
    found: list[Expression] = []
    for case in scored:
        if case.place == 0:
            past = case.past
            question = tuple(past[1 : past.index(equals)])
            answer = (*case.before(size - 1), case.target)
            found.append(
                Expression(question=question, answer=answer, operations=sum(token >= prime for token in question))
            )
    return found


def answer_rules(training: Sequence[Expression], task: Polynomial) -> dict[str, Callable[[Expression], Answer | None]]:
    """Rules for answers without arithmetic: constants, an operand, and the best of these for each first operation."""
    size, prime = task.config.coefficients, task.config.prime

    def constant(key: Callable[[Expression], Hashable]) -> Callable[[Expression], Answer | None]:
        counts: dict[Hashable, Counter[Answer]] = defaultdict(Counter)
        for each in training:
            counts[key(each)][each.answer] += 1
        best = {name: found.most_common(1)[0][0] for name, found in counts.items()}
        return lambda each: best.get(key(each))

    def digits(each: Expression) -> Answer:
        return tuple(token for token in each.question if token < prime)

    rules = {
        "most frequent answer": constant(lambda each: each.operations),
        "most frequent answer, by first operation": constant(lambda each: (each.operations, each.question[0])),
        "first operand": lambda each: digits(each)[:size],
        "last operand": lambda each: digits(each)[-size:],
    }
    wins: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for each in training:
        wins[each.operations, each.question[0]].update(
            name for name, rule in rules.items() if rule(each) == each.answer
        )
    best = {key: counts.most_common(1)[0][0] for key, counts in wins.items() if counts}

    def mixed(each: Expression) -> Answer | None:
        return rules[best.get((each.operations, each.question[0]), "first operand")](each)

    return rules | {"best of these four, by first operation": mixed}


def _exact(task: Polynomial, scored: Sequence[Case], seen: Sequence[Case]) -> tuple[int, dict[str, float]]:
    """Exact match as in the task's score: whole answers, mean over numbers of operations."""
    test, training = expressions(scored, task), expressions(seen, task)
    size = task.config.coefficients

    def mean(rights: Sequence[bool]) -> float:
        by_number: dict[int, list[bool]] = defaultdict(list)
        for each, right in zip(test, rights, strict=True):
            by_number[each.operations].append(right)
        return sum(sum(part) / len(part) for part in by_number.values()) / len(by_number)

    values: dict[str, float] = {}
    for name, rule in rules_for(seen).items():
        hits = [rule(case) == case.target for case in scored]
        values[name] = mean([all(hits[at : at + size]) for at in range(0, len(hits), size)])
    for name, answers in answer_rules(training, task).items():
        values[name] = mean([answers(each) == each.answer for each in test])
    return len(test), values


KEYS = ((_nothing,), (_nothing, _place), (_nothing, _one), (_nothing, _one, _two))
"""The keys of the rules in COUNTED, the shortest context first."""


# --- scores -------------------------------------------------------------------------------------------------------------


def tables(config: TaskConfig, rows: int = ROWS) -> Iterator[Table]:
    """Tables of all rules for the accuracies of a task (for bytes: the bits per byte), on `rows` test rows."""
    if isinstance(config, StoriesConfig):
        config = replace(config, test_stories=rows)
    if isinstance(config, InductionConfig):
        config = replace(config, test_rows=rows, quick_rows=rows)
    task = make_task(config)
    test, training = task.test_batch(rows), task.sample(2 * rows, seeded_generator(0))
    if isinstance(task, Stories):
        for scored, seen in zip(task.scored, (training, task.source.every_mention(training)), strict=True):
            assert seen is not None
            yield _table(task, f"{scored.name}_accuracy", scored.chance[0], scored.batch, seen)
        return
    if isinstance(config, PolynomialConfig):  # the headline score's expressions, equally many per m
        test = task.test_batch(rows * config.test_operations)
        test = _rows(test, test.info["operations"].amax(dim=1) <= config.max_operations)
    score = task.evaluate(_uniform(task)).scores[0]
    yield _table(task, score.name, score.chance, test, training, score.higher_is_better)


def _table(task: Task, name: str, chance: float, test: Batch, training: Batch, higher_is_better: bool = True) -> Table:
    count, values = _measured(task, cases(test), cases(training))
    return Table(score=name, chance=chance, higher_is_better=higher_is_better, count=count, values=values)


def _measured(task: Task, scored: Sequence[Case], seen: Sequence[Case]) -> tuple[int, dict[str, float]]:
    """The number of guessed tokens or answers, and the value of each rule."""
    if isinstance(task, Polynomial):
        return _exact(task, scored, seen)
    if isinstance(task, ByteText):
        return len(scored), {name: _bits(scored, seen, keys) for name, keys in zip(COUNTED, KEYS, strict=True)}
    rules = rules_for(seen)
    right = {name: sum(rule(case) == case.target for case in scored) for name, rule in rules.items()}
    return len(scored), {name: count / len(scored) for name, count in right.items()}


def _bits(scored: Sequence[Case], training: Sequence[Case], keys: Sequence[Key]) -> float:
    """Mean bits per target under the counts for the last key, smoothed with the counts for the keys before it."""
    tables = [_counted(training, key) for key in keys]
    totals = [{name: counts.total() for name, counts in table.items()} for table in tables]
    bits = 0.0
    for case in scored:
        probability = 1 / 256
        for key, table, total in zip(keys, tables, totals, strict=True):
            name = key(case)
            if name in total:
                probability = (table[name][case.target] + WEIGHT * probability) / (total[name] + WEIGHT)
        bits -= math.log2(probability)
    return bits / len(scored)


def _rows(batch: Batch, which: torch.Tensor) -> Batch:
    """Some rows of a batch, without `info`."""
    places = None if batch.places is None else batch.places[which]
    return Batch(
        tokens=batch.tokens[which],
        loss_mask=batch.loss_mask[which],
        score_mask=batch.score_mask[which],
        documents=batch.documents[which],
        places=places,
    )


def _uniform(task: Task) -> Predict:
    """A model with uniform predictions, used to get the scores' names and chances."""
    return lambda tokens, offsets: torch.zeros(1).expand(*tokens.shape, len(offsets), task.d_vocab)


CONFIGS: dict[str, TaskConfig] = {name: make_config(name).task for name in PRESETS if name != "decoding-gpu"} | {
    "stories": StoriesConfig(),
    "induction in pieces": InductionConfig(repeats="pieces"),
}
"""The tasks of the presets (`decoding-gpu` has that of `bytes-gpu`) and two more."""
KNOWN = {
    "repeat_accuracy": frozenset({LONGEST, BY_WORDS}),  # a repeated block has a fixed order
    "bits_per_byte": frozenset(COUNTED),  # chance is the uniform guess; learning frequencies is part of the task
}
"""All rules that are better than chance, by score; docs/reference/tasks.md explains why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each task, with a column for each configuration and score and a line for each rule."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shortcuts", description=__doc__)
    parser.add_argument("--only", choices=list(CONFIGS), action="append", help="only this one; may be repeated")
    parser.add_argument("--rows", type=int, default=ROWS, help="test rows (default: %(default)s)")
    given = parser.parse_args(arguments)
    by_task: dict[str, dict[str, Table]] = defaultdict(dict)
    for name in given.only or CONFIGS:
        config = CONFIGS[name]
        for table in tables(config, given.rows):
            by_task[config.name][f"{name}: `{table.score}`"] = table
    for columns in by_task.values():
        print("\n".join(_lines(columns)), end="\n\n")
    return 0


def _lines(columns: Mapping[str, Table]) -> list[str]:
    rules = list(dict.fromkeys(rule for table in columns.values() for rule in table.values))
    lines = [f"| rule | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines.append(f"| **chance** | {' | '.join(f'**{table.chance:.3f}**' for table in columns.values())} |")
    for rule in rules:
        values = [table.values.get(rule) for table in columns.values()]
        marks = ["" if rule not in table.shortcuts else " (!)" for table in columns.values()]
        cells = ["" if value is None else f"{value:.3f}{mark}" for value, mark in zip(values, marks, strict=True)]
        lines.append(f"| {rule}{' (the mechanism)' if rule == MECHANISM else ''} | {' | '.join(cells)} |")
    return [*lines, f"| predictions | {' | '.join(f'{table.count:,}' for table in columns.values())} |"]


if __name__ == "__main__":
    sys.exit(main())
