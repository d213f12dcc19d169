"""Bytes of real text, by default Python's own standard library: the byte-level setting of Gloeckle et al. 2024.

The paper (2404.19737, section 3.3) trains on bytes, where multi-token prediction helps most. A row is a window of `n_ctx`
consecutive bytes of one file. Worked row, the text "x = 1\\n" and a window of 6:

    position    0   1   2   3   4   5
    tokens    120  32  61  32  49  10
    shown       x       =       1   ⏎
    scored      x   x   x   x   x   x

Every byte is a target and is scored, except the first, which nothing predicts. The start of a window is uniform over all
positions where a window fits into a file; files shorter than a window are not used. Test windows come from separate files
(corpus.py), do not overlap, and are fixed.

The score is in bits per byte, lower is better: 8 is the uniform guess, and 0 a bound that no model reaches; the entropy of
the text is unknown. At 4 bits, half way between them, a model knows little more than the frequency of each byte. Therefore
compare models by their curves and final values here, not by the time at which they cross half way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from tasks.base import Batch, Device, Evaluation, Predict, Score, TaskConfig, seeded_generator
from tasks.config import MOST_CONTEXT, MOST_SEED, MOST_TEST_TOKENS, check_fields, check_test_size
from tasks.corpus import Corpus, corpus_root, load_corpus
from tasks.saved import PUT_BACK, Fingerprint, TextOfRun, read_tensors, write_tensors
from tasks.scoring import rows_at_once, teacher_forced
from tasks.text_files import named

WINDOWS = "test_windows.safetensors"
"""The file in a run's folder that stores the test windows."""
_SHOWN = {ord("\n"): "⏎", ord("\t"): "⇥"}


@dataclass(frozen=True, kw_only=True)
class ByteTextConfig(TaskConfig):
    """Windows of bytes from files."""

    name: ClassVar[str] = "bytes"

    n_ctx: int = 256
    """Context length: bytes in one row."""
    path: str | None = None
    """A file or a folder to read; by default the sources of the running Python's standard library."""
    suffixes: tuple[str, ...] | None = None
    """Endings of the file names to read in a folder; by default all, and in the standard library .py."""
    test_fraction: float = 0.1
    """Share of the files used for testing (of the bytes, if there is only one file)."""
    test_rows: int = 2048
    """Windows in the fixed test set; fewer if the test files do not have so many."""
    quick_rows: int = 128
    """Number of these windows used by a quick evaluation."""
    test_seed: int = 1_000_003
    """Seed of the choice of test windows."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            n_ctx=(2, MOST_CONTEXT),
            test_fraction=(0, 1),
            test_rows=(1, MOST_TEST_TOKENS),
            quick_rows=(1, MOST_TEST_TOKENS),
            test_seed=(-MOST_SEED, MOST_SEED),
        )
        if self.suffixes == ():
            raise ValueError("suffixes is empty; write at least one ending of file names, or leave it out for all")
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction is {self.test_fraction}; write a number between 0 and 1, such as 0.1")
        if self.quick_rows > self.test_rows:
            raise ValueError(f"quick_rows {self.quick_rows} is not within 1..test_rows; write 1 to {self.test_rows}")
        check_test_size("test_rows", self.test_rows, self.n_ctx)

    @property
    def reads_text(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class _Training:
    """The training text, on any device."""

    text_on: Callable[[torch.device], Tensor]
    """All files with at least one window, concatenated."""
    room_on: Callable[[torch.device], Tensor]
    """For each file, the number of windows that start in it or in an earlier file."""
    n_starts: int
    """Total number of windows."""


class ByteText:
    """Byte windows with bits per byte as the score."""

    def __init__(
        self, config: ByteTextConfig, *, of_run: TextOfRun | None = None, windows: Tensor | None = None
    ) -> None:
        """Reads the text, unless the test windows of a run (`windows`) and the text of that run (`of_run`) are given."""
        self.config, self._of_run = config, of_run
        self._training: _Training | None = None
        if of_run is not None and windows is not None:
            self._test_windows, self._text = windows, of_run.fingerprint
            return
        corpus = self._load()
        self._training = self._prepare(corpus)
        self._test_windows = self._windows(*self._fitting(corpus.test, "test on"))
        self._text = corpus.fingerprint

    @classmethod
    def open_saved(cls, config: ByteTextConfig, folder: Path | None, data_hash: str, path: str | None) -> "ByteText":
        """The task of a run that stores its test windows in `folder`; None: the test windows are made again from the text.

        `path` is the present path of the text, if it differs from the configuration's.
        """
        windows, text = None, Fingerprint(data_hash=data_hash, boundaries="")
        if folder is not None:
            tensors, text = read_tensors(folder / WINDOWS, config.n_ctx, data_hash, windows=torch.uint8)
            windows = tensors["windows"]
        place = config.path if path is None else path
        lacks = "test set" if folder is None else ""
        return cls(
            config, of_run=TextOfRun(fingerprint=text, path=place, lacks=lacks, advice=_advice(config)), windows=windows
        )

    def save(self, folder: Path) -> None:
        """Write the test windows."""
        write_tensors(folder / WINDOWS, {"windows": self._test_windows}, self._text)

    @property
    def data_hash(self) -> str:
        """Fingerprint of the text."""
        return self._text.data_hash

    def read_text(self) -> None:
        """Read the training text, unless it has been read. Raises TextMissing or TextChanged if it is another text."""
        self._trained_on()

    def _trained_on(self) -> _Training:
        if self._training is None:
            self._training = self._prepare(self._load())
        return self._training

    def _load(self) -> Corpus:
        config, run = self.config, self._of_run
        if run is None:
            return load_corpus(config.path, config.suffixes, config.test_fraction)
        with run.reading():
            corpus = load_corpus(run.path, config.suffixes, config.test_fraction, is_library=config.path is None)
            run.check(corpus.fingerprint, corpus_root(run.path))
        return corpus

    def _prepare(self, corpus: Corpus) -> _Training:
        text, lengths = self._fitting(corpus.train, "train on")
        room = lengths - self.n_ctx + 1  # number of possible starts per file
        # A number below n_starts counts possible starts; each earlier file has n_ctx - 1 positions where none starts.
        return _Training(text_on=cache(text.to), room_on=cache(room.cumsum(dim=0).to), n_starts=int(room.sum()))

    def _fitting(self, texts: tuple[bytes, ...], use: str) -> tuple[Tensor, Tensor]:
        """The texts with at least one window, concatenated, and the length of each. Raises ValueError if there is none."""
        fitting = [text for text in texts if len(text) >= self.n_ctx]
        if not fitting:
            where = named(self.config.path or "the standard library")
            raise ValueError(
                f"no text to {use} in {where} holds a window of {self.n_ctx} bytes (the longest has "
                f"{max(map(len, texts))}); write a smaller n_ctx, another test_fraction or another path"
            )
        joined = torch.frombuffer(bytearray().join(fitting), dtype=torch.uint8)
        return joined, torch.tensor([len(text) for text in fitting])

    def _windows(self, text: Tensor, lengths: Tensor) -> Tensor:
        """Windows `[row, n_ctx]` without overlap, `test_rows` of them, drawn at random from all files together."""
        pieces = [
            part[: len(part) - len(part) % self.n_ctx].view(-1, self.n_ctx) for part in text.split(lengths.tolist())
        ]
        windows = torch.cat(pieces)
        order = torch.randperm(len(windows), generator=seeded_generator(self.config.test_seed))
        return windows[order[: self.config.test_rows]]

    @property
    def d_vocab(self) -> int:
        return 256

    @property
    def n_ctx(self) -> int:
        return self.config.n_ctx

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Draw windows from the training files."""
        training = self._trained_on()
        place_B = torch.randint(training.n_starts, (batch_size,), generator=generator, device=device)
        file_B = torch.searchsorted(training.room_on(place_B.device), place_B, right=True)
        start_B = place_B + file_B * (self.n_ctx - 1)
        return _batch(training.text_on(place_B.device).unfold(0, self.n_ctx, 1)[start_B])

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        """The first test windows."""
        return _batch(self._test_windows[:batch_size].to(device))

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Bits per byte on the test windows, per offset."""
        rows = self.config.test_rows if full else self.config.quick_rows
        at_once = rows_at_once(64, self.n_ctx * self.d_vocab * n_future)
        result = teacher_forced(predict, self.test_batch(rows, device).split(at_once), n_future)
        scores = [
            Score(
                name="bits_per_byte" if row == 0 else f"bits_per_byte_offset_{row + 1}",
                value=loss / math.log(2),
                chance=8.0,
                ceiling=0.0,
                unit="bits per byte",
                higher_is_better=False,
                count=count,
            )
            for row, (loss, count) in enumerate(zip(result.score_loss, result.count, strict=True))
        ]
        return Evaluation(scores=tuple(scores), loss=result.loss)

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        """Printable ASCII unchanged, other bytes escaped ("\\\\xe2"), a line end as "⏎" and a tab as "⇥"."""
        return [_SHOWN.get(int(token), chr(token) if 32 <= token < 127 else f"\\x{int(token):02x}") for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """The bytes decoded as UTF-8, with a replacement character for invalid bytes."""
        return bytes(int(token) for token in tokens).decode("utf-8", errors="replace")

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of any text; bytes that `decode` has replaced are not recovered."""
        if not text:
            raise ValueError("the text is empty; write at least one character")
        try:
            return list(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start + 1} of the text is half a character; write whole ones"
            ) from error


def _advice(config: ByteTextConfig) -> str:
    if config.path is not None:
        return PUT_BACK
    return "use the Python that it was trained with, or name the folder of that Python's standard library with --path"


def _batch(windows: Tensor) -> Batch:
    tokens = windows.long()
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return Batch(tokens=tokens, loss_mask=mask, score_mask=mask, documents=torch.zeros_like(tokens))


CONFIG, TASK, OPEN_SAVED = ByteTextConfig, ByteText, ByteText.open_saved
