"""What every test runs under: shapes checked at run time, one thread per worker, a browser where there is one."""

import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

ROOT = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported. Several one-thread processes are faster than one with several threads,
    # and trainings that a test starts inherit this.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if os.environ.get("PLAYGROUND_NO_TYPECHECK") != "1":
    from jaxtyping import install_import_hook

    import tests.type_checking  # noqa: F401  (the hook looks it up as an attribute of `tests`)

    # Left out: playground.config, which checks itself, with better sentences; playground.ui, whose pages Streamlit
    # runs as scripts and whose functions it inspects.
    modules = [module.name for module in pkgutil.iter_modules([str(ROOT / "playground")])]
    checked = [f"playground.{name}" for name in modules if name not in ("config", "ui", "__main__")]
    install_import_hook(["tasks", *checked], "tests.type_checking.checked")

from tests.browser_support import NO_BROWSER, AppServer, browser_path, open_browser, serve_app  # noqa: E402

BROWSER_FIXTURES = {"browser", "browser_page"}


def pytest_report_header() -> str:
    return f"browser: {browser_path() or NO_BROWSER}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a browser, and skip them where there is none."""
    for item in items:
        if BROWSER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.browser)
        if item.get_closest_marker("browser") and browser_path() is None:
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} browser tests skipped: {NO_BROWSER}", yellow=True)


@pytest.fixture
def no_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the checks of shapes out, for tests that call a thousand times what others call with them: they take half the time."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def app_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app on a free port, with an empty folder of runs; one per worker and session."""
    with serve_app(ROOT, tmp_path_factory.mktemp("app")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def browser_page(browser: Any) -> Iterator[Any]:
    """A fresh playwright page. The test fails when the page raised an error that nobody caught."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, f"the page raised: {errors}"
