"""Rows of generated stories, all at once: no loop over rows, stories or sentences.

A row is laid out in two steps (`lay_out`): stories into sentences, then sentences into tokens. In both there are enough pieces
to overfill the row, and the excess is cropped, so that a row has no padding.

The FREE mentions are scored: the first name of a sentence, from the second mention on and after the whole cast has been
introduced. The characters of a sentence are a uniformly random order of the cast, drawn independently for each sentence. So
every character is equally likely there, whichever was named before. This is not true of the other names: in no template are
X and Y one character, and with a cast of two the second name of a sentence is nearly always that of the character not named
last.

Dimension letters: B row, P story of a row, S sentence of a row, T token, C character, O place in a sentence's order of
characters (X, Y, Z), W word slot; templates and cases index the tables of `tasks/story_grammar.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tasks.base import Batch, Device, seeded_generator
from tasks.encoding import empty_text, unknown_word
from tasks.story_grammar import (
    CASE_BODY,
    CASE_ENDING,
    CASE_SCENERY,
    N_CASES,
    NAME_SLOTS,
    Grammar,
    join_words,
    orders,
    text_pieces,
)
from tasks.story_names import Casts, NameRules, first_parts, reserved_casts, second_parts, training_casts
from tasks.story_words import STORY_SLOTS

_LARGE = 2**31
"""Random integers below this, modulo a small number, are uniform to one part in a million."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Lengths of rows and stories: tokens in a row, the least and most characters and sentences of a story."""

    n_ctx: int
    characters: tuple[int, int]
    sentences: tuple[int, int]
    scenery: float
    """The share of the middle sentences that contain no name."""


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """The grammar as padded tables on one device; each `n_` table has the true lengths of the table before it."""

    codes: Tensor  # [template, code]
    n_codes: Tensor
    scored_code: Tensor
    """Per template, the position of the second part of its first name; -1 for a template without names."""
    templates: Tensor  # [case, choice]
    n_templates: Tensor
    orders: Tensor  # [case, choice, O]
    n_orders: Tensor
    slot_words: Tensor  # [W, choice]
    n_slot_words: Tensor

    def to(self, device: Device) -> "_Tables":
        return _Tables(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class GeneratedStories:
    """Stories of a grammar. `sample` draws them with names for training, `test_set` with names reserved for the test.

    Tokens: the words of the grammar (the end of a story is 0), then all first parts, then all second parts of names.
    """

    def __init__(self, grammar: Grammar, names: NameRules, layout: Layout) -> None:
        self.grammar, self.layout = grammar, layout
        first, second = first_parts(names.n_first), second_parts(names.n_second)
        self._strings = (*grammar.words, *first, *second)
        self._token_of = {string: token for token, string in enumerate(self._strings)}
        self._longest = max(map(len, self._strings))
        self.first_start = len(grammar.words)
        self.second_start = self.first_start + len(first)
        self._training, self._reserved = training_casts(names), reserved_casts(names)
        self._cpu_tables = _make_tables(grammar)
        self._on_device: dict[torch.device, tuple[_Tables, Casts]] = {}
        # Enough sentences to fill a row with the shortest template, and enough stories for these sentences.
        self._n_sentences = -(-layout.n_ctx // int(self._cpu_tables.n_codes.min()))
        self._n_stories = -(-self._n_sentences // layout.sentences[0])

    @property
    def d_vocab(self) -> int:
        return len(self._strings)

    def sample(self, batch_size: int, generator: torch.Generator, device: Device = "cpu") -> Batch:
        """Rows of stories with training names. `info["characters"]` `[batch, pos]`: number of characters in the story."""
        device = torch.device(device)
        if device not in self._on_device:
            self._on_device[device] = (self._cpu_tables.to(device), self._training.to(device))
        tables, casts = self._on_device[device]
        return self._sample(batch_size, generator, tables, casts)

    def test_set(self, count: int, seed: int) -> Batch:
        """Rows of one story each, with names that never occur in training; determined by the seed."""
        return _first_story(self._sample(count, seeded_generator(seed), self._cpu_tables, self._reserved))

    def seen_test_set(self, count: int, seed: int) -> Batch:
        """Rows of one story each, with names from training; determined by the seed."""
        return _first_story(self._sample(count, seeded_generator(seed), self._cpu_tables, self._training))

    def every_mention(self, batch: Batch) -> Batch:
        """The rows of `batch`, scored on second parts from the second mention on. `info["names"]` marks all second parts."""
        names = (batch.tokens >= self.second_start) & batch.real
        again = mentioned_before(batch.tokens, batch.documents, self.second_start)
        return replace(batch, score_mask=again & names, info=batch.info | {"names": names})

    def token_strings(self, tokens: Sequence[int]) -> list[str]:
        return [self._strings[int(token)] for token in tokens]

    def decode(self, tokens: Sequence[int]) -> str:
        """Readable text, one line for each story."""
        return join_words(self.token_strings(tokens), [int(token) >= self.second_start for token in tokens])

    def encode(self, text: str) -> list[int]:
        """The tokens of words, marks and names, whole or in two parts; a new line ends a story.

        Raises ValueError for other words.
        """
        pieces = text_pieces(text)
        if not pieces:
            raise empty_text(self._strings[self.first_start :])
        tokens: list[int] = []
        for number, piece in enumerate(pieces, start=1):
            found = self._tokens_of(piece)
            if not found:
                raise unknown_word(piece, number, [*self._strings, *self._names_like(piece)])
            tokens += found
        return tokens

    def _tokens_of(self, piece: str) -> list[int]:
        """Tokens of a word, or of a word followed by second parts of names; empty if it is neither."""
        # For each end of a readable prefix: its last token, and where that token starts.
        last: dict[int, tuple[int, int]] = {}
        for end in range(1, len(piece) + 1):
            if end <= self._longest and piece[:end] in self._token_of:
                last[end] = (self._token_of[piece[:end]], 0)
                continue
            for start in range(max(1, end - self._longest), end):
                second = self._token_of.get(piece[start:end], -1)
                if second >= self.second_start and start in last:
                    last[end] = (second, start)
                    break
        tokens: list[int] = []
        end = len(piece)
        while end in last:
            token, end = last[end]
            tokens.append(token)
        return tokens[::-1]

    def _names_like(self, piece: str) -> list[str]:
        """Whole names that begin as `piece` does."""
        first, second = self._strings[self.first_start : self.second_start], self._strings[self.second_start :]
        return [one + other for one in first if piece.startswith(one) for other in second]

    def _sample(self, batch_size: int, generator: torch.Generator, tables: _Tables, casts: Casts) -> Batch:
        n_story_draws = 2 + len(STORY_SLOTS) + casts.n_draws
        n_sentence_draws = 3 + len(self.grammar.slot_words) - len(STORY_SLOTS)
        draws_BP = _draws((batch_size, self._n_stories, n_story_draws), generator)
        draws_BS = _draws((batch_size, self._n_sentences, n_sentence_draws), generator)
        cast_BP = _between(draws_BP[..., 0], self.layout.characters)
        length_BP = _between(draws_BP[..., 1], self.layout.sentences)
        story_BS, index_BS = lay_out(length_BP, self._n_sentences)
        cast_BS, length_BS = cast_BP.gather(1, story_BS), length_BP.gather(1, story_BS)
        case_BS, template_BS = _templates(index_BS, length_BS, cast_BS, draws_BS[..., :2], self.layout.scenery, tables)
        order_BSO = tables.orders[case_BS, draws_BS[..., 2] % tables.n_orders[case_BS]]
        pairs_BPC = casts.draw(draws_BP[..., -casts.n_draws :])
        names_BSO = self._names(pairs_BPC, story_BS, order_BSO)
        words_BSW = _words(draws_BP[..., 2 : 2 + len(STORY_SLOTS)], draws_BS[..., 3:], story_BS, tables)

        sentence_BT, place_BT = lay_out(tables.n_codes[template_BS], self.layout.n_ctx)
        code_BT = tables.codes[template_BS.gather(1, sentence_BT), place_BT]
        slots_BSW = torch.cat([names_BSO, words_BSW], dim=2)
        n_slots = slots_BSW.shape[2]
        is_complete_BS = index_BS > cast_BS - 2  # the opening has two characters, each meeting one more
        scored_code_BS = tables.scored_code[template_BS].where(is_complete_BS, -1)
        filled_BT = slots_BSW.flatten(1).gather(1, sentence_BT * n_slots + code_BT.clamp(max=n_slots - 1))
        tokens_BT = torch.where(code_BT < n_slots, filled_BT, code_BT - n_slots)
        documents_BT = story_BS.gather(1, sentence_BT)
        return Batch(
            tokens=tokens_BT,
            loss_mask=torch.ones_like(tokens_BT, dtype=torch.bool),
            score_mask=place_BT == scored_code_BS.gather(1, sentence_BT),
            documents=documents_BT,
            info={"characters": cast_BS.gather(1, sentence_BT)},
        )

    def _names(self, pairs_BPC: Tensor, story_BS: Tensor, order_BSO: Tensor) -> Tensor:
        """Tokens of the name slots X1 X2 Y1 Y2 Z1 Z2 of each sentence."""
        n_characters = pairs_BPC.shape[2]
        start = torch.tensor([self.first_start, self.second_start], device=pairs_BPC.device)
        who_BS = (story_BS[..., None] * n_characters + order_BSO).flatten(1)
        # In a case without Z the order has 0 for it, and with too few characters no template uses the slot.
        names = (pairs_BPC + start).flatten(1, 2).gather(1, who_BS[..., None].expand(-1, -1, 2))
        return names.view(*story_BS.shape, len(NAME_SLOTS))


def lay_out(
    lengths: Int[Tensor, "batch piece"], total: int
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Concatenate pieces over `total` places: for each place the index of its piece, and the distance from its start.

    Lengths 2 3 4 over 7 places give the pieces 0 0 1 1 1 2 2 and the distances 0 1 0 1 2 0 1. Lengths must be at least 1
    and add up to at least `total`; the excess is cropped.
    """
    starts = lengths.cumsum(dim=1) - lengths
    marks = lengths.new_zeros(len(lengths), total + 1)
    marks.scatter_(1, starts.clamp(max=total), 1)  # pieces past the end all mark the extra place
    piece = marks[:, :total].cumsum(dim=1) - 1
    return piece, torch.arange(total, device=lengths.device) - starts.gather(1, piece)


def mentioned_before(
    tokens: Int[Tensor, "batch pos"], documents: Int[Tensor, "batch pos"], second_start: int
) -> Bool[Tensor, "batch pos"]:
    """True for second parts of names (tokens from `second_start` on) that occurred earlier in the document."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    key = torch.where(tokens >= second_start, documents * _LARGE + tokens, -1 - position)
    in_order, where = key.sort(dim=1, stable=True)
    repeats = torch.zeros_like(tokens, dtype=torch.bool)
    repeats[:, 1:] = in_order[:, 1:] == in_order[:, :-1]
    return torch.zeros_like(repeats).scatter(1, where, repeats)


def _first_story(batch: Batch) -> Batch:
    """Rows cut after their first story; the rest becomes padding."""
    first = batch.documents == 0
    return Batch(
        tokens=torch.where(first, batch.tokens, 0),
        loss_mask=batch.loss_mask & first,
        score_mask=batch.score_mask & first,
        documents=torch.where(first, 0, -1),
        info={name: torch.where(first, value, 0) for name, value in batch.info.items()},
    )


def _draws(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(_LARGE, shape, generator=generator, device=generator.device)


def _between(draws: Tensor, limits: tuple[int, int]) -> Tensor:
    """Large random integers mapped to integers from the lower to the upper limit, both included."""
    return limits[0] + draws % (limits[1] - limits[0] + 1)


def _templates(
    index: Tensor, length: Tensor, cast: Tensor, draws: Tensor, scenery: float, tables: _Tables
) -> tuple[Tensor, Tensor]:
    """The case and the template of every sentence, from its index in its story, the story's length and cast.

    Middle sentence j of n takes a template from the j-th of n parts of its templates, which are ordered like a story.
    """
    meetings = cast - 2
    is_ending, is_middle = index == length - 1, (index > meetings) & (index < length - 1)
    is_scenery = is_middle & (draws[..., 1] < scenery * _LARGE)
    case = torch.where(is_middle, CASE_BODY, CASE_ENDING) + cast - 2
    case = torch.where(is_middle | is_ending, case, index).masked_fill(is_scenery, CASE_SCENERY)
    step = torch.where(is_middle, index - meetings - 1, 0)
    steps = torch.where(is_middle, length - meetings - 2, 1)
    size = tables.n_templates[case]
    low, high = step * size // steps, (step + 1) * size // steps
    return case, tables.templates[case, low + draws[..., 0] % (high - low).clamp(min=1)]


def _words(story_draws: Tensor, sentence_draws: Tensor, story_BS: Tensor, tables: _Tables) -> Tensor:
    """Tokens of the word slots of each sentence: the words of its story, then its own words."""
    n_story = story_draws.shape[-1]
    slot = torch.arange(len(tables.slot_words), device=story_BS.device)
    story_slot, sentence_slot = slot[:n_story], slot[n_story:]
    of_story = tables.slot_words[story_slot, story_draws % tables.n_slot_words[story_slot]]
    of_sentence = tables.slot_words[sentence_slot, sentence_draws % tables.n_slot_words[sentence_slot]]
    return torch.cat([of_story.gather(1, story_BS[..., None].expand(-1, -1, n_story)), of_sentence], dim=2)


def _make_tables(grammar: Grammar) -> _Tables:
    codes, n_codes = _padded(grammar.codes)
    first_parts_of_names = {NAME_SLOTS.index(slot) for slot in ("X1", "Y1", "Z1")}
    named_at = [[at for at, code in enumerate(row) if code in first_parts_of_names] for row in grammar.codes]
    templates, n_templates = _padded(grammar.templates)
    slot_words, n_slot_words = _padded(grammar.slot_words)
    cases = [orders(case) for case in range(N_CASES)]
    most = max(map(len, cases))
    return _Tables(
        codes=codes,
        n_codes=n_codes,
        scored_code=torch.tensor([places[0] + 1 if places else -1 for places in named_at]),
        templates=templates,
        n_templates=n_templates,
        orders=torch.tensor([case + case[:1] * (most - len(case)) for case in cases]),
        n_orders=torch.tensor([len(case) for case in cases]),
        slot_words=slot_words,
        n_slot_words=n_slot_words,
    )


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one table padded with zeros, and their lengths."""
    lengths = [len(row) for row in rows]
    return torch.tensor([[*row, *[0] * (max(lengths) - len(row))] for row in rows]), torch.tensor(lengths)
