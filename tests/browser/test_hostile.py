"""Hostile text and hostile pages in a real browser: nothing is fetched, framed or drawn as markup."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_main_path import PAGES, expect, open_at, settled
from tests.browser_support import AppServer, serve_app
from tests.conftest import ROOT
from tests.hostile import HOSTILE, NAME, SHOWN, TASK, write_hostile
from tests.ui.support import entry, write_job

MARKUP = """() => [...document.querySelectorAll(
    'img, .katex, a[href*="e.example"], a[href^="mailto"], a[href="u"], [data-testid=stMarkdown] h1, del')]
    .filter(found => !found.closest('[data-testid=stLogo], [data-testid=stHeader]')).map(found => found.outerHTML)"""
"""JavaScript: what would be there if a text were drawn as markup."""
TEXTS = """() => [...document.querySelectorAll('[data-testid=stMarkdownContainer], .js-plotly-plot text, .at-card, .dt-card')]
    .map(found => found.textContent.replaceAll(/\\s+/g, ' ')).join('\\n')"""
ATTACK = """address => new Promise(done => {
    const found = {};
    const socket = new WebSocket(address.replace('http', 'ws') + '/_stcore/stream', ['streamlit']);
    const kept = new Promise(ok => { socket.onopen = () => ok('open'); socket.onerror = () => ok('refused'); });
    const read = fetch(address + '/_stcore/health', { mode: 'no-cors' }).then(() => 'answered', () => 'refused');
    Promise.all([kept, read]).then(([socket, fetched]) => done({ socket, fetched }));
})"""
"""JavaScript of a page of another server: a websocket to the app, and a request whose answer it may not read."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app with runs whose every text is an attempt."""
    folder = tmp_path_factory.mktemp("hostile")
    runs = folder / "runs"
    runs.mkdir()
    write_hostile(runs)
    write_hostile(runs, state="finished", n_future=2, name=f"{NAME} 2")
    write_hostile(runs, state="finished", name=f"{NAME} 7", text="other")
    write_hostile(runs, task="induction", name=f"{NAME} 3")
    write_hostile(runs, task="induction", state="finished", n_future=2, name=f"{NAME} 4")
    write_hostile(runs, task="induction", state="stopped", n_future=2, seed=1, name=f"{NAME} 5")
    (runs / f"{NAME} 6").mkdir()
    write_job(runs, entry(status="failed", message=HOSTILE, run="gone"))
    with serve_app(ROOT, folder) as server:
        yield server


@pytest.fixture
def page(browser_page: Any, hostile: AppServer) -> Iterator[Any]:
    """A page that fails the test when it asks another server for anything."""
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url))
    yield browser_page
    assert not [url for url in asked if not url.startswith((hostile.url, "data:", "blob:"))]


def texts(page: Any) -> str:
    """All texts of the page, what is folded away as well."""
    settled(page)
    for expander in page.get_by_test_id("stExpander").all():
        if expander.locator("details").get_attribute("open") is None:
            expander.locator("summary").click()
        expect(expander.locator("details")).to_have_attribute("open", "")
    settled(page)
    assert page.evaluate(MARKUP) == []
    return page.evaluate(TEXTS)


def shows(page: Any, text: str) -> bool:
    """Whether the page comes to show a text: figures are drawn some time after the page has settled."""
    for _ in range(20):
        if text in texts(page):
            return True
        page.wait_for_timeout(500)
    return False


@pytest.mark.parametrize("task", [TASK, "induction"], ids=["no task", "weights"])
def test_every_page_shows_the_texts_themselves(page: Any, hostile: AppServer, task: str) -> None:
    for title, path in PAGES.items():
        open_at(page, f"{hostile.url}/{path}", title)
        if title in ("Compare", "Heads", "Lens", "Decode"):
            page.get_by_role("radio", name="Induction" if task == "induction" else "![x]").click()
            settled(page)
        assert shows(page, NAME)
        if title == "Compare":
            assert SHOWN in texts(page)
    open_at(page, f"{hostile.url}/compare", "Compare")
    page.locator(".js-plotly-plot .scatterlayer").first.wait_for(state="attached")


@pytest.mark.parametrize("view", ["Formation", "Heat-maps", "Attention at work", "Composition", "Ablation"])
def test_every_view_of_heads_shows_the_texts_themselves(page: Any, hostile: AppServer, view: str) -> None:
    open_at(page, f"{hostile.url}/heads?task=Induction&view={view}", "Heads")
    assert shows(page, NAME)


def test_a_button_and_a_message_show_the_texts_themselves(page: Any, hostile: AppServer) -> None:
    open_at(page, hostile.url, "Train")
    assert f"Resume {NAME} 5 from step 60" in texts(page)


def test_figures_and_tables_are_saved_under_these_rules(page: Any, hostile: AppServer) -> None:
    open_at(page, f"{hostile.url}/compare?task=Induction", "Compare")
    figure = page.locator(".js-plotly-plot").first
    figure.locator(".scatterlayer").wait_for(state="attached")
    for button in (
        page.get_by_role("button", name="Save as HTML").first,
        page.get_by_role("button", name="Table as CSV"),
    ):
        with page.expect_download() as saved:
            button.click()
        assert re.fullmatch(r"[\w.-]+\.(html|csv)", saved.value.suggested_filename)
    figure.hover()
    with page.expect_download() as saved:
        figure.locator(".modebar-btn").first.click()
    assert re.fullmatch(r"[\w.-]+\.png", saved.value.suggested_filename)


# --- pages of other servers -------------------------------------------------------------------------------------------


@pytest.fixture
def attacker(tmp_path: Path, hostile: AppServer) -> Iterator[str]:
    """Another server of this machine, with a page that frames the app."""
    (tmp_path / "index.html").write_text(f'<h1>Other</h1><iframe src="{hostile.url}"></iframe>')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("localhost", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def test_a_page_of_another_server_neither_frames_nor_reaches_the_app(
    browser_page: Any, hostile: AppServer, attacker: str
) -> None:
    browser_page.goto(attacker)
    browser_page.get_by_role("heading", name="Other").wait_for()
    (frame,) = [frame for frame in browser_page.frames if frame != browser_page.main_frame]
    frame.wait_for_load_state()
    assert frame.url.startswith("chrome-error:") and frame.get_by_test_id("stApp").count() == 0
    assert browser_page.evaluate(ATTACK, hostile.url) == {"socket": "refused", "fetched": "refused"}


def test_the_app_itself_goes_by_both_names(browser_page: Any, hostile: AppServer) -> None:
    for url in (hostile.url, hostile.url.replace("localhost", "127.0.0.1")):
        open_at(browser_page, url, "Train")
