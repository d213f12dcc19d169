"""The tokenizer of stories: long words are cut, others as before; its file, whole and damaged."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.story_text import read_stories
from tasks.story_tokens import LONGEST_WORD, encode, encode_stories, read_tokenizer, train_tokenizer, write_tokenizer

TEXT = Path(__file__).parents[1] / "data" / "stored_before" / "stories.txt"


@pytest.fixture(scope="module")
def stories() -> list[str]:
    return read_stories(str(TEXT))


def test_text_without_long_words_gives_the_same_tokens_with_the_cut_and_without(stories: list[str]):
    longest = "y" * (LONGEST_WORD - 1)  # the space before it belongs to the word
    some = [*stories, f"a {longest} b", "é" * (LONGEST_WORD // 2)]
    cut, whole = train_tokenizer(some, 600), train_tokenizer(some, 600, None)
    assert cut.get_vocab() == whole.get_vocab()
    for text in (*some, "Ünïcode  \n\n 12345 !!!", f"{longest} {longest}"):
        assert encode(cut, text) == encode(whole, text)


@pytest.mark.parametrize("letters", ["x", "abcdefghij", " ", "A", "\n", "\0", "7", "!", "é", "😀"])
def test_a_long_word_takes_time_in_proportion_to_its_length(stories: list[str], letters: str):
    """Without the cut, one of 200,000 random letters takes half a minute."""
    word = f"a{''.join(random.Random(0).choices(letters, k=200_000))}b"
    started = time.process_time()
    tokenizer = train_tokenizer([*stories[:50], word], 1000)
    tokens, _ = encode_stories(tokenizer, [word])
    assert time.process_time() - started < 10
    assert tokenizer.decode(tokens[:-1].tolist()) == word
    assert tokens[:-1].tolist() == encode(tokenizer, word)


def test_a_tokenizer_comes_back_from_its_file(stories: list[str], tmp_path: Path):
    for longest in (LONGEST_WORD, None):
        tokenizer = train_tokenizer(stories, 400, longest)
        write_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        again = read_tokenizer(tmp_path / "tokenizer.json", 400)
        assert again.to_str() == tokenizer.to_str()
        assert encode(again, stories[0]) == encode(tokenizer, stories[0])


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no model": lambda values: values.pop("model"),
    "other cuts": lambda values: values.update(pre_tokenizer=None),
    "cuts of nothing": lambda values: values["pre_tokenizer"]["pretokenizers"][1].update(length=0),
    "random tokens": lambda values: values["model"].update(dropout=0.5),
    "no separator": lambda values: values.update(added_tokens=[]) or values["model"]["vocab"].pop("<|endoftext|>"),
    "a token far out": lambda values: values["model"]["vocab"].update({"!": 10**6}),
    "too few tokens": lambda values: values["model"].update(vocab={"<|endoftext|>": 0}, merges=[]),
    "other decoder": lambda values: values.update(decoder=None),
    "a normalizer": lambda values: values.update(normalizer={"type": "Lowercase"}),
}


@pytest.mark.parametrize(
    "damage", [*DAMAGES, "cut", "empty", "binary", "too many tokens", "folder", "missing", "nested"]
)
def test_a_damaged_file_is_named(stories: list[str], tmp_path: Path, damage: str):
    file = tmp_path / "tokenizer.json"
    write_tokenizer(train_tokenizer(stories, 300), file)
    if damage in DAMAGES:
        values = json.loads(file.read_text(encoding="utf-8"))
        DAMAGES[damage](values)
        file.write_text(json.dumps(values), encoding="utf-8")
    whole = file.read_bytes()
    other = {"cut": whole[: len(whole) // 2], "empty": b"", "binary": bytes(range(256)), "nested": b"[" * 10**6}
    file.write_bytes(other.get(damage, whole))
    if damage in ("folder", "missing"):
        file.unlink()
    if damage == "folder":
        file.mkdir()
    with pytest.raises(ValueError, match=r"tokenizer\.json (is damaged|is missing|cannot be read)") as caught:
        read_tokenizer(file, 290 if damage == "too many tokens" else 300)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300
    assert "\n" not in str(caught.value)
