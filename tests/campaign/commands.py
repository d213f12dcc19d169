"""Random configurations and command lines: each is taken, or refused with one line."""

import json
import random
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.campaign.damage import HOSTILE
from tests.campaign.readers import LONGEST
from tests.campaign.template import TINY, call, template

VALUES = ["", "0", "-1", "1", "2", "3", "1.5", "nan", "inf", "1e400", "1e-3", "x", "None", "true", "1,2", "0..3", "0..9999999999999",
          "9" * 400, "9" * 5000, "../x", "/etc/passwd", ".", "..", "~", "a/b", "\x1b[31m", "[/red]", "$x$", "--steps", "a\0b"[:1],
          "\u0663", "2**3", "1_000", " 5", "1000000", "99999999999999999999"]  # fmt: skip
OPTIONS = ["--n-layers", "--n-heads", "--d-model", "--n-future", "--n-ctx", "--d-vocab", "--batch-size", "--steps", "--lr", "--seed",
           "--seeds", "--lrs", "--warmup-steps", "--clip", "--control", "--future-heads", "--mlp", "--positions", "--eval-every",
           "--checkpoint-every", "--probe-points", "--probes", "--threads", "--device", "--size", "--preset", "--task", "--config",
           "--base", "--run-id", "--min-distance", "--max-distance", "--test-rows", "--accumulate", "--backward", "--parallel",
           "--freeze-heads", "--force-induction", "--rotary-base", "--eps", "--unembedding", "--json", "--odd"]  # fmt: skip
COMMANDS = {
    "generate": ["--prompt", "--samples", "--speculative", "--tree", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--seed",
                 "--stop", "--step", "--device", "--plain", "--typical", "--slide", "--evaluate", "--path"],
    "probe": ["--probe", "--step", "--device", "--path"], "compare": ["--json"], "formation": ["--json"],
    "resume": ["--path", "--json"], "runs": ["list", "show", "rm", "--json"],
}  # fmt: skip


def try_command_line(seed: int) -> Iterator[str]:
    """A random command line; yields the faults."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        runs = str(template())
        if seed % 2:
            argv = ["train", *TINY, "--steps", "2", "--probe-points", "0"]
            runs = scratch
            for _ in range(draw.randint(1, 3)):
                argv += [draw.choice(OPTIONS), draw.choice(VALUES)]
        else:
            command = draw.choice(sorted(COMMANDS))
            argv = [command, draw.choice(["whole", "whole", "stopped", "w", "", "nope", "../whole", "\x1b[2J"])]
            for _ in range(draw.randint(1, 3)):
                argv += [draw.choice(COMMANDS[command]), draw.choice(VALUES)]
            if (command == "runs" and "rm" in argv) or command == "resume":
                runs = scratch
        yield from _call(f"seed {seed}: {[part[:60] for part in argv]}", [*argv, "--runs-dir", runs])
        strange = [path for path in Path(scratch).parent.glob("x*") if path.is_dir() and (path / "run.json").exists()]
        if strange:
            yield f"seed {seed}: written outside the runs folder: {strange}"


def try_configuration(seed: int) -> Iterator[str]:
    """A configuration file with random fields; yields the faults."""
    draw = random.Random(seed)
    values: dict[str, Any] = json.loads((template() / "whole" / "config.json").read_text())
    values["train"] |= {"steps": 2, "probe_points": 0}
    for _ in range(draw.randint(1, 3)):
        part = draw.choice(sorted(values))
        if isinstance(values[part], dict) and values[part] and draw.random() < 0.9:
            values[part][draw.choice([*sorted(values[part]), "mood"])] = draw.choice(HOSTILE)
        else:
            values[part] = draw.choice(HOSTILE)
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        file = Path(scratch, "config.json")
        file.write_text(json.dumps(values))
        argv = ["train", "--config", str(file), "--runs-dir", str(Path(scratch, "runs")), "--json"]
        yield from _call(f"seed {seed}: {json.dumps(values)[:300]}", argv)
        outside = [path.name for path in Path(scratch).iterdir() if path.name not in ("config.json", "runs")]
        if outside:
            yield f"seed {seed}: written outside the runs folder: {outside}"


def _call(what: str, argv: list[str]) -> Iterator[str]:
    started = time.perf_counter()
    try:
        answer = call(*argv)
    except BaseException:
        yield f"{what}: {traceback.format_exc(limit=-3)}"
        return
    spent = time.perf_counter() - started
    if "Traceback" in answer.error:
        yield f"{what}: a traceback was printed"
    if answer.status not in (0, 1, 2) or (answer.status == 2 and len(answer.error.strip().splitlines()) != 1):
        yield f"{what}: status {answer.status}, {answer.error[:300]!r}"
    if len(answer.error) > 5000 and answer.status == 2:
        yield f"{what}: an error of {len(answer.error)} characters"
    if spent > LONGEST and answer.status:
        yield f"{what}: {spent:.1f} s until it was refused"
