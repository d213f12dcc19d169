"""When things formed in a training: heads, composition between them, and what the model can do."""

from dataclasses import dataclass

from playground.results.base import Result, Row


@dataclass(frozen=True, kw_only=True)
class Event(Result):
    """One quantity of one run, and when it rose. Times are training tokens; None is "not within this run", never dropped."""

    name: str
    """`previous token`, `K-composition`, `induction`, `2-ahead induction`, `accuracy`, `accuracy of offset 2`, .."""
    subject: str
    """Which head, which pair of heads (the strongest previous-token head before the strongest induction head, and that one), or
    which score."""
    start: float
    """The value before the first step."""
    null: float
    """What chance reaches: the null band of a head's score or of a pair's composition; for a task's score its chance."""
    ceiling: float
    """What an ideal head or a perfect model reaches; NaN for composition, which has no ceiling."""
    final: float
    half: int | None
    """Tokens at which it is half way from its start to its final value, and stays; None when that is hardly above `null`."""
    t50: int | None
    """Tokens at which it is half way from `null` to `ceiling`, and stays."""
    t90: int | None
    seen: int
    """Tokens of the whole run: what an event that is None is known to need more than."""

    def rows(self) -> list[Row]:
        """One line."""
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
    """The events of one run: those of the strongest head of each kind first, then every head's."""

    run: str
    n_future: int
    seed: int
    main: tuple[Event, ...]
    """One event a kind, of the head that is strongest at the end: previous token, K-composition, induction, accuracy."""
    heads: tuple[Event, ...]
    """Previous-token and k-ahead induction events of every head."""

    def event(self, name: str) -> Event | None:
        """The main event of that name."""
        return next((event for event in self.main if event.name == name), None)

    def rows(self) -> list[Row]:
        """A line for each main event, and for each head that got half way to the ideal."""
        shown = [*self.main, *(event for event in self.heads if event.t50 is not None)]
        return [{"run": self.run} | row for event in shown for row in event.rows()]
