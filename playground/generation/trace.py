"""The history of one decoded row: its tokens, its forwards, and whether it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from playground.generation.config import DecodingConfig
from playground.generation.tree import Tree
from playground.results import DecodedRow, DecodingStep, Draft


class Forward(NamedTuple):
    """Outcome of one forward of one row."""

    tree: Tree
    drafts: Sequence[int]
    """Tokens of the tree's drafts."""
    last: int
    """The last accepted node (0: the root); offset 1's own token comes after it."""
    own: int
    """Offset 1's own token."""
    room: int = 0
    """Depth of the deepest draft that still fitted into the context; deeper ones were not verified."""

    @property
    def emitted(self) -> list[int]:
        """The accepted drafts, and offset 1's own token."""
        return [self.drafts[node - 1] for node in self.tree.way_to(self.last)] + [self.own]

    def step(self) -> DecodingStep:
        """This forward as a result, with the drafts that were verified."""
        tree, accepted = self.tree, set(self.tree.way_to(self.last))
        judged = [node for node in range(1, len(self.drafts) + 1) if tree.depths[node] <= self.room]
        index = {node: place for place, node in enumerate([0, *judged], -1)}
        return DecodingStep(
            drafts=tuple(
                Draft(
                    token=self.drafts[node - 1],
                    offset=int(tree.depths[node]) + 1,
                    accepted=node in accepted,
                    parent=index[int(tree.parents[node])],
                )
                for node in judged
            ),
            emitted=tuple(self.emitted),
        )


@dataclass(kw_only=True)
class Trace:
    """One row while it is decoded."""

    prompt: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    ended: str = ""

    @property
    def known(self) -> list[int]:
        """The prompt followed by all new tokens."""
        return [*self.prompt, *self.tokens]

    @property
    def length(self) -> int:
        """Number of tokens of the prompt and new tokens together."""
        return len(self.prompt) + len(self.tokens)

    def add(self, forward: Forward, config: DecodingConfig) -> None:
        """Append a forward's tokens, up to a stop token or `max_new_tokens`."""
        self.forwards.append(forward)
        emitted = forward.emitted
        for index, token in enumerate(emitted):
            self.tokens.append(token)
            self.offsets.append(1 if index == len(emitted) - 1 else index + 2)
            if token in config.stop:
                self.ended = "stop"
                return
            if len(self.tokens) == config.max_new_tokens:
                self.ended = "length"
                return

    def result(self) -> DecodedRow:
        """The finished row."""
        return DecodedRow(
            prompt=self.prompt,
            tokens=tuple(self.tokens),
            offsets=tuple(self.offsets),
            steps=tuple(forward.step() for forward in self.forwards),
            ended="stop" if self.ended == "stop" else "length",
        )
