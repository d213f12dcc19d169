"""Names of two parts: the pairs used in training, the pairs reserved for the test, and the drawing of casts.

The pairs reserved for the test form BLOCKS. First and second parts are put in a hidden order (fixed seed) and cut into
equally many blocks. In training, a first part of block b never occurs with the reserved second parts of block b, as many
as a story can have characters. In the test, a cast has all its parts from one block. Six first and six second parts, casts
of two:

                second    0 1 2 3 4 5       x    reserved: only in the test
    first 0, 1            x x . . . .       .    training (with a `name_ambiguity`, so many of them in each line)
    first 2, 3            . . x x . .
    first 4, 5            . . . . x x

If reserved pairs were scattered, a model could learn in training that a first part excludes the reserved second part, and
in the test prefer the OTHER characters' second parts, which scores below chance. Inside a block all second parts are
excluded equally, so that only the mentions in the row distinguish them.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from tasks.base import Device, seeded_generator
from tasks.story_grammar import all_words
from tasks.story_words import FIRST_PARTS, SECOND_PARTS

PAIR_SEED = 20_404
"""Seed of the hidden order. Not configurable, so that no run's seed moves test names into training."""
N_LISTED, MIN_LISTED = 1024, 64
"""Number of casts drawn in advance, and the least that suffice."""
N_TRIES = 4
"""Casts drawn for each story; the first valid one is used."""


@dataclass(frozen=True, kw_only=True)
class NameRules:
    """Numbers of first and second parts, of second parts per first part in training (`ambiguity`), and of characters."""

    n_first: int
    n_second: int
    ambiguity: int | None
    max_characters: int


def first_parts(count: int) -> list[str]:
    """`count` capital first parts, hand-written ones first. Raises ValueError when there are not that many."""
    return _parts([*FIRST_PARTS, *(part.capitalize() for part in _syllables())], count, "n_first_names")


def second_parts(count: int) -> list[str]:
    """`count` lower-case second parts, hand-written ones first. Raises ValueError when there are not that many."""
    return _parts([*SECOND_PARTS, *_syllables()], count, "n_second_names")


def name_blocks(rules: NameRules) -> list[tuple[list[int], list[int]]]:
    """First parts and reserved second parts of each block: at least `max_characters`, and exactly that many."""
    first, second = _hidden_order(rules)
    count = min(rules.n_first, rules.n_second) // rules.max_characters
    first_edges = [block * rules.n_first // count for block in range(count + 1)]
    starts = [block * rules.n_second // count for block in range(count)]
    return [
        (first[first_edges[block] : first_edges[block + 1]], second[start : start + rules.max_characters])
        for block, start in enumerate(starts)
    ]


def training_pairs(rules: NameRules) -> Int[Tensor, "n_first allowed"]:
    """Second parts that may follow each first part in training; every second part follows about equally many."""
    first, second = _hidden_order(rules)
    reserved = {part: set(seconds) for firsts, seconds in name_blocks(rules) for part in firsts}
    amount = rules.n_second - rules.max_characters if rules.ambiguity is None else rules.ambiguity
    table = torch.zeros(rules.n_first, amount, dtype=torch.long)
    for place, part in enumerate(first):
        # Start half way around the ring of second parts, away from the block, at another place for each first part.
        start = place * rules.n_second // rules.n_first + rules.n_second // 2
        ring = [second[(start + step) % rules.n_second] for step in range(rules.n_second)]
        table[part] = torch.tensor([other for other in ring if other not in reserved[part]][:amount])
    return table


@runtime_checkable
class Casts(Protocol):
    """A source of casts: characters (C) with different first parts and different second parts."""

    @property
    def n_draws(self) -> int:
        """Number of large random integers that one cast needs."""
        ...

    def draw(self, draws: Int[Tensor, "*batch draw"]) -> Int[Tensor, "*batch character pair"]:
        """A cast for each `n_draws` random integers."""
        ...

    def to(self, device: Device) -> "Casts":
        """This source on `device`."""
        ...


@dataclass(frozen=True, kw_only=True)
class ListedCasts:
    """Casts drawn from a list."""

    casts: Int[Tensor, "listed character pair"]

    n_draws = 1

    def draw(self, draws: Int[Tensor, "*batch draw"]) -> Int[Tensor, "*batch character pair"]:
        return self.casts[draws[..., 0] % len(self.casts)]

    def to(self, device: Device) -> "ListedCasts":
        return ListedCasts(casts=self.casts.to(device))


@dataclass(frozen=True, kw_only=True)
class FreeCasts:
    """Casts of `size` pairs drawn from a table: the first of N_TRIES without shared parts, else a listed cast.

    Dimension letters: F first part, N choice of second part, R try, C character.
    """

    size: int
    seconds_FN: Int[Tensor, "n_first choices"]
    listed: ListedCasts

    @property
    def n_draws(self) -> int:
        return 2 * N_TRIES * self.size + self.listed.n_draws

    def draw(self, draws: Int[Tensor, "*batch draw"]) -> Int[Tensor, "*batch character pair"]:
        keys_RC2 = draws[..., self.listed.n_draws :].unflatten(-1, (N_TRIES, self.size, 2))
        first_RC = keys_RC2[..., 0] % self.seconds_FN.shape[0]
        second_RC = self.seconds_FN[first_RC, keys_RC2[..., 1] % self.seconds_FN.shape[1]]
        tries_RC2 = torch.stack([first_RC, second_RC], dim=-1)
        tries_RC2 = torch.cat([tries_RC2, self.listed.draw(draws).unsqueeze(-3)], dim=-3)
        chosen = _all_different(tries_RC2).to(torch.uint8).argmax(dim=-1)  # argmax returns the first valid one
        index = chosen[..., None, None, None].expand(*chosen.shape, 1, self.size, 2)
        return tries_RC2.gather(-3, index).squeeze(-3)

    def to(self, device: Device) -> "FreeCasts":
        return FreeCasts(size=self.size, seconds_FN=self.seconds_FN.to(device), listed=self.listed.to(device))


def training_casts(rules: NameRules) -> FreeCasts:
    """Casts of names for training. Raises ValueError when the pairs allow too few casts, or miss a second part."""
    generator = seeded_generator(PAIR_SEED)
    seconds_FN = training_pairs(rules)
    if len(seconds_FN.unique()) < rules.n_second:
        raise ValueError(
            f"with {rules.n_first} first and {rules.n_second} second names and a name_ambiguity of {rules.ambiguity} some "
            "second names never occur; write a larger name_ambiguity"
        )
    first = torch.randint(rules.n_first, (64 * N_LISTED, rules.max_characters), generator=generator)
    second = seconds_FN[first, torch.randint(seconds_FN.shape[1], first.shape, generator=generator)]
    casts = torch.stack([first, second], dim=-1)
    valid = casts[_all_different(casts)][:N_LISTED]
    if len(valid) < MIN_LISTED:
        raise ValueError(
            f"{rules.n_first} first names with {seconds_FN.shape[1]} second ones each allow too few casts of "
            f"{rules.max_characters} different characters; write larger n_first_names and n_second_names, or a smaller "
            "max_characters"
        )
    return FreeCasts(size=rules.max_characters, seconds_FN=seconds_FN, listed=ListedCasts(casts=valid))


def reserved_casts(rules: NameRules) -> ListedCasts:
    """Casts of names reserved for the test, each from one block."""
    generator = seeded_generator(PAIR_SEED)
    blocks = name_blocks(rules)
    casts: list[Tensor] = []
    for index in range(N_LISTED):
        firsts, seconds = (torch.tensor(parts) for parts in blocks[index % len(blocks)])
        chosen = torch.randperm(len(firsts), generator=generator)[: rules.max_characters]
        casts.append(torch.stack([firsts[chosen], seconds[torch.randperm(len(seconds), generator=generator)]], dim=1))
    return ListedCasts(casts=torch.stack(casts))


def _hidden_order(rules: NameRules) -> tuple[list[int], list[int]]:
    generator = seeded_generator(PAIR_SEED)
    first = torch.randperm(rules.n_first, generator=generator).tolist()
    return first, torch.randperm(rules.n_second, generator=generator).tolist()


def _all_different(casts: Int[Tensor, "*batch character pair"]) -> Tensor:
    """True for casts in which no first part and no second part occurs twice."""
    one, other = torch.triu_indices(casts.shape[-2], casts.shape[-2], offset=1, device=casts.device)
    return (casts[..., one, :] != casts[..., other, :]).flatten(-2).all(dim=-1)


def _syllables() -> list[str]:
    """A fixed list of readable syllables: consonant-vowel-consonant, in an order that varies the beginnings."""
    starts, vowels, ends = "b d f g h j k l m n p r s t v w z".split(), "aeiou", "n l r s m k t d b f g p".split()
    return [start + vowel + end for end in ends for vowel in vowels for start in starts]


def _parts(candidates: list[str], count: int, field: str) -> list[str]:
    taken = all_words()
    unique = [part for part in dict.fromkeys(candidates) if part.lower() not in taken]
    if count > len(unique):
        raise ValueError(f"{field} is {count}, and there are {len(unique)} name parts; write at most {len(unique)}")
    return unique[:count]
