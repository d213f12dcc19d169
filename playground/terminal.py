"""Terminal output of the command line: a live line while training, and tables of runs.

Every text is printed through `shown`: a stored string must not move the cursor, and must not be interpreted as rich markup.
"""

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from playground.analysis.compare import Comparison
from playground.commands import command_line
from playground.results import Result, Row
from playground.running.reporter import Reporter, Silent
from playground.runs.record import RunRecord, default_runs_dir
from playground.runs.store import BrokenRun, Run
from playground.text import visible, writable


def shown(text: str, encoding: str | None) -> str:
    """The text on one line, with escapes for control characters and for what a stream of this encoding cannot write."""
    return writable(visible(text), encoding)


def say(text: str) -> None:
    """Print one line on stderr, so that stdout stays machine-readable. Write errors are ignored."""
    with contextlib.suppress(OSError):
        print(shown(text, sys.stderr.encoding), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Print one line on stdout."""
    print(shown(text, sys.stdout.encoding), flush=True)


def make_reporter(*, quiet: bool) -> Reporter:
    """The reporter for stderr: a live display on a terminal, else a line at start and end; only notes when quiet."""
    if quiet:
        return Quiet()
    return Live() if sys.stderr.isatty() else Lines()


class Quiet(Silent):
    """Prints only notes, such as a damaged checkpoint that was skipped."""

    def note(self, text: str) -> None:
        say(text)


class Lines:
    """Prints a line at the start and one at the end, for logs."""

    def started(self, record: RunRecord) -> None:
        say(_heading(record))

    def row(self, row: dict[str, Any], record: RunRecord) -> None: ...

    def ended(self, record: RunRecord) -> None:
        say(_closing(record))

    def note(self, text: str) -> None:
        say(text)


class Live(Lines):
    """A progress line for each run: step, loss per offset, task score, tokens per second, time left."""

    def __init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[losses]}"),
            TextColumn("{task.fields[score]}", markup=False),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.bars: dict[str, TaskID] = {}
        self.before: dict[str, tuple[float, int]] = {}
        """Start time of each run, and its number of tokens then."""

    def started(self, record: RunRecord) -> None:
        super().started(record)
        self.before[record.run] = time.perf_counter(), record.tokens
        self.bars[record.run] = self.progress.add_task(
            "", total=record.steps, completed=record.step, losses="", score="", speed=""
        )
        self.progress.start()

    def row(self, row: dict[str, Any], record: RunRecord) -> None:
        bar = self.bars.get(record.run)
        if bar is None:
            return
        if row["kind"] == "eval":
            if record.scores and row.get(record.scores[0].name) is not None:
                info = record.scores[0]
                self.progress.update(bar, score=shown(f"{info.name} {row[info.name]:.3f}", sys.stderr.encoding))
            return
        losses = " ".join(f"{value:.3f}" for name, value in row.items() if name.startswith("loss_"))
        since, tokens = self.before[record.run]
        speed = f"{(row['tokens'] - tokens) / (time.perf_counter() - since):,.0f} tokens/s"
        self.progress.update(bar, completed=row["step"], losses=f"loss {losses}", speed=speed)

    def ended(self, record: RunRecord) -> None:
        self.bars.pop(record.run, None)
        if not self.bars:
            self.progress.stop()
        super().ended(record)


def _heading(record: RunRecord) -> str:
    parts = record.parameters
    equal = (
        " (control flops: rounded to the cost of the configured steps of n = 1)" if record.control == "flops" else ""
    )
    counts = ", ".join(f"{name} {parts[name]:,}" for name in ("embedding", "trunk", "future_heads", "unembedding"))
    return (
        f"{record.run}: {record.steps} steps{equal} on {record.device}; {parts['total']:,} parameters ({counts}), "
        f"next-token depth {record.next_token_depth}"
    )


def _closing(record: RunRecord) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in list(record.final.items())[:4])
    reason = f" ({record.reason})" if record.reason else ""
    return (
        f"{record.run}: {record.status}{reason} at step {record.step}, {record.seconds:.1f} s of training, "
        f"{record.tokens_per_second:,.0f} tokens/s{'; ' + scores if scores else ''}"
    )


MOST_SIDE_BY_SIDE = 4
"""Most runs that a comparison shows in columns."""


def comparison_table(rows: Sequence[Comparison]) -> None:
    """Print the runs side by side, one column per run; for more than MOST_SIDE_BY_SIDE one line per run, with fewer figures."""
    in_columns = len(rows) <= MOST_SIDE_BY_SIDE
    lines = [
        {
            "run": row.run,
            "n": str(row.n_future),
            "control": row.control,
            "seed": str(row.seed),
            "status": row.status,
            "score": row.score_name or "-",
            "value": _number(row.score),
            "chance": _number(row.chance),
            "ceiling": _number(row.ceiling),
            "t50 tokens": "not reached" if row.t50_tokens is None else f"{row.t50_tokens:,}",
            **(
                {
                    "t50 FLOPs": _number(row.t50_flops),
                    "t50 seconds": _number(row.t50_seconds),
                    "clipped steps": _number(row.clipped),
                }
                if in_columns
                else {}
            ),
            "tokens": f"{row.tokens:,}",
            "seconds": f"{row.seconds:.1f}",
            "parameters": f"{row.parameters:,}",
            "depth": str(row.next_token_depth),
            "tokens/s": f"{row.tokens_per_second:,.0f}",
        }
        for row in rows
    ]
    names = list(lines[0]) if lines else []
    table = Table(title="Comparison", title_justify="left", show_header=not in_columns)
    for name in ("", *(row.run for row in rows)) if in_columns else names:
        table.add_column(_text(name), overflow="fold")
    turned = [(name, *(line[name] for line in lines)) for name in names]
    for line in turned if in_columns else [tuple(line.values()) for line in lines]:
        table.add_row(*map(_text, line))
    _print(table)


def runs_table(runs: Sequence[Run], runs_dir: Path) -> None:
    """Print the stored runs, or the command that makes the first one."""
    if not runs:
        where = () if runs_dir == default_runs_dir() else ("--runs-dir", runs_dir)
        tell(f"no runs in {runs_dir}; make one with: {command_line('train', '--preset', 'induction-cpu', *where)}")
        return
    table = Table()
    for column in ("run", "status", "step", "score", "seconds"):
        table.add_column(column, justify="left" if column in ("run", "status", "score") else "right", overflow="fold")
    for run in runs:
        record = run.record
        name, value = next(iter(record.final.items()), ("", math.nan))
        score = f"{name} {value:.4g}" if name else ""
        line = (run.id, record.state, f"{record.step}/{record.steps}", score, f"{record.seconds:.1f}")
        table.add_row(*map(_text, line))
    _print(table)


def print_broken(broken: Sequence[BrokenRun]) -> None:
    """Name the folders that cannot be read as runs."""
    for folder in broken:
        say(f"left out: {folder.problem}")


def print_problems(run: Run) -> None:
    """Print which parts of a run cannot be read, and what is missing because an older version stored it."""
    for problem in (*run.problems, *filter(None, [run.lacks])):
        say(f"{run.id}: {problem}")


def print_run(run: Run) -> None:
    """Print one run: status, progress, device, parameters, scores and configuration."""
    record = run.record
    table = Table(show_header=False, title=_text(run.id), title_justify="left")
    facts: dict[str, Any] = {
        "folder": run.path,
        "status": f"{record.state} {record.reason}".strip(),
        "step": f"{record.step}/{record.steps}",
        "training time": f"{record.seconds:.1f} s ({record.tokens_per_second:,.0f} tokens/s)",
        "device": record.device,
        "code": record.commit or "unknown",
        "versions": ", ".join(f"{k} {v}" for k, v in record.versions.items()),
        "next-token depth": record.next_token_depth,
    }
    facts |= {f"parameters, {part}": f"{count:,}" for part, count in record.parameters.items()}
    for info in record.scores:
        value = record.final.get(info.name)
        facts[info.name] = (
            f"{_number(value)} {info.unit} (chance {_number(info.chance)}, ceiling {_number(info.ceiling)})"
        )
    for part, values in run.config.to_dict().items():
        facts[part] = ", ".join(f"{k}={v}" for k, v in values.items()) if isinstance(values, dict) else values
    for name, value in facts.items():
        table.add_row(_text(name), _text(str(value)))
    _print(table)


MOST_ROWS = 40
"""Most rows of a result that are printed; of more, those with the largest values."""


def result_table(result: Result, title: str) -> None:
    """Print a result and its note, one row per line. Of more than MOST_ROWS rows, those with the largest values in one column
    are printed.
    """
    rows = result.rows()
    title += f": {result.note}" if result.note else ""
    if len(rows) > MOST_ROWS:
        column = result.sort_by or list(rows[0])[-1]
        title += f" ({MOST_ROWS} of {len(rows)} lines, largest {column} first; --json has all)"
        rows = sorted(rows, key=lambda row: -_size(row.get(column)))[:MOST_ROWS]
    rows_table(rows, title)


def rows_table(rows: Sequence[Row], *title: str) -> None:
    """Print rows with equal keys as a table under the lines of its title, or a note that there are none."""
    for line in title[:-1]:
        tell(line)
    tell(title[-1] if rows else f"{title[-1]}: nothing to show")  # rich would cut a table title to the table's width
    if not rows:
        return
    table = Table()
    for name in rows[0]:
        is_number = any(isinstance(row[name], int | float) for row in rows)
        table.add_column(_text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(_cell(value)) for value in row.values()))
    _print(table)


def _size(value: object) -> float:
    return abs(value) if isinstance(value, int | float) and not math.isnan(value) else -1.0


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        if math.isnan(value):
            return "-"
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def _text(text: str) -> Text:
    """A cell, a heading or a title, without interpretation of brackets as markup."""
    return Text(shown(text, sys.stdout.encoding))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _print(table: Table) -> None:
    console = Console()
    Console(width=max(console.width, 120) if console.is_terminal else 200).print(table)
