"""Greedy decoding is plain decoding, token for token in float32: every task, type of future heads, n, K, batch and tree."""

import functools
import itertools

import pytest

from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from tasks import make_task
from tests.cases import FUTURE_HEADS
from tests.generation.cases import PROMPTS, TREES, always, count_up, counting_model, never, plainly, tiny_model

pytestmark = pytest.mark.usefixtures("no_shape_checks")

POLYNOMIAL = {"prime": 2, "coefficients": 2, "n_ctx": 40, "test_per_m": 4, "quick_per_m": 4, "hold_out": False}
STORIES = {"n_ctx": 40, "n_first_names": 16, "n_second_names": 16, "n_templates": 12, "n_words": 4}
OFFSETS = [(2, 2), *((4, K) for K in (2, 3, 4)), *((8, K) for K in range(2, 9))]
"""n_future and K."""
types = pytest.mark.parametrize("kind", FUTURE_HEADS)
UNEMBEDDINGS = ("shared", "replicated")


def texts(decoding):
    return [row.tokens for row in decoding.decoded]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name in "ab":
        (folder / f"{name}.txt").write_bytes(bytes(range(30, 90)) * 3)
    return [
        make_task("induction", n_ctx=24, min_distance=3, max_distance=6, d_vocab=20, test_rows=8, quick_rows=8),
        make_task("stories", **STORIES),
        make_task("polynomial", **POLYNOMIAL),
        make_task("bytes", path=str(folder), n_ctx=24),
    ]


@pytest.fixture(scope="module")
def written():
    """Models of five tokens by type, unembedding and n, with what they plainly write behind PROMPTS."""

    @functools.cache
    def get(kind, unembedding, n_future):
        model = tiny_model(n_future, future_heads=kind, unembedding=unembedding)
        return model, plainly(model, PROMPTS, 8)

    return get


@types
@pytest.mark.parametrize("unembedding", UNEMBEDDINGS)
def test_on_every_task(tasks, kind, unembedding):
    turn = FUTURE_HEADS.index(kind) + UNEMBEDDINGS.index(unembedding)
    for task, n_future in zip(tasks, [(2, 4, 8, 1)[(turn + index) % 4] for index in range(4)], strict=True):
        options = {"future_heads": kind, "unembedding": unembedding}
        model = tiny_model(n_future, d_vocab=task.d_vocab, n_ctx=task.n_ctx, **options)
        rows = task.test_batch(3).tokens.tolist()
        prompts = [row[:length] for row, length in zip(rows, (9, 2, 16), strict=True)]
        config = DecodingConfig(max_new_tokens=5, speculative=n_future if n_future > 1 else None)
        found = generate(model, prompts, config)
        assert texts(found) == plainly(model, prompts, 5), type(task).__name__
        assert found.exact and found.speculative == n_future


@types
def test_for_every_n_and_k(written, kind):
    accepted = 0
    for (n_future, speculative), unembedding in zip(OFFSETS, itertools.cycle(UNEMBEDDINGS)):
        model, expected = written(kind, unembedding, n_future)
        for batch in (7, 1) if speculative == n_future else (7,):
            found = generate(model, PROMPTS[:batch], DecodingConfig(max_new_tokens=6, speculative=speculative))
            assert texts(found) == [row[:6] for row in expected[:batch]], (n_future, speculative)
            accepted += found.acceptance.accepted.sum()
    assert accepted > 0


@types
@pytest.mark.parametrize("unembedding", UNEMBEDDINGS)
def test_with_every_tree(written, kind, unembedding):
    model, expected = written(kind, unembedding, 4)
    for tree in [*TREES.values()][UNEMBEDDINGS.index(unembedding) :: 2]:
        config = DecodingConfig(max_new_tokens=8, tree=tree)
        found = generate(model, PROMPTS, config)
        assert texts(found) == expected, tree
        assert generate(model, PROMPTS[2:3], config).decoded == found.decoded[2:3]


@types
@pytest.mark.parametrize("drafts", [{"speculative": 3}, {"tree": TREES["bushy"]}], ids=["chain", "tree"])
def test_cached_and_uncached_decoding_report_the_same_forwards(written, kind, drafts):
    model, _ = written(kind, UNEMBEDDINGS["tree" in drafts], 4)
    config = DecodingConfig(max_new_tokens=7, stop=(3,), **drafts)
    plain, cached = (generate(model, PROMPTS[:3], config, cached=way) for way in (False, True))
    assert cached.decoded == plain.decoded


@types
@pytest.mark.parametrize("unembedding", UNEMBEDDINGS)
def test_a_context_that_slides(kind, unembedding):
    """Over several windows; rows reach theirs at different times, and two prompts fill the context or more."""
    model = tiny_model(3, n_ctx=8, future_heads=kind, unembedding=unembedding)
    prompts = [*PROMPTS[:3], [0, 1, 2, 3, 4, 3, 2, 1, 0, 4, 2], [3, 1, 3, 1, 3, 1, 3, 1]]
    expected = plainly(model, prompts, 15)
    both = ({"speculative": 2}, {"tree": TREES["siblings"]}) if unembedding == "shared" else ({}, {"speculative": 3})
    for drafts in both:
        found = generate(model, prompts, DecodingConfig(max_new_tokens=15, overflow="slide", **drafts))
        assert texts(found) == expected


@types
@pytest.mark.parametrize(
    ("n_ctx", "drafts"),
    [(4, {"speculative": 3}), (5, {"tree": TREES["siblings"]}), (7, {"tree": TREES["depth first"]})],
)
def test_short_and_odd_contexts_slide_as_in_uncached_decoding(kind, n_ctx, drafts):
    model, prompts = tiny_model(3 if n_ctx == 4 else 4, n_ctx=n_ctx, future_heads=kind), [[2, 3, 4, 0], [3] * 20]
    config = DecodingConfig(max_new_tokens=6, overflow="slide", **drafts)
    cached, uncached = (generate(model, prompts, config, cached=way) for way in (True, False))
    assert texts(cached) == plainly(model, prompts, 6)
    assert cached.decoded == uncached.decoded


@types
@pytest.mark.parametrize(("n_future", "lengths"), [(8, (1, 9, 12)), (2, (11,))])
def test_to_the_very_end_of_the_context(kind, n_future, lengths):
    """The last new token has no place in the context, and needs none."""
    model = tiny_model(n_future, n_ctx=12, future_heads=kind, unembedding="replicated")
    for length in lengths:
        prompts, count = [[3, 1, 4, 0, 2, 2, 1, 3, 4, 4, 0, 1][:length], [2]], 13 - length
        expected = plainly(model, prompts, count)
        for drafts in ({"speculative": n_future}, {"tree": TREES["siblings"]}):
            assert texts(generate(model, prompts, DecodingConfig(max_new_tokens=count, **drafts))) == expected


@types
def test_stop_tokens_end_a_row_where_plain_decoding_does(written, kind):
    model, expected = written(kind, "shared", 4)
    for stop, drafts in [
        ((0,), {}),
        ((1, 3), {"speculative": 4}),
        ((4,), {"tree": TREES["bushy"]}),
        ((0, 2), {"speculative": 2}),
    ]:
        cut = [row[: 1 + min((row.index(token) for token in stop if token in row), default=7)] for row in expected]
        found = generate(model, PROMPTS, DecodingConfig(max_new_tokens=8, stop=stop, **drafts))
        assert texts(found) == cut
        assert [row.ended for row in found.decoded] == ["stop" if set(row) & set(stop) else "length" for row in cut]


def test_a_batch_far_larger_than_the_context(written):
    model, expected = written("independent", "shared", 4)
    prompts = [PROMPTS[index % 7] for index in range(70)]
    assert texts(generate(model, prompts, DecodingConfig(max_new_tokens=8, speculative=4))) == expected * 10


# --- models that are right as one wishes ----------------------------------------------------------------------------


def pattern(token, offset):
    """Right for offset 2 behind even tokens, for offset 3 behind those below 6, for offset 4 behind those that 3 divides."""
    right = {2: token % 2 == 0, 3: token < 6, 4: token % 3 == 0}[offset]
    return [token + offset + (not right)]


def emitted_by(last: int, speculative: int) -> int:
    """Tokens of one forward whose drafts were made behind `last`."""
    count = 1
    for offset in range(2, speculative + 1):
        if pattern(last, offset) != [last + offset]:
            break
        count += 1
    return count


@types
@pytest.mark.parametrize("speculative", [2, 4])
def test_drafts_that_are_always_or_never_right(kind, speculative):
    """Always: K tokens per forward. Never: exactly one, and no forward more than plain decoding takes."""
    config = DecodingConfig(max_new_tokens=1 + 3 * speculative, speculative=speculative)
    prompts = [[0, 1, 2], [7], [10, 3, 3, 9]]
    for says, each in [(always, speculative), (never, 1)]:
        model = counting_model(says, future_heads=kind)
        found = generate(model, prompts, config)
        assert texts(found) == [count_up(prompt, config.max_new_tokens) for prompt in prompts]
        assert found.tokens_per_forward == each
        assert [row.forwards for row in found.decoded] == [3 * speculative // each] * 3
        assert found.acceptance.conditional[0] == (each > 1)
        assert found.acceptance.predicted_tokens_per_forward == each


@pytest.mark.parametrize("kind", FUTURE_HEADS)
@pytest.mark.parametrize("options", [{}, {"normalization": "LN", "positions": "standard", "mlp": "gelu"}], ids=str)
def test_drafts_that_are_right_by_a_pattern(kind, options):
    model = counting_model(pattern, future_heads=kind, **options)
    prompts = [[token] for token in range(11)]
    found = generate(model, prompts, DecodingConfig(max_new_tokens=20, speculative=4))
    assert texts(found) == plainly(model, prompts, 20) == [count_up(prompt, 20) for prompt in prompts]
    for row in found.decoded:
        token = row.prompt[0]  # behind it offset 1's own token was emitted, and drafts follow that
        for step in row.steps[1:]:
            assert len(step.emitted) == emitted_by(token, 4)
            token = (token + len(step.emitted)) % 11
    steps = [step for row in found.decoded for step in row.steps[1:]]
    assert found.tokens_per_forward == sum(len(step.emitted) for step in steps) / len(steps)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_which_branch_of_a_tree_is_taken(kind):
    """Offset 2 is right with its second candidate, offset 3 with its first, offset 4 never."""

    def says(token, offset):
        return {2: [token + 5, token + 2], 3: [token + 3, token + 7], 4: [token + 6, token + 7]}[offset]

    model = counting_model(says, future_heads=kind)
    for name, each, path in [
        ("siblings", 2, (2,)),
        ("bushy", 3, (2, 5)),
        ("depth first", 3, (1, 2)),
        ("no favourite", 2, (1,)),
        ("a chain as a tree", 1, ()),
    ]:
        found = generate(model, [[0], [4, 5]], DecodingConfig(max_new_tokens=13, tree=TREES[name]))
        assert texts(found) == [count_up([0], 13), count_up([5], 13)]
        assert found.tokens_per_forward == each, name
        for step in [step for row in found.decoded for step in row.steps[1:]]:
            assert tuple(index for index, draft in enumerate(step.drafts, 1) if draft.accepted) == path


@pytest.mark.parametrize("count", range(1, 12))
def test_a_row_ends_in_the_middle_of_accepted_drafts(count):
    """By the number of tokens, or by a stop token: what stands behind it is not part of the row."""
    model = counting_model(always)
    (row,) = generate(model, [[0]], DecodingConfig(max_new_tokens=count, speculative=4)).decoded
    assert row.tokens == count_up([0], count) and row.ended == "length"
    assert row.forwards == -(-(count - 1) // 4) and row.emitted == 4 * row.forwards
    assert row.offsets == tuple(offsets_of(count))
    if count < 11:
        (stopped,) = generate(model, [[0]], DecodingConfig(max_new_tokens=30, speculative=4, stop=(count,))).decoded
        assert (stopped.tokens, stopped.ended) == (row.tokens, "stop")
        assert (stopped.offsets, stopped.steps) == (row.offsets, row.steps)


def offsets_of(count: int) -> list[int]:
    """The prefill's token is offset 1's; then come three accepted drafts and offset 1's own, over and over."""
    return [1, *[2, 3, 4, 1] * 3][:count]


def test_rows_that_end_early_leave_the_others_alone():
    model = counting_model(pattern)
    prompts = [[token] for token in range(11)]
    found = generate(model, prompts, DecodingConfig(max_new_tokens=25, speculative=4, stop=(5,)))
    expected = [count_up(prompt, (4 - prompt[0]) % 11 + 1) for prompt in prompts]
    assert texts(found) == expected
    assert {row.ended for row in found.decoded} == {"stop"}


def test_the_context_leaves_room_for_fewer_drafts_towards_its_end():
    """Always right, K = 4, context 10, prompt 1: after 1 + 4 + 4 tokens the root stands at the last place."""
    model = counting_model(always, n_ctx=10)
    (row,) = generate(model, [[0]], DecodingConfig(max_new_tokens=10, speculative=4)).decoded
    assert row.tokens == count_up([0], 10)
    assert [len(step.emitted) for step in row.steps] == [1, 4, 4, 1]
    assert [len(step.drafts) for step in row.steps] == [0, 3, 3, 0]
    (row,) = generate(model, [[0, 1]], DecodingConfig(max_new_tokens=9, speculative=4)).decoded
    assert [len(step.emitted) for step in row.steps] == [1, 4, 4]
    (row,) = generate(model, [[0, 1, 2]], DecodingConfig(max_new_tokens=8, speculative=4)).decoded
    assert [(len(step.drafts), len(step.emitted)) for step in row.steps] == [(0, 1), (3, 4), (2, 3)]
