"""The way a visitor goes, in a real browser: train two models, watch, compare them, look into their heads; stop, resume."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.running.jobs import list_jobs, stop_job
from playground.runs.store import Run, list_runs
from playground.ui.train.trainings import stop_run
from tests.browser_support import AppServer
from tests.fake_runs import STATES, write_many, write_run, write_weights

STEPS = 120
MANY_STEPS = 100_000
TRAINING = 240_000
"""Milliseconds that a training of STEPS steps may take on a busy machine, PyTorch's start included."""
SETTLED = 60_000
"""Milliseconds until a page stands on a machine whose cores train models meanwhile."""
PAGES = {
    "Train": "",
    "Compare": "compare",
    "Heads": "heads",
    "Probes": "probes",
    "Lens": "lens",
    "Decode": "decode",
    "About": "about",
}
HARMLESS = re.compile(r"/_stcore/|favicon|Failed to load resource.*404")
POINTS = """() => Math.max(0, ...[...document.querySelectorAll('.js-plotly-plot')].flatMap(
    plot => (plot.calcdata || []).filter(line => line[0].trace.type === 'scatter').map(line => line.length)))"""
"""JavaScript: points of the longest line on the page."""
MAPS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(
    plot => (plot._fullData || []).filter(trace => trace.type === 'heatmap').map(trace => trace.z.length))"""
"""JavaScript: rows of each heat-map of each figure."""
TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll(
    '[data-testid=stApp], [data-testid=stMain], [data-testid=stSidebarContent]')]
    .filter(box => box.scrollWidth > box.clientWidth).map(box => box.dataset.testid || box.tagName)"""
"""JavaScript: boxes that would have to be scrolled sideways."""

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=20_000)


@pytest.fixture
def runs(app_server: AppServer) -> Iterator[Path]:
    """The server's folder of runs, emptied; what still trains at the end is stopped."""
    for path in app_server.runs.iterdir():
        shutil.rmtree(path)
    yield app_server.runs
    for job in list_jobs(app_server.runs):
        stop_job(job)
    for run in _training(app_server.runs):
        stop_run(run)
    _wait(lambda: not _training(app_server.runs) and not any(job.active for job in list_jobs(app_server.runs)))


def _training(folder: Path) -> list[Run]:
    """Runs in training, without those that tests wrote: they carry the process id of the tests."""
    return [run for run in list_runs(folder)[0] if run.record.state == "running" and run.record.pid != os.getpid()]


@pytest.fixture
def page(browser_page: Any, runs: Path) -> Iterator[Any]:
    """A page that fails the test when the browser's console reports an error."""
    complaints: list[str] = []

    def note(message: Any) -> None:
        told = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not HARMLESS.search(told):
            complaints.append(told)

    browser_page.on("console", note)
    yield browser_page
    assert not complaints


def _wait(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "the trainings did not end"
        time.sleep(0.1)


def open_at(page: Any, address: str, title: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    settled(page)


def settled(page: Any) -> None:
    """Wait until the server has drawn the page."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=SETTLED)


def navigate(page: Any, title: str) -> None:
    """Through the links at the side."""
    arrive(page, page.get_by_test_id("stSidebarNavItems").get_by_role("link", name=title), title)


def arrive(page: Any, link: Any, title: str) -> None:
    link.click()
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    settled(page)


def start_training(page: Any, steps: int) -> None:
    """Choose induction, n = 1 and 2, and the number of steps; press the button."""
    page.get_by_role("radio", name="Induction", exact=True).click()
    two = page.get_by_role("toolbar", name="Tokens to predict, n").get_by_role("button", name="2", exact=True)
    two.click()
    expect(page.get_by_role("button", name="Train 1 model")).to_be_visible()
    two.click()
    expect(page.get_by_role("button", name="Train 2 models")).to_be_visible()
    field = page.get_by_role("spinbutton", name="Steps")
    field.fill(str(steps))
    field.press("Enter")
    settled(page)
    expect(field).to_have_value(str(steps))
    page.get_by_role("button", name="Train 2 models").click()


def progress(page: Any, n_future: int) -> Any:
    """The line that says how far a model is."""
    return page.get_by_test_id("stProgress").filter(has_text=f"n = {n_future}")


def steps_done(page: Any, n_future: int) -> int:
    return int(re.search(r"step ([\d,]+) of", progress(page, n_future).inner_text())[1].replace(",", ""))


def assert_well(page: Any) -> None:
    """No error box, and nothing wider than the window."""
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text("This part of the page could not be drawn")).to_have_count(0)
    wide = page.evaluate(TOO_WIDE)
    assert not wide, f"a horizontal scroll bar on {page.url}: {wide}"


@pytest.mark.slow
def test_train_watch_compare_and_look_inside(page: Any, runs: Path, app_server: AppServer) -> None:
    open_at(page, app_server.url, "Train")
    start_training(page, STEPS)
    expect(page.get_by_text("Train something else")).to_be_visible()
    for n_future in (1, 2):
        expect(progress(page, n_future)).to_contain_text(re.compile(rf"step [1-9]\d* of {STEPS}"), timeout=TRAINING)
    assert_well(page)
    page.wait_for_function(f"() => ({POINTS})() > 0")
    points, step = page.evaluate(POINTS), steps_done(page, 1)

    page.reload()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
    expect(progress(page, 1)).to_contain_text(f"of {STEPS}")
    assert steps_done(page, 1) >= step
    page.wait_for_function(f"before => ({POINTS})() > before", arg=points, timeout=TRAINING)
    expect(page.get_by_text("Done: 2 runs finished")).to_be_visible(timeout=TRAINING)
    for n_future in (1, 2):
        expect(progress(page, n_future)).to_contain_text(f"finished, step {STEPS} of {STEPS}")
    assert_well(page)

    arrive(page, page.get_by_role("link", name="Compare the runs"), "Compare")
    verdict = page.get_by_role("listitem")
    expect(verdict.filter(has_text=re.compile("^n = 1: "))).to_be_visible()
    expect(verdict.filter(has_text=re.compile("^n = 2, layers: "))).to_be_visible()
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    for text in ("n = 1", "n = 2, layers", "finished"):
        expect(table.locator("td").filter(has_text=re.compile(rf"^{text}$")).first).to_be_attached()
    expect(page.locator(".js-plotly-plot")).to_have_count(4)
    assert_well(page)

    look_inside(page)


def look_inside(page: Any) -> None:
    """Every view of Heads, and Lens, on the two runs that have just been trained."""
    navigate(page, "Heads")
    page.wait_for_function(f"() => ({POINTS})() > 5")
    assert_well(page)

    view(page, "Heat-maps")
    page.wait_for_function(f"() => ({MAPS})().map(maps => maps.length).join() === '6'")
    assert_well(page)

    view(page, "Attention at work")
    page.locator(".at-card").first.locator(".at-token").nth(20).hover()
    expect(page.locator(".at-said").first).to_contain_text("(20) attends to")
    page.get_by_role("combobox", name="Head", exact=True).click()
    page.keyboard.type("trunk 0, head 3")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(rf"trunk 0, head 3, step {STEPS}"))).to_be_visible()
    assert_well(page)

    view(page, "Composition")
    expect(page.get_by_text("K-composition minus random").first).to_be_visible()
    assert_well(page)

    view(page, "Ablation")
    expect(page.get_by_text("Nothing is ablated")).to_be_visible()
    page.get_by_role("button", name="T0.1", exact=True).click()
    expect(page.get_by_text("Nothing is ablated")).to_have_count(0)
    assert_well(page)

    navigate(page, "Lens")
    expect(page.get_by_text("offset 1, read through future head 1").first).to_be_visible()
    page.get_by_role("radiogroup", name="Offset k").get_by_role("radio", name="2", exact=True).click()
    expect(page.get_by_text("offset 2, read through future head 2").first).to_be_visible()
    assert_well(page)


def view(page: Any, name: str) -> None:
    """Choose a view of the page Heads."""
    page.get_by_role("radio", name=name, exact=True).click()
    settled(page)


@pytest.mark.slow
def test_a_training_is_stopped_and_goes_on(page: Any, runs: Path, app_server: AppServer) -> None:
    open_at(page, app_server.url, "Train")
    start_training(page, MANY_STEPS)
    for n_future in (1, 2):
        expect(progress(page, n_future)).to_contain_text(re.compile(r"step [1-9][\d,]* of 100,000"), timeout=TRAINING)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("Done: 2 runs stopped")).to_be_visible(timeout=TRAINING)
    for n_future in (1, 2):
        expect(progress(page, n_future)).to_contain_text("stopped, step ")
    found, broken = list_runs(runs)
    assert [run.record.state for run in found] == ["stopped", "stopped"] and not broken
    assert all(run.checkpoints[-1] == run.record.step > 0 for run in found)
    assert_well(page)

    first = next(run for run in found if run.record.n_future == 1)
    page.get_by_role("button", name=f"Resume {first.id} from step {first.record.step:,}").click()
    expect(page.get_by_text("Resuming: loading PyTorch takes a few seconds.")).to_be_visible()
    expect(page.get_by_role("button", name=f"Stop {first.id}")).to_be_visible(timeout=TRAINING)
    page.get_by_role("button", name=f"Stop {first.id}").click()
    expect(page.get_by_role("button", name=f"Resume {first.id} from step")).to_be_visible(timeout=TRAINING)
    assert_well(page)


def fill(folder: Path) -> None:
    """Runs of every task and state, weights, and a folder that is none."""
    write_many(folder, ("induction-cpu", "stories-cpu", "polynomial-cpu", "bytes-cpu"), steps=200)
    for seed, state in enumerate(STATES, start=10):
        write_run(folder, steps=200, seed=seed, state=state)
    for control in ("layers", "trunk"):
        write_weights(write_run(folder, "stories-cpu", n_future=4, control=control, steps=200), (0, 200))
    (folder / "no-run").mkdir()


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_every_page_fits_and_is_well(page: Any, runs: Path, app_server: AppServer, filled: bool) -> None:
    if filled:
        fill(runs)
    for title, path in PAGES.items():
        open_at(page, f"{app_server.url}/{path}", title)
        assert_well(page)
    for title in PAGES:
        navigate(page, title)
        assert_well(page)


def test_the_address_chooses_the_task(page: Any, runs: Path, app_server: AppServer) -> None:
    write_run(runs, "stories-cpu", steps=100, created=1.0)
    write_run(runs, "bytes-cpu", steps=100, created=2.0)
    open_at(page, f"{app_server.url}/compare?task=Stories", "Compare")
    expect(page.get_by_text("second name token accuracy", exact=True).first).to_be_visible()
    page.get_by_role("radio", name="Bytes").click()
    expect(page.get_by_text("Bits per byte, per offset")).to_be_visible()
    page.get_by_role("radio", name="Stories").click()
    expect(page.get_by_text("Bits per byte, per offset")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"[?&]task=Stories"))
