"""What may be asked for: settings, prompts, windows of the context; and what a row's trace keeps of its forwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.generate import generate
from playground.generation.trace import Forward, Trace
from playground.generation.tree import Tree, chain
from playground.generation.window import check_prompts, window_start
from tests.cases import small_config
from tests.generation.cases import TREES, tiny_model

SAMPLED = Sampling(temperature=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; write a number above 0, such as 0.8, or leave it out for greedy"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1.0, "top_k": 0}, "top_k is 0; write at least 1, or leave it out"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0; write a share above 0 and up to 1"),
        ({"temperature": 1.0, "top_p": 1.1}, "top_p is 1.1"),
        ({"temperature": 1.0, "top_p": float("nan")}, "top_p is nan"),
        ({"top_k": 3}, "write a temperature with them"),
        ({"top_p": 0.5}, "write a temperature with them"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; write at least 1"),
        ({"speculative": 1}, r"speculative is 1; write 2 or more \(the furthest offset that drafts\), or leave it out"),
        ({"speculative": 0}, "speculative is 0"),
        ({"tree": Tree(())}, "the tree has no drafts; write at least one path"),
        ({"tree": TREES["siblings"], "speculative": 3}, "speculative is 3 and the tree reaches offset 2; leave one"),
        ({"rule": "typical", "speculative": 2}, "write a temperature and speculative=K with it"),
        ({"rule": "typical", "sampling": SAMPLED}, "write a temperature and speculative=K with it"),
        ({"typical_epsilon": 0.0}, "typical_epsilon is 0.0 .*; write an epsilon above 0"),
        ({"typical_epsilon": 1.5}, "typical_epsilon is 1.5"),
        ({"typical_delta": 0.0}, "typical_delta is 0.0; .* and a delta above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DecodingConfig(**values)


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({}, ()),
        ({"speculative": 2}, ((0,),)),
        ({"speculative": 3}, ((0,), (0, 0))),
        ({"tree": chain(3)}, ((0,), (0, 0))),
        ({"tree": TREES["siblings"], "speculative": 2}, TREES["siblings"].paths),
    ],
)
def test_the_drafts_of_settings(values, paths):
    assert DecodingConfig(**values).drafts.paths == paths


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        ({}, {"speculative": 2}, "predicts the next token only and has no future heads to draft with"),
        ({}, {"tree": TREES["siblings"]}, "take a run with n_future of 2 or more"),
        (
            {"n_future": 3},
            {"speculative": 4},
            "drafts of offset 4 need a future head .*; write speculative of at most 3",
        ),
        ({"n_future": 2}, {"tree": TREES["bushy"]}, "drafts of offset 4 need"),
        (
            {"n_future": 2, "d_vocab": 2},
            {"tree": TREES["siblings"]},
            "3 candidates of an offset, and the vocabulary has 2",
        ),
        ({}, {"stop": (3, 11)}, r"stop token 11 is not one of the model's 0 \.\. 10"),
        ({}, {"stop": (-1,)}, "stop token -1"),
    ],
)
def test_settings_that_a_model_cannot_serve_are_refused(model, values, message):
    config = small_config(**({"control": "trunk"} | model))
    with pytest.raises(ValueError, match=message):
        DecodingConfig(**values).check(config)
    with pytest.raises(ValueError, match=message):
        generate(
            tiny_model(**({"n_future": 1, "d_vocab": 11} | model)), [[1]], DecodingConfig(max_new_tokens=1, **values)
        )


# --- prompts and windows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "values", "message"),
    [
        ([], {}, "there are no prompts; write at least one"),
        ([[]], {}, "^the prompt is empty; write at least one token"),
        ([[1], []], {}, "^prompt 2 is empty"),
        ([[1, 11]], {}, "^the prompt has token 11 at place 2, and the model has 0 to 10"),
        ([[1], [-1, 2]], {}, "^prompt 2 has token -1 at place 1"),
        (
            [[1] * 13],
            {},
            "the prompt has 13 tokens, and the model's context is 12; shorten it, or write overflow='slide'",
        ),
        (
            [[1] * 5],
            {"max_new_tokens": 9},
            "of 5 tokens leaves room for 8 new ones in a context of 12, and 9 are wanted",
        ),
        ([[1] * 12], {"max_new_tokens": 2}, "write max_new_tokens=1 or less"),
        ([[1], [1] * 4], {"max_new_tokens": 12}, "prompt 2 of 4 tokens leaves room for 9"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(prompts, values, message):
    with pytest.raises(ValueError, match=message):
        check_prompts(prompts, DecodingConfig(**({"max_new_tokens": 1} | values)), small_config())


@pytest.mark.parametrize(("length", "count"), [(1, 12), (5, 8), (12, 1)])
def test_prompts_that_just_fit(length, count):
    check_prompts([[1] * length], DecodingConfig(max_new_tokens=count), small_config())


def test_a_context_that_slides_takes_prompts_of_any_length():
    check_prompts([[1] * 100], DecodingConfig(overflow="slide"), small_config())


@given(st.integers(1, 300), st.integers(1, 40))
def test_windows(length, n_ctx):
    """A window holds 1 to n_ctx tokens, never begins earlier than before, and moves by half a context when it must."""
    start, before = window_start(length, n_ctx), window_start(length - 1, n_ctx)
    half = max(1, n_ctx // 2)
    assert 1 <= length - start <= n_ctx
    assert start - before in (0, half)
    if start > before:
        assert length - 1 - before == n_ctx  # it was full
    if start:
        assert length - start > n_ctx - half


# --- traces ---------------------------------------------------------------------------------------------------------


BUSHY = TREES["bushy"]
"""((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 1))"""
DRAFTS = (11, 12, 13, 14, 15, 16, 17)


@pytest.mark.parametrize(
    ("last", "emitted", "accepted"),
    [(0, [99], []), (1, [11, 99], [1]), (5, [12, 15, 99], [2, 5]), (7, [11, 14, 17, 99], [1, 4, 7])],
)
def test_a_forward_of_a_tree_as_a_result(last, emitted, accepted):
    forward = Forward(BUSHY, DRAFTS, last, 99, room=20)
    assert forward.emitted == emitted
    drafts = forward.step().drafts
    assert [draft.token for draft in drafts] == list(DRAFTS)
    assert [draft.offset for draft in drafts] == [2, 2, 3, 3, 3, 4, 4]
    assert [draft.parent for draft in drafts] == [-1, -1, 0, 0, 1, 2, 3]
    assert [node for node, draft in enumerate(drafts, 1) if draft.accepted] == accepted


@pytest.mark.parametrize(("room", "count"), [(0, 0), (1, 2), (2, 5), (3, 7), (9, 7)])
def test_drafts_that_had_no_place_in_the_context_were_not_judged(room, count):
    drafts = Forward(BUSHY, DRAFTS, 0, 99, room).step().drafts
    assert [draft.token for draft in drafts] == list(DRAFTS[:count])
    assert all(draft.parent < index for index, draft in enumerate(drafts))


def test_parents_are_counted_among_the_drafts_that_were_judged():
    """In a tree written depth first, deep drafts stand before shallow ones."""
    tree = TREES["depth first"]  # ((1,), (1, 0), (1, 0, 1), (0,), (0, 2), (0, 2, 0))
    drafts = Forward(tree, (1, 2, 3, 4, 5, 6), 4, 9, room=2).step().drafts
    assert [(draft.token, draft.parent, draft.accepted) for draft in drafts] == [
        (1, -1, False),
        (2, 0, False),
        (4, -1, True),
        (5, 2, False),
    ]


@pytest.mark.parametrize(
    ("values", "tokens", "offsets", "ended"),
    [
        ({"max_new_tokens": 9}, [5, 6, 7, 8], [2, 3, 4, 1], ""),
        ({"max_new_tokens": 4}, [5, 6, 7, 8], [2, 3, 4, 1], "length"),
        ({"max_new_tokens": 2}, [5, 6], [2, 3], "length"),
        ({"max_new_tokens": 9, "stop": (7,)}, [5, 6, 7], [2, 3, 4], "stop"),
        ({"max_new_tokens": 3, "stop": (7,)}, [5, 6, 7], [2, 3, 4], "stop"),
        ({"max_new_tokens": 3, "stop": (8,)}, [5, 6, 7], [2, 3, 4], "length"),
        ({"max_new_tokens": 9, "stop": (8, 5)}, [5], [2], "stop"),
    ],
)
def test_a_trace_takes_tokens_up_to_a_stop_token_or_the_number_wanted(values, tokens, offsets, ended):
    trace = Trace(prompt=(1, 2))
    trace.add(Forward(chain(4), (5, 6, 7), 3, 8, room=9), DecodingConfig(**values))
    assert (trace.tokens, trace.offsets, trace.ended) == (tokens, offsets, ended)
    assert (trace.known, trace.length) == ([1, 2, *tokens], 2 + len(tokens))
    result = trace.result()
    assert result.steps[0].emitted == (5, 6, 7, 8) and result.tokens == tuple(tokens)
