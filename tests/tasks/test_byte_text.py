"""Byte windows: where they come from, what they never cross, and bits per byte."""

import math
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.base import seeded_generator
from tasks.byte_text import ByteText, ByteTextConfig
from tasks.corpus import load_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty files of one letter each, of different lengths, and some that are not to be read."""
    for index in range(20):
        target = tmp_path / ("deep/er" if index % 3 else ".") / f"{index:02}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes([65 + index]) * (20 + 3 * index))
    (tmp_path / "short.txt").write_bytes(b"!" * 7)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "secret.txt").write_bytes(b"?" * 100)
    (tmp_path / "link.txt").symlink_to(tmp_path / "00.txt")
    return tmp_path


def from_folder(folder: Path, **fields: Any) -> ByteText:
    return ByteText(ByteTextConfig(**{"path": str(folder), "n_ctx": 8, "test_fraction": 0.25, **fields}))


def uniform(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
    return torch.zeros(*tokens.shape, len(offsets), 256)


def test_the_worked_row_of_the_docstring(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\n" * 10)
    task = from_folder(tmp_path, n_ctx=6, test_fraction=0.2)
    batch = task.test_batch(100)
    assert batch.tokens[0].tolist() == [120, 32, 61, 32, 49, 10]
    assert "".join(task.token_strings(batch.tokens[0].tolist())) == "x = 1⏎"
    assert task.decode(batch.tokens[0].tolist()) == "x = 1\n"
    assert batch.score_mask.all()
    assert batch.loss_mask.all()
    assert (batch.documents == 0).all()


def test_windows_stay_within_a_file_and_start_anywhere(folder: Path) -> None:
    task = from_folder(folder)
    batch = task.sample(30_000, seeded_generator(0))
    assert batch.tokens.dtype == torch.int64
    assert torch.equal(batch.tokens, batch.tokens[:, :1].expand(-1, 8))
    counts = Counter(batch.tokens[:, 0].tolist())
    rooms = {text[0]: len(text) - 7 for text in load_corpus(str(folder), None, 0.25).train if len(text) >= 8}
    assert counts.keys() == rooms.keys()
    for letter, room in rooms.items():
        assert abs(counts[letter] / 30_000 - room / sum(rooms.values())) < 0.01


def test_every_start_occurs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(50)))
    (tmp_path / "b").write_bytes(bytes(range(100, 150)))
    (tmp_path / "c").write_bytes(bytes(range(200, 250)))
    task = from_folder(tmp_path, test_fraction=0.01)
    firsts = set(task.sample(5000, seeded_generator(0)).tokens[:, 0].tolist())
    lasts = set(task.sample(5000, seeded_generator(0)).tokens[:, -1].tolist())
    assert len(firsts) == len(lasts) == 2 * 43
    assert min(lasts) - min(firsts) == max(lasts) - max(firsts) == 7


def test_train_and_test_are_separate_and_hidden_files_are_not_read(folder: Path) -> None:
    corpus = load_corpus(str(folder), None, 0.25)
    train, test = ({text[0] for text in part} for part in (corpus.train, corpus.test))
    assert not train & test
    assert train | test == {*range(65, 85), ord("!")}
    assert len(corpus.test) == math.ceil(0.25 * 21)


def test_the_split_depends_on_relative_paths_only(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, copy, symlinks=True)
    assert load_corpus(str(copy), None, 0.25) == load_corpus(str(folder), None, 0.25)


def test_a_single_file_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(range(100)))
    corpus = load_corpus(str(file), None, 0.3)
    assert corpus.train == (bytes(range(70)),)
    assert corpus.test == (bytes(range(70, 100)),)
    assert load_corpus(str(tmp_path), None, 0.3) == corpus


def test_suffixes(folder: Path) -> None:
    (folder / "00.md").write_bytes(b"m" * 30)
    (folder / "01.md").write_bytes(b"n" * 30)
    corpus = load_corpus(str(folder), (".md",), 0.5)
    assert {*corpus.train, *corpus.test} == {b"m" * 30, b"n" * 30}


def test_test_windows_are_fixed_and_do_not_overlap(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    task, again = (from_folder(tmp_path, test_fraction=0.5, test_rows=1000) for _ in range(2))
    batch = task.test_batch(1000)
    assert torch.equal(batch.tokens, again.test_batch(1000).tokens)
    assert sorted(batch.tokens.flatten().tolist()) == list(range(128, 256))
    assert torch.equal(task.test_batch(5).tokens, batch.tokens[:5])


def test_samples_follow_the_generator(folder: Path) -> None:
    task, again = from_folder(folder), from_folder(folder)
    assert torch.equal(task.sample(9, seeded_generator(1)).tokens, again.sample(9, seeded_generator(1)).tokens)
    assert not torch.equal(task.sample(9, seeded_generator(1)).tokens, task.sample(9, seeded_generator(2)).tokens)


def test_bits_per_byte() -> None:
    task = ByteText(ByteTextConfig(n_ctx=32, test_rows=40, quick_rows=10))
    for full, rows in ((False, 10), (True, 40)):
        evaluation = task.evaluate(uniform, n_future=3, full=full)
        assert [score.name for score in evaluation.scores] == [
            "bits_per_byte",
            "bits_per_byte_offset_2",
            "bits_per_byte_offset_3",
        ]
        for offset, score in enumerate(evaluation.scores, start=1):
            assert score.value == pytest.approx(8.0, abs=1e-4)
            assert score.chance == 8.0
            assert not score.higher_is_better
            assert score.count == rows * (32 - offset)
        assert evaluation.loss == pytest.approx([8 * math.log(2)] * 3, abs=1e-4)


def test_the_standard_library_is_the_default() -> None:
    corpus = load_corpus(None, None, 0.1)
    text = b"".join(corpus.train + corpus.test)
    assert len(text) > 2_000_000
    assert b"class TextWrapper" in text  # textwrap.py
    assert b"class Turtle" not in text
    assert 0.03 < len(b"".join(corpus.test)) / len(text) < 0.25


def test_token_strings_are_readable(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100)
    task = from_folder(tmp_path)
    text = "é\t~\n".encode()
    assert task.token_strings(list(text)) == ["\\xc3", "\\xa9", "⇥", "~", "⏎"]
    assert task.decode(list(text)) == "é\t~\n"
    assert task.decode([0xC3]) == "\ufffd"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_ctx": 1}, "n_ctx is 1; write at least 2"),
        ({"test_fraction": 0.0}, "write a number between 0 and 1"),
        ({"test_fraction": 1.0}, "write a number between 0 and 1"),
        ({"quick_rows": 5000}, "write 1 to 2048"),
    ],
)
def test_wrong_configurations_say_what_to_write(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ByteTextConfig(**fields)


def test_unusable_paths_say_so(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ValueError, match=r"there is nothing at .*nowhere; write the path of a file or folder"):
        from_folder(folder / "nowhere")
    with pytest.raises(ValueError, match="no file was found in"):
        from_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match=r"no file that ends in \.c or \.h was found in"):
        from_folder(folder, suffixes=(".c", ".h"))
    with pytest.raises(ValueError, match=r"no text to train on in .* holds a window of 500 bytes \(the longest has"):
        from_folder(folder, n_ctx=500)
