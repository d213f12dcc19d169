"""README's list of files, compared with the disk.

    .venv/bin/python -m tests.file_list    rewrites the list: drops what is gone, adds what is new, keeps the texts

A line of the list is a path and what the file holds. A path that ends in a slash stands for that package's
`__init__.py` (an empty one needs no line); outside of Python code, and for tests, a path may be a pattern with `*` or `**`.
"""

import ast
import re
import subprocess
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?<=<!-- files -->\n```text\n).*?(?=```\n<!-- end of files -->)", re.DOTALL)
WIDTH = 48
NEVER_LISTED = {".git", ".venv", "__pycache__", "node_modules"}


def files_on_disk(root: Path = ROOT) -> list[str]:
    """Every file that git tracks or would track; without git, every file outside hidden caches."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        output = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
        found = [path for path in output.split("\0") if path]
    except (OSError, subprocess.CalledProcessError):
        found = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        found = [path for path in found if not NEVER_LISTED & set(PurePosixPath(path).parts)]
    return sorted(path for path in set(found) if (root / path).is_file() and not is_empty_package(root / path))


def is_empty_package(path: Path) -> bool:
    """An `__init__.py` without content only marks its folder; it needs no line."""
    return path.name == "__init__.py" and path.stat().st_size == 0


def entries(readme: str) -> dict[str, str]:
    """The list as path -> text, in README's order."""
    block = BLOCK.search(readme)
    if block is None:
        raise ValueError("README.md has no list of files between its two comments")
    lines = [line.split(maxsplit=1) for line in block.group().splitlines() if line.strip()]
    return {path: (text[0].strip() if text else "") for path, *text in lines}


def covers(entry: str, path: str) -> bool:
    """Whether the line `entry` stands for the file `path`."""
    if "*" not in entry:
        return path == (f"{entry}__init__.py" if entry.endswith("/") else entry)
    if path.endswith(".py") and not path.startswith("tests/"):
        return False
    pattern = re.escape(entry).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(pattern, path) is not None


def missing(listed: dict[str, str], files: list[str]) -> list[str]:
    """Files without a line."""
    return [path for path in files if not any(covers(entry, path) for entry in listed)]


def gone(listed: dict[str, str], files: list[str]) -> list[str]:
    """Lines without a file."""
    return [entry for entry in listed if not any(covers(entry, path) for path in files)]


def line_for(path: str, text: str | None = None) -> str:
    """The line of one file; by default its text is the first sentence of the module's docstring."""
    entry = path.removesuffix("__init__.py") if path.endswith("/__init__.py") else path
    return f"{entry:<{WIDTH}} {_summary(path) if text is None else text}".rstrip()


def _summary(path: str) -> str:
    if not path.endswith(".py"):
        return "TODO: say what this is"
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text())) or "TODO: give this module a docstring"
    sentence = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<!et al)\.(?: |$)", sentence)[0]


def _in_order(path: str) -> tuple[bool, str, str]:
    """Files of the top folder first, then folder by folder; a package's own line before its modules."""
    folder, _, name = path.rpartition("/")
    return (bool(folder), folder, "" if name == "__init__.py" else name)


def rewritten(readme: str, files: list[str]) -> str:
    """README with its list brought up to date."""
    listed = entries(readme)
    kept = [entry for entry in listed if entry not in gone(listed, files)]
    lines = [(_in_order(f"{e}__init__.py" if e.endswith("/") else e), line_for(e, listed[e])) for e in kept]
    lines += [(_in_order(path), line_for(path)) for path in missing(listed, files)]
    block = "".join(f"{line}\n" for _, line in sorted(lines))
    return BLOCK.sub(lambda _: block, readme)


if __name__ == "__main__":
    target = ROOT / "README.md"
    target.write_text(rewritten(target.read_text(), files_on_disk()))
