"""What the command line prints: tables, the line of a live training, and lines for logs."""

import dataclasses
import io
import re

import numpy as np
import pytest
from rich.console import Console

from playground.analysis.compare import compare_run
from playground.results import Head, HeadPatching, OffsetAgreement, ScoreInfo
from playground.running.reporter import Reporter, Silent
from playground.runs.record import RunRecord
from playground.runs.store import BrokenRun, load_run
from playground.terminal import (
    MOST_ROWS,
    Lines,
    Live,
    Quiet,
    comparison_table,
    make_reporter,
    print_broken,
    print_run,
    result_table,
    rows_table,
    runs_table,
)
from tests.fake_runs import STATES, write_run

PARTS = {"embedding": 4096, "trunk": 98_560, "future_heads": 49_280, "unembedding": 4096, "total": 156_096}
SCORE = ScoreInfo(name="repeat_accuracy", chance=0.06, ceiling=1.0, unit="share of tokens", higher_is_better=True)


def record(**changes) -> RunRecord:
    parts = {
        "run": "the-run",
        "status": "running",
        "task": "induction",
        "preset": None,
        "n_future": 2,
        "control": "layers",
        "seed": 0,
        "config_hash": "0",
        "steps": 1500,
        "parameters": PARTS,
        "next_token_depth": 3,
        "device": "cpu (1 thread)",
        "scores": (SCORE,),
    }
    return RunRecord(**(parts | changes))


def cells(text: str) -> list[list[str]]:
    """The cells of the rows of a printed table, rules left out."""
    rows = [re.split("[│┃]", line)[1:-1] for line in text.splitlines() if re.match("[│┃]", line)]
    return [[cell.strip() for cell in row] for row in rows]


# --- tables ---------------------------------------------------------------------------------------------------------


def test_runs_table_has_a_row_a_run(tmp_path, capsys):
    runs = [load_run(write_run(tmp_path, steps=100, state=state, seed=seed)) for seed, state in enumerate(STATES)]
    runs_table(runs, tmp_path)
    header, *rows = cells(capsys.readouterr().out)
    assert header == ["run", "status", "step", "score", "seconds"]
    assert [row[:3] for row in rows] == [[run.id, run.record.state, f"{run.record.step}/100"] for run in runs]
    for run, row in zip(runs, rows, strict=True):
        final = run.record.final
        assert row[3] == (f"repeat_accuracy {final['repeat_accuracy']:.4g}" if final else "")
        assert row[4] == f"{run.record.seconds:.1f}"


def test_an_empty_folder_says_how_to_make_a_run(tmp_path, capsys):
    runs_table([], tmp_path)
    out = capsys.readouterr().out
    assert str(tmp_path) in out and "python -m playground train --preset induction-cpu" in out


@pytest.mark.parametrize("more", [0, 1], ids=["in columns", "in lines"])
def test_comparison_table_has_chance_ceiling_and_crossing(tmp_path, capsys, more):
    rows = [compare_run(load_run(write_run(tmp_path, steps=100, n_future=n))) for n in (1, 2)]
    rows.append(dataclasses.replace(rows[0], run="short", t50_tokens=None, status="stopped"))
    rows.append(dataclasses.replace(rows[0], run="new", score_name=None, score=None, chance=None, ceiling=None))
    rows += [dataclasses.replace(rows[0], run="one more")] * more
    comparison_table(rows)
    shown = cells(capsys.readouterr().out)
    header, *shown = shown if more else zip(*shown, strict=True)
    tables = [dict(zip(header, row, strict=True)) for row in shown]
    assert [table["run"] for table in tables] == [row.run for row in rows]
    first = rows[0]
    assert tables[0] == {
        "run": first.run,
        "n": "1",
        "control": "layers",
        "seed": "0",
        "status": "finished",
        "score": "repeat_accuracy",
        "value": f"{first.score:.4g}",
        "chance": "0.05",
        "ceiling": "1",
        "t50 tokens": f"{first.t50_tokens:,}",
        "tokens": f"{first.tokens:,}",
        "seconds": f"{first.seconds:.1f}",
        "parameters": "213,000",
        "depth": "3",
        "tokens/s": f"{first.tokens_per_second:,.0f}",
    } | ({} if more else {"t50 FLOPs": "-", "t50 seconds": f"{first.t50_seconds:.4g}", "clipped steps": "-"})
    assert tables[2]["t50 tokens"] == "not reached"
    assert [tables[3][name] for name in ("score", "value", "chance", "ceiling")] == ["-"] * 4


def test_an_id_is_never_cut(tmp_path, capsys, monkeypatch):
    name = "a-very-long-name-" * 15
    monkeypatch.setenv("COLUMNS", "60")
    run = load_run(write_run(tmp_path, steps=20))
    run.record = dataclasses.replace(run.record, run=name)
    runs_table([run], tmp_path)
    assert "".join(row[0] for row in cells(capsys.readouterr().out)[1:]) == name
    comparison_table([compare_run(run)] * 5)
    assert "".join(row[0] for row in cells(capsys.readouterr().out)[1:]) == name * 5
    comparison_table([compare_run(run)])
    assert "".join(row[1] for row in cells(capsys.readouterr().out)).startswith(name)


def test_print_run_shows_configuration_and_scores(tmp_path, capsys):
    run = load_run(write_run(tmp_path, n_future=2, steps=100))
    print_run(run)
    out = capsys.readouterr().out
    facts = {row[0]: row[1] for row in cells(out)}
    assert run.id in out
    assert (facts["status"], facts["step"], facts["parameters, total"]) == ("finished", "100/100", "214,000")
    assert "n_future=2" in facts["model"] and "lr=" in facts["optim"]
    value = run.record.final["repeat_accuracy"]
    assert facts["repeat_accuracy"] == f"{value:.4g} share of tokens (chance 0.05, ceiling 1)"


def test_a_failed_run_shows_its_reason(tmp_path, capsys):
    print_run(load_run(write_run(tmp_path, steps=100, state="failed")))
    facts = {row[0]: row[1] for row in cells(capsys.readouterr().out)}
    assert facts["status"] == "failed the loss of offset 1 became nan at step 3"
    assert facts["repeat_accuracy"].startswith("- share of tokens")


def test_broken_folders_are_named_on_stderr(tmp_path, capsys):
    print_broken([BrokenRun(tmp_path / "a", "a/run.json cannot be read: cut")])
    printed = capsys.readouterr()
    assert printed.err == "left out: a/run.json cannot be read: cut\n" and not printed.out


def result(count: int) -> OffsetAgreement:
    """A result of `count` lines; the agreement of the last two is undefined, and -1."""
    agreement = np.linspace(0, 1, count)
    agreement[-2:] = [np.nan, -1.0]
    return OffsetAgreement(agreement=agreement, chance=np.full(count, 0.5), count=np.arange(count) * 10_000)


def test_a_result_is_a_table_with_a_line_for_each_thing(capsys):
    result_table(result(4), "Agreement of a run")
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Agreement of a run"
    assert cells(out) == [
        ["offset", "agreement", "chance", "count"],
        ["1", "0.000", "0.500", "0"],
        ["2", "0.333", "0.500", "10,000"],
        ["3", "-", "0.500", "20,000"],
        ["4", "-1.000", "0.500", "30,000"],
    ]


def test_of_a_long_result_the_largest_lines_are_shown_whatever_their_sign(capsys, monkeypatch):
    long = result(MOST_ROWS + 5)
    result_table(long, "Long")
    out = capsys.readouterr().out
    assert "Long (40 of 45 lines, largest count first; --json has all)" in out  # the last column
    assert [row[0] for row in cells(out)[1:]] == [str(offset) for offset in range(45, 5, -1)]
    monkeypatch.setattr(OffsetAgreement, "sort_by", "agreement")
    result_table(long, "Long")
    shown = [row[1] for row in cells(capsys.readouterr().out)[1:]]
    assert shown[:2] == ["-1.000", "0.955"] and "-" not in shown


def test_a_result_without_lines_says_so(capsys):
    result_table(dataclasses.replace(result(2), agreement=np.zeros(0)), "Nothing")
    rows_table([], "Rows")
    assert capsys.readouterr().out == "Nothing: nothing to show\nRows: nothing to show\n"


def test_a_note_stands_behind_the_title(capsys):
    found = HeadPatching(
        heads=(Head("blocks.0", 0),), offset=1, recovery=np.ones((3, 1)), rows_given=16, rows_counted=3
    )
    result_table(found, "Patching of a run")
    said = capsys.readouterr().out
    assert said.startswith("Patching of a run: 3 of 16 rows count") and "rows given" in said


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.12345, "0.123"),
        (-0.0004, "-0.000"),
        (12_345.6, "12,346"),
        (9_999.5, "9999.500"),
        (float("inf"), "inf"),
        (1_234_567, "1,234,567"),
        (0, "0"),
        ("text", "text"),
        ("[red]not markup[/red]", "[red]not markup[/red]"),
        ("[/]", "[/]"),
    ],
)
def test_cells(capsys, value, shown):
    rows_table([{"a": value, "b": "x"}], "[1] title")
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "[1] title"
    assert cells(out) == [["a", "b"], [shown, "x"]]


def test_columns_of_numbers_stand_to_the_right(capsys):
    rows_table([{"name": "a", "value": None}, {"name": "long name", "value": 1.5}], "Rows")
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert first == "│ a         │     - │" and second == "│ long name │ 1.500 │"


# --- reporters ------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_live_line_a_file_gets_lines_and_quiet_gets_nothing(monkeypatch):
    assert type(make_reporter(quiet=False)) is Lines
    assert type(make_reporter(quiet=True)) is Quiet
    monkeypatch.setattr("sys.stderr", Terminal())
    assert type(make_reporter(quiet=False)) is Live
    assert type(make_reporter(quiet=True)) is Quiet


@pytest.mark.parametrize("reporter", [Silent, Lines, Live])
def test_reporters_are_reporters(reporter):
    assert isinstance(reporter(), Reporter)


def tell(reporter: Reporter, final: RunRecord) -> None:
    """A whole training, as the runner tells of it."""
    start = dataclasses.replace(final, status="running", step=0, final={}, reason="")
    reporter.row({"kind": "eval", "step": 0, "tokens": 0, "repeat_accuracy": 0.05}, start)
    reporter.started(start)
    losses = {f"loss_{offset}": float(offset) for offset in range(1, final.n_future + 1)}
    reporter.row({"kind": "train", "step": 750, "tokens": 48_000, "lr": 1e-3, "grad_norm": 9.9, **losses}, start)
    reporter.row({"kind": "eval", "step": 750, "tokens": 48_000, "test_loss_1": 7.7, "repeat_accuracy": 0.4217}, start)
    reporter.row({"kind": "eval", "step": 751, "tokens": 48_001, "repeat_accuracy": None}, start)
    reporter.ended(final)


def test_silent_says_nothing(capsys):
    tell(Silent(), record())
    assert capsys.readouterr() == ("", "")


def test_lines_are_one_at_the_start_and_one_at_the_end_on_stderr(capsys):
    final = record(
        status="finished",
        step=1500,
        seconds=12.34,
        tokens_per_second=7777.7,
        final={"repeat_accuracy": 0.98765, "repeat_loss": 0.0321},
    )
    tell(Lines(), final)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "the-run: 1500 steps on cpu (1 thread); 156,096 parameters (embedding 4,096, trunk 98,560, future_heads 49,280, "
        "unembedding 4,096), next-token depth 3",
        "the-run: finished at step 1500, 12.3 s of training, 7,778 tokens/s; repeat_accuracy 0.9877, repeat_loss 0.0321",
    ]


def test_the_closing_line_gives_the_reason_and_at_most_four_scores(capsys):
    Lines().ended(record(status="failed", reason="the loss of offset 1 became nan at step 3", step=3))
    Lines().ended(record(status="finished", final={f"score_{number}": 0.5 for number in range(6)}))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("the-run: failed (the loss of offset 1 became nan at step 3) at step 3, ")
    assert "score_3 0.5" in second and "score_4" not in second


def live(width: int = 200) -> tuple[Live, io.StringIO]:
    """A live reporter whose console writes into a text."""
    reporter, text = Live(), io.StringIO()
    reporter.progress.live.console = Console(file=text, width=width, force_terminal=True, color_system=None)
    return reporter, text


def last_line(text: io.StringIO) -> str:
    return [line for line in text.getvalue().splitlines() if "/1500" in line][-1]


def test_live_shows_step_losses_score_and_speed(capsys):
    reporter, text = live()
    tell(reporter, record(status="stopped", reason="stopped by Ctrl-C", step=750))
    shown = last_line(text)
    assert "750/1500" in shown
    assert "loss 1.000 2.000" in shown
    assert "repeat_accuracy 0.422" in shown
    assert re.search(r"\d tokens/s", shown)
    err = capsys.readouterr().err
    assert "the-run: 1500 steps" in err and "stopped (stopped by Ctrl-C) at step 750" in err


def test_live_shows_the_losses_of_many_offsets_in_their_order():
    reporter, text = live(400)
    tell(reporter, record(n_future=12))
    expected = "loss " + " ".join(f"{offset:.3f}" for offset in range(1, 13))
    assert expected in last_line(text)


def test_live_goes_on_where_a_resumed_run_stood():
    reporter, text = live()
    reporter.started(record(step=600, tokens=60_000))
    reporter.ended(record(step=600))
    assert "600/1500" in last_line(text)


def test_live_without_scores_or_before_the_start_is_quiet():
    reporter, text = live()
    reporter.row({"kind": "train", "step": 1, "tokens": 1, "loss_1": 1.0, "loss_2": 1.0}, record())
    assert text.getvalue() == ""
    reporter.started(record(scores=()))
    reporter.row({"kind": "eval", "step": 1, "tokens": 1, "repeat_accuracy": 0.5}, record(scores=()))
    reporter.ended(record(scores=()))
    assert "repeat_accuracy" not in text.getvalue()
