"""No rule that knows nothing of what a task is for reaches more than the chance that the task reports, but for the known ones."""

import functools
import re
from pathlib import Path

import pytest
import torch

from benchmarks.shortcuts import (
    BY_WORDS,
    CONFIGS,
    COUNTED,
    KNOWN,
    LONGEST,
    MECHANISM,
    TOLERANCE,
    Table,
    cases,
    main,
    rules_for,
    tables,
)
from tasks.base import Batch
from tasks.polynomial import Polynomial, PolynomialConfig

pytestmark = pytest.mark.usefixtures("no_shape_checks")

ROWS = {
    "stories": 400,
    "stories-cpu": 800,
    "stories-gpu": 400,
    "polynomial-cpu": 250,
    "polynomial-gpu": 100,
    "induction-cpu": 50,
    "induction-gpu": 40,
    "induction in pieces": 80,
    "bytes-cpu": 100,
    "bytes-gpu": 15,
    "decoding-cpu": 50,
}
"""So many that no figure is off by the tolerance."""


@functools.cache
def tables_of(name: str) -> tuple[Table, ...]:
    return tuple(tables(CONFIGS[name], ROWS[name]))


@pytest.mark.parametrize("name", CONFIGS)
def test_no_rule_is_better_than_chance_but_the_known_ones(name: str) -> None:
    for table in tables_of(name):
        assert table.shortcuts == KNOWN.get(table.score, set()), (table.score, table.chance, table.values)
        assert table.count >= 500


@pytest.mark.parametrize("name", [name for name in CONFIGS if "stories" in name])
def test_in_stories_no_rule_comes_near_the_mechanism(name: str) -> None:
    free, every = tables_of(name)
    assert (free.score, every.score) == ("free_name_accuracy", "second_name_token_accuracy")
    assert free.values[MECHANISM] == every.values[MECHANISM] == 1
    rules = {rule: value for rule, value in free.values.items() if rule != MECHANISM}
    assert abs(max(rules.values()) - free.chance) < TOLERANCE
    assert every.values[LONGEST] > free.chance + 0.08  # what is not counted in the headline for


def test_of_random_repeats_in_pieces_the_order_says_little() -> None:
    (whole,), (pieces,) = tables_of("induction-cpu"), tables_of("induction in pieces")
    assert whole.values[LONGEST] == whole.values[MECHANISM] == pieces.values[MECHANISM] == 1
    assert pieces.values[LONGEST] < 0.2 and pieces.values[BY_WORDS] < 0.2


def test_the_tables_of_the_page_are_what_is_computed(repository_root: Path) -> None:
    columns: dict[str, list[str]] = {}
    for block in re.findall(
        r"(?:^\|.*\n)+", (repository_root / "docs" / "reference" / "tasks.md").read_text(), re.MULTILINE
    ):
        lines = [[cell.strip(" *") for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        if lines[0][0] == "rule":
            columns |= {name: [line[at] for line in lines] for at, name in enumerate(lines[0]) if at}
            columns |= {f"rules of {name}": [line[0] for line in lines] for name in lines[0][1:]}
    for name in CONFIGS:
        for table in tables_of(name):
            column = f"{name}: `{table.score}`"
            said = dict(zip(columns[f"rules of {column}"], columns[column], strict=True))
            expected = {"chance": table.chance, **table.values}
            for rule, value in expected.items():
                (cell,) = (cell for key, cell in said.items() if key.removesuffix(" (the mechanism)") == rule)
                near = 1.5 if table.score == "bits_per_byte" else 0.05
                assert float(cell.removesuffix(" (!)")) == pytest.approx(value, abs=near), (column, rule)
                assert ("(!)" in cell) == (rule in KNOWN.get(table.score, set()))


# --- the rules ----------------------------------------------------------------------------------------------------------


def batch_of(tokens: list[list[int]], documents: list[list[int]], scored: list[list[int]]) -> Batch:
    marks = torch.tensor(scored).bool()
    return Batch(tokens=torch.tensor(tokens), loss_mask=marks, score_mask=marks, documents=torch.tensor(documents))


def test_a_case_is_a_scored_token_with_what_stands_before_it_in_its_document() -> None:
    batch = batch_of([[1, 2, 3, 4, 5, 0]], [[0, 0, 0, 1, 1, -1]], [[1, 0, 1, 1, 1, 0]])
    found = [(list(case.past), case.target, case.place, case.before(3)) for case in cases(batch)]
    assert found == [([1, 2], 3, 2, (1, 2)), ([4], 5, 4, (4,))]


def test_what_the_rules_say_of_a_row() -> None:
    row = [5, 6, 7, 8, 6, 7, 5, 6]
    documents, scored = [[0] * 8], [[0] * 7 + [1]]
    training = cases(
        batch_of([[9, 9, 9, 9, 9, 7, 5, 8], [0, 0, 0, 0, 0, 1, 5, 6], [0] * 7 + [6]], documents * 3, scored * 3)
    )
    (case,) = cases(batch_of([row], documents, scored))
    said = {name: rule(case) for name, rule in rules_for(training).items()}
    assert said == {
        "most frequent token": 6,
        "most frequent token at this place": 6,
        "bigram": 8,
        "trigram": 8,
        "token before": 5,
        "token seen last": 6,
        LONGEST: 8,
        BY_WORDS: 8,
        MECHANISM: 6,
    }
    assert set(COUNTED) < set(said)


def test_an_answer_is_right_when_the_task_says_so() -> None:
    config = PolynomialConfig(
        prime=3, coefficients=2, max_operations=2, test_operations=2, n_ctx=32, test_per_m=300, quick_per_m=300
    )
    (table,) = tables(config, 300)
    zeros = Polynomial(config).evaluate(lambda tokens, offsets: torch.zeros(*tokens.shape, len(offsets), 13)).scores[0]
    assert table.count == zeros.count == 600
    assert table.values["most frequent token"] == pytest.approx(
        zeros.value
    )  # that is 0, the token guessed by no logits
    assert table.chance == zeros.chance


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "polynomial-cpu", "--rows", "20"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("| rule | polynomial-cpu: `exact_match` |") and "| **chance** | **0.123** |" in said
