"""What happened to one row so far: its tokens, its forwards, and whether it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from playground.generation.config import DecodingConfig
from playground.generation.tree import Tree
from playground.results import DecodedRow, DecodingStep, Draft


@dataclass(kw_only=True)
class Trace:
    """One row while it is decoded."""

    prompt: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    steps: list[DecodingStep] = field(default_factory=list)
    ended: str = ""

    @property
    def known(self) -> list[int]:
        """The prompt and all new tokens."""
        return [*self.prompt, *self.tokens]

    def add(self, step: DecodingStep, config: DecodingConfig) -> None:
        """Take over a forward's tokens, up to a stop token or the number wanted."""
        self.steps.append(step)
        accepted = [draft.offset for draft in step.drafts if draft.accepted]
        for token, offset in zip(step.emitted, (*accepted, 1), strict=True):
            self.tokens.append(token)
            self.offsets.append(offset)
            if token in config.stop:
                self.ended = "stop"
                return
            if len(self.tokens) == config.max_new_tokens:
                self.ended = "length"
                return

    def result(self) -> DecodedRow:
        """The finished row."""
        return DecodedRow(
            prompt=self.prompt, tokens=tuple(self.tokens), offsets=tuple(self.offsets), steps=tuple(self.steps),
            ended="stop" if self.ended == "stop" else "length",
        )  # fmt: skip


def make_step(tree: Tree, drafts: Sequence[int], last: int, own: int) -> DecodingStep:
    """The record of a forward: the tree's drafts, accepted as far as node `last`, and offset 1's own token."""
    accepted = tree.ancestors[last]
    nodes = range(1, 1 + len(drafts))
    return DecodingStep(
        drafts=tuple(
            Draft(token=drafts[node - 1], offset=int(tree.depths[node]) + 1, parent=int(tree.parents[node]) - 1,
                  accepted=bool(accepted[node]))
            for node in nodes
        ),
        emitted=(*(drafts[node - 1] for node in nodes if accepted[node]), own),
    )  # fmt: skip
