"""About: the words, the links, and the drawing of the architecture under both controls."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from playground.config import future_head_names
from tests.ui.support import annotations, assert_well, figures, labels, open_page, widget, words


def drawn(app: AppTest) -> str:
    return annotations(figures(app)["architecture"])


def test_it_says_what_the_words_mean_and_where_to_begin(runs: Path) -> None:
    app = open_page("about")
    text = words(app)
    for word in ("offset", "trunk", "future head", "head", "control", "induction head", "ablation", "null band", "t50"):
        assert f"**{word}**: " in text
    assert "arxiv.org/abs/2404.19737" in text
    assert labels(app, "page_link") == ["Go to Train", "Go to Compare", "Go to Heads", "Go to Lens", "Go to Probes"]


def test_the_drawing_follows_the_type_of_the_future_heads(runs: Path) -> None:
    app = open_page("about")
    assert widget(app, "about-heads").options == future_head_names()
    widget(app, "about-heads").set_value("hydra")
    app.run()
    assert_well(app)
    assert "future head 2<br>no attention, reads x<sub>t+1</sub>" in drawn(app)
    assert any("Ankner et al. 2024" in item.value for item in app.caption)


@pytest.mark.parametrize(
    ("n_future", "control", "trunk", "depth"),
    [
        (1, "layers", "4 trunk layers and 1 future head", "5 layers away"),
        (2, "layers", "3 trunk layers and 2 future heads", "4 layers away"),
        (4, "layers", "1 trunk layer and 4 future heads", "2 layers away"),
        (1, "trunk", "4 trunk layers and 1 future head", "5 layers away"),
        (4, "trunk", "4 trunk layers and 4 future heads", "5 layers away"),
    ],
)
def test_the_drawing_follows_n_and_the_control(runs: Path, n_future: int, control: str, trunk: str, depth: str) -> None:
    app = open_page("about")
    widget(app, "about-n").set_value(n_future)
    widget(app, "about-control").set_value(control)
    app.run()
    assert_well(app)
    caption = next(item.value for item in app.caption if "trunk layer" in item.value)
    assert trunk in caption and depth in caption
    text = drawn(app)
    assert [f"future head {k}" in text for k in range(1, 6)] == [k <= n_future for k in range(1, 6)]
