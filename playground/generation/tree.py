"""The drafts that a forward verifies: a tree of candidates of the offsets 2, 3, .., one or several per offset (Medusa: Cai et
al. 2024, 2401.10774, section 2.1.2).

A draft is named by a path of ranks: (0,) is the most probable token of offset 2, (1,) its second candidate, (0, 1) the second
candidate of offset 3 after the first of offset 2. A chain, only the first candidates, is (0,), (0, 0), (0, 0, 0), ..: blockwise
parallel decoding (Stern et al. 2018, 1811.03115). Node 0 is the root, the last emitted token; node i > 0 is the i-th path.
"""

import functools
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RankPath = tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """A set of drafts. Raises ValueError for a path whose parent is not listed before it, and for a path listed twice."""

    paths: tuple[RankPath, ...]

    def __post_init__(self) -> None:
        known: set[RankPath] = {()}
        for path in self.paths:
            if not path or min(path) < 0:
                raise ValueError(f"{path} is not a path of ranks; write ranks from 0 on, such as (0,) or (0, 1)")
            if path[:-1] not in known:
                raise ValueError(
                    f"the tree has the draft {path} and not {path[:-1]}, which it continues; write that one before it"
                )
            if path in known:
                raise ValueError(f"the tree has the draft {path} twice")
            known.add(path)

    @functools.cached_property
    def n_nodes(self) -> int:
        """Number of tokens that one forward reads: the root and the drafts."""
        return 1 + len(self.paths)

    @functools.cached_property
    def speculative(self) -> int:
        """K: the furthest offset that drafts, which is also the most tokens that a forward can emit."""
        return 1 + max((len(path) for path in self.paths), default=0)

    @functools.cached_property
    def candidates(self) -> int:
        """Most candidates that the tree uses of one offset."""
        return 1 + max((max(path) for path in self.paths), default=0)

    @functools.cached_property
    def is_chain(self) -> bool:
        """True if there is one draft per offset."""
        return all(not any(path) for path in self.paths)

    @functools.cached_property
    def parents(self) -> NDArray[np.int64]:
        """`[node]`: the parent of each node; that of the root is itself."""
        index = {(): 0} | {path: node for node, path in enumerate(self.paths, 1)}
        return np.array([0] + [index[path[:-1]] for path in self.paths])

    @functools.cached_property
    def depths(self) -> NDArray[np.int64]:
        """`[node]`: 0 for the root, and k - 1 for drafts of offset k."""
        return np.array([0] + [len(path) for path in self.paths])

    @functools.cached_property
    def ranks(self) -> NDArray[np.int64]:
        """`[node]`: rank of a draft among the candidates of its offset; 0 for the root."""
        return np.array([0] + [path[-1] for path in self.paths])

    @functools.cached_property
    def ancestors(self) -> NDArray[np.bool_]:
        """`[node, node]`: True if the second is the first or on its path; the nodes that each node attends to."""
        seen = np.eye(self.n_nodes, dtype=bool)
        for node, parent in enumerate(self.parents):
            seen[node] |= seen[parent]
        return seen

    @functools.cached_property
    def lines(self) -> NDArray[np.int64]:
        """`[node, depth]`: the nodes from the root to each node, padded with the node itself."""
        lines = np.zeros((self.n_nodes, self.speculative), dtype=np.int64)
        for node in range(self.n_nodes):
            path = np.flatnonzero(self.ancestors[node])
            line = path[np.argsort(self.depths[path])]
            lines[node] = np.pad(line, (0, self.speculative - len(line)), mode="edge")
        return lines

    def way_to(self, node: int) -> tuple[int, ...]:
        """The drafts from the root to a node, the node included."""
        return self._ways[node]

    @functools.cached_property
    def _ways(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(int(step) for step in line[1 : 1 + depth])
            for line, depth in zip(self.lines, self.depths.tolist(), strict=True)
        )


def chain(speculative: int) -> Tree:
    """The tree of only the most probable tokens of the offsets 2 .. `speculative`; 1 gives no drafts (plain decoding).

    >>> chain(3).paths
    ((0,), (0, 0))
    """
    return Tree(tuple((0,) * depth for depth in range(1, speculative)))


def best_tree(hits: Sequence[Sequence[float]] | NDArray[np.float64], budget: int) -> Tree:
    """The tree of `budget` drafts with the most expected acceptances, if candidate r of offset k has probability
    `hits[k - 2][r]` of being right.

    Assumes that offsets are right independently of each other (Cai et al. 2024): a draft is accepted with the product of the
    probabilities on its path, so taking the most probable paths first is optimal. Fewer drafts if `hits` allows no more.
    Raises ValueError for a budget below 1.

    >>> best_tree([[0.8, 0.1], [0.5, 0.2]], 3).paths
    ((0,), (0, 0), (0, 1))
    """
    if budget < 1:
        raise ValueError(f"the budget is {budget} drafts; write at least 1")
    table = np.asarray(hits, dtype=np.float64)
    chosen: list[RankPath] = []
    waiting: list[tuple[float, RankPath]] = []

    def offer(parent: RankPath, share: float) -> None:
        if len(parent) < len(table):
            for rank, hit in enumerate(table[len(parent)].tolist()):
                heapq.heappush(waiting, (-share * hit, (*parent, rank)))

    offer((), 1.0)
    while waiting and len(chosen) < budget:
        negative, path = heapq.heappop(waiting)
        chosen.append(path)
        offer(path, -negative)
    return Tree(tuple(sorted(chosen, key=lambda path: (len(path), path))))


def expected_tokens(hits: Sequence[Sequence[float]] | NDArray[np.float64], tree: Tree) -> float:
    """Expected tokens per forward of a tree, with `hits` and the independence assumption of `best_tree`.

    >>> expected_tokens([[0.8], [0.5]], chain(3))
    2.2
    """
    table = np.asarray(hits, dtype=np.float64)
    shares = [np.prod([table[depth, rank] for depth, rank in enumerate(path)]) for path in tree.paths]
    return float(round(1 + sum(shares), 12))
