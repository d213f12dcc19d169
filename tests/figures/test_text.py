"""Data in figures: names, titles, units and tokens are drawn as they are, and never as plotly's markup."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from playground.figures.ablation import alone_figure
from playground.figures.attention_text import HeadOnRow, attention_data, attention_html
from playground.figures.composition_graph import composition_figure
from playground.figures.crossing import Crossing, crossing_figure
from playground.figures.decoding_acceptance import RunAcceptance, acceptance_figure
from playground.figures.decoding_text import WrittenText, decoding_data, decoding_html
from playground.figures.formation import Formed, formation_figure
from playground.figures.heads import head_map_figure, heads_figure
from playground.figures.lens import Reading, lens_figure
from playground.figures.lens_curves import LensCurve, lens_curves_figure
from playground.figures.operations import ByOperations, operations_figure
from playground.figures.pattern import pattern_figure
from playground.figures.prediction_text import Predictions, predictions_html
from playground.figures.scores import score_figure
from playground.figures.text import MOST, plain
from playground.figures.throughput import throughput_figure
from playground.figures.wording import wrapped
from playground.results import (
    AblationEffects,
    Acceptance,
    AttentionHistory,
    AttentionScores,
    Composition,
    DecodedRow,
    DecodingStep,
    Event,
    Formation,
    Head,
    Lens,
    ScoreInfo,
)
from tests.figures.shown import curve

TEXT = '<b>h</b> <a href="http://e.example">a</a> <br> &lt; $x^2$ %{k} </script> \x1b[31m'
RAW = ("<b>h", "<a ", "> <br> ", "$x", "%{k}", "\x1b", "&lt; $")
LAYERS = ("blocks.0", "future_heads.0")
HEADS = tuple(Head(layer, index) for layer in LAYERS for index in range(2))


def history() -> AttentionHistory:
    shape = (2, 2)
    scores = AttentionScores(
        layers=LAYERS,
        rows_from="task",
        back=np.full((3, *shape), 0.2),
        duplicate_token=np.full(shape, 0.2),
        ahead=np.full((3, *shape), 0.2),
        null_back=np.full((3, *shape), 0.1),
        null_duplicate_token=np.full(shape, 0.1),
        null_ahead=np.full((3, *shape), 0.1),
    )
    return AttentionHistory(steps=(0, 10), tokens=(0, 640), results=(scores, scores))


def formed() -> Formed:
    event = Event(
        name=TEXT, subject=TEXT, start=0.0, null=0.1, ceiling=1.0, final=0.9, half=100, t50=200, t90=None, seen=640
    )
    formation = Formation(run=TEXT, n_future=2, seed=0, main=(event,), heads=())
    return Formed(title=TEXT, history=history(), formation=formation)


def composition() -> Composition:
    tables = {name: np.full((2, 4), 0.5) for name in "qkv"}
    return Composition(senders=HEADS[:2], receivers=HEADS, random=(0.1,) * 3, null=(0.1,) * 3, **tables)


def reading() -> Reading:
    shape = (1, 2)
    return Reading(
        title=plain(TEXT),
        offset=1,
        layers=(TEXT,),
        tokens=(TEXT, "b"),
        predicted=(((TEXT,), ("<b>",)),),
        probability=np.ones((*shape, 1)),
        true=(TEXT, None),
        true_probability=np.ones(shape),
        right=np.ones(shape, bool),
        scored=np.array([True, False]),
    )


def lens() -> Lens:
    values = {name: np.ones((2, 2)) for name in ("loss", "accuracy", "direct_loss", "direct_accuracy")}
    return Lens(sites=("embed", "blocks.0"), **values)


def effects() -> AblationEffects:
    return AblationEffects(
        components=("blocks.0.1",),
        method="mean",
        patterns="free",
        clean_loss=np.ones((2, 1)),
        clean_accuracy=np.ones((2, 1)),
        loss=np.ones((1, 2, 1)),
        accuracy=np.ones((1, 2, 1)),
    )


def acceptance() -> RunAcceptance:
    found = Acceptance(offsets=(2,), accepted=np.array([1]), tried=np.array([2]))
    return RunAcceptance(title=TEXT, drafts=TEXT, acceptance=found, d_vocab=50)


SCORE = ScoreInfo(name=TEXT, chance=0.1, ceiling=1.0, unit=TEXT, higher_is_better=True)
CURVES = [
    curve([0.1, 0.5], run=TEXT, label=TEXT, control=TEXT, panel=TEXT, ended=TEXT, seed=seed) for seed in range(2)
] + [curve([0.1, 0.5], run=TEXT, label=TEXT, panel=TEXT, in_mean=False)]
CROSSINGS = [
    Crossing(run=TEXT, label=TEXT, n_future=1, seed=seed, tokens=tokens, seen=900)
    for seed, tokens in enumerate((100, None, 50))
]
BY_M = [ByOperations(run=TEXT, label=TEXT, n_future=1, control=TEXT, seed=0, values={1: 0.5})]
FIGURES: dict[str, tuple[Callable[[], go.Figure], int]] = {
    "score": (lambda: score_figure(CURVES, [SCORE]), 6),
    "throughput": (lambda: throughput_figure(CURVES), 4),
    "crossing": (lambda: crossing_figure(CROSSINGS), 6),
    "operations": (lambda: operations_figure(BY_M, {}), 2),
    "formation": (lambda: formation_figure([formed()], "prefix_matching"), 3),
    "head map": (lambda: head_map_figure(history(), TEXT), 1),
    "heads": (lambda: heads_figure({TEXT: history()}), 1),
    "composition": (lambda: composition_figure(composition(), history().results[-1], title=TEXT), 1),
    "lens": (lambda: lens_figure([reading()]), 4),
    "lens curves": (lambda: lens_curves_figure([LensCurve(title=TEXT, n_future=2, lens=lens())]), 8),
    "ablation": (lambda: alone_figure(effects()), 0),
    "acceptance": (lambda: acceptance_figure([acceptance()]), 1),
    "pattern": (lambda: pattern_figure(np.eye(2), (TEXT, "<b>")), 4),
}
"""Each with the least number of texts in it that hold `TEXT`, or its beginning."""


def drawn(value: Any) -> Iterator[str]:
    """The strings of a figure that are drawn."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from () if key == "legendgroup" else drawn(part)
    elif isinstance(value, list):
        for part in value:
            yield from drawn(part)


@pytest.mark.parametrize("name", FIGURES)
def test_names_are_no_markup(name: str) -> None:
    build, least = FIGURES[name]
    texts = list(drawn(json.loads(pio.to_json(build(), validate=True))))
    assert not [(text, mark) for text in texts for mark in RAW if mark in text]
    assert sum(plain("<b>h") in text.replace("<br>", "") for text in texts) >= least


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("n = 2, layers", "n = 2, layers"),
        ("<b>", "&lt;b&gt;"),
        ("&lt;", "&amp;lt;"),
        ("50% %{y}", "50&#37; &#37;{y}"),
        ("$x$", "&#36;x&#36;"),
        ("a\nb\x1b", r"a\nb\x1b"),
    ],
)
def test_plain(text: str, marked: str) -> None:
    assert plain(text) == marked


def test_a_text_is_bounded_and_wrapped_before_it_is_marked() -> None:
    assert plain("a" * 1000) == "a" * (MOST - 2) + ".."
    assert wrapped("<b> " * 3, 4) == "<br>".join(["&lt;b&gt;"] * 3)


@pytest.mark.parametrize("title", [TEXT, "\ud800"])
def test_pages_of_their_own_hold_no_markup(title: str) -> None:
    head = HeadOnRow(name=TEXT, title=TEXT, note=TEXT, color="#000000", pattern=np.eye(2))
    row = DecodedRow(
        prompt=(0,), tokens=(1,), offsets=(1,), steps=(DecodingStep(drafts=(), emitted=(1,)),), ended="length"
    )
    shown = WrittenText(title=TEXT, row=row, strings={0: TEXT, 1: TEXT})
    pages = [
        attention_html(attention_data([TEXT, "b"], [head]), title),
        decoding_html(decoding_data([shown], start=0), title),
    ]
    for page in pages:
        page.encode()
        assert page.count("</script>") == 1 and "<a href" not in page and "<b>h" not in page and "\x1b" not in page


def test_predictions_hold_no_markup() -> None:
    found = Predictions(offset=1, before=np.array([-1, 0]), after=np.array([-1, 1]), scored=np.array([False, True]))
    page = predictions_html(np.array([0, 1]), [TEXT, TEXT], {0: TEXT, 1: '" onclick="'}, [found])
    assert not [mark for mark in ("<b>h", "<a ", "</script>", '" onclick="', "\x1b") if mark in page]
