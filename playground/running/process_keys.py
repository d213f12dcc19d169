"""Keys of counters in the checkpoint of a run that several processes train: `generator of process 3`.

The counters of process 0 have their plain names, as in a run that one process trains.
"""

import re

_KEY = re.compile(r"(.+) of process ([1-9][0-9]*)", re.DOTALL)


def process_key(name: str, rank: int) -> str:
    """The key of a counter of process `rank`, 1 or more.

    >>> process_key("generator", 3)
    'generator of process 3'
    """
    return f"{name} of process {rank}"


def read_process_key(key: str) -> tuple[str, int]:
    """The counter's name and the rank of its process, from what `process_key` wrote; rank 0 for a plain name.

    >>> read_process_key("generator of process 3"), read_process_key("generator")
    (('generator', 3), ('generator', 0))
    """
    found = _KEY.fullmatch(key)
    return (found[1], int(found[2])) if found else (key, 0)
