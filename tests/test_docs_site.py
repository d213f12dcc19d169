"""The documentation as a site: navigation, names of the reference, the commands of pages, and the drawing of the packages."""

import importlib
import re
import shlex
from pathlib import Path

import networkx as nx
import pytest

import playground
import tasks
from docs.scripts import architecture, command_line
from playground.cli import COMMANDS, main
from playground.cli.generate_options import Generate, check_options
from playground.cli.parsing import parse
from playground.cli.training import _parse_train, _start_from
from playground.running.presets import PRESETS
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
COMMAND = ".venv/bin/python -m playground "


def commands() -> list[tuple[str, str]]:
    """Every call of the command line in a shell block of README or a page: where, and what follows `playground`."""
    found = []
    for path in (ROOT / "README.md", *(DOCS / page for page in PAGES)):
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", path.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(path.relative_to(ROOT).as_posix(), line.strip().removeprefix(COMMAND)) for line in lines
                      if line.strip().startswith(COMMAND)]  # fmt: skip
    return found


def test_the_navigation_has_every_page_once_and_no_other() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\nplugins:")[0]
    listed = re.findall(r"- (?:[\w ]+: )?(\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(PAGES)


def test_pages_say_after_and_not_behind() -> None:
    pages = [page for page in PAGES if not page.startswith("decisions/")]
    found = [page for page in pages if re.search(r"\bbehind\b", (DOCS / page).read_text(), re.IGNORECASE)]
    assert not found


def test_every_anchor_in_a_link_is_a_heading() -> None:
    broken = []
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(DOCS / page for page in PAGES)):
        for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", path.read_text()):
            target = path.parent / link if link else path
            if "://" not in link and anchor not in anchors(target):
                broken.append(f"{path.relative_to(ROOT)}: {link}#{anchor}")
    assert not broken


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_reference_has_every_public_name() -> None:
    names = re.findall(r"^::: (\S+)$", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE)
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    assert sorted(name.rpartition(".")[2] for name in names) == sorted([*playground.__all__, *tasks.__all__])


def test_the_reference_shows_the_help_of_every_command() -> None:
    page = (DOCS / "reference" / "command-line.md").read_text()
    assert {name.split()[0] for name in command_line.COMMANDS} == set(COMMANDS)
    for name in command_line.COMMANDS:
        assert f'--8<-- "{command_line.file_of(name).relative_to(ROOT).as_posix()}"' in page


def test_help_is_written_as_it_is_printed() -> None:
    assert command_line.help_of("runs list").startswith("usage: python -m playground runs list")


@pytest.mark.parametrize(
    ("page", "line"), [pytest.param(*case, id=f"{case[0]}: {case[1][:60]}") for case in commands()]
)
def test_a_command_of_a_page_is_understood(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options and values are known; a run that is not there is all that may be missing."""
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(tmp_path))
    command, *words = shlex.split(line, comments=True)
    words = [word for word in words if word != "..."]
    if command == "train" and "--base" not in words:
        _parse_train(words, _start_from(words), PRESETS)
    elif command == "generate":
        check_options(parse(Generate, words, "generate"))
    else:
        status = main([command, *words])
        said = capsys.readouterr()
        assert status == 0 or "no run" in said.err + said.out, said.err


def test_there_are_commands() -> None:
    assert len(commands()) > 35


def test_the_drawing_of_the_packages_is_that_of_the_code() -> None:
    command = ".venv/bin/python -m docs.scripts.architecture"
    assert architecture.DRAWING.read_text() == architecture.drawing(), f"the imports have changed; write {command}"


def test_the_drawing_leaves_out_only_what_other_arrows_imply() -> None:
    edges = architecture.imports()
    fewest = architecture.reduced(edges)
    assert "figures" in edges["ui"] and "figures" not in fewest["ui"]
    for package in edges:
        assert nx.descendants(nx.DiGraph(fewest), package) == nx.descendants(nx.DiGraph(edges), package)


def test_reduction_in_a_worked_case() -> None:
    edges = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    assert architecture.reduced(edges) == {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset()}


def test_examples_in_docstrings_become_blocks_of_code() -> None:
    pytest.importorskip("griffe", reason="installed by make docs")
    from docs.scripts.doctests import fenced

    assert fenced("One.\n\n>>> 1 + 1\n2\n\nTwo.") == "One.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nTwo."
    assert fenced(">>> 1") == "```pycon\n>>> 1\n```" and fenced("a >>> b") == "a >>> b"


EXAMPLES = {"tasks/parity.py", "playground/probes/prediction_entropy.py", "playground/ui/lengths.py"}
"""Files that a guide would add."""


def test_files_that_pages_name_exist() -> None:
    """In guides, reference and explanation; findings, logs and decisions speak of their day."""
    dated = re.compile(r"findings/|decisions/|log\.md")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(DOCS / page for page in PAGES if not dated.match(page))]
    absent = set()
    for path in pages:
        named = re.findall(r"`((?:playground|tasks|tests|benchmarks|docs|notebooks)/[\w/.]+\.\w+)`", path.read_text())
        absent |= {f"{path.name}: {name}" for name in set(named) - EXAMPLES if not (ROOT / name).exists()}
    absent = {line for line in absent if "NAME" not in line}
    assert not absent
