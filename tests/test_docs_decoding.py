"""docs/guides/decoding.md: its Python is run on a stored run, and its commands are read."""

import re
import shlex

import pytest

from playground.cli.generate_options import Generate, check_options
from playground.cli.parsing import parse
from tests.fake_runs import write_run, write_weights


@pytest.fixture
def blocks(repository_root):
    """The code of the page, by language."""
    page = (repository_root / "docs" / "guides" / "decoding.md").read_text()
    return dict(re.findall(r"```(python|bash)\n(.*?)```", page, flags=re.DOTALL))


def test_the_python_of_the_page_decodes_both_ways_alike(blocks, tmp_path, capsys):
    path = write_run(tmp_path, steps=20, n_future=2)
    write_weights(path, [20])
    code, found = re.subn(r"^RUN = .*$", f"RUN = {str(path)!r}", blocks["python"], flags=re.MULTILINE)
    assert found == 1
    names = {}
    exec(compile(code, "docs/guides/decoding.md", "exec"), names)
    assert [row.tokens for row in names["drafted"].decoded] == [row.tokens for row in names["plain"].decoded]
    assert {len(row.tokens) for row in names["sampled"].decoded} == {32}
    assert names["tree"].n_nodes == 8
    assert names["speed"].identical
    assert "conditional acceptance" in capsys.readouterr().out


def test_the_commands_of_the_page_are_understood(blocks):
    lines = [shlex.split(line, comments=True) for line in blocks["bash"].splitlines()]
    assert len(lines) > 2
    for line in lines:
        assert line[:5] == [".venv/bin/python", "-m", "playground", "generate", "RUN"]
        check_options(parse(Generate, line[4:], "generate"))
