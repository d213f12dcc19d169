"""Which drafts are accepted: tables made by hand, for every rule; and how drafts are chosen."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.sampling import draw
from playground.generation.tree import Tree, chain
from playground.generation.verify import draft_tokens, samples_drafts, tree_tensors, verify
from tests.generation.cases import TREES

SAMPLING = Sampling(temperature=1.0)
FAR = 99
"""Room for any draft."""


def says(*tokens: int, d_vocab: int = 10) -> torch.Tensor:
    """Logits `[1, node, d_vocab]` whose favourites are these."""
    return torch.nn.functional.one_hot(torch.tensor([tokens]), d_vocab).float()


def judged(logits, drafts, tree, *, room=FAR, q=None, uniform=None, **changes):
    """(last node, drafts accepted, offset 1's own token) of one row."""
    config = DecodingConfig(tree=tree if tree.paths else None, **changes)
    q = None if q is None else torch.tensor([q])
    uniform = None if uniform is None else torch.tensor([uniform])
    tensors = tree_tensors(tree, "cpu")
    verdict = verify(
        logits, torch.tensor([drafts], dtype=torch.long), q, torch.tensor([room]), uniform, tensors, config
    )
    return tuple(int(part) for part in verdict)


# --- greedy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "drafts", "room", "expected"),
    [
        ((1, 2, 3, 4), [1, 2, 3], FAR, (3, 3, 4)),
        ((1, 2, 3, 4), [1, 2, 9], FAR, (2, 2, 3)),
        ((1, 2, 3, 4), [1, 9, 3], FAR, (1, 1, 2)),  # what comes behind a wrong draft does not count
        ((1, 2, 3, 4), [9, 2, 3], FAR, (0, 0, 1)),
        ((1, 2, 3, 4), [1, 2, 3], 3, (3, 3, 4)),
        ((1, 2, 3, 4), [1, 2, 3], 2, (2, 2, 3)),
        ((1, 2, 3, 4), [1, 2, 3], 0, (0, 0, 1)),
        ((1, 2, 3, 4), [1, 2, 3], -1, (0, 0, 1)),
        ((7,), [], FAR, (0, 0, 7)),
    ],
)
def test_greedy_chains(said, drafts, room, expected):
    assert judged(says(*said), drafts, chain(len(said)), room=room) == expected


@pytest.mark.parametrize(
    ("said", "drafts", "room", "expected"),
    [  # bushy: nodes 1, 2 follow the root; 3, 4 follow 1; 5 follows 2; 6 follows 3; 7 follows 4
        ((1, 5, 0, 7, 0, 0, 8, 0), [1, 2, 5, 6, 5, 7, 7], FAR, (6, 3, 8)),
        ((1, 5, 0, 6, 0, 0, 8, 0), [1, 2, 5, 6, 5, 7, 7], FAR, (3, 2, 6)),
        ((2, 5, 5, 7, 0, 9, 8, 0), [1, 2, 5, 6, 5, 7, 7], FAR, (5, 2, 9)),
        ((2, 5, 4, 7, 0, 9, 8, 0), [1, 2, 5, 6, 5, 7, 7], FAR, (2, 1, 4)),
        ((3, 5, 5, 7, 0, 9, 8, 0), [1, 2, 5, 6, 5, 7, 7], FAR, (0, 0, 3)),
        ((1, 6, 0, 7, 7, 0, 8, 4), [1, 2, 5, 6, 5, 7, 7], FAR, (7, 3, 4)),
        ((1, 6, 0, 7, 7, 0, 8, 4), [1, 2, 5, 6, 5, 7, 7], 2, (4, 2, 7)),
        ((1, 6, 0, 7, 7, 0, 8, 4), [1, 2, 5, 6, 5, 7, 7], 1, (1, 1, 6)),
        ((1, 6, 0, 7, 7, 0, 8, 4), [1, 2, 5, 6, 5, 7, 7], 0, (0, 0, 1)),
        ((1, 3, 4, 0, 0, 0, 0, 0), [1, 1, 3, 0, 4, 9, 9], FAR, (3, 2, 0)),  # twins: the deeper way, then the first
        ((1, 3, 3, 0, 0, 0, 0, 0), [1, 1, 3, 3, 3, 9, 9], FAR, (3, 2, 0)),
    ],
)
def test_greedy_trees(said, drafts, room, expected):
    assert judged(says(*said), drafts, TREES["bushy"], room=room) == expected


def test_the_order_of_drafts_in_a_tree_does_not_matter():
    tree = TREES["depth first"]  # (1,), (1, 0), (1, 0, 1), (0,), (0, 2), (0, 2, 0)
    assert judged(says(4, 0, 0, 0, 5, 6, 7), [1, 2, 3, 4, 5, 6], tree) == (6, 3, 7)
    assert judged(says(1, 2, 9, 0, 5, 6, 7), [1, 2, 3, 4, 5, 6], tree) == (2, 2, 9)


def test_a_chain_is_judged_as_the_same_tree_with_siblings_is():
    """All answers to all drafts of two tokens over three: 81 cases."""
    cases = np.stack(np.meshgrid(*[range(3)] * 5, indexing="ij"), axis=-1).reshape(-1, 5)
    for *said, one, two in cases.tolist():
        small = judged(says(*said), [one, two], chain(3))
        siblings = judged(says(*said, 0), [one, two, 9], Tree(((0,), (0, 0), (1,))))
        assert small == siblings


# --- chains with sampling (Leviathan et al. 2023) -------------------------------------------------------------------

P = [[0.3, 0.5, 0.2], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]
Q = [[0.6, 0.2, 0.2], [0.5, 0.25, 0.25]]
"""Of a draft 0 p / q is 1/2 behind the root and behind the first draft; of 1 it is above 1 and 1; of 2, 1 and 2."""
logits = torch.tensor([P]).log()


@pytest.mark.parametrize(
    ("drafts", "accept", "own", "room", "expected"),
    [
        ([0, 0], (0.499, 0.499), 0.5, FAR, (2, 2, 2)),
        ([0, 0], (0.499, 0.501), 0.5, FAR, (1, 1, 2)),  # refused: from p - q, which has tokens 2 only there
        ([0, 0], (0.501, 0.499), 0.5, FAR, (0, 0, 1)),  # p - q has token 1 only
        ([0, 0], (0.501, 0.0), 0.99, FAR, (0, 0, 1)),
        ([1, 1], (0.9999, 0.9999), 0.0, FAR, (2, 2, 2)),
        ([2, 2], (0.9999, 0.9999), 0.0, FAR, (2, 2, 2)),
        ([0, 0], (0.0, 0.0), 0.29, 0, (0, 0, 0)),  # no room: from p itself, not from what is beyond q
        ([0, 0], (0.0, 0.0), 0.31, 0, (0, 0, 1)),
        ([0, 0], (0.0, 0.0), 0.81, 0, (0, 0, 2)),
        ([0, 0], (0.0, 0.0), 0.2, 1, (1, 1, 0)),
        ([0, 0], (0.0, 0.0), 0.3, 1, (1, 1, 1)),
        ([0, 0], (0.6, 0.0), 0.1, 1, (0, 0, 1)),  # refused with room
    ],
)
def test_a_draft_is_accepted_where_the_number_is_below_p_over_q(drafts, accept, own, room, expected):
    uniform = [[0.9, own], [accept[0], own], [accept[1], own]]
    found = judged(logits, drafts, chain(3), room=room, q=Q, uniform=uniform, sampling=SAMPLING)
    assert found == expected


def test_where_drafts_come_from_p_itself_all_are_accepted():
    uniform = [[0.9, 0.3]] + [[0.99999994, 0.3]] * 2
    assert judged(logits, [1, 1], chain(3), q=P[:2], uniform=uniform, sampling=SAMPLING) == (2, 2, 2)


def test_a_token_that_p_excludes_is_never_accepted_and_never_drawn():
    p = torch.tensor([[[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]]).log()
    for accept in (0.0, 0.5):
        for own in (0.0, 0.4, 0.99999994):
            found = judged(
                p, [0], chain(2), q=[[1.0, 0.0, 0.0]], uniform=[[0.0, own], [accept, own]], sampling=SAMPLING
            )
            assert found[:2] == (0, 0) and found[2] in (1, 2)


def test_the_first_two_tokens_have_the_models_distribution_whatever_drafts_come_from():
    """Drafts from any q; p of the second token depends on the first. All 16 pairs, 60000 rows."""
    rows, V, random = 60_000, 4, torch.Generator().manual_seed(3)
    p_first, p_second = torch.rand(V, generator=random).softmax(0), (3 * torch.rand(V, V, generator=random)).softmax(1)
    q = torch.tensor([[[0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.45, 0.45]]]).expand(rows, -1, -1)
    drafts = draw(q, torch.rand(rows, 2, generator=random))
    logits = torch.stack([p_first.expand(rows, -1), p_second[drafts[:, 0]], torch.full((rows, V), 0.25)], dim=1).log()
    verdict = verify(
        logits,
        drafts,
        q,
        torch.full((rows,), FAR),
        torch.rand(rows, 3, 2, generator=random),
        tree_tensors(chain(3), "cpu"),
        DecodingConfig(speculative=3, sampling=SAMPLING),
    )
    first = torch.where(verdict.accepted > 0, drafts[:, 0], verdict.own)
    second = torch.where(verdict.accepted > 1, drafts[:, 1], verdict.own)
    later = draw(p_second[first], torch.rand(rows, generator=random))  # where the forward emitted one token only
    pairs = V * first + torch.where(verdict.accepted > 0, second, later)
    expected = (p_first[:, None] * p_second).flatten().numpy().astype(float)
    assert chisquare(pairs.bincount(minlength=V * V).numpy(), rows * expected / expected.sum()).pvalue > 1e-3
    share = np.minimum(p_first.numpy(), q[0, 0].numpy()).sum()
    assert float((verdict.accepted > 0).float().mean()) == pytest.approx(share, abs=0.01)


# --- trees with sampling, and typical acceptance --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.2, 0.1, 0.1, 0.1), (1, 1, 0)),
        ((0.4, 0.1, 0.6, 0.1), (2, 1, 2)),
        ((0.9, 0.1, 0.1, 0.1), (0, 0, 2)),
        ((0.2, 0.4, 0.1, 0.1), (3, 2, 2)),
    ],
)
def test_in_a_tree_each_node_draws_a_token_and_a_draft_that_is_it_is_accepted(numbers, expected):
    tree = Tree(((0,), (1,), (0, 0)))
    probability = torch.tensor([[P[0], P[1], P[1], P[2]]])
    uniform = [[number, 0.77] for number in numbers]
    assert judged(probability.log(), [0, 1, 1], tree, uniform=uniform, sampling=SAMPLING) == expected


def entropy(p):
    return -sum(x * np.log(x) for x in p if x)


@pytest.mark.parametrize("token", range(4))
@pytest.mark.parametrize("p", [(0.85, 0.1, 0.04, 0.01), (0.4, 0.3, 0.2, 0.1), (0.25, 0.25, 0.25, 0.25)])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.09, 0.3), (0.2, 10.0), (1.0, 0.7)])
def test_typical_acceptance_is_from_the_smaller_threshold_on(token, p, epsilon, delta):
    """min(epsilon, delta exp(-entropy)), the draft's probability being above it (Cai et al. 2024, section 2.3.1)."""
    good = p[token] > min(epsilon, delta * np.exp(-entropy(p)))
    logits = torch.tensor([[p, (0.0, 0.0, 0.0, 1.0)]]).log()
    for tree, drafts in [(chain(2), [token]), (Tree(((0,), (1,))), [token, token])]:
        found = judged(
            logits[:, [0, *[1] * len(drafts)]],
            drafts,
            tree,
            uniform=[[0.5, 0.0]] * (1 + len(drafts)),
            rule="typical",
            typical_epsilon=epsilon,
            typical_delta=delta,
            sampling=SAMPLING,
        )
        assert found == ((1, 1, 3) if good else (0, 0, 0))


# --- drafts ---------------------------------------------------------------------------------------------------------


def test_drafts_of_chains_and_trees_are_the_candidates_by_rank():
    logits = torch.tensor([[[3.0, 1, 2, 0], [0, 1, 2, 3], [1, 3, 0, 2]]])
    for tree, expected in [
        (chain(4), [0, 3, 1]),
        (TREES["siblings"], [0, 2, 1]),
        (TREES["bushy"], [0, 2, 3, 2, 3, 1, 3]),
        (TREES["depth first"], [2, 3, 3, 0, 1, 1]),
    ]:
        drafts, drawn_from = draft_tokens(logits, None, tree, tree_tensors(tree, "cpu"), Sampling())
        assert drafts.tolist() == [expected] and drawn_from is None


def test_drafts_of_sampled_chains_are_drawn_and_say_from_what():
    tree, logits = chain(3), torch.tensor([P[:2]]).log()
    drafts, drawn_from = draft_tokens(logits, torch.tensor([[0.31, 0.6]]), tree, tree_tensors(tree, "cpu"), SAMPLING)
    assert drafts.tolist() == [[1, 2]]
    torch.testing.assert_close(drawn_from, torch.tensor([P[:2]]))


@pytest.mark.parametrize(
    ("tree", "sampling", "rule", "expected"),
    [
        (chain(3), SAMPLING, "exact", True),
        (chain(3), SAMPLING, "typical", False),
        (chain(3), Sampling(), "exact", False),
        (chain(1), SAMPLING, "exact", False),
        (TREES["siblings"], SAMPLING, "exact", False),
        (TREES["a chain as a tree"], SAMPLING, "exact", True),
    ],
)
def test_drafts_are_drawn_in_chains_under_exact_sampling_only(tree, sampling, rule, expected):
    assert samples_drafts(tree, sampling, rule) is expected
    if tree.paths and not expected:
        logits = torch.tensor([[[1.0, 2, 0], [0, 1, 2], [2, 1, 0]]])[:, : tree.speculative - 1]
        numbers = torch.rand(1, len(tree.paths), generator=torch.Generator().manual_seed(0))
        drafts, drawn_from = draft_tokens(logits, numbers, tree, tree_tensors(tree, "cpu"), sampling, rule)
        assert drawn_from is None and drafts[0, 0] == 1
