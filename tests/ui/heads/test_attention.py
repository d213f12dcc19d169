"""The view of attention at work: which heads, on which tokens, at which step."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.probes.attention_scores import attention_patterns
from playground.results import AttentionScores, Head
from playground.runs.store import Run
from playground.ui.heads.attention import head_note, typical_heads
from tests.fake_runs import write_run, write_weights
from tests.ui.support import Downloads, array, assert_well, figures, labels, open_page, widget, words


@pytest.fixture
def weighted(runs: Path) -> list[Path]:
    """A run for n = 1 and one for n = 2, each with weights at two steps."""
    paths = [write_run(runs, n_future=n_future, steps=40) for n_future in (1, 2)]
    for path in paths:
        write_weights(path, (0, 40))
    return paths


def view(app: AppTest | None = None, **values: Any) -> AppTest:
    app = app or open_page("heads", view="Attention at work")
    for key, value in values.items():
        widget(app, key.replace("_", "-")).set_value(value)
        app.run()
    assert_well(app)
    return app


def shown(app: AppTest) -> dict[str, Any]:
    """What the component was given."""
    (component,) = app.get("bidi_component")
    return json.loads(component.proto.json)


def heads_key(path: Path) -> str:
    return f"attention-heads-{path.name}"


def own(path: Path, tokens: list[int], step: int = 40) -> dict[str, np.ndarray]:
    import torch

    return {
        name: values[0].numpy()
        for name, values in attention_patterns(Run(path).model(step), torch.tensor([tokens])).items()
    }


def assert_weights(head: dict[str, Any], pattern: np.ndarray) -> None:
    for query, row in enumerate(head["weights"]):
        np.testing.assert_allclose(row, pattern[query, : query + 1], atol=6e-4)


def test_the_strongest_heads_of_each_kind_are_shown_at_first(weighted: list[Path]) -> None:
    app = view()
    assert [head["name"] for head in shown(app)["heads"]] == ["T0.1", "F1.2"]
    app = view(app, model_run=weighted[1].name)
    assert [head["name"] for head in shown(app)["heads"]] == ["T0.1", "F1.2", "F2.0"]


def test_weights_are_what_the_model_computes_on_that_row(weighted: list[Path]) -> None:
    app = view(row_test=3)
    task = Run(weighted[0]).task
    tokens = task.test_batch(4).tokens[3].tolist()
    data = shown(app)
    assert data["tokens"] == task.token_strings(tokens)
    patterns = own(weighted[0], tokens)
    assert_weights(data["heads"][0], patterns["blocks.0"][1])
    assert_weights(data["heads"][1], patterns["future_heads.0"][2])


def test_other_heads_can_be_chosen(weighted: list[Path]) -> None:
    app = view()
    app = view(app, **{heads_key(weighted[0]): ["blocks.1.3", "blocks.0.0"]})
    assert [head["title"] for head in shown(app)["heads"]] == ["trunk 1, head 3", "trunk 0, head 0"]
    app = view(app, **{heads_key(weighted[0]): []})
    assert len(shown(app)["heads"]) == 1, "never none"


def test_another_step_is_another_pattern(weighted: list[Path]) -> None:
    app = view(**{f"model-step-{weighted[0].name}": 0})
    tokens = Run(weighted[0]).task.test_batch(1).tokens[0].tolist()
    assert_weights(shown(app)["heads"][0], own(weighted[0], tokens, 0)["blocks.0"][1])
    assert "step 0, test row 0" in figures(app)["pattern"]["layout"]["title"]["text"]


def test_a_fresh_sample(weighted: list[Path]) -> None:
    app = view(row_from="fresh", row_fresh=2)
    first = shown(app)["tokens"]
    assert shown(view(app, row_fresh=3))["tokens"] != first
    assert shown(view(app, row_fresh=2))["tokens"] == first


def test_own_tokens(weighted: list[Path]) -> None:
    app = view(row_from="typed")
    task = Run(weighted[0]).task
    assert widget(app, "row-text-induction").value == task.decode(task.test_batch(1).tokens[0, :24].tolist())
    app = view(app, row_text_induction="7 2 5 7 2")
    data = shown(app)
    assert data["tokens"] == ["7", "2", "5", "7", "2"]
    assert data["ideal"] == [[], [], [], [1], [2]]
    assert data["start"] == 4
    assert_weights(data["heads"][0], own(weighted[0], [7, 2, 5, 7, 2])["blocks.0"][1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("7 2 cat", "Word 3, 'cat', is no token of this task;"),
        ("", "The text holds no token; write some, such as"),
        ("  ", "The text holds no"),
    ],
)
def test_what_is_no_token_is_told(weighted: list[Path], text: str, sentence: str) -> None:
    app = view(row_from="typed", row_text_induction=text)
    assert app.info[0].value.startswith(sentence) and app.info[0].value.endswith(".")
    assert not app.get("bidi_component") and "pattern" not in figures(app)
    assert shown(view(app, row_text_induction="7 2 5"))["tokens"] == ["7", "2", "5"]


def test_too_many_tokens_are_cut(weighted: list[Path]) -> None:
    app = view(row_from="typed", row_text_induction=" ".join(["7", "2"] * 40))
    assert len(shown(app)["tokens"]) == 64
    assert "Only the first 64 of these 80 tokens are shown." in words(app)


def test_one_token_alone(weighted: list[Path]) -> None:
    data = shown(view(row_from="typed", row_text_induction="7"))
    assert data["tokens"] == ["7"] and data["heads"][0]["weights"] == [[1.0]]


def test_the_token_before_the_last_scored_one_is_shown_first(weighted: list[Path]) -> None:
    data = shown(view())
    assert data["start"] == len(data["tokens"]) - 2


def test_the_row_stays_when_the_view_is_left_and_come_back_to(weighted: list[Path]) -> None:
    app = view(row_test=5)
    tokens = shown(app)["tokens"]
    app = view(app, view="Formation")
    assert shown(view(app, view="Attention at work"))["tokens"] == tokens


def pattern(app: AppTest) -> dict[str, Any]:
    return figures(app)["pattern"]


def test_the_strongest_induction_head_is_shown_as_a_map(weighted: list[Path]) -> None:
    app = view()
    assert widget(app, f"pattern-head-{weighted[0].name}").value == "future_heads.0.2"
    figure = pattern(app)
    assert figure["layout"]["title"]["text"] == f"future head 1, head 2, step 40, test row 0<br>{weighted[0].name}"
    tokens = Run(weighted[0]).task.test_batch(1).tokens[0].tolist()
    drawn = array(figure["data"][0]["z"]).astype(float)
    np.testing.assert_allclose(np.nan_to_num(drawn), own(weighted[0], tokens)["future_heads.0"][2], atol=1e-5)
    assert np.isnan(drawn[np.triu_indices(64, 1)]).all()
    assert figure["data"][2]["name"] == "where an ideal induction head attends"


def test_every_head_is_offered_with_its_score(weighted: list[Path]) -> None:
    options = widget(view(), f"pattern-head-{weighted[0].name}").options
    scores = Run(weighted[0]).history("task_attention", AttentionScores).results[-1].prefix_matching
    told = [float(option.rpartition(" ")[2].rstrip(")")) for option in options]
    assert len(told) == scores.size and told == sorted(told, reverse=True)
    assert told[0] == pytest.approx(scores.max(), abs=0.006)


def test_another_head_as_a_map(weighted: list[Path]) -> None:
    app = view(**{f"pattern-head-{weighted[0].name}": "blocks.1.3"})
    assert pattern(app)["layout"]["title"]["text"].startswith("trunk 1, head 3, step 40")


def test_one_stored_step_needs_no_slider(runs: Path) -> None:
    write_weights(write_run(runs, steps=40), (40,))
    app = view()
    assert not app.get("select_slider") and not app.get("slider")
    assert "step 40, the only one whose weights are stored." in words(app)


def test_the_page_of_its_own_can_be_saved(weighted: list[Path], downloads: Downloads) -> None:
    app = view()
    assert "attention.html" in downloads.names
    page = downloads["attention.html"]
    assert page.startswith("<!doctype html>") and f"{weighted[0].name}, step 40, test row 0" in page
    assert "Save as HTML" in labels(app, "download_button")


def scores(**above: tuple[str, float]) -> AttentionScores:
    """Nothing above its null band of 0.2 but what is named: `a=("previous_token", 0.9)` for head a, b, .. of one layer."""
    shape = (1, 4)
    table = AttentionScores(
        layers=("blocks.0",),
        rows_from="task",
        back=np.full((4, *shape), 0.1),
        duplicate_token=np.full(shape, 0.1),
        ahead=np.full((4, *shape), 0.1),
        null_back=np.full((4, *shape), 0.2),
        null_duplicate_token=np.full(shape, 0.2),
        null_ahead=np.full((4, *shape), 0.2),
    )
    for index, (name, value) in enumerate(above.values()):
        table.score(name)[0, index] = value
    return table


def test_typical_heads() -> None:
    table = scores(
        a=("previous_token", 0.9), b=("ahead_2", 0.8), c=("duplicate_token", 0.9), d=("prefix_matching", 0.5)
    )
    assert [head.index for head in typical_heads(table)] == [0, 3, 1]
    assert [head.index for head in typical_heads(scores())] == [0, 1], "some, when no head is above chance"


def test_a_head_is_told_with_its_scores_null_bands_and_the_ideal() -> None:
    table = scores(a=("previous_token", 0.9))
    assert head_note(Head("blocks.0", 0), table) == "previous token 0.90 (null 0.20); ideal 1"
    assert head_note(Head("blocks.0", 1), table) == "no score above its null band (ideal 1)"
