"""Trees of drafts: their tables against walks along the paths, and the best tree against all there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.generation.tree import Tree, best_tree, chain, expected_tokens
from tests.generation.cases import TREES

paths = st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple)


def grown(ends) -> Tree:
    """The tree of these paths and all their beginnings, in the order in which they come up."""
    return Tree(tuple(dict.fromkeys(path[:length] for path in ends for length in range(1, len(path) + 1))))


@pytest.mark.parametrize(
    ("tree", "n_nodes", "speculative", "candidates", "is_chain"),
    [
        (Tree(()), 1, 1, 1, True),
        (chain(1), 1, 1, 1, True),
        (chain(2), 2, 2, 1, True),
        (chain(8), 8, 8, 1, True),
        (TREES["siblings"], 4, 2, 3, False),
        (TREES["bushy"], 8, 4, 2, False),
        (TREES["no favourite"], 3, 3, 2, False),
        (TREES["depth first"], 7, 4, 3, False),
        (Tree(((1,),)), 2, 2, 2, False),
    ],
)
def test_sizes(tree, n_nodes, speculative, candidates, is_chain):
    assert (tree.n_nodes, tree.speculative, tree.candidates) == (n_nodes, speculative, candidates)
    assert tree.is_chain is is_chain


def test_tables_by_hand():
    tree = Tree(((1,), (0,), (1, 0), (0, 2), (1, 0, 1)))
    assert tree.parents.tolist() == [0, 0, 0, 1, 2, 3]
    assert tree.depths.tolist() == [0, 1, 1, 2, 2, 3]
    assert tree.ranks.tolist() == [0, 1, 0, 0, 2, 1]
    assert [tree.way_to(node) for node in range(6)] == [(), (1,), (2,), (1, 3), (2, 4), (1, 3, 5)]
    assert tree.lines.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 2, 2, 2], [0, 1, 3, 3], [0, 2, 4, 4], [0, 1, 3, 5]]
    assert [np.flatnonzero(row).tolist() for row in tree.ancestors] == [
        [0],
        [0, 1],
        [0, 2],
        [0, 1, 3],
        [0, 2, 4],
        [0, 1, 3, 5],
    ]


@given(st.lists(paths, max_size=8))
def test_tables_are_walks_along_the_parents(ends):
    tree = grown(ends)
    names = [(), *tree.paths]
    for node, name in enumerate(names):
        walk, at = [node], node
        while at:
            at = int(tree.parents[at])
            walk.insert(0, at)
        assert tree.way_to(node) == tuple(walk[1:])
        assert [names[step] for step in walk] == [name[:length] for length in range(len(name) + 1)]
        assert tree.depths[node] == len(name)
        assert tree.lines[node].tolist() == walk + [node] * (tree.speculative - len(walk))
        assert np.flatnonzero(tree.ancestors[node]).tolist() == sorted(walk)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (((),), r"\(\) is not a path of ranks; write ranks from 0 on"),
        (((-1,),), r"\(-1,\) is not a path of ranks"),
        (((0,), (0, -2)), r"\(0, -2\) is not a path of ranks"),
        (((0, 0),), r"has the draft \(0, 0\) and not \(0,\), which it continues"),
        (((0, 0), (0,)), r"which it continues"),
        (((0,), (1, 0)), r"not \(1,\)"),
        (((0,), (0,)), r"has the draft \(0,\) twice"),
    ],
)
def test_what_is_no_tree_is_refused(paths, message):
    with pytest.raises(ValueError, match=message):
        Tree(paths)


# --- the best tree --------------------------------------------------------------------------------------------------


def all_trees(hits, budget):
    """Every tree of `budget` drafts (as many as there are, if fewer) out of a table's candidates."""
    depths = range(1, len(hits) + 1)
    every = [path for depth in depths for path in itertools.product(*(range(len(row)) for row in hits[:depth]))]
    for chosen in itertools.combinations(every, min(budget, len(every))):
        if all(len(path) == 1 or path[:-1] in chosen for path in chosen):
            yield Tree(chosen)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(1, 4), (2, 2), (3, 2), (2, 3)])
def test_the_best_tree_is_the_best_of_all(shape, seed):
    hits = np.random.default_rng(seed).dirichlet(np.ones(shape[1] + 1), shape[0])[:, :-1]
    for budget in range(1, 6):
        best = max(expected_tokens(hits, tree) for tree in all_trees(hits, budget))
        assert expected_tokens(hits, best_tree(hits, budget)) == pytest.approx(best)


@pytest.mark.parametrize(
    ("hits", "budget", "paths"),
    [
        ([[0.8, 0.1], [0.5, 0.2]], 3, ((0,), (0, 0), (0, 1))),
        ([[0.8, 0.1], [0.5, 0.2]], 1, ((0,),)),
        ([[0.2, 0.7]], 1, ((1,),)),  # the second candidate is right more often
        ([[0.5, 0.4], [0.1, 0.1]], 2, ((0,), (1,))),
        ([[0.5], [0.5]], 9, ((0,), (0, 0))),  # there are no more
        ([[0.0, 0.0]], 2, ((0,), (1,))),
    ],
)
def test_best_trees_by_hand(hits, budget, paths):
    assert best_tree(hits, budget).paths == best_tree(np.array(hits), budget).paths == paths


def test_a_best_tree_within_a_best_tree():
    """More drafts never drop one: the most probable paths come first."""
    hits = np.random.default_rng(1).dirichlet(np.ones(5), 4)[:, :-1]
    trees = [set(best_tree(hits, budget).paths) for budget in (1, 2, 5, 20, 64)]
    assert all(small < large for small, large in itertools.pairwise(trees))
    assert len(trees[-1]) == 64


@pytest.mark.parametrize("budget", [0, -3])
def test_a_tree_without_a_budget_is_refused(budget):
    with pytest.raises(ValueError, match="write at least 1"):
        best_tree([[0.5]], budget)


@pytest.mark.parametrize("name", TREES)
def test_expected_tokens_are_the_mean_of_simulated_forwards(name):
    """One candidate of an offset is right at most, and offsets are right independently of each other."""
    hits, tree, count = np.array([[0.5, 0.3, 0.1], [0.4, 0.3, 0.1], [0.6, 0.2, 0.1]]), TREES[name], 20_000
    cumulative = hits.cumsum(axis=1)
    right = (np.random.default_rng(0).random((count, 3, 1)) > cumulative).sum(axis=2)  # 3: none of them
    emitted = [1 + max(len(p) for p in ((), *tree.paths) if p == tuple(row[: len(p)])) for row in right.tolist()]
    assert np.mean(emitted) == pytest.approx(expected_tokens(hits, tree), abs=0.03)
