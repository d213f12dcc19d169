"""Rules about the repository as a whole: what README says, what is pinned, how long a module may be."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.file_list import covers, entries, files_on_disk, gone, is_empty_package, line_for, missing

MAX_LINES = 400
TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".ipynb", ".cfg", ".sh", ".csv"}
# A path below a home or work folder, where no longer path, address or word runs into it.
ABSOLUTE_PATH = re.compile(r"(?<![\w.~/:}-])/(?:home|root|work|Users)/[\w.]+")


@pytest.fixture(scope="module")
def readme(repository_root: Path) -> str:
    return (repository_root / "README.md").read_text()


@pytest.fixture(scope="module")
def files() -> list[str]:
    return files_on_disk()


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


def test_readme_lists_every_file_and_no_other(readme: str, files: list[str]) -> None:
    listed = entries(readme)
    add = [line_for(path) for path in missing(listed, files)]
    remove = gone(listed, files)
    report = ["README's list of files is not the disk's. To mend it: .venv/bin/python -m tests.file_list"]
    report += ["Lines to add:", *add] if add else []
    report += ["Lines to remove:", *remove] if remove else []
    assert not add and not remove, "\n".join(report)


def test_git_ignores_no_code(files: list[str], repository_root: Path) -> None:
    folders = ("playground", "tasks", "tests", "benchmarks")
    code = {path.relative_to(repository_root).as_posix() for name in folders for path in _code(repository_root / name)}
    assert not sorted(code - set(files)), "these are hidden by .gitignore"


def _code(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if "__pycache__" not in path.parts and not is_empty_package(path)]


def test_readme_says_of_every_file_what_it_is(readme: str) -> None:
    silent = [path for path, text in entries(readme).items() if not text or text.startswith("TODO")]
    assert not silent, f"README's list says nothing of: {', '.join(silent)}"


@pytest.mark.parametrize(
    ("entry", "path", "expected"),
    [
        ("app.py", "app.py", True),
        ("tasks/", "tasks/__init__.py", True),
        ("tasks/", "tasks/base.py", False),
        ("docs/*.png", "docs/a.png", True),
        ("docs/*.png", "docs/images/a.png", False),
        ("docs/**/*.png", "docs/images/a.png", True),
        ("docs/**/*.png", "docs/a.png", True),
        ("tests/**/test_*.py", "tests/tasks/test_base.py", True),
        ("tasks/*.py", "tasks/base.py", False),  # Python code is listed file by file
    ],
)
def test_a_line_covers_its_files(entry: str, path: str, expected: bool) -> None:
    assert covers(entry, path) is expected


def test_every_make_target_is_in_readme_and_the_other_way_round(readme: str, repository_root: Path) -> None:
    makefile = (repository_root / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()) - {"help"}
    assert targets == set(re.findall(r"\bmake (\w+)", "\n".join(commands(readme))))


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
    for name in ("requirements.txt", "requirements-dev.txt"):
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
