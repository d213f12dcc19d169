"""Options of the command line, parsed by tyro, whose error boxes become one sentence."""

import contextlib
import functools
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

RunsDir = Annotated[Path, arg(help="Folder that holds the stored runs. PLAYGROUND_RUNS_DIR sets another default.")]
Json = Annotated[bool, arg(name="json", help="Print JSON lines and nothing else.")]
Text = Annotated[
    str | None,
    arg(
        name="path",
        metavar="PATH",
        help="Present path of the text of the run's task, if it was moved: a file or a folder.",
    ),
]
RunName = Annotated[str, Positional, arg(metavar="RUN", help="Run id, or a unique prefix of one.")]
RunNames = Annotated[tuple[str, ...], Positional, arg(metavar="RUN", help="Run ids, or unique prefixes of them.")]


def parse(command: Callable[..., Any], argv: list[str], name: str, **options: Any) -> Any:
    """Run tyro. Raises ValueError, with one sentence, for a wrong option."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(command, args=argv, prog=f"python -m playground {name}", **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # Python's error for a number of thousands of digits ends with advice that is useless on the command line.
        sentence = _sentence(said.getvalue()).partition("; use sys.set_int")[0]
        raise ValueError(re.sub(r"\S{200,}", lambda word: f"{word[0][:60]}..", sentence)) from None


def run_command(command: Callable[..., int], argv: list[str], name: str) -> int:
    """Parse the arguments of a function, then call it; only the parsing runs with stderr captured."""

    @functools.wraps(command)
    def later(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return lambda: command(*args, **kwargs)

    return parse(later, argv, name)()


def _sentence(box: str) -> str:
    """The text of tyro's error box: its first part, and the name of a suggestion. Boxes have lines, or dashes in ASCII.

    >>> _sentence("╭─ Wrong ─╮\\n│ Unrecognized: --a │\\n│ ─── │\\n│ Perhaps you meant: │\\n│   --b INT │\\n╰───╯")
    'Unrecognized: --a; perhaps you meant --b'
    >>> _sentence(" Wrong \\n ----- \\n Unrecognized: --a \\n ----- \\n For full help \\n")
    'Unrecognized: --a'
    """
    parts: list[list[str]] = [[]]
    for line in (line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))):
        if line and not line.strip("─-"):
            parts.append([])
        elif line:
            parts[-1].append(line)
    said = parts if box.startswith("╭") else parts[1:]
    if not said:
        return box.strip()
    hint = said[1] if len(said) > 1 and said[1][:1] == ["Perhaps you meant:"] else []
    return " ".join(said[0]) + (f"; perhaps you meant {hint[1].split()[0]}" if len(hint) > 1 else "")
