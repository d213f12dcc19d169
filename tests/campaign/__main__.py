"""`make campaign`: the campaign at full size, and a table of how many cases there were and how many faults."""

import argparse
import os
import sys
from collections.abc import Iterable

from tests.campaign import disk
from tests.campaign.parts import PARTS, run_part

MOST_SHOWN = 40


def main(argv: Iterable[str]) -> int:
    """Run the campaign; the exit status says whether there was a fault."""
    options = argparse.ArgumentParser(prog="make campaign", description=__doc__)
    options.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--share", type=float, default=1.0)
    options.add_argument("--only", default="")
    given = options.parse_args(list(argv))
    total = 0
    print(f"{'attack':36} {'cases':>6} {'faults':>6} {'seconds':>8}")
    for part in (part for part in PARTS if given.only in part.name):
        if part.attack is disk.fill and not disk.can_mount():
            print(f"{part.name:36} left out: no small disk can be mounted here")
            continue
        cases, faults, seconds = run_part(part, given.share, given.processes)
        total += len(faults)
        print(f"{part.name:36} {cases:6} {len(faults):6} {seconds:8.0f}", flush=True)
        for fault in faults[:MOST_SHOWN]:
            print(f"    {fault}", file=sys.stderr, flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
