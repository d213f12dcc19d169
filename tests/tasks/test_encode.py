"""Text back to tokens: the inverse of what a task writes, wherever that loses nothing, and what is said of unknown words."""

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Task, make_task
from tasks.base import seeded_generator
from tasks.encoding import encode_words
from tasks.story_corpus import SEPARATOR
from tasks.story_grammar import END
from tests.tasks.test_story_corpus import write_corpus

FEW = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)
WORDS: list[tuple[str, dict[str, Any]]] = [
    ("induction", {}),
    ("induction", {"d_vocab": 7, "min_distance": 3, "max_distance": 9, "n_ctx": 24}),
    ("polynomial", {}),
    ("polynomial", {"notation": "infix", "pause": 2, "prime": 13, "coefficients": 2}),
    ("polynomial", {"packed": False}),
]
STORIES: list[dict[str, Any]] = [
    {},
    {"scenery": 0.7, "n_ctx": 200},
    {"n_first_names": 200, "n_second_names": 200, "n_words": 2},
]
"""Tasks whose tokens are words, and the generated stories, in which names are written as one word."""


@cache
def task_of(name: str, *fields: tuple[str, Any]) -> Task:
    few: dict[str, Any] = {"test_per_m": 20, "quick_per_m": 20} if name == "polynomial" else {}
    return make_task(name, **few, **dict(fields))


def drawn(task: Task, seed: int) -> list[int]:
    return task.sample(1, seeded_generator(seed)).tokens[0].tolist()


@pytest.mark.parametrize(("name", "fields"), WORDS)
@FEW
@given(seed=SEEDS)
def test_words_come_back_from_what_decode_writes(name: str, fields: dict[str, Any], seed: int) -> None:
    task = task_of(name, *fields.items())
    tokens = drawn(task, seed)
    assert task.encode(task.decode(tokens)) == tokens


@pytest.mark.parametrize(("name", "fields"), WORDS)
def test_every_token_comes_back(name: str, fields: dict[str, Any]) -> None:
    task = task_of(name, *fields.items())
    assert task.encode("\n".join(task.token_strings(range(task.d_vocab)))) == list(range(task.d_vocab))


@pytest.mark.parametrize("fields", STORIES)
@FEW
@given(seed=SEEDS)
def test_stories_come_back_from_what_decode_writes_but_for_their_last_end(fields: dict[str, Any], seed: int) -> None:
    task = task_of("stories", *fields.items())
    tokens = drawn(task, seed)
    written = tokens[:-1] if tokens[-1] == 0 else tokens
    assert task.encode(task.decode(tokens)) == written


@pytest.mark.parametrize("fields", STORIES)
@FEW
@given(seed=SEEDS)
def test_stories_come_back_whole_from_their_token_strings(fields: dict[str, Any], seed: int) -> None:
    task = task_of("stories", *fields.items())
    for tokens in (drawn(task, seed), task.test_batch(4).tokens[seed % 4].tolist()):
        assert task.encode(" ".join(task.token_strings(tokens))) == tokens


@pytest.mark.parametrize("fields", STORIES)
def test_every_token_of_stories_comes_back(fields: dict[str, Any]) -> None:
    task = task_of("stories", *fields.items())
    assert task.encode(" ".join(task.token_strings(range(task.d_vocab)))) == list(range(task.d_vocab))


@pytest.mark.parametrize(
    ("text", "strings"),
    [
        ("Borin met Mira.", ["Bo", "rin", "met", "Mi", "ra", "."]),
        ("Bo rin met Mi ra .", ["Bo", "rin", "met", "Mi", "ra", "."]),
        ("  Borin,\n\n  Mira!\n", ["Bo", "rin", ",", END, "Mi", "ra", "!"]),
        ("Borin.<end>Mira.", ["Bo", "rin", ".", END, "Mi", "ra", "."]),
        ("“Borin!” Mira", ["“", "Bo", "rin", "!", "”", "Mi", "ra"]),
        ('"Borin!" Mira', ["“", "Bo", "rin", "!", "”", "Mi", "ra"]),
        ("Borinra", ["Bo", "rin", "ra"]),
        ("Bo market rin", ["Bo", "market", "rin"]),
    ],
)
def test_how_people_write_stories(text: str, strings: list[str]) -> None:
    task = task_of("stories")
    assert task.token_strings(task.encode(text)) == strings


@FEW
@given(st.text(min_size=1))
def test_any_text_is_bytes(text: str) -> None:
    task = task_of("bytes")
    assert task.decode(task.encode(text)) == text
    assert bytes(task.encode(text)) == text.encode()


@FEW
@given(st.binary(min_size=1, max_size=20))
def test_bytes_come_back_where_they_are_utf_8(data: bytes) -> None:
    task = task_of("bytes")
    back = bytes(task.encode(task.decode(list(data))))
    assert back == data.decode("utf-8", errors="replace").encode()
    assert (back == data) == (task.decode(list(data)).encode() == data)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = write_corpus(tmp_path_factory.mktemp("stories") / "stories.txt", 300)
    return make_task("stories", path=path, bpe_vocab=400, test_stories=12)


def test_text_of_real_stories_reads_the_same_after_encoding(corpus: Task) -> None:
    """New names are put into test stories as tokens, so that the text may be cut into others; it still reads the same."""
    for tokens in corpus.test_batch(12).tokens.tolist():
        text = "".join(corpus.token_strings(tokens))
        assert "".join(corpus.token_strings(corpus.encode(text))) == text
        assert corpus.encode(corpus.decode(corpus.encode(text))) == corpus.encode(corpus.decode(tokens))


@FEW
@given(text=st.text(min_size=1).filter(lambda text: SEPARATOR not in text))
def test_any_text_can_be_encoded_as_real_stories_are(corpus: Task, text: str) -> None:
    assert corpus.decode(corpus.encode(text)) == text.strip("\n")
    assert all(0 < token < corpus.d_vocab for token in corpus.encode(text))


def test_the_separator_is_the_end_of_a_real_story(corpus: Task) -> None:
    first, second = corpus.encode("Lily ran."), corpus.encode("Tom sat.")
    assert corpus.encode(f"Lily ran.{SEPARATOR}Tom sat.") == [*first, 0, *second]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("induction", "1 2 64", "word 3, '64', is no token of this task; similar tokens are '"),
        ("induction", "one", "word 1, 'one', is no token of this task; some of its tokens are '0', '1', '2'"),
        ("polynomial", "| + neg 9", "word 4, '9', is no token of this task; some of its tokens are '0', '1', '2'"),
        ("polynomial", "| - 1", "word 2, '-', is no token"),
        ("polynomial", "| negg", "word 2, 'negg', is no token of this task; similar tokens are 'neg'"),
        ("stories", "Borin met Mirra.", "word 3, 'Mirra', is no token of this task; similar tokens are 'Mira'"),
        ("stories", "Borin, hugge Mira", "word 3, 'hugge', is no token of this task; similar tokens are 'hugged'"),
        ("stories", "Borin; Mira", "word 2, ';', is no token of this task"),
        ("stories", "borin", "word 1, 'borin', is no token of this task"),
        ("stories", "MARKET", "word 1, 'MARKET', is no token of this task; similar tokens are 'market'"),
        ("bytes", "ab\ud800", "character 3 of the text is half a character; write whole ones"),
    ],
)
def test_an_unknown_word_is_named_with_its_place_and_what_is_near(name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        task_of(name).encode(text)


@pytest.mark.parametrize("name", ["induction", "polynomial", "stories", "bytes"])
def test_no_text_is_an_error_that_says_what_to_write(name: str) -> None:
    for text in ("",) if name == "bytes" else ("", " \n "):
        with pytest.raises(ValueError, match="write "):
            task_of(name).encode(text)


def test_no_text_of_real_stories(corpus: Task) -> None:
    with pytest.raises(ValueError, match="the text is empty; write at least one character"):
        corpus.encode("")


def test_no_word() -> None:
    with pytest.raises(ValueError, match="the text holds no token; write some, such as 'a b'"):
        encode_words("\t", {"a": 0, "b": 1})
