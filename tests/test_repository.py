"""Rules about the repository as a whole: README and its map of packages, what is pinned, how long a module may be."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

MOST_BYTES = 12_288
"""Of README."""
MAX_LINES = 400
TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".ipynb", ".cfg", ".sh", ".csv"}
NEVER = {".git", ".venv", ".cache", "__pycache__", "node_modules", "runs", "site", "build"}
"""Folders without files of the repository."""
MAP = re.compile(r"<!-- packages -->\n```text\n(.*?)```\n<!-- end of packages -->", re.DOTALL)
# A path below a home or work folder, where no longer path, address or word runs into it.
ABSOLUTE_PATH = re.compile(r"(?<![\w.~/:}-])/(?:home|root|work|Users)/[\w.]+")


@pytest.fixture(scope="module")
def readme(repository_root: Path) -> str:
    return (repository_root / "README.md").read_text()


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Every file that git tracks or would track; without git, every file outside of hidden folders."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        found = [path for path in output.split("\0") if path]
    except (OSError, subprocess.CalledProcessError):
        found = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
        found = [path for path in found if not NEVER & set(Path(path).parts)]
    return sorted(path for path in set(found) if (ROOT / path).is_file())


@pytest.fixture(scope="module")
def project(repository_root: Path) -> dict:
    return tomllib.loads((repository_root / "pyproject.toml").read_text())


def requirement_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def pinned(path: Path) -> dict[str, Requirement]:
    found = [Requirement(line.split("#")[0].strip()) for line in requirement_lines(path)]
    return {requirement.name: requirement for requirement in found}


def commands(readme: str) -> list[str]:
    """The lines of README's shell blocks."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", readme, re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def package_map(readme: str) -> list[tuple[str, str]]:
    """The lines of README's map: a folder, which ends in a slash, and what it holds."""
    block = MAP.search(readme)
    assert block is not None, "README.md has no map of packages between its two comments"
    lines = [line.split(maxsplit=1) for line in block.group(1).splitlines() if line.strip()]
    return [(folder, text[0].strip() if text else "") for folder, *text in lines]


def folders_of_code(files: list[str]) -> set[str]:
    """Folders that hold Python, or notebooks; those of `tests` that repeat the tree need no line."""
    found = {f"{Path(path).parent.as_posix()}/" for path in files if path.endswith((".py", ".ipynb"))} - {"./"}
    mirrored = {folder.removeprefix("playground/") for folder in found}
    return {
        folder for folder in found if not folder.startswith("tests/") or folder.removeprefix("tests/") not in mirrored
    }


def test_readme_maps_every_folder_of_code_once_and_no_other(readme: str, files: list[str]) -> None:
    listed = [folder for folder, _ in package_map(readme)]
    assert not sorted(folders_of_code(files) - set(listed)), "README's map of packages lacks these folders"
    assert len(set(listed)) == len(listed), "README's map of packages names a folder twice"
    held = {parent.as_posix() + "/" for path in files for parent in Path(path).parents}
    assert not sorted(set(listed) - held), "README's map of packages names folders that do not exist"
    assert all(text for _, text in package_map(readme)), "a line of README's map says nothing"


def test_folders_of_tests_that_repeat_the_tree_need_no_line() -> None:
    files = [
        "app.py",
        "tasks/a.py",
        "playground/ui/lens/lens.py",
        "tests/tasks/t.py",
        "tests/ui/lens/t.py",
        "tests/own/t.py",
    ]
    assert folders_of_code(files) == {"tasks/", "playground/ui/lens/", "tests/own/"}


def test_readme_is_one_screen_before_its_first_command_and_short(readme: str) -> None:
    assert len(readme.encode()) <= MOST_BYTES
    assert readme.index("```bash") < 1500


def test_every_figure_of_readme_has_its_source(readme: str) -> None:
    """The section with results names seeds in each paragraph or table caption, and links to a page that has the command."""
    section = readme.partition("## What was found")[2].partition("\n## ")[0]
    assert "8 seeds" in section and "95%" in section
    for page in ("docs/findings/2026-11-30.md", "docs/log.md", "docs/speed.md", "docs/findings/index.md"):
        assert f"({page})" in section
    for item in ("- Decoding:", "- Training:"):
        paragraph = section.partition(item)[2].partition("\n- ")[0]
        assert "seed 0" in paragraph and "](docs/" in paragraph


def test_git_ignores_no_code(files: list[str], repository_root: Path) -> None:
    folders = ("playground", "tasks", "tests", "benchmarks")
    code = {path.relative_to(repository_root).as_posix() for name in folders for path in _code(repository_root / name)}
    assert not sorted(code - set(files)), "these are hidden by .gitignore"


def _code(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if "__pycache__" not in path.parts]


def test_every_make_target_is_documented_and_the_other_way_round(readme: str, repository_root: Path) -> None:
    makefile = (repository_root / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()) - {"help"}
    page = (repository_root / "docs" / "reference" / "command-line.md").read_text()
    assert targets == set(re.findall(r"\bmake (\w+)", "\n".join(commands(page))))
    assert set(re.findall(r"\bmake (\w+)", "\n".join(commands(readme)))) <= targets
    assert all(f'"make {target} ' in makefile for target in targets), "make help does not name every target"


def test_every_command_in_readme_exists(readme: str, repository_root: Path) -> None:
    used = {match for line in commands(readme) for match in re.findall(r"-m playground (\w+)", line)}
    assert used, "README shows no command line"
    result = subprocess.run(
        [sys.executable, "-m", "playground", "--help"], cwd=repository_root, capture_output=True, text=True, check=True
    )
    absent = sorted(command for command in used if not re.search(rf"\b{command}\b", result.stdout))
    assert not absent, f"README names commands that do not exist: {', '.join(absent)}"


def test_names_that_readme_imports_exist(readme: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    imports = [line for block in blocks for line in block.splitlines() if line.startswith(("import ", "from "))]
    assert imports, "README shows no Python"
    exec("\n".join(imports), {})


def test_every_preset_is_in_readme(readme: str) -> None:
    from playground.running.presets import PRESETS

    assert not [name for name in PRESETS if f"`{name}`" not in readme]


def test_links_in_documents_lead_somewhere(files: list[str], repository_root: Path) -> None:
    broken = []
    for path in (repository_root / name for name in files if name.endswith(".md")):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if "://" not in link and not (path.parent / link).exists():
                broken.append(f"{path.relative_to(repository_root)}: {link}")
    assert not broken, "\n".join(broken)


def test_every_requirement_is_pinned_with_a_reason(repository_root: Path) -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-docs.txt"):
        for line in requirement_lines(repository_root / name):
            assert re.fullmatch(r"[\w.\[\]-]+==\S+ +# \S.*", line), f"{name}: '{line}' is not 'name==version  # reason'"


def test_pins_are_within_the_ranges(repository_root: Path, project: dict) -> None:
    pins = pinned(repository_root / "requirements.txt")
    ranges = {range_.name: range_ for range_ in map(Requirement, project["project"]["dependencies"])}
    assert set(pins) == set(ranges)
    for name, requirement in pins.items():
        (version,) = [specifier.version for specifier in requirement.specifier]
        assert ranges[name].specifier.contains(version), f"{requirement} is outside {ranges[name]}"


def test_the_server_is_private_and_quiet(repository_root: Path) -> None:
    config = tomllib.loads((repository_root / ".streamlit/config.toml").read_text())
    assert config["server"]["address"] == "localhost"
    assert set(config["server"]["allowedHosts"]) == {"localhost", "127.0.0.1", "::1"}
    assert config["server"]["enableCORS"] is True and config["server"]["enableXsrfProtection"] is True
    assert config["server"]["showEmailPrompt"] is False
    assert config["server"]["enableAgentApi"] is False
    assert config["server"]["fileWatcherType"] == "none"
    assert config["browser"]["gatherUsageStats"] is False
    assert set(config["theme"]["light"]) == set(config["theme"]["dark"])


def test_no_file_names_a_folder_of_one_machine(files: list[str], repository_root: Path) -> None:
    found = []
    for path in (repository_root / name for name in files if Path(name).suffix in TEXT_SUFFIXES):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if match := ABSOLUTE_PATH.search(line):
                found.append(f"{path.relative_to(repository_root)}:{number}: {match.group()}")
    assert not found, "\n".join(found)


def test_modules_are_short(files: list[str], repository_root: Path) -> None:
    lengths = {name: len((repository_root / name).read_text().splitlines()) for name in files if name.endswith(".py")}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


@pytest.mark.parametrize("module", ["playground.results", "playground.figures", "playground.cli", "playground.ui"])
def test_what_only_shows_loads_without_torch(module: str, repository_root: Path) -> None:
    """The layers say so of imports; this says so of what Python really loads, packages above included."""
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'streamlit'}} & set(sys.modules)) or 0)"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository_root, capture_output=True, text=True)
    assert result.returncode == 0, f"{module} loads {result.stderr.strip()}"
