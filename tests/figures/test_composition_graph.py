"""The graph of composition: where heads stand, which edges are drawn, how wide."""

import dataclasses

import numpy as np
import pytest

from playground.figures.composition_graph import (
    MOST_EDGES,
    composition_figure,
    largest,
    node_places,
    strongest_edges,
)
from playground.results import AttentionScores, Composition, Head, heads_of
from tests.figures.shown import STYLES, dressed, texts
from tests.figures.test_heads import scores as random_scores

LAYERS = ("blocks.0", "blocks.1", "future_heads.0", "future_heads.1")
T01, T10, F12, F20 = (Head.parse(name) for name in ("blocks.0.1", "blocks.1.0", "future_heads.0.2", "future_heads.1.0"))


def composition(layers=LAYERS, n_heads: int = 3, **edges: float) -> Composition:
    """Nothing but the edges given, on K, as `T01_F12=0.3`."""
    senders = heads_of([layer for layer in layers if layer.startswith("blocks.")], n_heads)
    receivers = heads_of(layers, n_heads)
    k = np.array(
        [[0.0 if receiver.comes_after(sender) else np.nan for receiver in receivers] for sender in senders]
    ).reshape(len(senders), len(receivers))
    for name, value in edges.items():
        sender, receiver = (globals()[part] for part in name.split("_"))
        k[senders.index(sender), receivers.index(receiver)] = value
    return Composition(
        senders=senders,
        receivers=receivers,
        q=0 * k,
        k=k,
        v=0 * k - 0.01,
        random=(0.12,) * 3,
        null_qk=0 * k + 0.02,
        null_v=0 * k + 0.02,
        strongest_qk=np.full(len(receivers), 0.04),
        strongest_v=np.full(len(receivers), 0.04),
    )


def scores(layers=LAYERS, n_heads: int = 3) -> AttentionScores:
    return random_scores(3, layers, n_heads)


def test_the_trunk_goes_upwards_and_future_heads_stand_side_by_side_above_it():
    places, slots = node_places(heads_of(LAYERS, 3))
    heights = {layer: {places[Head(layer, index)][1] for index in range(3)} for layer in LAYERS}
    assert heights == {"blocks.0": {0}, "blocks.1": {1}, "future_heads.0": {2}, "future_heads.1": {2}}
    top = [places[Head(layer, index)][0] for layer in LAYERS[2:] for index in range(3)]
    assert top == sorted(top) and top[3] - top[2] > top[1] - top[0], "a gap parts the two future heads"
    assert all(-0.5 <= x <= slots - 0.5 for x, _ in places.values())


def test_a_layer_is_as_wide_as_the_widest():
    places, slots = node_places(heads_of(LAYERS, 3))
    trunk = [places[Head("blocks.0", index)][0] for index in range(3)]
    assert np.mean(trunk) == pytest.approx((slots - 1) / 2)


def test_edges_above_the_null_band_strongest_first():
    edges = strongest_edges(composition(T01_F12=0.3, T01_F20=0.05, T10_F12=0.02, T01_T10=0.4), "k")
    assert edges == [(T01, T10, 0.4), (T01, F12, 0.3), (T01, F20, 0.05)]
    assert strongest_edges(composition(T01_F12=0.3), "q") == strongest_edges(composition(), "v") == []


def test_every_pair_has_a_band_of_its_own():
    shown = composition(T01_F12=0.3, T01_F20=0.05)
    shown.band("k")[shown.senders.index(T01), shown.receivers.index(F12)] = 0.31
    assert strongest_edges(shown, "k") == [(T01, F20, 0.05)]
    (foot,) = [text for text in texts(composition_figure(shown, scores(), widest=0.3)) if "edge" in text]
    assert "(0.020 to 0.310)" in foot


def test_what_was_stored_before_has_one_band_and_says_so():
    shown = composition(T01_F12=0.3, T01_F20=0.05)
    before = dataclasses.replace(
        shown, null=(0.02, 0.06, 0.02), null_qk=None, null_v=None, strongest_qk=None, strongest_v=None
    )
    assert strongest_edges(before, "k") == [(T01, F12, 0.3)]
    figure = composition_figure(before, scores())
    assert any("99% of random matrices give (older stored result) (0.060)" in text for text in texts(figure))
    (unseen,) = [trace for trace in figure.data if trace.mode == "markers"]
    assert "strongest sender" not in unseen.hovertext[0]


def test_the_largest_value_of_several_steps():
    assert largest([composition(), composition(T01_F12=0.3), composition(T01_F12=0.2)], "k") == 0.3
    assert largest([composition()], "k") == largest([], "k") == 0.0


def edges_of(figure):
    return [trace for trace in figure.data if trace.mode == "lines"]


def test_a_line_goes_from_the_writer_up_to_the_reader():
    shown = composition(T01_F12=0.3)
    (edge,) = edges_of(composition_figure(shown, scores()))
    places, _ = node_places(shown.receivers)
    assert (edge.x[0], edge.y[0]) == pytest.approx(places[T01], abs=1e-3)
    assert (edge.x[-1], edge.y[-1]) == pytest.approx(places[F12], abs=1e-3)


def test_wider_means_more_and_widths_are_common_to_several_graphs():
    shown = composition(T01_F12=0.3, T01_F20=0.1)
    thin, wide = (edge.line.width for edge in edges_of(composition_figure(shown, scores())))
    assert wide > thin
    thinner = [edge.line.width for edge in edges_of(composition_figure(shown, scores(), widest=0.6))]
    assert max(thinner) < wide


def test_not_more_edges_than_can_be_told_apart():
    shown = composition(n_heads=6)
    shown.k[np.isfinite(shown.k)] = np.linspace(0.03, 0.5, int(np.isfinite(shown.k).sum()))
    figure = composition_figure(shown, scores(n_heads=6))
    assert len(edges_of(figure)) == MOST_EDGES < len(strongest_edges(shown, "k"))
    assert f"the {MOST_EDGES} strongest of {len(strongest_edges(shown, 'k'))} edges" in "".join(texts(figure))


@pytest.mark.parametrize(
    ("edges", "count"), [({}, "0 edges"), ({"T01_F12": 0.3}, "1 edge"), ({"T01_F12": 0.3, "T01_F20": 0.1}, "2 edges")]
)
def test_the_foot_says_what_is_drawn(edges, count):
    (foot,) = [text for text in texts(composition_figure(composition(**edges), scores(), widest=0.3)) if "edge" in text]
    assert foot.startswith(
        f"{count} of 45 pairs: K-composition minus random, above what<br>99% of random rotations give (0.020); widest line 0.30"
    )


def test_nodes_are_coloured_by_the_chosen_score():
    table = scores()
    figure = composition_figure(composition(), table, score="back_2")
    nodes = figure.data[-1]
    by_name = dict(zip(nodes.text, nodes.marker.color, strict=True))
    assert by_name == {
        head.short: pytest.approx(value) for head, value in zip(table.heads, table.score("back_2").ravel(), strict=True)
    }
    assert figure.layout.coloraxis.colorbar.title.text == "2<br>back<br>(1 ideal)"
    assert "induction" in nodes.hovertext[0] and "null" in nodes.hovertext[0]


def test_the_pointer_finds_an_edge():
    figure = composition_figure(composition(T01_F12=0.3), scores())
    (unseen,) = [trace for trace in figure.data if trace.mode == "markers"]
    assert unseen.opacity == 0
    assert unseen.hovertext[0].startswith("<b>T0.1 → F1.2</b><br>K-composition 0.300 above random")
    assert "null band (99%) 0.020" in unseen.hovertext[0]
    assert "of the strongest sender of F1.2 0.040" in unseen.hovertext[0]


def test_layers_and_offsets_are_named():
    figure = composition_figure(composition(), scores())
    assert list(figure.layout.yaxis.ticktext) == ["trunk 0", "trunk 1", "future<br>heads"]
    assert {"offset 1", "offset 2"} <= set(texts(figure))


def test_small_nodes_carry_no_names():
    layers = ("blocks.0", *(f"future_heads.{k}" for k in range(4)))
    figure = composition_figure(composition(layers, 4), scores(layers, 4))
    assert figure.data[-1].mode == "markers"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "layers", [LAYERS, ("blocks.0", "future_heads.0"), ("future_heads.0", "future_heads.1")], ids=len
)
def test_valid_in_both_styles(layers, style):
    """A trunk of no layers, too: heads and no edges."""
    dressed(composition_figure(composition(layers), scores(layers), title="n = 2", style=style), style)
