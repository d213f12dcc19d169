"""How real stories are cut into tokens and how names are found in them; runs of an older version had other rules."""

from dataclasses import dataclass

from tasks.letters import ASCII, Letters, every_script, letters_of
from tasks.story_tokens import LONGEST_WORD


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What decides the tokens and the test set, beside the text and the configuration."""

    longest_word: int | None = LONGEST_WORD
    """Bytes after which a word is cut, None for never."""
    every_script: bool = True
    """Whether names are found in every script, or with A-Z and a-z only."""

    def letters_of(self, text: str) -> Letters:
        """The letters of a text."""
        return letters_of(text) if self.every_script else ASCII

    @property
    def letters_of_vocabulary(self) -> Letters:
        """The letters of the parts of new names."""
        return every_script() if self.every_script else ASCII


NOW = Rules()
BEFORE = Rules(longest_word=None, every_script=False)
"""The rules under which runs were trained that keep neither tokenizer nor test set."""
