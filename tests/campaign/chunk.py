"""Some calls of one attack in a process of their own: `python -m tests.campaign.chunk NAME ARGUMENTS`, JSON lines out."""

import json
import os
import sys

from tests.campaign.parts import PARTS


def main(name: str, arguments: str) -> None:
    """Say each call before it is made, and each fault."""
    import torch

    torch.set_num_threads(1)
    out = os.fdopen(os.dup(1), "w", buffering=1)  # commands print too
    attack = next(part.attack for part in PARTS if part.name == name)
    for argument in json.loads(arguments):
        out.write(json.dumps({"begins": argument}) + "\n")
        for fault in attack(argument):
            out.write(json.dumps({"fault": fault}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
