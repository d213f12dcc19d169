"""Results of activation and path patching: how much of the right answer parts of a clean run restore in a corrupted one.

Recovery is (patched - corrupted) / (clean - corrupted), where each term is the logit difference between the right and the wrong
answer: 0 nothing is restored, 1 all of it. There are two corruptions: `answer` exchanges the right answer after the earlier
occurrence, `match` exchanges the earlier occurrence itself (playground/probes/pairs.py). Rows that the corruption hardly
changes do not count (playground/probes/recovery.py); every result says how many of the given rows count.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from playground.results.base import Head, Result, Row


@dataclass(frozen=True, kw_only=True)
class PositionPatching(Result):
    """Activation patching by layer and position."""

    sort_by: ClassVar[str] = "recovery"
    dims: ClassVar[dict[str, str]] = {
        "sites": "site",
        "recovery": "row site position",
        "roles": "row",
        "clean_difference": "row",
        "corrupted_difference": "row",
    }

    sites: tuple[str, ...]
    """Hook names of the patched activations, in the order of the layers."""
    offset: int
    """The offset whose logits are read."""
    recovery: NDArray[np.float64]
    """`[row, site, position]`: 0 nothing restored, 1 all."""
    roles: tuple[tuple[str, ...], ...]
    """`[row][position]`: `before source` (the earlier occurrence of the query's token), `source` (the right answer, after the
    earlier occurrence), `query` (where the answer is read) or `other`."""
    clean_difference: NDArray[np.float64]
    """`[row]`: logit of the right minus logit of the wrong answer in the clean run."""
    corrupted_difference: NDArray[np.float64]
    """`[row]`: logit of the right minus logit of the wrong answer in the corrupted run."""
    rows_given: int | None = None
    """Number of clean and corrupted rows that were run; None in results stored by older versions."""
    rows_counted: int | None = None
    """Number of rows that the corruption changes enough; means are over these. 0: there is none, and every recovery is NaN."""

    @property
    def note(self) -> str:
        """How many of the given rows count."""
        return _note(self)

    def by_role(self) -> dict[str, NDArray[np.float64]]:
        """For each role an array `[site]`: the largest recovery at a position of that role, mean over rows."""
        found: dict[str, NDArray[np.float64]] = {}
        for role in ("before source", "source", "query", "other"):
            at = np.array([[name == role for name in row] for row in self.roles])[:, None, :]
            values = np.where(at, self.recovery, -np.inf).max(axis=2)
            found[role] = np.where(np.isfinite(values), values, np.nan)
        return {role: np.nanmean(values, axis=0) for role, values in found.items() if np.isfinite(values).any()}

    def rows(self) -> list[Row]:
        """One row per site and role."""
        return [
            {"patched": site, "at": role, "offset": self.offset, "recovery": float(values[index])} | _of_rows(self)
            for role, values in self.by_role().items()
            for index, site in enumerate(self.sites)
        ]


@dataclass(frozen=True, kw_only=True)
class HeadPatching(Result):
    """Activation patching of one head's output at all positions together."""

    sort_by: ClassVar[str] = "recovery"
    dims: ClassVar[dict[str, str]] = {"heads": "head", "recovery": "row head"}

    heads: tuple[Head, ...]
    offset: int
    recovery: NDArray[np.float64]
    """`[row, head]`: 0 nothing restored, 1 all."""
    rows_given: int | None = None
    """Number of clean and corrupted rows that were run; None in results stored by older versions. See `PositionPatching`."""
    rows_counted: int | None = None

    @property
    def note(self) -> str:
        """How many of the given rows count."""
        return _note(self)

    def rows(self) -> list[Row]:
        """One row per head: mean and standard deviation over rows."""
        return [
            {
                "patched": str(head),
                "offset": self.offset,
                "recovery": float(self.recovery[:, i].mean()),
                "spread over rows": float(self.recovery[:, i].std()),
            }
            | _of_rows(self)
            for i, head in enumerate(self.heads)
        ]


@dataclass(frozen=True, kw_only=True)
class PathPatching(Result):
    """Direct effect of one head on another: sender's output -> receiver's query, key or value input -> logits.

    The effect is 1 - recovery when this path alone carries the corrupted run: 0 is no effect, and 1 means that the whole logit
    difference depends on this path (Wang et al. 2023, 2211.00593).
    """

    sort_by: ClassVar[str] = "effect"
    dims: ClassVar[dict[str, str]] = {
        "senders": "sender",
        "receivers": "receiver",
        "q": "sender receiver",
        "k": "sender receiver",
        "v": "sender receiver",
        "to_logits": "sender",
    }

    senders: tuple[Head, ...]
    receivers: tuple[Head, ...]
    offset: int
    q: NDArray[np.float64]
    """`[sender, receiver]`, mean over rows; NaN where the receiver does not come after the sender."""
    k: NDArray[np.float64]
    v: NDArray[np.float64]
    to_logits: NDArray[np.float64]
    """`[sender]`: effect of the direct path to the final norm of this offset."""
    rows_given: int | None = None
    """Number of clean and corrupted rows that were run; None in results stored by older versions. See `PositionPatching`."""
    rows_counted: int | None = None

    @property
    def note(self) -> str:
        """How many of the given rows count."""
        return _note(self)

    def rows(self) -> list[Row]:
        """One row per path."""
        found: list[Row] = [
            {
                "sender": str(sender),
                "receiver": "logits",
                "input": "",
                "offset": self.offset,
                "effect": float(self.to_logits[i]),
            }
            | _of_rows(self)
            for i, sender in enumerate(self.senders)
        ]
        for kind in ("q", "k", "v"):
            values = getattr(self, kind)
            found += [
                {
                    "sender": str(sender),
                    "receiver": str(receiver),
                    "input": kind,
                    "offset": self.offset,
                    "effect": float(values[i, j]),
                }
                | _of_rows(self)
                for i, sender in enumerate(self.senders)
                for j, receiver in enumerate(self.receivers)
                if np.isfinite(values[i, j])
            ]
        return found


def _note(result: PositionPatching | HeadPatching | PathPatching) -> str:
    if result.rows_given is None:
        return ""
    return f"{result.rows_counted} of {result.rows_given} rows count (the others the corruption hardly moves)"


def _of_rows(result: PositionPatching | HeadPatching | PathPatching) -> Row:
    """The number of counted and given rows, as columns of a table row."""
    return {"rows counted": result.rows_counted, "rows given": result.rows_given}
