"""Words and numbers in readable form."""

STATES = {
    "running": "training",
    "finished": "finished",
    "stopped": "stopped",
    "interrupted": "interrupted",
    "failed": "failed",
}
"""Name of a run's state on a page."""
TASKS = {"induction": "Induction", "stories": "Stories", "polynomial": "Polynomials", "bytes": "Bytes"}
"""Name of a task on a page; other tasks have their own name."""
CONTROL_HELP = (
    "A model with n future heads needs layers for them. **layers**: all models have the same number of layers, so each "
    "further future head takes one from the trunk (as in the paper). **trunk**: every model keeps the same trunk, so the "
    "path to the next token is equally deep, and n > 1 has more parameters. **flops**: the model of trunk, with fewer steps, "
    "so that its training costs as much as that of n = 1. **detached**: the model of trunk, whose further future heads learn "
    "but send no gradient into the trunk. A claim about the loss needs layers, trunk and detached."
)


def task_title(name: str) -> str:
    """The name of a task on a page."""
    return TASKS.get(name, name)


def plural(count: int, word: str, words: str | None = None) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def duration(seconds: float) -> str:
    """A rough duration: `20 seconds`, `3 minutes`, `2 hours`."""
    if seconds < 50:
        return plural(max(5, 5 * round(seconds / 5)), "second")
    if seconds < 50 * 60:
        return plural(max(1, round(seconds / 60)), "minute")
    if seconds < 36 * 3600:
        return plural(max(1, round(seconds / 3600)), "hour")
    return plural(round(seconds / 86400), "day")


def short(number: float) -> str:
    """A number with three digits and a unit: `612 k`, `1.23 M`."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:  # 999,600 is `1 M`, not `1e+03 k`
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"
