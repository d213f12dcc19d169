"""`python -m benchmarks [--device cpu|cuda] [--only NAME]`: JSON lines on stdout, the first says what they ran on."""

import argparse
import importlib
import json
import sys

from playground.experiments.environment import describe_device, environment, pick_device, threads

BENCHMARKS = ("train_step", "loss_memory", "task_speed", "probe_overhead", "decoding", "app_pages")


def main() -> int:
    """Run the benchmarks and print one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run only this one; may be repeated")
    given = parser.parse_args()
    device = pick_device(given.device)
    print(json.dumps({"device": describe_device(device, threads(None)), **environment()}), flush=True)
    for name in given.only or BENCHMARKS:
        for row in importlib.import_module(f"benchmarks.{name}").run(device.type):
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
