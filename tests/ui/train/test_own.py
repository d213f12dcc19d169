"""Any task with its settings: the guide's task of one file is offered with its own fields, and trained."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from streamlit.testing.v1 import AppTest

from playground.config import SIZES, ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.running import jobs
from playground.running.presets import PRESETS, make_config
from playground.runs.config import read_config_values
from playground.ui.shared.fields import field_help
from playground.ui.shared.text import plain
from playground.ui.train.estimate import guessed_pace
from playground.ui.train.form import OWN
from tasks import register_task
from tasks.config import TaskConfig, check_fields
from tasks.registry import _registered
from tests.conftest import ROOT
from tests.ui.support import assert_well, entry, open_page, widget, words, write_job

GUIDE = ROOT / "docs" / "guides" / "add-a-task.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class KindsConfig(TaskConfig):
    """A field of every kind. <b>Only</b> the first line is shown.

    Not this one.
    """

    name: ClassVar[str] = "kinds"

    whole: int = 3
    """A whole number,
    with *help* on two lines."""
    share: float = 0.25
    switched: bool = True
    way: Literal["left", "right"] = "right"
    path: str | None = None
    limit: int | None = None
    endings: tuple[str, ...] | None = None
    numbers: tuple[int, ...] = (1, 2)
    odd_one: complex = 1j

    def __post_init__(self) -> None:
        check_fields(self, n_ctx=(4, 128), whole=(1, 9), share=(0, 1))
        if self.whole == 4:
            raise ValueError("whole is 4; write another number")


@pytest.fixture
def kinds() -> Iterator[type[KindsConfig]]:
    register_task(KindsConfig, KindsConfig)
    yield KindsConfig
    _registered.pop("kinds")


@pytest.fixture
def asked(runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configurations that `start_job` was given; nothing is started."""
    given: list[RunConfig] = []

    def start_job(folder: Path, configs: list[RunConfig], **_options: Any) -> jobs.Job:
        given.extend(configs)
        return write_job(folder, entry("new", "finished"))

    monkeypatch.setattr(jobs, "start_job", start_job)
    return given


def form(task: str, **choices: Any) -> AppTest:
    """The page with a task and its settings, chosen one after another."""
    app = open_page("train")
    for key, value in ({"start-from": OWN, "own-task": task} | choices).items():
        choose(app, key, value)
    return app


def choose(app: AppTest, key: str, value: Any) -> None:
    widget(app, key).set_value(value)
    app.run()
    assert_well(app)


def test_presets_come_first(runs: Path) -> None:
    app = open_page("train")
    assert widget(app, "task").value == "induction"
    assert not [element for element in app if str(getattr(element, "key", "")).startswith("own-")]


def test_every_field_has_a_widget_of_its_kind(kinds: Any, asked: list[RunConfig]) -> None:
    app = form("kinds")
    whole, share, way = (widget(app, f"own-kinds-{name}") for name in ("whole", "share", "way"))
    assert (whole.min, whole.max, whole.value, whole.label) == (1, 9, 3, "whole")
    assert whole.help == plain("A whole number, with *help* on two lines.")
    assert (share.min, share.max, share.value) == (0.0, 1.0, 0.25)
    assert way.options == ["left", "right"] and way.value == "right"
    assert plain("A field of every kind. <b>Only</b> the first line is shown.") in words(app)
    changes = {"whole": 5, "share": 0.5, "switched": False, "way": "left", "path": "a b", "limit": 7, "n_ctx": 8}
    for name, value in (changes | {"endings": ".py .md", "numbers": "3 4"}).items():
        choose(app, f"own-kinds-{name}", value)
    choose(app, "n-own-kinds-layers", [1])
    widget(app, "train").click().run()
    (config,) = asked
    assert config.task == kinds(**changes, endings=(".py", ".md"), numbers=(3, 4))


def test_the_defaults_are_those_of_the_command_line(kinds: Any, asked: list[RunConfig]) -> None:
    app = form("kinds")
    choose(app, "n-own-kinds-layers", [1])
    widget(app, "train").click().run()
    assert asked == [RunConfig(task=kinds())]


@pytest.mark.parametrize("size", ["3M", "1B"])
def test_every_size_of_the_paper_can_be_chosen(
    kinds: Any, asked: list[RunConfig], monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setattr("playground.training.memory.free_memory", lambda _device: 2**50)
    app = form("kinds", **{"own-size": size, f"own-{size}-lr": 0.002, f"own-{size}-batch_size": 8})
    assert list(widget(app, "own-size").options)[1:] == list(SIZES)
    choose(app, "n-own-kinds-layers", [1, 2])
    widget(app, "train").click().run()
    sized = [ModelConfig(**SIZES[size], n_future=n_future) for n_future in (1, 2)]
    assert [config.model for config in asked] == sized
    assert {(config.optim, config.train.batch_size) for config in asked} == {(OptimConfig(lr=0.002), 8)}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("own-kinds-whole", 4, "whole is 4; write another number"),
        ("own-kinds-numbers", "1 x", "numbers is (1, 'x'); write a tuple, each entry a whole number"),
        ("own-custom-n_heads", 5, "is not divisible by n_heads 5; write d_model="),
    ],
)
def test_an_impossible_value_is_told_and_nothing_else_is_lost(
    kinds: Any, asked: list[RunConfig], key: str, value: Any, problem: str
) -> None:
    app = form("kinds", **{"own-kinds-share": 0.5, "own-custom-n_layers": 6})
    for other, chosen in (("n-own-kinds-layers", [1, 4]), ("seeds", 3), ("steps-own-kinds", 7)):
        choose(app, other, chosen)
    before = widget(app, key).value
    choose(app, key, value)
    assert plain(problem) in words(app) and widget(app, "train").disabled
    choose(app, key, before if not isinstance(before, str) else "1 2")
    widget(app, "train").click().run()
    assert [(config.model.n_future, config.seed) for config in asked] == [
        (n, seed) for seed in range(3) for n in (1, 4)
    ]
    assert {(one.task.share, one.model.n_layers, one.train.steps) for one in asked} == {(0.5, 6, 7)}


def test_what_reaches_past_the_context_is_told_as_by_the_command_line(kinds: Any, runs: Path) -> None:
    app = form("kinds", **{"own-custom-n_layers": 9, "n-own-kinds-layers": [8], "own-kinds-n_ctx": 4})
    assert plain("n_future 8 reaches past the task's context of 4 tokens; write n_future <= 3") in words(app)
    assert widget(app, "train").disabled


def test_what_does_not_fit_into_memory_is_told(kinds: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = form("kinds")
    assert "Memory: less than **0.1 GiB** a model, and " in words(app)
    assert "(a guess until a first run has been measured here)" in words(app)
    monkeypatch.setattr("playground.training.memory.free_memory", lambda _device: 2**20)
    app.run()
    assert "GiB are free on c" in words(app) and widget(app, "train").disabled


def test_the_pace_is_that_of_the_nearest_preset_in_proportion_to_the_flops() -> None:
    known = [(make_config(name), PRESETS[name].seconds_per_step) for name in ("induction-cpu", "bytes-cpu")]
    for config, seconds in known:
        assert guessed_pace(config, known) == pytest.approx(seconds)
        double = dataclasses.replace(config.train, batch_size=2 * config.train.batch_size)
        assert guessed_pace(dataclasses.replace(config, train=double), known) == pytest.approx(2 * seconds)


def test_a_model_too_shallow_for_two_tokens_says_what_to_do(kinds: Any, runs: Path) -> None:
    app = form("kinds")
    assert "2 layers hold n = 1 alone" in words(app)
    choose(app, "own-custom-n_layers", 3)
    assert "hold n = 1 alone" not in words(app) and widget(app, "n-own-kinds-layers").options == ["1", "2"]


def test_help_comes_from_the_source(kinds: Any) -> None:
    assert field_help(TrainConfig)["steps"] == "Optimizer steps."
    assert field_help(kinds)["n_ctx"] == "Context length: tokens in one row."
    assert "share" not in field_help(kinds)
    assert field_help(dataclasses.make_dataclass("WithoutSource", [("field", int)])) == {}


# --- the guide's task, in a copy of the project with one file more -----------------------------------------------------

VISIT = """
import sys, time
from pathlib import Path
from playground.running.jobs import list_jobs
from playground.ui.train.form import OWN
from tests.ui.support import assert_well, open_page, widget, words

app = open_page("train")
for key, value in {{"start-from": OWN, "own-task": "parity", "own-parity-n_ctx": 8, "own-custom-d_model": 32,
                   "n-own-parity-layers": [1], "steps-own-parity": 3}}.items():
    widget(app, key).set_value(value)
    app.run()
    assert_well(app)
assert widget(app, "own-parity-test_rows").help == "Rows in the fixed test set."
widget(app, "own-parity-n_ctx").set_value(5)
app.run()
assert "n_ctx is 5; write an even number" in words(app)
widget(app, "own-parity-n_ctx").set_value(8)
app.run()
widget(app, "train").click().run()
assert_well(app)
end = time.monotonic() + 240
while any(job.active for job in list_jobs({runs!r})) and time.monotonic() < end:
    time.sleep(0.2)
(job,) = list_jobs({runs!r})
print([(entry.status, entry.message) for entry in job.entries])
"""


@pytest.mark.slow
def test_the_guides_task_is_trained_from_the_page_and_the_command_line_with_one_file_more(tmp_path: Path) -> None:
    project, folder = tmp_path / "project", str(tmp_path / "runs")
    for name in ("playground", "tasks", "tests", ".streamlit"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "data"))
    shutil.copy(ROOT / "app.py", project)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    (project / "tasks" / "parity.py").write_text(code)
    environment = os.environ | {"PLAYGROUND_RUNS_DIR": folder, "PLAYGROUND_NO_TYPECHECK": "1"}
    train = ["-m", "playground", "train", "--task", "parity", "--n-ctx", "8", "--d-model", "32", "--steps", "3"]
    for command in (["-c", VISIT.format(runs=folder)], [*train, "--run-id", "by-hand", "--json"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if command[0] == "-c":
            assert "[('finished', '')]" in done.stdout, done.stdout
    by_page, by_hand = (
        read_config_values(path.parent)
        for path in sorted(Path(folder).glob("*/run.json"), key=lambda p: p.parent.name == "by-hand")
    )
    assert by_page["task"] == by_hand["task"] == {"name": "parity", "n_ctx": 8, "test_rows": 256}
    assert by_page["model"] == by_hand["model"]
