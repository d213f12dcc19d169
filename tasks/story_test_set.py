"""The fixed test set of real stories: held-out stories, renamed, one per row."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.base import Batch, seeded_generator
from tasks.saved import damaged
from tasks.story_config import StoriesConfig
from tasks.story_renaming import MIN_NAME_COUNT, Renamed, find_names, find_new_names, rename
from tasks.story_rules import Rules
from tasks.story_text import StoryText
from tasks.text_files import named

if TYPE_CHECKING:
    from tokenizers import Tokenizer
else:
    Tokenizer = Any  # imported where it is used, so that the other tasks do not need the package


def make_test_set(config: StoriesConfig, text: StoryText, tokenizer: Tokenizer, rules: Rules) -> Batch:
    """Renamed held-out stories with enough characters, one of them named twice. Raises ValueError if there is none."""
    words = Counter(word for story in text.training for word in rules.letters_of(story).word.findall(story))
    names = find_names(text.training, words, rules)
    if not names:
        raise _no_names(config, text.training, rules)
    generator = seeded_generator(config.test_seed)
    known = {word.lower() for word in words}
    candidates = find_new_names(tokenizer, known, generator, rules.letters_of_vocabulary)
    rows: list[dict[str, Tensor]] = []
    too_long: list[int] = []  # tokens needed by stories that do not fit into n_ctx
    unnamed = 0
    for index in torch.randperm(len(text.held_out), generator=generator).tolist():
        if len(rows) == config.test_stories:
            break
        story = text.held_out[index]
        renamed = rename(story, names, candidates, tokenizer, rules.letters_of(story), generator)
        if renamed is None:
            unnamed += 1
            continue
        needed = renamed.needs(config.min_characters)
        if needed is not None and needed <= config.n_ctx:
            rows.append(_row(renamed, config.n_ctx))
        elif needed is not None:
            too_long.append(needed)
    if not rows:
        raise _no_rows(config, len(text.held_out), too_long, unnamed)
    return batch_of({key: torch.stack([row[key] for row in rows]) for key in rows[0]})


def batch_of(parts: dict[str, Tensor]) -> Batch:
    """The test set as a Batch, from tensors of its tokens, documents, score mask and numbers of characters."""
    return Batch(
        tokens=parts["tokens"],
        loss_mask=parts["documents"] == 0,
        score_mask=parts["score_mask"],
        documents=parts["documents"],
        info={"characters": parts["characters"]},
    )


def check_test_set(file: Path, batch: Batch, d_vocab: int) -> None:
    """Raises ValueError, with the file's name, for a test set that is not possible."""
    scored, characters = batch.score_mask, batch.info["characters"]
    holds = {
        f"tokens are not all from 0 to {d_vocab - 1}": ((batch.tokens >= 0) & (batch.tokens < d_vocab)).all(),
        "documents are not all 0 or -1": ((batch.documents == 0) | (batch.documents == -1)).all(),
        "a row scores nothing, or something outside its story": scored.any(dim=1).all() & batch.loss_mask[scored].all(),
        "characters are not counts": (characters >= 0).all() & (characters[scored] >= 2).all(),
    }
    for problem, is_met in holds.items():
        if not is_met:
            raise damaged(file, problem)


def _row(story: Renamed, n_ctx: int) -> dict[str, Tensor]:
    """A renamed story with its end token, cut at `n_ctx` tokens or padded up to it."""
    tokens, scored = [*story.tokens, 0][:n_ctx], [*story.scored, False][:n_ctx]
    visible, pad = sum(place <= n_ctx for place in story.complete), n_ctx - len(tokens)
    return {
        "tokens": torch.tensor(tokens + [0] * pad),
        "score_mask": torch.tensor(scored + [False] * pad),
        "documents": torch.tensor([0] * len(tokens) + [-1] * pad),
        "characters": torch.tensor([visible] * len(tokens) + [0] * pad),
    }


def _no_names(config: StoriesConfig, stories: list[str], rules: Rules) -> ValueError:
    instead, where = "write the task bytes with this path, which needs no names", f"the text at {named(config.path)}"
    if not any(rules.letters_of(story).capital.search(story) for story in stories):
        return ValueError(f"{where} has no capital letters, so that no names can be found in it; {instead}")
    return ValueError(
        f"no names were found in {where} (a name is capitalised within sentences at least "
        f"{MIN_NAME_COUNT} times, and very rarely in lower case); write more stories, or {instead}"
    )


def _no_rows(config: StoriesConfig, held_out: int, too_long: list[int], unnamed: int) -> ValueError:
    """The error that says why no held-out story gives a test row."""
    what = f"{config.min_characters} characters and one of them twice"
    if too_long:
        return ValueError(
            f"n_ctx is {config.n_ctx}, and the shortest held-out story that names {what} needs {min(too_long)}; write "
            f"n_ctx={min(too_long)} or more"
        )
    if unnamed:
        return ValueError(
            "too few names of two tokens can be made of this vocabulary whose tokens do not occur in the held-out stories; "
            "write a larger bpe_vocab"
        )
    return ValueError(
        f"none of the {held_out} held-out stories names {what}; write more stories, or a smaller min_characters"
    )
