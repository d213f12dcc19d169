"""The scores of the stories task: the second parts of names that each score counts, and its chance."""

from dataclasses import dataclass

import torch

from tasks.base import Batch, Score
from tasks.scoring import TeacherForced
from tasks.story_recency import best_guess, recency


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """A test set with one choice of scored tokens."""

    name: str
    """Prefix of the names of its scores."""
    what: str
    """The scored tokens, in words."""
    batch: Batch
    chance: tuple[float, float]
    """Accuracy and loss (nats) of the best guess that does not use the first part of a name."""

    def scores(self, suffix: str, result: TeacherForced) -> list[Score]:
        """Accuracy and loss, each with its chance and ceiling."""
        accuracy, loss = self.chance
        count = result.count[0]
        return [
            Score(
                name=f"{self.name}_accuracy{suffix}",
                value=result.accuracy[0],
                chance=accuracy,
                ceiling=1.0,
                unit=f"share of {self.what}",
                count=count,
            ),
            Score(
                name=f"{self.name}_loss{suffix}",
                value=result.score_loss[0],
                chance=loss,
                ceiling=0.0,
                unit="nats per token",
                higher_is_better=False,
                count=count,
            ),
        ]


def scored_sets(batch: Batch, every_mention: Batch | None) -> tuple[ScoredSet, ...]:
    """The scored sets of generated stories, the headline's first; for real stories (`every_mention` None) their only one."""
    if every_mention is None:
        return (_every_mention(batch, batch),)
    free = ScoredSet(
        name="free_name",
        what="second tokens of the sentences' first names",
        batch=batch,
        chance=_guess_among_characters(batch),
    )
    return free, _every_mention(every_mention, batch)


def _every_mention(batch: Batch, free: Batch) -> ScoredSet:
    """All names from the second mention on. Chance is a guess among the characters, or the best recency rule if better.

    In generated stories the rule knows the number of characters named so far, and whether the mention is a free one. In real
    stories it knows neither, because the test set may be too small to estimate that.
    """
    guess = _guess_among_characters(batch)
    names = batch.info["names"] if "names" in batch.info else _second_parts(batch)
    ranks, named = recency(batch.tokens, names, batch.score_mask)
    groups = named * 2 + free.score_mask[batch.score_mask] if free is not batch else torch.zeros_like(named)
    rule = best_guess(ranks, groups)
    return ScoredSet(
        name="second_name_token",
        what="second name tokens from the second mention on",
        batch=batch,
        chance=(max(guess[0], rule[0]), min(guess[1], rule[1])),
    )


def _second_parts(batch: Batch) -> torch.Tensor:
    """True for all tokens that are scored anywhere in their row; in real stories only repeated names are known."""
    marks = torch.zeros(len(batch.tokens), int(batch.tokens.max()) + 1, dtype=torch.bool)
    rows, places = batch.score_mask.nonzero(as_tuple=True)
    marks[rows, batch.tokens[rows, places]] = True
    return marks.gather(1, batch.tokens) & batch.real


def _guess_among_characters(batch: Batch) -> tuple[float, float]:
    """Accuracy and loss (nats) of a uniform guess among the story's characters, means over scored tokens."""
    characters = batch.info["characters"][batch.score_mask].double()
    return float((1 / characters).mean()), float(characters.log().mean())
