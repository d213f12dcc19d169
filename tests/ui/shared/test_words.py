"""Words and numbers as people read them."""

import pytest

from playground.ui.shared.words import STATES, TASKS, duration, plural, short, task_title
from tests import fake_runs


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (12.345, "12.3"),
        (999.4, "999"),
        (999.6, "1 k"),
        (1_000, "1 k"),
        (1_234, "1.23 k"),
        (612_345, "612 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (1_234_567, "1.23 M"),
        (2_500_000_000, "2.5 G"),
        (-1_234, "-1.23 k"),
    ],
)
def test_three_digits_and_a_unit(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "5 seconds"),
        (12, "10 seconds"),
        (13, "15 seconds"),
        (49, "50 seconds"),
        (50, "1 minute"),
        (89, "1 minute"),
        (100, "2 minutes"),
        (49 * 60, "49 minutes"),
        (55 * 60, "1 hour"),
        (3 * 3600, "3 hours"),
        (35 * 3600, "35 hours"),
        (48 * 3600, "2 days"),
    ],
)
def test_rough_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "forms", "text"),
    [
        (0, ("run",), "0 runs"),
        (1, ("run",), "1 run"),
        (2, ("run",), "2 runs"),
        (1234, ("run",), "1,234 runs"),
        (1, ("run is", "runs are"), "1 run is"),
        (3, ("run is", "runs are"), "3 runs are"),
    ],
)
def test_plurals(count: int, forms: tuple[str, ...], text: str) -> None:
    assert plural(count, *forms) == text


def test_every_state_has_a_word_and_every_task_a_title() -> None:
    assert set(STATES) == set(fake_runs.STATES)
    assert set(TASKS) == set(fake_runs.LOSS)
    assert len(set(STATES.values())) == len(STATES)


@pytest.mark.parametrize(("name", "title"), [("polynomial", "Polynomials"), ("sorting", "sorting")])
def test_a_task_without_a_title_goes_by_its_name(name: str, title: str) -> None:
    assert task_title(name) == title
