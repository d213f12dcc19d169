"""Numbers and texts far out of bounds on the command line: one short sentence at once, whatever their size."""

import pytest

from playground.cli import main
from playground.cli.training import MOST_TRAININGS, parse_rates, parse_seeds

TRAIN = [
    (["--n-layers", "1000000"], "n_layers is 1000000; write at most 1000"),
    (["--steps", "9" * 400], "steps is an integer of 400 digits; write at most 1000000000"),
    (["--steps", "9" * 5000], "limit (4300 digits) for integer string conversion: value has 5000 digits"),
    (["--seed", str(2**63)], "seed is 9223372036854775808; write at most 9223372036854775807"),
    (["--seed=1", "--seeds", "0,1"], "--seed and --seeds were both given"),
    (
        ["--seeds", "0..10000000000"],
        "--seeds is '0..10000000000', too many seeds; write at most 10000",
    ),
    (["--seeds", "0.." + "9" * 5000], "is no seed or range"),
    (["--seeds", "²"], "'²' is no seed or range"),
    (
        ["--seeds", "0..9999", "--lrs", "1,2"],
        "10000 seeds and 2 learning rates are 20000 trainings; write at most",
    ),
    (["--lrs", "1e-3,nan"], "--lrs is '1e-3,nan'"),
    (["--lrs", "inf"], "--lrs is 'inf'"),
    (["--lrs", ",".join(map(str, range(1, 20_000)))], "--lrs names 19999 rates; write at most 10000"),
    (["--backward", "x" * 100_000], "invalid choice"),
    (["--clip", "1e300"], "clip is 1e+300; write at most 1e+30"),
]
"""Options of `train --preset induction-cpu`."""
OTHERS = [
    (["train", "--preset", ""], "there is no preset ''"),
    (["train", "--preset", "x" * 10**5], "there is no preset 'xxx"),
    (["generate", "run-0", "--samples", "9" * 400], "--samples is an integer of 400 digits; write at most 100000"),
    (["generate", "run-0", "--max-new-tokens", str(10**9)], "--max-new-tokens is 1000000000; write at most 1000000"),
    (["generate", "run-0", "--tree", "10000"], "--tree is 10000; write at most 256"),
    (["generate", "run-0", "--top-k", str(10**30)], "--top-k is an integer of 31 digits; write at most 10000000"),
    (["generate", "run-0", "--seed", str(2**63)], "--seed is 9223372036854775808; write at most 9223372036854775807"),
    (["generate", "run-0", "--step", "-1"], "--step is -1; write at least 0"),
]
BAD = [*((["train", "--preset", "induction-cpu", *options], message) for options, message in TRAIN), *OTHERS]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=lambda value: str(value)[:100])
def test_what_is_out_of_bounds_is_one_short_sentence_and_status_2(argv, message, tmp_path, capsys):
    assert main([*argv, "--runs-dir", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error) < 1100
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_as_many_seeds_and_rates_as_are_allowed():
    assert parse_seeds(f"0..{MOST_TRAININGS - 1}") == list(range(MOST_TRAININGS))
    assert parse_seeds(f"7, {2**63 - 1}") == [7, 2**63 - 1]
    assert parse_rates("1e-3, 1") == [0.001, 1.0]


@pytest.mark.parametrize(
    "text", ["", ",", "..", "1..", "..1", "-1", "1..2..3", "1.5", "١", "1_0", f"0..{MOST_TRAININGS}", str(2**63)]
)
def test_what_are_no_seeds(text):
    with pytest.raises(ValueError, match=r"^--seeds is .*write "):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["", ",", "1,,2", "nan", "1,-inf", "1e999", "1,1.0"])
def test_what_are_no_rates(text):
    with pytest.raises(ValueError, match=r"^--lrs is .*write "):
        parse_rates(text)
