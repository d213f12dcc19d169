"""Bytes of real text, by default Python's own standard library: the byte-level setting of Gloeckle et al. 2024.

The paper (2404.19737, section 3.3) trains on bytes to show where predicting several tokens at once pays most. A row is a
window of `n_ctx` consecutive bytes of one file. Worked row, the text "x = 1\\n" and a window of 6:

    position    0   1   2   3   4   5
    tokens    120  32  61  32  49  10
    shown       x       =       1   ⏎
    scored      x   x   x   x   x   x

Every byte is a target and is scored, save the first, which nothing predicts. Windows start anywhere in a file,
uniformly over all places where one fits; files shorter than a window are left out. Test windows come from files of
their own (corpus.py), do not overlap, and are the same at every call.

The score is in bits per byte, lower is better: 8 is the uniform guess, and 0 a bound that no model reaches, since the
entropy of the text itself is unknown. Half way between them, at 4 bits, a model knows little more than how frequent each
byte is: compare models by their curves and final values here, not by when they cross it.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from tasks.base import Batch, Device, Evaluation, Predict, Score, TaskConfig, seeded_generator
from tasks.corpus import load_corpus
from tasks.scoring import teacher_forced

_SHOWN = {ord("\n"): "⏎", ord("\t"): "⇥"}


@dataclass(frozen=True, kw_only=True)
class ByteTextConfig(TaskConfig):
    """Windows of bytes out of files."""

    name: ClassVar[str] = "bytes"

    n_ctx: int = 256
    """Context length: bytes in one row."""
    path: str | None = None
    """A file or a folder to read; without one, the sources of the standard library of the Python that runs."""
    suffixes: tuple[str, ...] | None = None
    """Endings of the file names to read in a folder; without them all, and of the standard library those in .py."""
    test_fraction: float = 0.1
    """Share of the files that is for testing (of the bytes, when there is one file only)."""
    test_rows: int = 2048
    """Windows in the fixed test set, fewer where the test files do not hold so many."""
    quick_rows: int = 128
    """How many of those a quick evaluation uses."""
    test_seed: int = 1_000_003
    """Seed of the choice of test windows."""

    def __post_init__(self) -> None:
        if self.n_ctx < 2:
            raise ValueError(f"n_ctx is {self.n_ctx}; write at least 2")
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction is {self.test_fraction}; write a number between 0 and 1, such as 0.1")
        if not 1 <= self.quick_rows <= self.test_rows:
            raise ValueError(f"quick_rows {self.quick_rows} is not within 1..test_rows; write 1 to {self.test_rows}")


class ByteText:
    """Byte windows with bits per byte as the score."""

    def __init__(self, config: ByteTextConfig) -> None:
        self.config = config
        corpus = load_corpus(config.path, config.suffixes, config.test_fraction)
        text, lengths = self._fitting(corpus.train, "train on")
        self._text_on = cache(text.to)
        room = lengths - config.n_ctx + 1  # places per file where a window may start
        self._n_starts = int(room.sum())
        # A number drawn below n_starts counts those places; each file before it adds n_ctx - 1 places where none starts.
        self._room_on = cache(room.cumsum(dim=0).to)
        self._test_windows = self._windows(*self._fitting(corpus.test, "test on"))
        self.data_hash = hashlib.sha256(b"".join((*corpus.train, *corpus.test))).hexdigest()[:16]

    def _fitting(self, texts: tuple[bytes, ...], use: str) -> tuple[Tensor, Tensor]:
        """The texts that hold a window, end to end, and the length of each."""
        fitting = [text for text in texts if len(text) >= self.n_ctx]
        if not fitting:
            where = self.config.path or "the standard library"
            raise ValueError(
                f"no text to {use} in {where} holds a window of {self.n_ctx} bytes (the longest has "
                f"{max(map(len, texts))}); write a smaller n_ctx, another test_fraction or another path"
            )
        joined = torch.frombuffer(bytearray(b"".join(fitting)), dtype=torch.uint8)
        return joined, torch.tensor([len(text) for text in fitting])

    def _windows(self, text: Tensor, lengths: Tensor) -> Tensor:
        """`test_rows` windows that do not overlap, drawn from all files together."""
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
        """Draw windows out of the training files."""
        place_B = torch.randint(self._n_starts, (batch_size,), generator=generator, device=device)
        file_B = torch.searchsorted(self._room_on(place_B.device), place_B, right=True)
        start_B = place_B + file_B * (self.n_ctx - 1)
        return _batch(self._text_on(place_B.device).unfold(0, self.n_ctx, 1)[start_B])

    def test_batch(self, batch_size: int, device: Device = "cpu") -> Batch:
        """The first test windows."""
        return _batch(self._test_windows[:batch_size].to(device))

    def evaluate(
        self, predict: Predict, *, n_future: int = 1, device: Device = "cpu", full: bool = False
    ) -> Evaluation:
        """Bits per byte on the test windows, per offset."""
        rows = self.config.test_rows if full else self.config.quick_rows
        result = teacher_forced(predict, self.test_batch(rows, device).split(64), n_future)
        scores = [
            Score(name="bits_per_byte" if row == 0 else f"bits_per_byte_offset_{row + 1}", value=loss / math.log(2),
                  chance=8.0, ceiling=0.0, unit="bits per byte", higher_is_better=False, count=count)
            for row, (loss, count) in enumerate(zip(result.score_loss, result.count, strict=True))
        ]  # fmt: skip
        return Evaluation(scores=tuple(scores), loss=result.loss)

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        """Printable ASCII as it is, other bytes escaped ("\\\\xe2"), a line's end as "⏎" and a tab as "⇥"."""
        return [_SHOWN.get(int(token), chr(token) if 32 <= token < 127 else f"\\x{int(token):02x}") for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """The bytes as UTF-8, with a replacement character where they are none."""
        return bytes(int(token) for token in tokens).decode("utf-8", errors="replace")

    def encode(self, text: str) -> list[int]:
        """The bytes of any text as UTF-8; that of what `decode` replaced is not the byte that stood there."""
        if not text:
            raise ValueError("the text is empty; write at least one character")
        try:
            return list(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start + 1} of the text is half a character; write whole ones"
            ) from error


def _batch(windows: Tensor) -> Batch:
    tokens = windows.long()
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return Batch(tokens=tokens, loss_mask=mask, score_mask=mask, documents=torch.zeros_like(tokens))


CONFIG, TASK = ByteTextConfig, ByteText
