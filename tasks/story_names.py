"""Names of two parts: which pairs training may use, which are kept for the test, and how a cast is drawn.

Both parts are put in a hidden order (fixed seed). With F first and S second parts, the first part at place f pairs with
the second parts at places g, g+1, ... (modulo S), where g = f*S // F:

    the first R of these    kept for the test, never in training (R = max(1, S // 8))
    the next `ambiguity`    used in training (all that are left when `ambiguity` is None)

So every second part follows equally many first parts (exactly, when F and S are equal), and each one occurs in training.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from tasks.base import seeded_generator
from tasks.story_grammar import all_words
from tasks.story_words import FIRST_PARTS, SECOND_PARTS

PAIR_SEED = 20_404
"""Seed of the hidden order. No field of a configuration, so that no setting moves test names into training."""
N_SPARE, MIN_SPARE = 1024, 64
"""Casts kept ready (and how few will do) for the rare draw in which no try is valid."""
N_TRIES = 4
"""Casts drawn at a time; the first valid one is taken."""


def first_parts(count: int) -> list[str]:
    """`count` capital first parts, hand-written ones first. Raises ValueError when there are not that many."""
    return _parts([*FIRST_PARTS, *(part.capitalize() for part in _syllables())], count, "n_first_names")


def second_parts(count: int) -> list[str]:
    """`count` lower-case second parts, hand-written ones first. Raises ValueError when there are not that many."""
    return _parts([*SECOND_PARTS, *_syllables()], count, "n_second_names")


def n_reserved(n_second: int) -> int:
    """How many second parts per first part are kept for the test."""
    return max(1, n_second // 8)


def pair_tables(
    n_first: int, n_second: int, ambiguity: int | None
) -> tuple[Int[Tensor, "n_first allowed"], Int[Tensor, "n_first reserved"]]:
    """Second parts that may follow each first part: in training, and in the test."""
    generator = seeded_generator(PAIR_SEED)
    place_F = torch.randperm(n_first, generator=generator)
    part_S = torch.randperm(n_second, generator=generator)
    reserved = n_reserved(n_second)
    steps = torch.arange(reserved + (n_second - reserved if ambiguity is None else ambiguity))
    seconds_FN = part_S[((place_F * n_second // n_first)[:, None] + steps) % n_second]
    return seconds_FN[:, reserved:].contiguous(), seconds_FN[:, :reserved].contiguous()


@dataclass(frozen=True, kw_only=True)
class Casts:
    """A source of casts: `size` characters with different first parts and different second parts.

    Dimension letters: F first part, N choice of second part, W spare cast, R try, C character.
    """

    size: int
    seconds_FN: Int[Tensor, "n_first choices"]
    spare_WC: Int[Tensor, "spare character pair"]

    def draw(self, draws: Int[Tensor, "*batch draw"]) -> Int[Tensor, "*batch character pair"]:
        """Casts made of large random integers, `2 * N_TRIES * size + 1` for each in the last dimension."""
        spare = draws[..., 0] % len(self.spare_WC)
        keys_RC2 = draws[..., 1:].unflatten(-1, (N_TRIES, self.size, 2))
        first_RC = keys_RC2[..., 0] % self.seconds_FN.shape[0]
        second_RC = self.seconds_FN[first_RC, keys_RC2[..., 1] % self.seconds_FN.shape[1]]
        tries_RC2 = torch.stack([first_RC, second_RC], dim=-1)
        tries_RC2 = torch.cat([tries_RC2, self.spare_WC[spare].unsqueeze(-3)], dim=-3)
        chosen = _all_different(tries_RC2).to(torch.uint8).argmax(dim=-1)  # the first one: argmax takes the earliest
        index = chosen[..., None, None, None].expand(*chosen.shape, 1, self.size, 2)
        return tries_RC2.gather(-3, index).squeeze(-3)

    @property
    def n_draws(self) -> int:
        """How many random integers one cast takes."""
        return 2 * N_TRIES * self.size + 1

    def to(self, device: torch.device) -> "Casts":
        """The same source on `device`."""
        return Casts(size=self.size, seconds_FN=self.seconds_FN.to(device), spare_WC=self.spare_WC.to(device))


def make_casts(seconds_FN: Int[Tensor, "n_first choices"], size: int) -> Casts:
    """A source of casts from a table of pairs. Raises ValueError when the pairs allow (next to) no cast."""
    generator = seeded_generator(PAIR_SEED)
    n_first, choices = seconds_FN.shape
    first = torch.randint(n_first, (64 * N_SPARE, size), generator=generator)
    second = seconds_FN[first, torch.randint(choices, first.shape, generator=generator)]
    casts = torch.stack([first, second], dim=-1)
    valid = casts[_all_different(casts)][:N_SPARE]
    if len(valid) < MIN_SPARE:
        raise ValueError(
            f"{n_first} first names with {choices} second ones each hardly allow {size} different characters; "
            "write larger n_first_names and n_second_names, or a smaller max_characters"
        )
    return Casts(size=size, seconds_FN=seconds_FN, spare_WC=valid)


def _all_different(casts: Int[Tensor, "*batch character pair"]) -> Tensor:
    """Whether no first part and no second part occurs twice in a cast."""
    one, other = torch.triu_indices(casts.shape[-2], casts.shape[-2], offset=1, device=casts.device)
    return (casts[..., one, :] != casts[..., other, :]).flatten(-2).all(dim=-1)


def _syllables() -> list[str]:
    """Readable syllables, always the same ones: consonant-vowel-consonant, in an order that varies the beginnings."""
    starts, vowels, ends = "b d f g h j k l m n p r s t v w z".split(), "aeiou", "n l r s m k t d b f g p".split()
    return [start + vowel + end for end in ends for vowel in vowels for start in starts]


def _parts(candidates: list[str], count: int, field: str) -> list[str]:
    taken = all_words()
    unique = [part for part in dict.fromkeys(candidates) if part.lower() not in taken]
    if count > len(unique):
        raise ValueError(f"{field} is {count}, and there are {len(unique)} name parts; write at most {len(unique)}")
    return unique[:count]
