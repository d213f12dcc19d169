"""Generated stories: the worked row, the masks against a slow reading of the text, the names, and the scores."""

import re
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor

from tasks import Batch, make_task
from tasks.base import seeded_generator
from tasks.stories import Stories
from tasks.story_grammar import END
from tasks.story_names import NameRules, first_parts, name_blocks, second_parts, training_pairs
from tasks.story_sampler import GeneratedStories, lay_out, mentioned_before
from tasks.story_templates import BODY, ENDING, MEETING, OPENING, SCENERY
from tasks.story_words import STORY_SLOTS
from tasks.targets import future_targets, score_targets

SMALL = {"n_ctx": 64, "n_first_names": 16, "n_second_names": 16, "n_templates": 12, "n_words": 4, "scenery": 0.0}
SMALL |= {"max_characters": 2, "min_sentences": 4, "max_sentences": 6}
CASES = [
    {},
    SMALL,
    {"scenery": 0.7, "n_ctx": 200, "min_characters": 4},
    {"name_ambiguity": 1, "n_first_names": 20, "n_second_names": 9},
    {"name_ambiguity": 3, "n_first_names": 100, "n_second_names": 100, "n_words": 1},
]
"""Configurations that the table tests go through."""


def build(**fields: object) -> Stories:
    task = make_task("stories", **fields)
    assert isinstance(task, Stories)
    return task


def generated(task: Stories) -> GeneratedStories:
    assert isinstance(task.source, GeneratedStories)
    return task.source


def strings(task: Stories, batch: Batch) -> list[list[str]]:
    return [task.token_strings(row) for row in batch.tokens.tolist()]


def stories_of(row: list[str]) -> list[list[str]]:
    """The stories of a row, each with its end token (the last one perhaps cropped)."""
    stories: list[list[str]] = [[]]
    for word in row:
        stories[-1].append(word)
        if word == END:
            stories.append([])
    return [story for story in stories if story]


def name_parts(task: Stories) -> tuple[set[str], set[str]]:
    return parts_of(task.config.n_first_names, task.config.n_second_names)


@cache
def parts_of(n_first: int, n_second: int) -> tuple[set[str], set[str]]:
    return set(first_parts(n_first)), set(second_parts(n_second))


def pairs_of(task: Stories, story: list[str]) -> list[tuple[str, str]]:
    """The names of a story in the order of their mentions, whole ones only."""
    first, second = name_parts(task)
    return [(a, b) for a, b in zip(story, story[1:], strict=False) if a in first and b in second]


def first_names(story: list[str], second: set[str], cast: int) -> list[bool]:
    """Which words are second parts of the first name of a sentence, from the sentence behind the last meeting on."""
    marks: list[bool] = []
    sentence, is_named = 0, False
    for word in story:
        marks.append(word in second and not is_named and sentence > cast - 2)
        is_named |= word in second
        if word == ".":  # only a sentence's end has one
            sentence, is_named = sentence + 1, False
    return marks


def rules_of(task: Stories) -> NameRules:
    config = task.config
    return NameRules(
        n_first=config.n_first_names,
        n_second=config.n_second_names,
        ambiguity=config.name_ambiguity,
        max_characters=config.max_characters,
    )


def test_worked_row():
    task = build()
    vocabulary = {word: token for token, word in enumerate(task.token_strings(range(task.d_vocab)))}
    text = "Bo rin met Mi ra . Mi ra saw Bo rin . <end> Bo ra met Lu rin ."
    tokens = torch.tensor([[vocabulary[word] for word in text.split()]])
    documents = torch.tensor([[0] * 13 + [1] * 6])
    scored = mentioned_before(tokens, documents, generated(task).second_start)
    assert scored[0].nonzero().flatten().tolist() == [7, 10]
    assert task.decode(tokens[0].tolist()) == "Borin met Mira. Mira saw Borin.\nBora met Lurin."


@pytest.mark.parametrize("fields", CASES)
def test_masks_and_documents_agree_with_a_slow_reading_of_the_words(fields: dict[str, object]):
    task = build(**fields)
    batch = task.sample(64, seeded_generator(3))
    again = generated(task).every_mention(batch).score_mask
    _, second = name_parts(task)
    parts = (batch.documents, batch.score_mask, again, batch.info["characters"])
    for row, documents, scored, mentioned, characters in zip(
        strings(task, batch), *(part.tolist() for part in parts), strict=True
    ):
        expected_documents: list[int] = []
        expected_again: list[bool] = []
        expected_scored: list[bool] = []
        for number, story in enumerate(stories_of(row)):
            cast = characters[len(expected_documents)]
            expected_scored += first_names(story, second, cast)
            seen: set[str] = set()
            for word in story:
                expected_documents.append(number)
                expected_again.append(word in second and word in seen)
                seen |= {word} & second
            assert len(set(pairs_of(task, story))) <= cast
            if story[-1] == END:
                assert len(set(pairs_of(task, story))) == cast
        assert (documents, mentioned, scored) == (expected_documents, expected_again, expected_scored)
        assert all(mentioned[at] for at, flag in enumerate(scored) if flag)
    assert batch.loss_mask.all()
    assert batch.tokens.shape == (64, task.n_ctx)
    assert int(batch.tokens.max()) < task.d_vocab


@pytest.mark.parametrize("fields", CASES)
def test_names_are_different_within_a_story_and_kept_apart_between_training_and_test(fields: dict[str, object]):
    task = build(**fields)
    config = task.config
    rules = rules_of(task)
    training, blocks = training_pairs(rules), name_blocks(rules)
    first, second = first_parts(config.n_first_names), second_parts(config.n_second_names)
    allowed = {(first[row], second[part]) for row, parts in enumerate(training.tolist()) for part in parts}
    held_out = {(first[a], second[b]) for firsts, seconds in blocks for a in firsts for b in seconds}
    assert not allowed & held_out
    used: set[tuple[str, str]] = set()
    for batch, pool in ((task.sample(200, seeded_generator(1)), allowed), (task.test_batch(100), held_out)):
        for row in strings(task, batch):
            for story in stories_of(row):
                names = set(pairs_of(task, story))
                assert names <= pool
                assert len({a for a, _ in names}) == len({b for _, b in names}) == len(names)
                used |= names
    assert {a for a, _ in used} == set(first)
    assert {b for _, b in used} == set(second)


@pytest.mark.parametrize("fields", CASES)
def test_in_a_test_story_every_second_part_is_reserved_for_every_first_part(fields: dict[str, object]):
    task = build(**fields)
    allowed = training_pairs(rules_of(task)).tolist()
    source = generated(task)
    for row in task.test_batch(100).tokens.tolist():
        firsts = {token - source.first_start for token in row if source.first_start <= token < source.second_start}
        seconds = {token - source.second_start for token in row if token >= source.second_start}
        assert not any(second in allowed[first] for first in firsts for second in seconds)


def test_second_parts_follow_about_equally_many_first_parts():
    for n_first, n_second, ambiguity in ((64, 64, None), (64, 64, 1), (32, 16, 4), (16, 32, 2)):
        rules = NameRules(n_first=n_first, n_second=n_second, ambiguity=ambiguity, max_characters=4)
        counts = training_pairs(rules).flatten().bincount()
        assert len(counts) == n_second
        assert counts.min() >= counts.max() - 1


@pytest.mark.parametrize(("ambiguity", "expected"), [(1, 1), (3, 3), (14, 14), (None, 14)])
def test_name_ambiguity_is_the_number_of_second_parts_that_follow_a_first(ambiguity: int | None, expected: int):
    task = build(**SMALL | {"name_ambiguity": ambiguity})
    successors: dict[str, set[str]] = {}
    for row in strings(task, task.sample(1024, seeded_generator(2))):
        for a, b in pairs_of(task, row):
            successors.setdefault(a, set()).add(b)
    assert {len(parts) for parts in successors.values()} == {expected}
    assert len(successors) == 16


class LookUp:
    """The ideal answer: what followed this token where it occurred before in the row; it reads tokens, not words."""

    def __init__(self, d_vocab: int) -> None:
        self.d_vocab = d_vocab

    def __call__(self, tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        logits = torch.zeros(*tokens.shape, len(offsets), self.d_vocab)
        for row, values in enumerate(tokens.tolist()):
            followed: dict[int, int] = {}
            for position, token in enumerate(values):
                if token in followed:
                    logits[row, position, :, followed[token]] = 50.0
                if position + 1 < len(values):
                    followed[token] = values[position + 1]
        return logits


@pytest.mark.parametrize("fields", CASES)
def test_a_look_up_scores_one(fields: dict[str, object]):
    task = build(**fields, test_stories=30)
    evaluation = task.evaluate(LookUp(task.d_vocab), n_future=2, full=True)
    names = [score.name for score in evaluation.scores]
    kinds = ("free_name_accuracy", "free_name_loss", "second_name_token_accuracy", "second_name_token_loss")
    assert names == [*kinds, *(f"{kind}_seen_names" for kind in kinds)]
    for score in evaluation.scores:
        assert score.value == pytest.approx(score.ceiling, abs=1e-6)
        assert score.count > 50
    assert len(evaluation.loss) == 2
    assert all(loss == loss for loss in evaluation.loss)


def test_a_bigram_of_the_training_names_solves_seen_names_and_fails_the_test():
    task = build(name_ambiguity=1)
    training = training_pairs(rules_of(task))
    source = generated(task)
    next_token = torch.zeros(task.d_vocab, dtype=torch.long)
    next_token[source.first_start : source.second_start] = source.second_start + training[:, 0]

    def bigram(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        one_hot = torch.nn.functional.one_hot(next_token[tokens], task.d_vocab)
        return one_hot.float()[:, :, None].expand(-1, -1, len(offsets), -1)

    scores = {score.name: score.value for score in task.evaluate(bigram, full=True).scores}
    for name in ("free_name_accuracy", "second_name_token_accuracy"):
        assert (scores[name], scores[f"{name}_seen_names"]) == (0, 1)


def test_targets_never_cross_into_another_story_and_only_offset_1_is_scored():
    task = build()
    batch = task.sample(32, seeded_generator(4))
    for offset in (1, 2, 4):
        targets = future_targets(batch, offset)
        same = batch.documents[:, offset:] == batch.documents[:, :-offset]
        assert torch.equal(targets[:, :-offset] >= 0, same)
    assert (score_targets(batch, 1) >= 0).any()
    assert not (score_targets(batch, 2) >= 0).any()


def test_test_rows_hold_one_story_and_padding():
    task = build()
    batch = task.test_batch(1000)
    assert len(batch.tokens) == 100
    assert set(batch.documents.unique().tolist()) == {-1, 0}
    outside = batch.documents == -1
    assert not (batch.loss_mask | batch.score_mask)[outside].any()
    assert torch.equal(task.test_batch(3).tokens, batch.tokens[:3])
    assert torch.equal(build().test_batch(100).tokens, batch.tokens)


def test_the_generator_decides_everything():
    task = build()
    one, two = (task.sample(8, seeded_generator(5)) for _ in range(2))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(build().sample(8, seeded_generator(5)).tokens, one.tokens)
    assert not torch.equal(task.sample(8, seeded_generator(6)).tokens, one.tokens)


def test_text_reads_well():
    task = build(n_ctx=256)
    for row in task.test_batch(100).tokens.tolist() + task.sample(50, seeded_generator(7)).tokens.tolist():
        text = task.decode(row)
        assert "  " not in text
        assert END not in text
        assert not re.search(r" [.,!?”']|“ |^ | $|\ba [aeiou]", text)
        assert all(re.match(r"“?[A-Z]", line) for line in text.splitlines())
        for sentence in re.findall(r"[.!?]”? (.)", text.replace("!” ", "”").replace("?” ", "”")):
            assert sentence == "“" or sentence.isupper()


def test_no_story_repeats_a_sentence():
    task = build(n_ctx=256, scenery=0.3)
    for row in task.test_batch(100).tokens.tolist():
        sentences = re.split(r"(?<=\.) ", task.decode(row))
        assert len(set(sentences)) == len(sentences)


def test_story_words_stay_the_same_within_a_story():
    task = build(n_ctx=256, scenery=0.5)
    source = generated(task)
    animals = set(source.grammar.slot_words[list(STORY_SLOTS).index("animal")])
    found = [len(animals & set(row)) for row in task.test_batch(100).tokens.tolist()]
    assert max(found) == 1


def test_every_template_is_well_formed():
    groups = (OPENING, MEETING, BODY, ENDING, SCENERY)
    texts = [text for group in groups for text in group]
    assert len(texts) == len(set(texts)) > 120
    for text in texts:
        assert text[-1] in ".”"
        assert text.count("“") == text.count("”")
    for text in (*OPENING, *MEETING):
        assert "{X}" in text
        assert "{Y}" in text
        assert "{Z}" not in text
    assert all("{X}" in text for text in (*BODY, *ENDING))
    assert not any(re.search(r"\{[XYZ]\}", text) for text in SCENERY)
    for group in (BODY, ENDING):  # what is left of a capped group serves two characters
        assert "{Z}" not in group[0]


def test_vocabulary_is_of_different_strings_and_of_the_documented_size():
    task = build()
    words = task.token_strings(range(task.d_vocab))
    assert len(set(words)) == len(words) == task.d_vocab == 776
    assert build(**SMALL).d_vocab < 120
    assert build(n_first_names=256, n_second_names=256).d_vocab == 776 + 2 * 192


@pytest.mark.parametrize(("scenery", "share"), [(0.0, 0.32), (0.1, 0.30), (0.5, 0.24), (1.0, 0.15)])
def test_share_of_name_tokens_is_as_documented(scenery: float, share: float):
    task = build(scenery=scenery)
    tokens = task.sample(256, seeded_generator(8)).tokens
    assert (tokens >= generated(task).first_start).double().mean().item() == pytest.approx(share, abs=0.012)


def test_lay_out():
    piece, place = lay_out(torch.tensor([[2, 3, 4], [7, 1, 1]]), 7)
    assert piece.tolist() == [[0, 0, 1, 1, 1, 2, 2], [0] * 7]
    assert place.tolist() == [[0, 1, 0, 1, 2, 0, 1], list(range(7))]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n_ctx": 8}, "write at least 16"),
        ({"min_characters": 1}, "write 2 <= min_characters"),
        ({"max_characters": 5}, "<= 4"),
        ({"n_first_names": 3}, "write at least 8"),
        ({"n_second_names": 3}, "write at least 8"),
        ({"n_first_names": 10**6}, "write at most"),
        ({"name_ambiguity": 0}, "write 1"),
        ({"name_ambiguity": 61}, "to 60"),
        ({"name_ambiguity": 1, "n_first_names": 16}, "write 4"),
        ({"name_ambiguity": 1, "n_first_names": 9, "n_second_names": 8}, "write a larger name_ambiguity"),
        ({"min_sentences": 4}, "write max_characters < min_sentences"),
        ({"min_sentences": 13}, "write max_characters < min_sentences"),
        ({"scenery": 1.5}, "write at most 1"),
        ({"n_templates": 4}, "write at least 5"),
        ({"n_words": 0}, "write at least 1"),
        ({"test_stories": 0}, "write at least 1"),
        ({"bpe_vocab": 100}, "write at least 300"),
        ({"max_stories": 1}, "write at least 10"),
    ],
)
def test_wrong_fields_are_answered_with_what_to_write(fields: dict[str, object], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        build(**fields)


def test_smallest_settings_work():
    task = build(n_templates=5, n_words=1, n_ctx=24, n_first_names=8, n_second_names=8)
    task.sample(64, seeded_generator(0))
    assert build(n_templates=4, scenery=0.0, n_first_names=300, n_second_names=300).d_vocab < 700


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_sampling_and_scoring_on_cuda():
    task = build()
    batch = task.sample(16, seeded_generator(0, "cuda"), "cuda")
    assert batch.tokens.device.type == batch.info["characters"].device.type == "cuda"
    again = task.sample(16, seeded_generator(0, "cuda"), "cuda")
    assert torch.equal(batch.tokens, again.tokens)
    source = generated(task)
    on_cpu = batch.to("cpu")
    assert not (on_cpu.score_mask & ~source.every_mention(on_cpu).score_mask).any()
    assert torch.equal(source.every_mention(batch).score_mask.cpu(), source.every_mention(on_cpu).score_mask)
    score = task.evaluate(lambda tokens, offsets: LookUp(task.d_vocab)(tokens.cpu(), offsets).cuda(), device="cuda")
    assert score.scores[0].value == 1
