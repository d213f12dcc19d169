"""What a run keeps of its text: stored runs of the version before, and tasks opened again with and without their text."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tasks import (
    Batch,
    ReadsText,
    Task,
    TaskConfig,
    TextChanged,
    TextMissing,
    config_class,
    make_task,
    needs_text,
    open_task,
)
from tasks.base import seeded_generator
from tasks.stories import TextStories

STORED = Path(__file__).parents[1] / "data" / "stored_before"
TASKS = ("stories", "bytes")
FILES = {"stories": ("tokenizer.json", "test_set.safetensors"), "bytes": ("test_windows.safetensors",)}
TEXT_OF = {"stories": STORED, "bytes": STORED / "stories.txt"}


def stored(name: str) -> tuple[TaskConfig, str]:
    """Configuration and fingerprint of a run that was stored by the version before; its text lay at /data/stories."""
    folder = STORED / f"{name}-stopped"
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))["task"]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return config_class(fields.pop("name"))(**fields), record["data_hash"]


def digest(*tensors: Tensor) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        whole.update(tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def parts(batch: Batch) -> tuple[Tensor, ...]:
    return (batch.tokens, batch.loss_mask, batch.score_mask, batch.documents, *batch.info.values())


class Memoryless:
    """A predictor whose logits depend on the token alone, at random."""

    def __init__(self, d_vocab: int) -> None:
        self.table = torch.randn(d_vocab, d_vocab, generator=seeded_generator(1))

    def __call__(self, tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        return self.table[tokens][:, :, None].expand(-1, -1, len(offsets), -1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A copy of the text that may be moved and changed."""
    folder = tmp_path / "text"
    folder.mkdir()
    shutil.copy(STORED / "stories.txt", folder)
    return folder


def of(name: str, folder: Path) -> str:
    """The path that the task reads, in a folder with the text."""
    return str(folder / "stories.txt" if name == "bytes" else folder)


def save(task: Task, folder: Path) -> Path:
    assert isinstance(task, ReadsText)
    folder.mkdir()
    task.save(folder)
    return folder


def test_runs_of_the_version_before_read_the_same_text_and_tokens() -> None:
    """Pinned: fingerprints, vocabulary, test set and training batches, as that version made them."""
    config, data_hash = stored("stories")
    task = open_task(config, data_hash=data_hash, path=str(TEXT_OF["stories"]))
    assert isinstance(task, TextStories)
    assert task.config == config
    assert task.data_hash == data_hash == "1ac08b7dff6cc7bb"
    assert digest(*parts(task.test_batch(100))) == "73e40d60f3c38667"
    sample = task.sample(8, seeded_generator(3))
    assert digest(sample.tokens, sample.documents) == "ce438cb505f5bab4"
    config, data_hash = stored("bytes")
    task = open_task(config, data_hash=data_hash, path=str(TEXT_OF["bytes"]))
    assert isinstance(task, ReadsText)
    assert task.data_hash == data_hash == "06a06e4a0b8c7934"
    assert digest(task.test_batch(100).tokens) == "9a871fafecd11223"
    assert digest(task.sample(8, seeded_generator(3)).tokens) == "d321c80956a38374"


def test_a_new_training_reads_ascii_text_as_the_version_before_did() -> None:
    config, data_hash = stored("stories")
    task = make_task("stories", **{**vars(config), "path": str(TEXT_OF["stories"])})
    assert isinstance(task, TextStories)
    assert task.data_hash == data_hash
    assert digest(*parts(task.test_batch(100))) == "73e40d60f3c38667"


@pytest.mark.parametrize("name", TASKS)
def test_runs_of_the_version_before_say_what_they_lack(name: str, text: Path) -> None:
    config, data_hash = stored(name)
    lacks = r"this run was stored without its (tokenizer and )?test set, so it needs its text"
    with pytest.raises(TextMissing, match=rf"there is nothing at /data/stories.*--path \({lacks}"):
        open_task(config, data_hash=data_hash)
    with (text / "stories.txt").open("a") as file:
        file.write("<|endoftext|>one more")
    with pytest.raises(TextChanged, match=rf"its fingerprint is \w{{16}}, that of the run's text {data_hash}.*{lacks}"):
        open_task(config, data_hash=data_hash, path=of(name, text))


@pytest.mark.parametrize("name", TASKS)
def test_a_saved_task_does_everything_but_sample_without_its_text(name: str, text: Path, tmp_path: Path) -> None:
    config, _ = stored(name)
    made = make_task(name, **{**vars(config), "path": of(name, text)})
    assert isinstance(made, ReadsText)
    assert needs_text(made.config)
    saved = save(made, tmp_path / "saved")
    assert {file.name for file in saved.iterdir()} == set(FILES[name])
    away = text.rename(tmp_path / "away")

    task = open_task(made.config, saved=saved, data_hash=made.data_hash)
    assert isinstance(task, ReadsText)
    assert (task.d_vocab, task.n_ctx, task.data_hash) == (made.d_vocab, made.n_ctx, made.data_hash)
    predict = Memoryless(task.d_vocab)
    for full in (False, True):
        assert task.evaluate(predict, n_future=2, full=full) == made.evaluate(predict, n_future=2, full=full)
    for ours, theirs in zip(parts(task.test_batch(50)), parts(made.test_batch(50)), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    row = made.test_batch(1).tokens[0].tolist()
    assert task.decode(row) == made.decode(row)
    assert task.token_strings(row) == made.token_strings(row)
    assert task.encode("Then Anna ran, Zoë!") == made.encode("Then Anna ran, Zoë!")
    for reading in (task.read_text, lambda: task.sample(2, seeded_generator(0))):
        with pytest.raises(TextMissing, match=r"there is nothing at .*; put the files back, .* with --path$"):
            reading()

    moved = open_task(made.config, saved=saved, data_hash=made.data_hash, path=of(name, away))
    for seed in range(3):
        batches = [parts(each.sample(9, seeded_generator(seed))) for each in (made, moved)]
        assert all(torch.equal(*pair) for pair in zip(*batches, strict=True))
    away.rename(text)
    task.read_text()
    assert torch.equal(task.sample(2, seeded_generator(5)).tokens, made.sample(2, seeded_generator(5)).tokens)


@pytest.mark.parametrize("name", TASKS)
def test_another_text_is_refused_wherever_it_is_read(name: str, text: Path, tmp_path: Path) -> None:
    config, data_hash = stored(name)
    saved = save(open_task(config, data_hash=data_hash, path=of(name, text)), tmp_path / "saved")
    task = open_task(config, saved=saved, data_hash=data_hash, path=of(name, text))
    task.evaluate(Memoryless(task.d_vocab))
    file = text / "stories.txt"
    whole = file.read_bytes()
    for changed in (whole.replace(b"Anna", b"Anne", 1), whole[1000:] + whole[:1000], b"x", b"\xff\xfe"):
        file.write_bytes(changed)
        with pytest.raises(TextChanged, match=r"is not the one that the run was trained on.*; put the files back"):
            task.sample(2, seeded_generator(0))
    file.unlink()
    with pytest.raises(TextMissing, match="is missing: "):
        task.sample(2, seeded_generator(0))
    file.write_bytes(whole)
    task.sample(2, seeded_generator(0))


def test_text_divided_in_other_places_is_another_text(tmp_path: Path) -> None:
    """Its bytes, one after the other, are the same."""
    for folder, length in (("one", 50), ("other", 51)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_bytes(b"a" * length)
        (tmp_path / folder / "b").write_bytes(b"a" * (130 - length))
    one, other = (make_task("bytes", path=str(tmp_path / folder), n_ctx=8, quick_rows=1) for folder in ("one", "other"))
    assert isinstance(one, ReadsText)
    assert isinstance(other, ReadsText)
    assert one.data_hash == other.data_hash
    saved = save(one, tmp_path / "saved")
    task = open_task(one.config, saved=saved, data_hash=one.data_hash, path=str(tmp_path / "other"))
    with pytest.raises(TextChanged, match="its files or stories begin at other places"):
        task.sample(1, seeded_generator(0))


def test_the_standard_library_of_another_python_is_refused_by_sample_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sysconfig

    library = tmp_path / "library"
    library.mkdir()
    for number in range(4):
        (library / f"m{number}.py").write_text(f"number = {number}\n" * 50, encoding="utf-8")
    (library / "notes.txt").write_text("not read" * 50, encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(library))
    task = make_task("bytes", n_ctx=16, quick_rows=4)
    assert isinstance(task, ReadsText)
    saved = save(task, tmp_path / "saved")
    newer = shutil.copytree(library, tmp_path / "newer")
    (newer / "m0.py").write_text("number = 7\n" * 50, encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(newer))
    again = open_task(task.config, saved=saved, data_hash=task.data_hash)
    assert math.isfinite(again.evaluate(Memoryless(256)).scores[0].value)
    with pytest.raises(TextChanged, match="use the Python that it was trained with"):
        again.sample(1, seeded_generator(0))
    named = open_task(task.config, saved=saved, data_hash=task.data_hash, path=str(library))
    assert torch.equal(named.sample(5, seeded_generator(0)).tokens, task.sample(5, seeded_generator(0)).tokens)


def change_tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        data = file.read_bytes()
        notes = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        tensors = safetensors.torch.load(data)
        change(tensors)
        file.write_bytes(safetensors.torch.save(tensors, notes))

    return damage


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "text": lambda file: file.write_text("{}" * 100),
    "huge header": lambda file: file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:]),
    "no fingerprint": lambda file: file.write_bytes(safetensors.torch.save(safetensors.torch.load(file.read_bytes()))),
    "no rows": change_tensors(
        lambda values: values.update({name: value[:0].clone() for name, value in values.items()})
    ),
    "other width": change_tensors(
        lambda values: values.update({name: value[:, 1:].clone() for name, value in values.items()})
    ),
    "other type": change_tensors(
        lambda values: values.update({name: value.double() for name, value in values.items()})
    ),
    "one more": change_tensors(lambda values: values.update(more=torch.zeros(2))),
    "one too few": change_tensors(lambda values: values.pop(next(iter(values)))),
    "one row more in one": change_tensors(
        lambda values: values.update(documents=torch.zeros(99, 64, dtype=torch.int32))
    ),
    "a token far out": change_tensors(lambda values: values.get("tokens", torch.zeros(1)).fill_(10**6)),
    "a negative token": change_tensors(lambda values: values.get("tokens", torch.zeros(1)).fill_(-1)),
    "nothing scored": change_tensors(lambda values: values.get("score_mask", torch.zeros(1)).fill_(0)),
    "other documents": change_tensors(lambda values: values.get("documents", torch.zeros(1)).fill_(2)),
    "no characters": change_tensors(lambda values: values.get("characters", torch.zeros(1)).fill_(0)),
}
NOT_OF_BYTES = {"a token far out", "a negative token", "nothing scored", "other documents", "no characters"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TASKS)
def test_a_damaged_file_is_named(name: str, damage: str, text: Path, tmp_path: Path) -> None:
    if name == "bytes" and damage in NOT_OF_BYTES:
        pytest.skip("every byte is a token, and all of them count")
    config, data_hash = stored(name)
    saved = save(open_task(config, data_hash=data_hash, path=of(name, text)), tmp_path / "saved")
    file = saved / FILES[name][-1]
    DAMAGES[damage](file)
    with pytest.raises(ValueError, match=rf"{file.name} is (damaged|missing)") as caught:
        open_task(config, saved=saved, data_hash=data_hash)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TASKS)
def test_what_another_run_keeps_is_refused(name: str, text: Path, tmp_path: Path) -> None:
    config, data_hash = stored(name)
    saved = save(open_task(config, data_hash=data_hash, path=of(name, text)), tmp_path / "saved")
    with pytest.raises(ValueError, match=f"was made from the text {data_hash}, and the run was trained on {'0' * 16}"):
        open_task(config, saved=saved, data_hash="0" * 16)


def test_tasks_without_text_keep_nothing() -> None:
    for name in ("induction", "polynomial", "stories"):
        task = make_task(name)
        assert not needs_text(task.config)
        assert not isinstance(task, ReadsText)
        again = open_task(task.config, data_hash="")
        assert torch.equal(again.test_batch(5).tokens, task.test_batch(5).tokens)
        with pytest.raises(ValueError, match=f"the task {name} of this run reads no text; leave the path out"):
            open_task(task.config, path="somewhere")
