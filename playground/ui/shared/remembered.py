"""Cache for values computed from a stored run, valid while the run's files are unchanged."""

import functools
from collections.abc import Callable, Hashable
from typing import Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from playground.runs.store import Run

P = ParamSpec("P")
T = TypeVar("T")
MOST_KEPT = 32
"""Most values of one function for one run, with different other arguments; the oldest is dropped first."""


def remembered(compute: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Call `compute` once for each state of a run's files and each choice of other arguments, which must be hashable.

    Values are dropped together with the `Run`, which `read_store` replaces when a file of the run changes. A cache of the
    newest calls, such as st.cache_resource, would keep the tables of a run in training in all old versions; and it takes
    0.14 ms to find a value, 0.6 s for each drawing of a page with 1,000 runs and four values of each.
    Shared by all sessions of the server: returned values must not be changed.
    """
    known: WeakKeyDictionary[Run, dict[Hashable, T]] = WeakKeyDictionary()

    @functools.wraps(compute)
    def get(run: Run, *args: P.args, **kwargs: P.kwargs) -> T:
        of_run = known.setdefault(run, {})
        key = (args, tuple(kwargs.items()))
        if key in of_run:
            return of_run[key]
        value = of_run[key] = compute(run, *args, **kwargs)
        if len(of_run) > MOST_KEPT:
            of_run.pop(next(iter(of_run)), None)
        return value

    return get
