"""Decode: the runs, prompts and ways it offers, what it shows of them, and what stands there when it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.generate import generate
from playground.results import DecodedRow, Decoding
from playground.runs.checkpoint import WEIGHTS
from playground.runs.store import Run
from playground.ui.decode import data as decode_data
from playground.ui.decode.data import sample_prompt
from tasks.base import seeded_generator
from tests.fake_runs import settle, write_run, write_weights
from tests.ui.support import Downloads, array, assert_well, figures, labels, open_page, widget, words

NEW = 6


@pytest.fixture
def pair(runs: Path) -> list[Path]:
    """A run for n = 1 and one for n = 4, each with weights at two steps."""
    paths = [write_run(runs, n_future=n, control="trunk", steps=40, created=float(n)) for n in (1, 4)]
    for path in paths:
        write_weights(path, (0, 40))
    return paths


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed once, and few tokens: what a page shows does not depend on either."""
    monkeypatch.setattr(decode_data, "PATIENCE", 0.0)
    monkeypatch.setattr(decode_data, "NEW_TOKENS", NEW)


def page(**query: str) -> AppTest:
    return open_page("decode", **query)


def choose(app: AppTest, **values: Any) -> AppTest:
    """Set controls, by their keys behind `decode-` with `_` for `-`, and draw again."""
    for key, value in values.items():
        widget(app, f"decode-{key.replace('_', '-')}").set_value(value)
        app.run()
        assert_well(app)
    return app


def texts(app: AppTest) -> list[dict[str, Any]]:
    """What the player was given; nothing where there is none."""
    found = app.get("bidi_component")
    return json.loads(found[0].proto.json)["texts"] if found else []


def titles(app: AppTest) -> list[str]:
    return [text["title"] for text in texts(app)]


def written(text: dict[str, Any]) -> list[str]:
    return [token["text"] for token in text["tokens"]]


def by_hand(path: Path, sample: int = 0, seed: int = 0, **how: Any) -> Decoding:
    run = Run(path)
    config = DecodingConfig(**({"max_new_tokens": NEW} | how))
    return generate(run.model(40), [sample_prompt(run.task, sample)], config, generator=seeded_generator(seed))


def row(path: Path, **how: Any) -> DecodedRow:
    return by_hand(path, **how).decoded[0]


def as_text(tokens: tuple[int, ...]) -> list[str]:
    return [str(token) for token in tokens]


def test_the_run_with_future_heads_decodes_both_ways(pair: list[Path]) -> None:
    app = page()
    plain, speculative = texts(app)
    assert titles(app) == ["n = 4, trunk, seed 0, step 40: plain", "n = 4, trunk, seed 0, step 40: speculative, K = 4"]
    expected = row(pair[1], speculative=4)
    assert written(plain) == written(speculative) == as_text(expected.tokens)
    assert plain["prompt"] == as_text(expected.prompt)
    assert [token["offset"] for token in speculative["tokens"]] == list(expected.offsets)
    assert {token["offset"] for token in plain["tokens"]} == {1}
    assert [len(step["drafts"]) for step in speculative["steps"]] == [len(step.drafts) for step in expected.steps]
    assert f"wrote **the same {NEW} tokens**, the latter in" in words(app)


def test_the_numbers_come_with_what_they_mean(pair: list[Path]) -> None:
    app = page()
    expected = by_hand(pair[1], speculative=4)
    shown = {metric.label: metric.value for metric in app.metric}
    assert list(shown) == ["Forwards", "Tokens per forward", "Speed-up by parts", "Measured speed-up"]
    assert shown["Forwards"] == str(expected.decoded[0].forwards)
    assert shown["Tokens per forward"] == f"{expected.tokens_per_forward:.2f}"
    text = words(app)
    for phrase in (
        f"Plain decoding: {NEW - 1}.",
        "Plain decoding: 1; at most K = 4.",
        "times as long as one",
        "1 is no gain",
        "Measured on cpu (1 thread), float32, with a cache",
    ):
        assert phrase in text


def test_acceptance_by_offset(pair: list[Path]) -> None:
    app = page()
    expected = by_hand(pair[1], speculative=4).acceptance
    bars = next(
        t for t in figures(app)["acceptance"]["data"] if t["type"] == "bar" and array(t["x"]).tolist() == [2, 3, 4]
    )
    counts = zip(expected.accepted.tolist(), expected.tried.tolist(), strict=True)
    assert array(bars["customdata"])[:, :2].tolist() == [list(pair) for pair in counts]
    assert "the likeliest token of offset k is the token in the text" in words(app)


@pytest.mark.parametrize("speculative", [2, 3])
def test_fewer_offsets_may_draft(pair: list[Path], speculative: int) -> None:
    app = choose(page(), k_4=speculative)
    assert titles(app)[1].endswith(f"speculative, K = {speculative}")
    assert [token["offset"] for token in texts(app)[1]["tokens"]] == list(row(pair[1], speculative=speculative).offsets)


def test_a_next_token_run_decodes_plainly_and_says_why(pair: list[Path]) -> None:
    app = choose(page(), run=pair[0].name)
    assert titles(app) == ["n = 1, seed 0, step 40: plain"]
    assert "has no future heads to draft with: this is plain decoding" in words(app)
    assert not app.metric and not figures(app)
    assert not {"decode-drafts", "decode-nodes"} & {str(getattr(item, "key", "")) for item in app}


def test_two_runs_continue_the_same_prompt_side_by_side(pair: list[Path]) -> None:
    app = choose(page(), beside=pair[0].name)
    assert [title.partition(",")[0] for title in titles(app)] == ["n = 4", "n = 4", "n = 1"]
    assert len({tuple(text["prompt"]) for text in texts(app)}) == 1
    assert written(texts(app)[2]) == as_text(row(pair[0]).tokens)


def test_a_run_with_fewer_offsets_uses_those_it_has(pair: list[Path], runs: Path) -> None:
    other = write_run(runs, n_future=2, steps=40, created=0.5)
    write_weights(other, (40,))
    app = choose(page(), beside=other.name)
    assert [title.rpartition(": ")[2] for title in titles(app)] == [
        "plain",
        "speculative, K = 4",
        "plain",
        "speculative, K = 2",
    ]
    assert len(app.metric) == 8
    assert figures(app)["acceptance"]["layout"]["xaxis2"]["title"]["text"] == "offset k that drafts"


def test_one_run_at_two_steps_and_never_twice_the_same(pair: list[Path]) -> None:
    app = choose(page(), beside=pair[1].name)
    assert len(texts(app)) == 2
    widget(app, f"decode-step-beside-{pair[1].name}").set_value(0)
    app.run()
    assert_well(app)
    assert [title.partition(": ")[0] for title in titles(app)] == [
        f"n = 4, trunk, seed 0, step {step}" for step in (40, 40, 0, 0)
    ]


def test_samples_are_rows_of_the_test_set(pair: list[Path]) -> None:
    app = page()
    for number in (1, 3):
        app = choose(app, sample=number)
        assert texts(app)[0]["prompt"] == as_text(sample_prompt(Run(pair[1]).task, number - 1))
        assert written(texts(app)[1]) == as_text(row(pair[1], sample=number - 1).tokens)


def test_own_text_is_continued(pair: list[Path]) -> None:
    app = choose(page(), source="Own text")
    assert widget(app, "decode-text-induction").value == " ".join(as_text(sample_prompt(Run(pair[1]).task, 0)))
    app = choose(app, text_induction="7 2 5 7 2")
    assert texts(app)[0]["prompt"] == ["7", "2", "5", "7", "2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7 2 cat", "This text cannot be a prompt: word 3, 'cat', is no token of this task"),
        ("", "This text cannot be a prompt: the text holds no token; write some, such as"),
        ("   ", "This text cannot be a prompt: the text holds no token"),
    ],
)
def test_a_text_that_is_no_prompt_is_told_once_and_kept(pair: list[Path], text: str, said: str) -> None:
    app = choose(page(), source="Own text", beside=pair[0].name)
    app = choose(app, text_induction=text)
    assert words(app).count(said) == 1
    assert widget(app, "decode-text-induction").value == text
    assert not texts(app) and not app.metric
    assert texts(choose(app, text_induction="7 2"))


def test_a_prompt_that_is_too_long_is_told_and_slides_where_that_is_wanted(pair: list[Path]) -> None:
    n_ctx = Run(pair[1]).task.n_ctx
    app = choose(page(), source="Own text")
    app = choose(app, text_induction=" ".join(["3"] * (n_ctx + 2)))
    assert f"This prompt has {n_ctx + 2} tokens, and the model's context is {n_ctx}: shorten it" in words(app)
    assert not texts(app)
    app = choose(app, slide=True)
    assert "This prompt has" not in words(app)
    assert len(texts(app)[0]["tokens"]) == len(texts(app)[1]["tokens"]) == NEW


def test_where_the_context_ends_so_does_the_text(pair: list[Path]) -> None:
    n_ctx = Run(pair[1]).task.n_ctx
    app = choose(page(), source="Own text", beside=pair[0].name)
    app = choose(app, text_induction=" ".join(["3"] * (n_ctx - 2)))
    assert words(app).count(f"a context of {n_ctx} has room for 3 new tokens") == 1
    assert [len(text["tokens"]) for text in texts(app)] == [3, 3, 3]
    app = choose(app, text_induction=" ".join(["3"] * n_ctx))
    assert "has room for 1 new token;" in words(app)
    assert [len(text["tokens"]) for text in texts(app)] == [1, 1, 1] and not app.metric


def test_as_many_tokens_as_wanted(pair: list[Path]) -> None:
    app = choose(page(), new_induction=3)
    assert [len(text["tokens"]) for text in texts(app)] == [3, 3]


def test_a_tree_drafts_several_candidates(pair: list[Path]) -> None:
    app = choose(page(), drafts="tree")
    assert titles(app)[1].endswith("speculative, tree of 15 drafts")
    app = choose(app, nodes=6)
    assert titles(app)[1].endswith("speculative, tree of 5 drafts")
    assert all(len(step["drafts"]) == 5 for step in texts(app)[1]["steps"][1:])
    assert written(texts(app)[0]) == written(texts(app)[1])
    assert "wrote **the same" in words(app)


def test_drawn_at_random_with_a_seed(pair: list[Path]) -> None:
    app = choose(page(), choice="sampled")
    app = choose(app, temperature=1.5, top_k=20, top_p=0.9, seed=3)
    sampling = Sampling(temperature=1.5, top_k=20, top_p=0.9)
    for text, how in zip(texts(app), ({}, {"speculative": 4}), strict=True):
        assert written(text) == as_text(row(pair[1], seed=3, sampling=sampling, **how).tokens)
        assert text["drawn"]
    assert "Both texts are drawn from the same distribution; they differ because" in words(app)
    before = written(texts(app)[0])
    assert written(texts(choose(app, seed=4))[0]) != before


def test_typical_acceptance_is_called_not_exact(pair: list[Path]) -> None:
    app = choose(page(), choice="sampled")
    assert widget(app, "decode-typical").label == "Typical acceptance (not exact)"
    app = choose(app, typical=True)
    assert "**Not exact**: drafts that are merely probable enough are accepted too" in words(app)
    expected = row(pair[1], speculative=4, rule="typical", sampling=Sampling(temperature=0.8))
    assert written(texts(app)[1]) == as_text(expected.tokens)
    assert "Not exact" not in words(choose(app, choice="greedy"))


def test_typical_acceptance_leaves_a_next_token_run_beside_it_alone(pair: list[Path]) -> None:
    app = choose(page(), beside=pair[0].name, choice="sampled")
    app = choose(app, typical=True)
    assert len(texts(app)) == 3


@pytest.mark.parametrize(
    ("preset", "text", "spaced"),
    [
        ("stories-cpu", "Once upon a time", True),
        ("polynomial-cpu", "| + 1 2 3", True),
        ("bytes-cpu", "def f(x):\n\tüb", False),
    ],
)
def test_every_task(runs: Path, preset: str, text: str, spaced: bool) -> None:
    write_weights(write_run(runs, preset, n_future=2, steps=20), (20,))
    app = page()
    assert len(texts(app)) == 2
    name = preset.removesuffix("-cpu")
    app = choose(choose(app, source="Own text"), **{f"text_{name}": text})
    assert texts(app)[0]["spaced"] == spaced
    task = Run(next(runs.iterdir())).task
    assert len(texts(app)[0]["prompt"]) == len(task.encode(text))


def test_a_clamped_run_decodes_without_a_cache(runs: Path) -> None:
    path = write_run(runs, n_future=2, steps=20)
    write_weights(path, (20,))
    config = json.loads((path / "config.json").read_text())
    config["clamp"]["forbid_induction"] = ["all"]
    (path / "config.json").write_text(json.dumps(config))
    settle(path)
    app = page()
    assert "without a cache, because this run's attention is clamped" in words(app)
    assert "wrote **the same" in words(app)


def test_tasks_configured_differently_continue_rows_of_their_own(pair: list[Path]) -> None:
    config = json.loads((pair[0] / "config.json").read_text())
    config["task"]["test_seed"] = 5
    (pair[0] / "config.json").write_text(json.dumps(config))
    settle(pair[0])
    app = choose(page(), beside=pair[0].name)
    assert "so each run continues a row of its own" in words(app)
    assert texts(app)[0]["prompt"] != texts(app)[2]["prompt"]


def test_everything_can_be_saved(pair: list[Path], downloads: Downloads) -> None:
    page()
    assert downloads.names == {"decoding.html", "acceptance.html"}
    assert "speculative, K = 4" in downloads["decoding.html"] and "drawDecoding" in downloads["decoding.html"]
    assert "offset k that drafts" in downloads["acceptance.html"]


def test_figures_for_a_document(pair: list[Path]) -> None:
    app = page()
    widget(app, "paper").set_value(True)
    app.run()
    assert_well(app)
    assert {chart.proto.theme for chart in app.get("plotly_chart")} == {""}


def test_a_look_at_the_figures_decodes_nothing_anew(pair: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    app = page()
    monkeypatch.setattr("playground.generation.generate.generate", lambda *_, **__: pytest.fail("decoded again"))
    widget(app, "paper").set_value(True)
    app.run()
    assert_well(app)
    assert texts(app)


def test_choices_are_kept_on_the_way_to_another_page(pair: list[Path]) -> None:
    app = choose(page(), source="Own text", k_4=3, choice="sampled")
    app = choose(app, text_induction="7 2 5", seed=9)
    before = texts(app)
    app.switch_page("playground/ui/about/about.py").run()
    app.switch_page("playground/ui/decode/decode.py").run()
    assert_well(app)
    assert texts(app) == before
    assert [widget(app, f"decode-{key}").value for key in ("text-induction", "k-4", "seed")] == ["7 2 5", 3, 9]


def test_the_task_can_be_chosen(pair: list[Path], runs: Path) -> None:
    write_weights(write_run(runs, "bytes-cpu", n_future=2, steps=20, created=9.0), (20,))
    app = page()
    assert not texts(app)[0]["spaced"]
    widget(app, "task").set_value("induction")
    app.run()
    assert_well(app)
    assert titles(app)[0].startswith("n = 4")


def test_runs_without_weights_are_not_offered(pair: list[Path], runs: Path) -> None:
    without = write_run(runs, n_future=2, steps=20, seed=4)
    assert not any(without.name in option for option in widget(page(), "decode-run").options)


@pytest.mark.parametrize(
    ("state", "said", "link"),
    [
        ("finished", "None of these runs has stored weights, which this page needs, yet.", "Train"),
        ("running", "1 run is training: the first evaluation follows within seconds.", None),
    ],
)
def test_no_weights_at_all(runs: Path, state: str, said: str, link: str | None) -> None:
    write_run(runs, steps=20, state=state)
    app = page()
    assert said in words(app)
    assert labels(app, "page_link") == ([link] if link else [])


def test_a_model_that_cannot_be_opened_leaves_the_other(pair: list[Path]) -> None:
    (pair[0] / "checkpoints" / "40" / WEIGHTS).write_bytes(b"cut short")
    app = choose(page(), beside=pair[0].name)
    assert "This model cannot be opened:" in words(app)
    assert [title.partition(",")[0] for title in titles(app)] == ["n = 4", "n = 4"]


def test_weights_that_are_gone_are_told(pair: list[Path]) -> None:
    (pair[1] / "checkpoints" / "40" / WEIGHTS).unlink()
    app = page()
    assert "The weights of this step are gone; choose another step." in words(app)
    assert not texts(app) and not figures(app)
    widget(app, f"decode-step-run-{pair[1].name}").set_value(0)
    app.run()
    assert_well(app)
    assert len(texts(app)) == 2


def test_a_configuration_that_is_gone_is_told(pair: list[Path]) -> None:
    (pair[1] / "config.json").unlink()
    app = page()
    assert "1 folder not readable" in words(app) and "config.json is missing" in words(app)
    assert texts(app)  # of the other run
