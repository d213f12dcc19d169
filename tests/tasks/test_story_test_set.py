"""Test sets of real stories: names in every script, and why there is no test set."""

import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tasks import make_task, story_renaming
from tasks.base import seeded_generator
from tasks.letters import every_script
from tasks.stories import Stories
from tasks.story_renaming import find_names
from tasks.story_rules import BEFORE, NOW
from tasks.story_text import SEPARATOR, read_stories

SCRIPTS = {
    "accented Latin": (
        "Zoë Zäta José Jörg Élodie Björn Bärbel Łukasz Ñico Žofie Øyvind Müsli Märit",
        "{a} måtte träffa {b} nära ån.|Då såg {b} på {a} och log.|En dag gav {a} en röd boll åt {b}.|Nu är {a} så trött.",
    ),
    "Cyrillic": (
        "Борис Анна Фёдор Ольга Йосиф Юлия Єва Іван",
        "Однажды {a} встретил друга, {b}.|Потом {b} и {a} пошли гулять.|Тогда {a} дал красный мяч ребёнку {b}.|Дома {a} уснул.",
    ),
    "Greek": (
        "Νίκος Ελένη Γιώργος Άννα Όμηρος Ζωή Έλλη Ίων",
        "Μια μέρα ο {a} είδε τον φίλο, {b}.|Ύστερα η {b} και ο {a} έπαιξαν.|Τότε ο {a} έδωσε στην {b} ένα μήλο.|Ο μικρός {a} κοιμήθηκε.",
    ),
    "Armenian": (
        "Արամ Աննա Գոռ Նարե Դավիթ Էլեն Զավեն Լիլիթ",
        "Մի օր տղան, {a}, տեսավ ընկերոջը, {b}.|Հետո եկան {b} ու {a} տուն։|Այդ պահին {a} նայեց ու {b} ժպտաց։|Այսօր փոքրիկ {a} քնեց։",
    ),
    "Adlam": (
        "".join(
            chr(0x1E900 + first) + "".join(chr(0x1E922 + letter) for letter in rest) + " "
            for first, *rest in ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14), (15, 16, 17), (18, 19, 20), (21, 22, 23))
        ),
        "|".join(
            " ".join("".join(chr(0x1E922 + (place * 7 + letter * 3 + word * 5) % 34) for letter in range(4)) + gap for word, gap in enumerate(gaps))
            for place, gaps in enumerate((["", " {a}", " {b} ", ""], ["", " {b}", " {a}"], ["", "", " {a}", " {b}"], ["", " {a}"]))
        ),
    ),
}  # fmt: skip
"""Names, and sentences of the characters a and b, in scripts with upper and lower case."""


def write_stories(path: Path, names: str, sentences: str, count: int = 400, form: str = "NFC") -> str:
    rng = random.Random(0)
    stories: list[str] = []
    for _ in range(count):
        cast = rng.sample(names.split(), 2)
        lines = [
            line.format(a=a, b=b) for line in rng.choices(sentences.split("|"), k=6) for a, b in [rng.sample(cast, 2)]
        ]
        stories.append(unicodedata.normalize(form, " ".join(lines)))
    path.write_text(f"\n{SEPARATOR}\n".join(stories), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_names_are_found_and_replaced_in_every_script_with_two_cases(tmp_path: Path, script: str, form: str):
    names, sentences = SCRIPTS[script]
    path = write_stories(tmp_path / "stories.txt", names, sentences, form=form)
    expected = {unicodedata.normalize(form, name) for name in names.split()}
    stories = read_stories(path)
    words = [word for story in stories for word in every_script().word.findall(story)]
    assert find_names(stories, Counter(words), NOW) == expected
    task = make_task("stories", path=path, bpe_vocab=700, n_ctx=256, test_stories=10)
    assert isinstance(task, Stories)
    batch = task.test_batch(10)
    assert len(batch.tokens) == 10
    for row, scored in zip(batch.tokens.tolist(), batch.score_mask.tolist(), strict=True):
        text = task.decode(row)
        assert not [name for name in expected if re.search(rf"{name}(?!\w)", text)]
        places = [place for place, flag in enumerate(scored) if flag]
        assert places
        for place in places:
            name = task.decode(row[place - 1 : place + 1]).strip()
            assert name[0].isupper()
            assert name[1:].islower()
            assert (
                task.encode(name) == row[place - 1 : place + 1] or task.encode(f" {name}") == row[place - 1 : place + 1]
            )
            assert text.count(name) >= 2


def test_english_names_are_found():
    stories = ["Then Lily ran. They saw Lily and Mr Fox in Paris."] * 5 + ["a lily"]
    for rules in (NOW, BEFORE):
        assert find_names(stories, Counter({"lily": 2}), rules) == {"Fox", "Paris"}


CASELESS = {
    "Chinese": "有一天 孩子 看见 一只 小狗 。 他们 一起 玩 。 后来 {a} 回家 了 。",
    "Georgian": "ერთხელ ბიჭმა {a} ნახა ძაღლი და გაიცინა.",
    "Hindi": "एक दिन {a} ने एक कुत्ता देखा और हँस पड़ा।",
    "lower case": "one day {a} saw a dog and laughed.",
}


@pytest.mark.parametrize("script", CASELESS)
def test_text_without_capital_letters_is_told_apart(tmp_path: Path, script: str):
    path = write_stories(tmp_path / "stories.txt", "bo mi", CASELESS[script])
    with pytest.raises(
        ValueError, match="has no capital letters, so that no names can be found in it; write the task bytes"
    ):
        make_task("stories", path=path, bpe_vocab=400)
    make_task("bytes", path=path, n_ctx=16)


def test_text_with_capitals_and_without_names_is_told_apart(tmp_path: Path):
    lines = [f"The dog number {number} ran home to the red house." for number in range(400)]
    (tmp_path / "plain.txt").write_text(SEPARATOR.join(lines), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"no names were found in the text at .*; write more stories, or write the task bytes"
    ):
        make_task("stories", path=str(tmp_path), bpe_vocab=300)


def test_a_vocabulary_too_small_for_names_is_told_apart(tmp_path: Path):
    path = write_stories(tmp_path / "stories.txt", *SCRIPTS["Cyrillic"])
    with pytest.raises(ValueError, match=r"names of .*two tokens .*; write a larger bpe_vocab"):
        make_task("stories", path=path, bpe_vocab=300)


def test_a_context_too_short_is_told_apart_and_the_length_that_is_said_will_do(tmp_path: Path):
    names, _ = SCRIPTS["accented Latin"]
    sentences = "En dag kom {a} hem, och det var varmt, och solen sken på {a}. Då såg {b} på {a} och log."
    path = write_stories(tmp_path / "stories.txt", names, sentences)
    with pytest.raises(
        ValueError, match=r"n_ctx is 16, and the shortest .* needs \d+; write n_ctx=\d+ or more"
    ) as caught:
        make_task("stories", path=path, bpe_vocab=400, n_ctx=16)
    needed = int(re.findall(r"\d+", str(caught.value))[-1])
    assert len(make_task("stories", path=path, bpe_vocab=400, n_ctx=needed).test_batch(9).tokens) >= 1
    with pytest.raises(ValueError, match=rf"needs {needed}"):
        make_task("stories", path=path, bpe_vocab=400, n_ctx=needed - 1)


def test_stories_of_too_few_characters_are_told_apart(tmp_path: Path):
    path = write_stories(tmp_path / "stories.txt", *SCRIPTS["accented Latin"])
    with pytest.raises(ValueError, match=r"none of the \d+ held-out stories names 4 characters .*; write more stories"):
        make_task("stories", path=path, bpe_vocab=700, n_ctx=256, min_characters=4)


def test_pairs_of_parts_are_different_and_spread_however_many_there_are(monkeypatch):
    """Of too many to shuffle, single ones are drawn: as evenly, in no order."""
    monkeypatch.setattr(story_renaming, "N_CANDIDATE_TRIES", 500)
    for shuffled in (2000, 1999):
        monkeypatch.setattr(story_renaming, "MOST_SHUFFLED", shuffled)
        pairs = story_renaming.random_pairs(2000, seeded_generator(0))
        assert len(set(pairs)) == len(pairs) > 400
        assert min(pairs) >= 0 and max(pairs) < 2000 and pairs != sorted(pairs)
        assert abs(sum(pairs[:200]) / 200 - 1000) < 150
