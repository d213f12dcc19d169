"""Damaged runs through every reader: commands and pages. What each may do, and what is a fault."""

import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.campaign.damage import Damage, damage
from tests.campaign.template import Answer, call, rows, snapshot, template

LONGEST = 5.0
"""Seconds that a command may take on a damaged run."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "list": ("runs", "list"),
    "show": ("runs", "show", "RUN"),
    "compare": ("compare", "RUN", "good"),
    "formation": ("formation", "RUN", "good"),
    "generate": ("generate", "RUN", "--max-new-tokens", "4", "--json", "--device", "cpu"),
    "probe": ("probe", "RUN", "--probe", "composition", "behaviour", "--device", "cpu", "--json"),
    "resume": ("resume", "RUN", "--json"),
}


def try_commands(seed: int) -> Iterator[str]:
    """Damage a copy of a run, and go through all commands; yields the faults."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        folder = Path(scratch)
        name = "stopped" if seed % 2 else "whole"
        shutil.copytree(template() / "whole", folder / "good")
        done = damage(shutil.copytree(template() / name, folder / "odd"), seed)
        for command, argv in COMMANDS.items():
            before, lines = snapshot(folder / "odd"), rows(folder / "odd")
            started = time.perf_counter()
            try:
                answer = call(*(part.replace("RUN", "odd") for part in argv), "--runs-dir", str(folder))
            except BaseException:
                yield f"seed {seed}, {done.kind} ({done.what}): {command}: {traceback.format_exc(limit=-3)}"
                continue
            spent = time.perf_counter() - started
            for fault in _faults(command, answer, done, spent):
                yield f"seed {seed}, {done.kind} ({done.what}): {command}: {fault}"
            after = snapshot(folder / "odd")
            if (answer.status or command not in ("probe", "resume")) and after != before and command != "probe":
                yield f"seed {seed}, {done.kind} ({done.what}): {command}: the folder has changed"
            lost = {
                place
                for place, line in lines.items()
                if place not in rows(folder / "odd") and line not in _aside(folder / "odd")
            }
            if lost:
                yield f"seed {seed}, {done.kind} ({done.what}): {command}: lines are lost: {sorted(lost)[:3]}"


def _aside(folder: Path) -> set[bytes]:
    return set(rows(folder, "set-aside").values())


def _faults(command: str, answer: Answer, done: Damage, spent: float) -> Iterator[str]:
    text = answer.out + answer.error
    if "Traceback" in text:
        yield "a traceback was printed"
    if answer.status not in (0, 1, 2):
        yield f"status {answer.status}"
    if answer.status == 2 and len(answer.error.strip().splitlines()) != 1:
        yield f"no single line: {answer.error[:200]!r}"
    if spent > LONGEST:
        yield f"{spent:.1f} s"
    if command == "list" and '"good"' not in text and "good" not in text:
        yield "the good run is not listed"
    if command in done.must_say and answer.status == 0 and not answer.error.strip():
        yield "accepted in silence"


def try_pages(seeds: Sequence[int]) -> Iterator[str]:
    """A store of damaged runs and a good one on every page, each run chosen on the pages that open models; yields the faults."""
    import os

    from streamlit.testing.v1 import AppTest

    from tests.ui.support import PAGES, ROOT

    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        folder = Path(scratch)
        shutil.copytree(template() / "whole", folder / "good")
        kinds: dict[str, Damage] = {}
        for seed in seeds:
            name = f"odd-{seed}"
            kinds[name] = damage(
                shutil.copytree(template() / ("stopped" if seed % 2 else "whole"), folder / name), seed
            )
        os.environ["PLAYGROUND_RUNS_DIR"] = str(folder)
        for page in PAGES:
            app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
            app = app.run() if page == "train" else app.switch_page(f"playground/ui/{page}/{page}.py").run()
            yield from _page_faults(app, f"{page} with {', '.join(kinds)}")
            boxes = [
                box for box in app.selectbox if box.key in ("left", "lens-left", "decode-run") or "left" in str(box.key)
            ][:1]
            for name in boxes[0].options if boxes else ():
                if found := next((odd for odd in kinds if name.endswith(odd)), None):
                    boxes[0].set_value(found)
                    started = time.perf_counter()
                    app.run()
                    if time.perf_counter() - started > 2 * LONGEST:
                        yield f"{page}, {found}: {time.perf_counter() - started:.1f} s"
                    yield from _page_faults(app, f"{page}, {found}, {kinds[found].kind} ({kinds[found].what})")
                    boxes = [box for box in app.selectbox if box.key == boxes[0].key]
                    if not boxes:
                        break


def _page_faults(app: "object", where: str) -> Iterator[str]:
    for item in getattr(app, "exception", ()):
        yield f"{where}: exception {item.value!r}"
    for item in getattr(app, "error", ()):
        yield f"{where}: error box {item.value!r}"
