"""Stories as text: reading files in the format of TinyStories, and the choice of held-out stories.

The format is UTF-8 text with `<|endoftext|>` between stories. One story in twenty is held out for the test, by a hash of its
text, so that copies of a story are on the same side.
"""

import hashlib
from dataclasses import dataclass
from os.path import normcase
from pathlib import Path

from tasks.base import TextMissing
from tasks.saved import Fingerprint, fingerprint
from tasks.text_files import RUN_FILE, check_size, expand, files_below, kind_of, named, read_file

SEPARATOR = "<|endoftext|>"
"""The text between stories, and the token at the end of each; always token 0."""
HELD_OUT = 20
"""One story in this number is held out."""


def read_stories(path: str, max_stories: int | None = None) -> list[str]:
    """Stories of a .txt file, or of all .txt files in a folder in the order of their names. Raises ValueError if none."""
    place = expand(path)
    kind = kind_of(place, "write the path of a .txt file or of a folder of them")
    files = _text_files(place, is_whole=max_stories is None) if kind == "folder" else [place]
    stories: list[str] = []
    separated, size = False, 0
    for file in files:
        raw = read_file(file)
        size += len(raw)
        check_size(place, size)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{named(file)} is not UTF-8 (byte {error.start}); convert it to UTF-8 first") from error
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        separated |= SEPARATOR in text
        stories += [story for part in text.split(SEPARATOR) if (story := part.strip())]
        if max_stories is not None and len(stories) >= max_stories:
            break
    if not separated:
        raise ValueError(f"{named(path)} has no '{SEPARATOR}'; write it between the stories to separate them")
    return stories[:max_stories]


@dataclass(frozen=True, kw_only=True)
class StoryText:
    """Stories as read from files, divided into training and held-out stories."""

    training: list[str]
    held_out: list[str]
    fingerprint: Fingerprint


def load_stories(path: str, max_stories: int | None) -> StoryText:
    """The stories at a path. Raises ValueError for unusable text, TextMissing if there is nothing to read."""
    training, held_out = split_stories(read_stories(path, max_stories))
    found = fingerprint((story.encode() for story in training), (story.encode() for story in held_out))
    return StoryText(training=training, held_out=held_out, fingerprint=found)


def split_stories(stories: list[str]) -> tuple[list[str], list[str]]:
    """Training and held-out stories. Raises ValueError when either is empty."""
    digests = [hashlib.blake2b(story.encode(), digest_size=8).digest() for story in stories]
    is_held_out = [int.from_bytes(digest) % HELD_OUT == 0 for digest in digests]
    training = [story for story, held_out in zip(stories, is_held_out, strict=True) if not held_out]
    test = [story for story, held_out in zip(stories, is_held_out, strict=True) if held_out]
    if not training or not test:
        raise ValueError(f"{len(stories)} stories are too few to hold one in {HELD_OUT} out; write more stories")
    return training, test


def _text_files(folder: Path, *, is_whole: bool) -> list[Path]:
    """The .txt files below a folder, including hidden ones. Raises TextMissing if none, ValueError for too much text."""
    found = files_below(folder, lambda name: normcase(name).endswith(".txt"), lambda _: True, links=True)
    if is_whole:
        check_size(folder, sum(found.values()))
    if not found:
        raise TextMissing(
            f"the folder {named(folder)} holds no .txt file; write the path of one that does (folders with a {RUN_FILE} are "
            "stored runs, and not read)"
        )
    return [folder.joinpath(*parts) for parts in sorted(found)]
