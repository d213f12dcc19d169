"""What the page Decode computes: both ways of decoding, how fast they were, trees; kept beside the model, without a trace."""

import dataclasses
from typing import Any

import pytest
import torch

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.generate import generate
from playground.generation.reference import generate_uncached
from playground.model.transformer import MTPTransformer
from playground.results import Decoding
from playground.ui.decode import data as decode_data
from playground.ui.decode.data import (
    decode,
    n_samples,
    reads_joined,
    sample_prompt,
    token_strings,
    tree_of,
    usual_length,
)
from playground.ui.shared.models import Loaded
from tasks import Task, make_task
from tests.cases import small_model

PROMPT = (1, 2, 3)


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=5, test_rows=8, quick_rows=4)


def loaded(task: Task, **options: Any) -> Loaded:
    return Loaded(model=small_model(**({"n_future": 3, "n_layers": 4} | options)), task=task)


def config(**changes: Any) -> DecodingConfig:
    return DecodingConfig(**({"max_new_tokens": 8, "speculative": 3} | changes))


def tokens(decoding: Decoding | None) -> tuple[int, ...]:
    assert decoding is not None
    return decoding.decoded[0].tokens


def test_both_ways_are_those_of_the_reference_and_agree(task: Task) -> None:
    here = loaded(task)
    found = decode(here, PROMPT, config())
    expected = generate_uncached(here.model, [PROMPT], config())
    assert tokens(found.plain) == tokens(found.speculative) == tokens(expected)
    assert found.speculative is not None and found.speculative.decoded[0].steps == expected.decoded[0].steps
    assert found.plain.speculative == 1 and found.parts_at is None and found.gap is None


def test_the_numbers_are_those_of_what_is_shown(task: Task) -> None:
    found = decode(loaded(task), PROMPT, config())
    assert found.speed is not None and found.speculative is not None
    assert found.speed.speculative_forwards == found.speculative.decoded[0].forwards
    assert found.speed.plain_forwards == 7 and found.speed.identical
    assert found.speed.tokens_per_forward == found.speculative.tokens_per_forward
    assert found.speed.acceptance.accepted.tolist() == found.speculative.acceptance.accepted.tolist()


def test_a_next_token_model_decodes_plainly(task: Task) -> None:
    found = decode(loaded(task, n_future=1), PROMPT, config(speculative=None))
    assert len(tokens(found.plain)) == 8
    assert (found.speculative, found.speed) == (None, None)


def test_one_token_needs_no_forward_behind_the_prefill(task: Task) -> None:
    found = decode(loaded(task), PROMPT, config(max_new_tokens=1))
    assert tokens(found.plain) == tokens(found.speculative) and found.speed is None


@pytest.mark.parametrize("rule", ["exact", "typical"])
def test_sampled_text_follows_from_its_seed(task: Task, rule: Any) -> None:
    here, sampled = loaded(task), config(sampling=Sampling(temperature=1.0), rule=rule)
    found, same, other = (decode(here, PROMPT, sampled, seed=seed) for seed in (0, 0, 1))
    assert tokens(found.plain) == tokens(same.plain)
    assert tokens(found.plain) != tokens(other.plain)
    expected = generate(
        here.model,
        [PROMPT],
        dataclasses.replace(sampled, speculative=None, rule="exact"),
        generator=torch.Generator().manual_seed(1),
    )
    assert tokens(other.plain) == tokens(expected)
    assert found.parts_at is None and found.speed is not None and found.speed.identical is None


def test_the_same_is_decoded_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    here = loaded(task)
    first = decode(here, PROMPT, config())
    monkeypatch.setattr("playground.generation.generate.generate", lambda *_, **__: pytest.fail("decoded again"))
    assert decode(here, PROMPT, config()) is first
    with pytest.raises(pytest.fail.Exception):
        decode(here, PROMPT, config(max_new_tokens=7))


def test_slow_decoding_is_timed_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    found = decode(loaded(task), PROMPT, config())
    monkeypatch.setattr(decode_data, "PATIENCE", 0.0)
    slow = decode(loaded(task), PROMPT, config())
    assert found.speed is not None and slow.speed is not None
    assert (len(found.speed.plain_seconds), len(slow.speed.plain_seconds)) == (decode_data.REPEATS, 1)


def test_texts_that_part_say_where_and_how_close_it_was(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way of decoding that goes wrong at its third token, in place of rounding."""
    here = loaded(task)
    right = generate(here.model, [PROMPT], config())

    def wrong(model: MTPTransformer, prompts: Any, how: DecodingConfig, **options: Any) -> Decoding:
        found = generate(model, prompts, how, **options)
        if how.speculative is None:
            return found
        row = found.decoded[0]
        changed = (*row.tokens[:2], (row.tokens[2] + 1) % 11, *row.tokens[3:])
        return dataclasses.replace(found, decoded=(dataclasses.replace(row, tokens=changed),))

    monkeypatch.setattr("playground.generation.generate.generate", wrong)
    found = decode(here, PROMPT, config())
    with torch.no_grad():
        known = torch.tensor([[*PROMPT, *tokens(right)[:2]]])
        likeliest = here.model(known, (1,))[0, -1, 0].topk(2).values
    assert found.parts_at == 2 and found.gap == pytest.approx(float(likeliest[0] - likeliest[1]), abs=1e-5)


def test_a_tree_has_the_tokens_it_is_given(task: Task) -> None:
    here = loaded(task)
    for nodes in (2, 5, 9):
        tree = tree_of(here, nodes)
        assert tree.n_nodes == nodes
        found = decode(here, PROMPT, config(speculative=None, tree=tree))
        assert tokens(found.plain) == tokens(found.speculative)
        assert tree_of(here, nodes) is tree


def test_it_leaves_no_trace(task: Task) -> None:
    here = loaded(task)
    model = here.model.train()
    parameter = model.W_E
    parameter.grad = torch.ones_like(parameter)
    before = model(torch.tensor([PROMPT]))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    decode(here, PROMPT, config(sampling=Sampling(temperature=1.0)))
    tree_of(here, 4)
    assert model.training and parameter.requires_grad and torch.equal(parameter.grad, torch.ones_like(parameter))
    assert torch.equal(model(torch.tensor([PROMPT])), before)
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_prompts_end_before_what_is_scored(task: Task) -> None:
    batch = task.test_batch(8)
    for number in range(8):
        prompt = sample_prompt(task, number)
        assert prompt == tuple(batch.tokens[number, : int(batch.score_mask[number].int().argmax())].tolist())
    assert sample_prompt(task, 50) == sample_prompt(task, 7)
    assert n_samples(task, 64) == 8 and n_samples(task, 3) == 3


@pytest.mark.parametrize(
    ("name", "text", "joined"),
    [
        ("bytes", "def f(x):", True),
        ("induction", "5 6 7", False),
        ("polynomial", "| + 1 2 3", False),
        ("bytes", "d", False),
    ],
)
def test_words_stand_apart_and_bytes_do_not(name: str, text: str, joined: bool) -> None:
    task = make_task(name)
    assert reads_joined(task, task.encode(text)) == joined


@pytest.mark.parametrize(("name", "length"), [("induction", 48), ("polynomial", 5)])
def test_an_answer_is_as_long_as_answers_are(name: str, length: int) -> None:
    assert usual_length(make_task(name)) == length


def test_every_token_of_a_decoding_has_its_string(task: Task) -> None:
    found = decode(loaded(task), PROMPT, config())
    assert found.speculative is not None
    strings = token_strings(task, [found.plain, found.speculative])
    row = found.speculative.decoded[0]
    drafted = {draft.token for step in row.steps for draft in step.drafts}
    assert {*PROMPT, *row.tokens, *drafted} <= set(strings)
    assert all(text == str(token) for token, text in strings.items())
