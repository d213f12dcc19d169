"""Rules for cutting real stories into tokens and for finding names in them; older versions had other rules."""

from dataclasses import dataclass

from tasks.letters import ASCII, Letters, every_script, letters_of
from tasks.story_tokens import LONGEST_WORD


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Settings that determine the tokens and the test set, besides the text and the configuration."""

    longest_word: int | None = LONGEST_WORD
    """Bytes after which a word is cut, None for never."""
    every_script: bool = True
    """True: names are found in every script. False: only with A-Z and a-z."""

    def letters_of(self, text: str) -> Letters:
        """The letter patterns for a text."""
        return letters_of(text) if self.every_script else ASCII

    @property
    def letters_of_vocabulary(self) -> Letters:
        """The letter patterns for the parts of new names."""
        return every_script() if self.every_script else ASCII


NOW = Rules()
BEFORE = Rules(longest_word=None, every_script=False)
"""The rules of older runs, which store neither tokenizer nor test set."""
