"""Formation times in one training: when heads, composition between heads, and the model's accuracy formed."""

from dataclasses import dataclass

from playground.results.base import Result, Row


@dataclass(frozen=True, kw_only=True)
class Event(Result):
    """One quantity of one run, and when it rose. Times are training tokens; None means "not within this run"."""

    name: str
    """`previous token`, `K-composition`, `induction`, `2-ahead induction`, `accuracy`, `accuracy of offset 2`, .."""
    subject: str
    """The head, the pair of heads (the strongest induction head and, before it, the strongest previous-token head), or the
    score that was timed."""
    start: float
    """The value before the first step."""
    null: float
    """Chance level: the null band of a head's score or of a pair's composition; for a task's score its chance."""
    ceiling: float
    """Value of an ideal head or a perfect model; NaN for composition, which has no ceiling."""
    final: float
    half: int | None
    """Tokens after which it stays half way or more from its first to its final value; None if that is hardly above `null`."""
    t50: int | None
    """Tokens after which it stays half way or more from `null` to `ceiling`; None if not reached."""
    t90: int | None
    seen: int
    """Tokens of the whole run: an event whose time is None needs more tokens than this (right-censored)."""

    def rows(self) -> list[Row]:
        """One row."""
        return [
            {
                "event": self.name,
                "of": self.subject,
                "start": self.start,
                "null": self.null,
                "ceiling": self.ceiling,
                "final": self.final,
                "half of final": self.half,
                "t50": self.t50,
                "t90": self.t90,
                "seen": self.seen,
            }
        ]


@dataclass(frozen=True, kw_only=True)
class Formation(Result):
    """The events of one run: first those of the strongest head of each kind, then those of every head."""

    run: str
    n_future: int
    seed: int
    main: tuple[Event, ...]
    """One event per kind, for the head that is strongest at the end: previous token, K-composition, induction, accuracy."""
    heads: tuple[Event, ...]
    """Previous-token and k-ahead induction events of all heads."""

    def event(self, name: str) -> Event | None:
        """The main event with this name; None if there is none."""
        return next((event for event in self.main if event.name == name), None)

    def rows(self) -> list[Row]:
        """One row per main event, and per head that reached half way to the ideal."""
        shown = [*self.main, *(event for event in self.heads if event.t50 is not None)]
        return [{"run": self.run} | row for event in shown for row in event.rows()]
