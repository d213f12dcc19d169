"""Stories from text files: reading, tokens, the renamed test stories, and what is said of wrong files."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tasks import make_task
from tasks.base import seeded_generator
from tasks.stories import Stories
from tasks.story_corpus import CorpusStories
from tasks.story_text import SEPARATOR, read_stories, split_stories

NAMES = "Lily Tom Ben Anna Sara Max Mia Sam Lucy Jack Nina Fred".split()
SENTENCES = (
    "{a} went to the park with {b} .",
    "{a} saw a big dog , and {b} saw a small cat .",
    '"{b}, look at the kite!" said {a} .',
    "{b} was happy because {a} smiled .",
    "Then {a} gave the red ball to {b} .",
    "They played with {a}'s boat until {b} was tired .",
    "One day the rain came and {a} helped {b} .",
    "The tomato and the benches were wet, and so was {a} .",
)


def write_corpus(path: Path, count: int = 500) -> str:
    """A file in the format of TinyStories."""
    generator = seeded_generator(0)
    stories: list[str] = []
    for _ in range(count):
        a, b, *_ = (NAMES[index] for index in torch.randperm(len(NAMES), generator=generator).tolist())
        order = torch.randint(len(SENTENCES), (6,), generator=generator).tolist()
        pairs = [(a, b) if flip else (b, a) for flip in torch.randint(2, (6,), generator=generator).tolist()]
        lines = [
            SENTENCES[index].format(a=one, b=other).replace(" .", ".").replace(" ,", ",")
            for index, (one, other) in zip(order, pairs, strict=True)
        ]
        stories.append(f"Once upon a time there was {a}. {' '.join(lines[:3])}\n\n{' '.join(lines[3:])}")
    path.write_text(f"\n{SEPARATOR}\n".join(stories), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("stories") / "stories.txt")


@pytest.fixture(scope="module")
def task(path: str) -> Stories:
    task = make_task("stories", path=path, bpe_vocab=400, test_stories=12)
    assert isinstance(task, Stories)
    return task


def source_of(task: Stories) -> CorpusStories:
    assert isinstance(task.source, CorpusStories)
    return task.source


def test_training_rows_are_windows_of_the_training_stories(task: Stories, path: str):
    training, _ = split_stories(read_stories(path))
    text = "\n\n".join(training)
    batch = task.sample(32, seeded_generator(0))
    assert batch.tokens.shape == (32, 128)
    assert int(batch.tokens.max()) < task.d_vocab <= 400
    for row, documents in zip(batch.tokens.tolist(), batch.documents.tolist(), strict=True):
        assert task.decode(row) in text
        assert documents == [row[:place].count(0) for place in range(len(row))]
    assert batch.loss_mask.all()
    assert not batch.score_mask.any()
    assert torch.equal(task.sample(32, seeded_generator(0)).tokens, batch.tokens)


def test_test_stories_are_held_out_and_renamed(task: Stories, path: str):
    training, held_out = split_stories(read_stories(path))
    assert not set(training) & set(held_out)
    skeletons = {re.sub("|".join(NAMES), "@", story) for story in held_out}
    batch = task.test_batch(100)
    assert len(batch.tokens) == 12
    for row, documents, characters in zip(
        batch.tokens.tolist(), batch.documents.tolist(), batch.info["characters"].tolist(), strict=True
    ):
        text = task.decode([token for token, document in zip(row, documents, strict=True) if document == 0])
        assert not set(re.findall(r"\w+", text)) & set(NAMES)
        known = {word for story in held_out for word in re.findall(r"\w+", story)}
        new_names = [word for word in re.findall(r"\w+", text) if word not in known]
        skeleton = re.sub("|".join(sorted(set(new_names))), "@", text)
        if documents[-1] == -1:  # the whole story fitted
            assert skeleton in skeletons
        assert characters[0] == 2


def test_scored_tokens_are_the_second_of_two_from_the_second_mention_of_the_first_on(task: Stories):
    batch = task.test_batch(100)
    assert batch.score_mask.any(dim=1).all()
    for row, scored in zip(batch.tokens.tolist(), batch.score_mask.tolist(), strict=True):
        pairs = {(row[place - 1], row[place]) for place, flag in enumerate(scored) if flag}
        assert len({first for first, _ in pairs}) == len(pairs)
        for first, second in pairs:
            places = [place for place, token in enumerate(row[:-1]) if token == first]
            assert all(row[place + 1] == second for place in places)
            assert [place + 1 for place in places[1:]] == [
                place for place, flag in enumerate(scored) if flag and row[place - 1] == first
            ]
            name = task.decode([first, second])
            assert re.fullmatch(r" ?[A-Z][a-z]+", name)
            assert source_of(task).tokenizer.encode(name).ids == [first, second]


def test_a_look_up_scores_one(task: Stories):
    def look_up(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        logits = torch.zeros(*tokens.shape, len(offsets), task.d_vocab)
        for row, values in enumerate(tokens.tolist()):
            followed: dict[int, int] = {}
            for place, token in enumerate(values[:-1]):
                if token in followed:
                    logits[row, place, :, followed[token]] = 1.0
                followed[token] = values[place + 1]
        return logits

    evaluation = task.evaluate(look_up, n_future=2, full=True)
    accuracy, _ = evaluation.scores
    assert (accuracy.name, accuracy.value) == ("second_name_token_accuracy", 1)
    assert 1 / 2 < accuracy.chance < 0.8  # of two characters it is mostly the one not named last
    assert len(evaluation.loss) == 2


def test_the_same_files_give_the_same_tokens(task: Stories, path: str):
    again = make_task("stories", path=path, bpe_vocab=400, test_stories=12)
    assert torch.equal(again.test_batch(12).tokens, task.test_batch(12).tokens)
    assert torch.equal(again.sample(4, seeded_generator(1)).tokens, task.sample(4, seeded_generator(1)).tokens)


def test_token_strings_join_to_the_text(task: Stories):
    row = task.test_batch(1).tokens[0].tolist()
    assert task.decode(row) == "".join(task.token_strings(row)).replace(SEPARATOR, "\n\n").rstrip("\n")
