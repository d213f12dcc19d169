"""Which drafts a forward verifies: a tree of candidates of the offsets 2, 3, .., up to several per offset (Medusa: Cai et al.
2024, 2401.10774, section 2.1.2).

A draft is named by a path of ranks: (0,) is the favourite of offset 2, (1,) its second candidate, (0, 1) the second candidate
of offset 3 behind the favourite of offset 2. A chain, the favourites alone, is (0,), (0, 0), (0, 0, 0), ..: blockwise parallel
decoding (Stern et al. 2018, 1811.03115). Node 0 is the last token emitted, the root; node i > 0 is the i-th path.
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
    """A set of drafts. Raises ValueError for a path whose beginning is not in the tree, and for one named twice."""

    paths: tuple[RankPath, ...]

    def __post_init__(self) -> None:
        known: set[RankPath] = {()}
        for path in self.paths:
            if not path or min(path) < 0:
                raise ValueError(f"{path} is no path of ranks; write ranks from 0 on, such as (0,) or (0, 1)")
            if path[:-1] not in known:
                raise ValueError(
                    f"the tree has the draft {path} and not {path[:-1]}, which it continues; write that before"
                )
            if path in known:
                raise ValueError(f"the tree has the draft {path} twice")
            known.add(path)

    @functools.cached_property
    def n_nodes(self) -> int:
        """Tokens fed in one forward: the root and the drafts."""
        return 1 + len(self.paths)

    @functools.cached_property
    def speculative(self) -> int:
        """K: the furthest offset that drafts, and so the most tokens that a forward can emit."""
        return 1 + max((len(path) for path in self.paths), default=0)

    @functools.cached_property
    def candidates(self) -> int:
        """How many candidates of an offset the tree uses at most."""
        return 1 + max((max(path) for path in self.paths), default=0)

    @functools.cached_property
    def is_chain(self) -> bool:
        """Whether there is one draft per offset."""
        return all(not any(path) for path in self.paths)

    @functools.cached_property
    def parents(self) -> NDArray[np.int64]:
        """`[node]`: the node that each continues; the root's is itself."""
        index = {(): 0} | {path: node for node, path in enumerate(self.paths, 1)}
        return np.array([0] + [index[path[:-1]] for path in self.paths])

    @functools.cached_property
    def depths(self) -> NDArray[np.int64]:
        """`[node]`: 0 for the root, and k - 1 for drafts of offset k."""
        return np.array([0] + [len(path) for path in self.paths])

    @functools.cached_property
    def ranks(self) -> NDArray[np.int64]:
        """`[node]`: which candidate of its offset a draft is; 0 for the root."""
        return np.array([0] + [path[-1] for path in self.paths])

    @functools.cached_property
    def ancestors(self) -> NDArray[np.bool_]:
        """`[node, node]`: whether the second is the first or lies on its path: what each node may attend to."""
        seen = np.eye(self.n_nodes, dtype=bool)
        for node, parent in enumerate(self.parents):
            seen[node] |= seen[parent]
        return seen

    @functools.cached_property
    def lines(self) -> NDArray[np.int64]:
        """`[node, depth]`: the nodes from the root to each node; the node itself where it is not as deep."""
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
    """The favourites of the offsets 2 .. `speculative`, one behind the other; 1 gives no drafts: plain decoding.

    >>> chain(3).paths
    ((0,), (0, 0))
    """
    return Tree(tuple((0,) * depth for depth in range(1, speculative)))


def best_tree(hits: Sequence[Sequence[float]] | NDArray[np.float64], budget: int) -> Tree:
    """The tree of `budget` drafts that accepts most, when candidate r of offset k is right with probability `hits[k - 2][r]`.

    As if offsets were right independently of each other (Cai et al. 2024): a draft is accepted with the product of the
    probabilities along its path, so taking the most probable paths first is optimal. Fewer drafts where there are no more.

    >>> best_tree([[0.8, 0.1], [0.5, 0.2]], 3).paths
    ((0,), (0, 0), (0, 1))
    """
    if budget < 1:
        raise ValueError(f"the budget is {budget} drafts; write at least 1")
    table = np.asarray(hits, dtype=np.float64)
    chosen: list[RankPath] = []
    waiting: list[tuple[float, RankPath]] = []

    def offer(behind: RankPath, share: float) -> None:
        if len(behind) < len(table):
            for rank, hit in enumerate(table[len(behind)].tolist()):
                heapq.heappush(waiting, (-share * hit, (*behind, rank)))

    offer((), 1.0)
    while waiting and len(chosen) < budget:
        negative, path = heapq.heappop(waiting)
        chosen.append(path)
        offer(path, -negative)
    return Tree(tuple(sorted(chosen, key=lambda path: (len(path), path))))


def expected_tokens(hits: Sequence[Sequence[float]] | NDArray[np.float64], tree: Tree) -> float:
    """Tokens per forward of a tree under the assumption of `best_tree`.

    >>> expected_tokens([[0.8], [0.5]], chain(3))
    2.2
    """
    table = np.asarray(hits, dtype=np.float64)
    shares = [np.prod([table[depth, rank] for depth, rank in enumerate(path)]) for path in tree.paths]
    return float(round(1 + sum(shares), 12))
