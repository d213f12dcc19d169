"""A browser to drive and a server to point it at, for the fixtures of conftest.py."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

NO_BROWSER = "no Chromium or Chrome was found; get one with: apt-get install chromium"


@cache
def browser_path() -> str | None:
    """The browser installed on this machine; none is ever downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """A headless playwright browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Playwright leaves Chromium's sandbox off by default, as a browser started by root needs.
        browser = playwright.chromium.launch(executable_path=browser_path(), chromium_sandbox=False)
        yield browser
        browser.close()


@dataclass(frozen=True, kw_only=True)
class AppServer:
    url: str
    runs: Path
    """The folder whose runs the app shows."""
    log: Path
    """What the server printed."""


@contextlib.contextmanager
def serve_app(
    root: Path,
    folder: Path,
    script: str = "app.py",
    deadline: float = 60.0,
    options: Sequence[str] = (),
    address: str = "localhost",
) -> Iterator[AppServer]:
    """Run the app until the block ends; then stop it and every process it started.

    `options` are added to its command; `address` is where it is reached.
    """
    runs, log = folder / "runs", folder / "server.log"
    runs.mkdir(exist_ok=True)
    port = _free_port()
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
    command += ["--server.headless", "true", *options]
    environment = {**os.environ, "PLAYGROUND_RUNS_DIR": str(runs)}
    with log.open("w") as output:
        process = psutil.Popen(command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://{address}:{port}"
        _wait_until_healthy(process, url, log, deadline)
        yield AppServer(url=url, runs=runs, log=log)
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _wait_until_healthy(process: psutil.Popen, url: str, log: Path, deadline: float) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.1)
    raise RuntimeError(f"the app did not answer at {url}; it printed:\n{log.read_text()}")


def _stop(process: psutil.Popen) -> None:
    """End the server and its descendants, trainings in sessions of their own included."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for member in alive:
            member.kill()
