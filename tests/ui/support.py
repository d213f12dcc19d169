"""Opening pages without a browser (Streamlit's AppTest), reading what stands on them, and damaging stored runs."""

import base64
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

from playground.running.jobs import Entry, Job, lock_name
from playground.runs.lock import LOCK
from tests.conftest import ROOT
from tests.fake_runs import GONE, let_go, write_run

NAVIGATION = re.findall(
    r'st\.Page\("([^"]+)", title="([^"]+)"(?:, url_path="([^"]+)")?', (ROOT / "app.py").read_text(encoding="utf-8")
)
"""File, title and address of every page, from app.py."""
PAGES = {Path(file).stem: file for file, _, _ in NAVIGATION}
"""File of every page, by its name."""
PATIENCE = 60
"""Seconds a page may take; AppTest allows 3, and the first page loads PyTorch."""


def open_app(**query: str) -> AppTest:
    """The app at its first page, not yet run."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    app.query_params.update(query)
    return app


def go(app: AppTest, page: str) -> AppTest:
    """Follow the navigation."""
    return app.switch_page(PAGES[page]).run()


def open_page(page: str, **query: str) -> AppTest:
    """One page of the app, drawn without an error, with what stands in its address behind the `?`."""
    app = open_app(**query)
    app = app.run() if page == "train" else go(app, page)
    assert_well(app)
    return app


def assert_well(app: AppTest) -> None:
    """No exception has reached the page, and no part of it was replaced by the error box of guard.py."""
    assert not app.exception, [item.value for item in app.exception]
    assert not app.error, [item.value for item in [*app.error, *app.caption]]


def words(app: AppTest) -> str:
    """All text of the page, the side bar included, a piece a line."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "toast")
    pieces = [element.value for kind in kinds for element in app.get(kind)]
    pieces += [expander.label for expander in app.expander] + [bar.text for bar in app.get("progress")]
    pieces += [item.label for kind in ("button", "page_link", "download_button") for item in app.get(kind)]
    return "\n".join(pieces)


def figures(app: AppTest) -> dict[str, dict[str, Any]]:
    """The figures of the page as plotly specifications, by their key."""
    return {str(chart.key): json.loads(chart.proto.spec) for chart in app.get("plotly_chart")}


def array(values: Any) -> NDArray[Any]:
    """Numbers of a plotly specification, which writes them as base64 or as a list."""
    if not isinstance(values, dict):
        return np.asarray(values)
    flat = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
    return flat.reshape([int(size) for size in values["shape"].split(",")]) if "shape" in values else flat


def annotations(figure: dict[str, Any]) -> str:
    """Titles of panels and names of lines, a piece a line."""
    return "\n".join(item["text"] for item in figure["layout"].get("annotations", []))


def legend(figure: dict[str, Any]) -> list[str]:
    """Names in the legend, in its order."""
    return [trace["name"] for trace in figure["data"] if trace.get("showlegend", True)]


def widget(app: AppTest, key: str) -> Any:
    """The widget with this key."""
    found = [element for element in app if getattr(element, "key", None) == key]
    assert found, f"there is no widget '{key}'"
    return found[0]


def labels(app: AppTest, kind: str) -> list[str]:
    """Labels of all buttons, links, expanders .. of the page."""
    return [element.label for element in app.get(kind)]


class Downloads:
    """What the download buttons of a page would save, by file name: each is made when it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[str, Callable[[], str]] = {}
        place = st.download_button

        def download_button(label: str, data: Callable[[], str], file_name: str, *args: Any, **options: Any) -> bool:
            self._contents[file_name] = data
            return place(label, data, file_name, *args, **options)

        monkeypatch.setattr(st, "download_button", download_button)

    def __getitem__(self, file_name: str) -> str:
        return self._contents[file_name]()

    @property
    def names(self) -> set[str]:
        return set(self._contents)


HOLDS_LOCKS = """
import fcntl, sys
held = []
for path in sys.stdin:
    held.append(open(path.rstrip("\\n"), "a"))
    fcntl.flock(held[-1], fcntl.LOCK_EX)
    print(flush=True)
"""


class Training:
    """A process that holds locks and does nothing, in the place of one that trains: it can be stopped without harm."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", HOLDS_LOCKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.record = {"pid": self.process.pid, "host": socket.gethostname()}
        """What a run's record, or a job, says of its process."""
        self._held: set[Path] = set()

    def hold(self, lock: Path) -> None:
        """Hold a lock until the process ends."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if lock not in self._held:
            self._held.add(lock)
            print(lock.absolute(), file=self.process.stdin, flush=True)
            assert self.process.stdout.readline() == "\n"

    def write_run(self, folder: Path, **options: Any) -> Path:
        """A stored run that this process trains."""
        path = write_run(folder, state="running", **(self.record | options))
        let_go(path)
        self.hold(path / LOCK)
        return path

    @property
    def exit_status(self) -> int:
        return self.process.wait(timeout=10)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def write_job(folder: Path, *entries: Entry, by: Training | None = None, name: str = "job-1") -> Job:
    """A job file as `start_job` writes it; `by` is the process that works on it, and without one it ended long ago."""
    path = folder / ".jobs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    process = {"pid": GONE, "host": socket.gethostname()} if by is None else by.record
    job = Job(id=name, created=time.time() - 3600, by="app", parallel=2, entries=entries, process=process, path=path)
    if by is not None:
        by.hold(path.with_name(lock_name(name)))
    job.write()
    return job


def entry(run: str = "not-there-yet", status: str = "queued", **values: Any) -> Entry:
    """One training of a job."""
    known = {"task": "induction", "part": 0, "n_future": 1, "control": "layers", "seed": 0, "steps": 700}
    return Entry(run=run, status=status, **(known | values))


def change_json(path: Path, **changes: Any) -> None:
    """Write other values into a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut_short(path: Path, keep: int = 40) -> None:
    """Leave the first `keep` characters, as a full disk does."""
    path.write_text(path.read_text()[:keep])


def cut_last_line(path: Path) -> None:
    """Leave half of the last line, as a kill does."""
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last[: len(last) // 2]]))
