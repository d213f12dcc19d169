"""Commands to paste into a shell: quoted, and only with options that the command has."""

import ast
import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from playground.cli import COMMANDS, main
from playground.commands import command_line, resume_line, run_line
from playground.config import RunConfig
from tasks.registry import task_names
from tests.conftest import ROOT
from tests.fake_runs import write_run

NAMES = ["plain", "a run", "it's", "$(reboot)", "a;b", "-x", "--help", "*", "é"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", ["runs", "my runs/of 'today'", "-runs", "."])
def test_a_shell_reads_what_was_meant(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(folder) / name
    path.mkdir(parents=True)
    for line in (resume_line(path), run_line("resume", path)):
        words = shlex.split(line)
        assert words[:4] == ["python", "-m", "playground", "resume"] and words[5] == "--runs-dir"
        assert not words[4].startswith("-") and not words[6].startswith("-")
        found = Path(words[6], words[4]) if words[4] == name else Path(words[4])
        assert found.resolve() == path.resolve() and Path(words[6]).resolve() == path.parent.resolve()


def test_several_runs_and_options_stand_in_one_line():
    assert run_line("probe", Path("r/a b"), Path("r/c"), options="--step all") == (
        "python -m playground probe 'a b' c --step all --runs-dir r"
    )
    assert command_line("runs", "rm", "a&b") == "python -m playground runs rm 'a&b'"


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*(?<!-)")
OTHERS = {"--nproc-per-node", "--short", "--porcelain", "--server"}
"""Options of torchrun, git and streamlit."""


def options_of(argv: list[str]) -> set[str]:
    """The options that a command's help names."""
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main([*argv, "--help"])
    return set(re.findall(r"--[a-z][a-z-]*", said.getvalue()))


def messages(path: Path) -> set[str]:
    """The texts of a module; values in an f-string stand as {}."""
    found: set[str] = set()
    inside: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            inside.update(node.values)
            found.add("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            found.add(node.value)
    return found


def test_every_option_that_is_named_is_an_option_of_a_command():
    known = {"--help"}
    for name in COMMANDS.keys() - {"train", "runs"}:
        known |= options_of([name])
    for name in ("list", "show", "rm"):
        known |= options_of(["runs", name])
    for task in task_names():
        known |= options_of(["train", "--task", task])
    named: dict[str, str] = {}
    for path in [*ROOT.glob("playground/**/*.py"), *ROOT.glob("tasks/*.py")]:
        if "figures" in path.parts:  # style sheets, whose variables begin with two hyphens as well
            continue
        for message in messages(path):
            for option in OPTION.findall(message):
                named[option] = f"{path.relative_to(ROOT)}: {message}"
    unknown = {option: named[option] for option in named.keys() - known - OTHERS - {"--a", "--b"}}
    assert not unknown


def test_advice_that_resume_can_give_names_the_command_that_has_the_option():
    """`resume` has few options; what it says of a training's options is about another training."""
    resume = options_of(["resume"])
    for path in (
        *ROOT.glob("playground/running/*.py"),
        *ROOT.glob("playground/training/*.py"),
        *ROOT.glob("playground/analysis/*.py"),
    ):
        for message in messages(path):
            options = set(OPTION.findall(message)) - resume
            if not options or message.startswith("--") or ">>>" in message or message in ITS_CALLERS_SAY:
                continue
            assert re.search(r"\b(train with|torchrun|write --nproc-per-node)\b", message), (path.name, message)


ITS_CALLERS_SAY = {"write --device cpu or auto"}


def test_a_run_for_a_gpu_that_is_resumed_without_one_is_told_where_to_resume_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path, other = (write_run(tmp_path, steps=20, state="stopped", seed=seed) for seed in (0, 1))
    values = json.loads((path / "config.json").read_text())
    config = RunConfig.from_dict(values | {"train": values["train"] | {"device": "cuda"}})
    (path / "config.json").write_text(json.dumps(config.to_dict()))
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"config_hash": config.hash()}))
    for runs in ([path.name], [path.name, other.name]):
        assert main(["resume", *runs, "--runs-dir", str(tmp_path)]) == 2
        assert capsys.readouterr().err == (
            f"error: device is 'cuda', and torch sees no GPU here; resume run {path.name} on a machine that has one\n"
        )
