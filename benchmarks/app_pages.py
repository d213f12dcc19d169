"""The app with 200 stored runs in a real browser: seconds to the first paint and for a rerun. The page Compare also with 1,000
runs of one task.

First paint is the time from the start of the server's process to the page's title, or to its last figure; a rerun is the time
from a click to the end of the script run that it triggers. Needs Chromium and the tools of `make test`; without them a row says
that the benchmark was skipped.
"""

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import Row, summary

ROOT = Path(__file__).parents[1]
RUNS, MANY_RUNS, REPEATS, WARM_UPS = 200, 1000, 3, 2
FIRST_PAINT, RERUN = 5.0, 0.5
"""Targets in seconds."""
SWITCHES = {
    "train": ("Task", ("Stories", "Induction")),
    "compare": ("Horizontal axis", ("steps", "tokens")),
    "heads": ("Camera button saves", ("SVG", "PNG")),
    "lens": ("Task", ("Stories", "Induction")),
}
"""For each page a group of buttons, and the two that are clicked alternately."""
STATE = "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState"
FIGURES = "document.querySelectorAll('.js-plotly-plot').length"
SETTLED = f"{STATE} === 'notRunning'"
WATCH = f"""() => {{ window.settled = 0; window.changed = 0; window.watcher?.disconnect();
    window.watcher = new MutationObserver(records => {{
        const ofState = record => record.attributeName === 'data-test-script-state';
        if (records.some(record => !ofState(record))) window.changed = performance.now();
        if (records.some(ofState) && {SETTLED}) window.settled = performance.now(); }});
    window.watcher.observe(document.body, {{
        subtree: true, childList: true, attributes: true, attributeFilter: ['data-test-script-state', 'aria-checked']}});
    window.clicked = performance.now(); }}"""
DONE = f"window.settled > 0 || window.changed > 0 && performance.now() - window.changed > 1500 && {SETTLED}"
"""True when the script's end was observed, or, if it ended before the browser showed it as running, when the page has not
changed for a while."""


def run(_device: str, quick: bool = False) -> Iterator[Row]:
    """Rows of first paint, and of one rerun per page, in seconds."""
    if importlib.util.find_spec("playwright") is None:
        yield {"benchmark": "app_pages", "skipped": "playwright is missing; `make test` installs it"}
        return
    from tests.browser_support import NO_BROWSER, browser_path

    if browser_path() is None:
        yield {"benchmark": "app_pages", "skipped": NO_BROWSER}
        return
    yield from _measure(8, 1, 0) if quick else _measure(RUNS, REPEATS, WARM_UPS)
    yield from _measure_compare(20, 1, 0) if quick else _measure_compare(MANY_RUNS, REPEATS, WARM_UPS)


def _measure(runs: int, repeats: int, warm_ups: int) -> Iterator[Row]:
    from tests.browser_support import open_browser, serve_app
    from tests.fake_runs import write_run

    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        for number in range(runs):
            preset = ("induction-cpu", "stories-cpu", "polynomial-cpu", "bytes-cpu")[number % 4]
            write_run(Path(folder) / "runs", preset, n_future=1 + number // 4 % 2, seed=number // 8)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, bypass_csp=True)
        paints: list[float] = []
        for _ in range(repeats):
            started = time.perf_counter()
            with serve_app(ROOT, Path(folder)) as server:
                page.goto(server.url)
                page.get_by_role("heading", name="Train", exact=True).wait_for()
                paints.append(time.perf_counter() - started)
        yield _row("first paint", runs, paints, FIRST_PAINT)
        with serve_app(ROOT, Path(folder)) as server:
            for name, (group, labels) in SWITCHES.items():
                page.goto(f"{server.url}/{'' if name == 'train' else name}")
                page.get_by_role("radiogroup", name=group).wait_for()
                page.wait_for_function(SETTLED)
                yield _row(f"rerun of {name}", runs, _reruns(page, group, labels, repeats, warm_ups), RERUN)


def _measure_compare(runs: int, repeats: int, warm_ups: int) -> Iterator[Row]:
    """Rows of the page Compare with many seeds of n = 1 and of n = 2."""
    from tests.browser_support import open_browser, serve_app
    from tests.fake_runs import write_seeds

    group, labels = SWITCHES["compare"]
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        write_seeds(Path(folder) / "runs", runs)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, bypass_csp=True)
        paints: list[float] = []
        whole: list[float] = []
        for number in range(repeats):
            started = time.perf_counter()
            with serve_app(ROOT, Path(folder)) as server:
                page.goto(f"{server.url}/compare")
                page.get_by_role("heading", name="Compare", exact=True).wait_for()
                paints.append(time.perf_counter() - started)
                page.get_by_role("radiogroup", name=group).wait_for()
                page.wait_for_function(f"{SETTLED} && {FIGURES} > 2")
                whole.append(time.perf_counter() - started)
                if number == repeats - 1:
                    yield _row("first paint of compare", runs, paints, FIRST_PAINT)
                    yield _row("all figures of compare", runs, whole, FIRST_PAINT)
                    yield _row("rerun of compare", runs, _reruns(page, group, labels, repeats, warm_ups), RERUN)


def _reruns(page: Any, group: str, labels: tuple[str, str], repeats: int, warm_ups: int) -> list[float]:
    buttons = page.get_by_role("radiogroup", name=group)
    if labels[0] in buttons.get_by_role("radio", checked=True).all_inner_texts():
        labels = (labels[1], labels[0])  # a click on the selected button triggers no rerun
    times: list[float] = []
    for number in range(warm_ups + 2 * repeats):
        page.wait_for_timeout(600)
        page.evaluate(WATCH)
        buttons.get_by_text(labels[number % 2], exact=True).click()
        page.wait_for_function(DONE)
        page.wait_for_timeout(600)
        times.append(page.evaluate("((window.settled || window.changed) - window.clicked) / 1000"))
    return times[warm_ups:]


def _row(what: str, runs: int, seconds: list[float], target: float) -> Row:
    return {
        "benchmark": "app_pages",
        "what": what,
        "stored_runs": runs,
        **summary(seconds, "s"),
        "slowest": round(max(seconds), 3),
        "target": target,
        "target_is": "at most",
    }
