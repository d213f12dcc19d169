"""What tests of the app stand on: a folder of runs, a process to stop, the files one can save."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.components.v2.component_manager import BidiComponentManager

from playground.ui.train import trainings
from tests.ui.support import Downloads, Training


@pytest.fixture(scope="session", autouse=True)
def no_search_for_components() -> Iterator[None]:
    """AppTest looks through all installed packages for components before it draws; the app's own is none of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BidiComponentManager, "discover_and_register_components", lambda *_, **__: None)
        yield


@pytest.fixture(autouse=True)
def quick(no_shape_checks: None) -> None:
    """The pages call functions whose own tests check the shapes."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs, chosen through the environment as a user would."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(folder))
    monkeypatch.setattr(trainings, "_resumed", {})
    return folder


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    return Downloads(monkeypatch)


@pytest.fixture
def training() -> Iterator[Training]:
    training = Training()
    yield training
    training.kill()


class Resumed(list[tuple[list[str], dict[str, Any]]]):
    """Commands that resuming would have started, with their options."""

    status: int | None = None
    """Exit status of their processes; None while they are alive."""


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> Resumed:
    """Resuming starts nothing; what it would have started."""
    started = Resumed()

    def start(command: list[str], **options: Any) -> SimpleNamespace:
        started.append((command, options))
        return SimpleNamespace(poll=lambda: started.status)

    monkeypatch.setattr(trainings, "subprocess", SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL))
    return started
