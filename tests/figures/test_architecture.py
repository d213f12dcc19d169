"""The drawing of the architecture: one box a part, in the order tokens pass them."""

import itertools
import re

import pytest

from playground.figures.architecture import architecture_figure
from tests.figures.shown import STYLES, dressed

SHAPES = [(1, 1), (1, 4), (2, 0), (4, 2), (8, 1)]


def boxes(figure) -> dict[str, tuple[float, float, float, float]]:
    """Left, right, bottom and top of each box, by the text in its middle."""
    found = {}
    for shape in figure.layout.shapes:
        middle = ((shape.x0 + shape.x1) / 2, (shape.y0 + shape.y1) / 2)
        (text,) = [
            note.text
            for note in figure.layout.annotations
            if not note.showarrow and (note.x, note.y) == pytest.approx(middle)
        ]
        found[text] = (shape.x0, shape.x1, shape.y0, shape.y1)
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("n_future", "n_trunk_layers"), SHAPES)
def test_a_box_for_every_part_and_none_more(n_future, n_trunk_layers, style):
    figure = dressed(architecture_figure(n_future=n_future, n_trunk_layers=n_trunk_layers, style=style), style)
    names = list(boxes(figure))
    assert [name for name in names if name.startswith("trunk")] == [f"trunk {i}" for i in range(n_trunk_layers)]
    heads = [name for name in names if name.startswith("future head")]
    assert heads == [f"future head {k}" for k in range(1, n_future + 1)]
    assert len(names) == n_trunk_layers + n_future + 2
    assert names[-1] == "norm and unembedding, shared"


@pytest.mark.parametrize(("n_future", "n_trunk_layers"), SHAPES)
def test_tokens_flow_upwards_through_trunk_heads_and_unembedding(n_future, n_trunk_layers):
    found = boxes(architecture_figure(n_future=n_future, n_trunk_layers=n_trunk_layers))
    tokens = next(name for name in found if name.startswith("tokens"))
    column = [tokens, *[f"trunk {i}" for i in range(n_trunk_layers)], "future head 1", "norm and unembedding, shared"]
    for below, above in itertools.pairwise(column):
        assert found[below][3] < found[above][2]
    heads = [found[f"future head {k}"] for k in range(1, n_future + 1)]
    assert len({head[2:] for head in heads}) == 1
    for left, right in itertools.pairwise(heads):
        assert left[1] < right[0]
    shared = found["norm and unembedding, shared"]
    assert shared[0] < heads[0][0] + 0.01 and heads[-1][1] < shared[1] + 0.01


@pytest.mark.parametrize(("n_future", "n_trunk_layers"), SHAPES)
def test_every_part_is_connected(n_future, n_trunk_layers):
    figure = architecture_figure(n_future=n_future, n_trunk_layers=n_trunk_layers)
    arrows = [note for note in figure.layout.annotations if note.showarrow]
    assert len(arrows) == n_trunk_layers + 3 * n_future
    assert all(arrow.y > arrow.ay for arrow in arrows)
    assert all((arrow.axref, arrow.ayref) == ("x", "y") for arrow in arrows)


def test_a_head_that_reads_another_is_above_it_and_says_what_it_is():
    figure = architecture_figure(n_future=3, n_trunk_layers=2, paths=((0,), (0, 1), (0, 2)), notes=("layer", "a", "b"))
    found = boxes(figure)
    first, second, third = (found[f"future head {k}<br>{note}"] for k, note in ((1, "layer"), (2, "a"), (3, "b")))
    assert first[3] < second[2] and second[2:] == third[2:] and third[3] < found["norm and unembedding, shared"][2]
    assert all(arrow.y > arrow.ay for arrow in figure.layout.annotations if arrow.showarrow)


def test_each_output_names_its_offset():
    figure = architecture_figure(n_future=3, n_trunk_layers=2)
    outputs = [note.text for note in figure.layout.annotations if "<br>offset" in note.text]
    assert [re.sub("<[^>]*>", " ", text).split()[0:2] for text in outputs] == [["x", f"t+{k}"] for k in (1, 2, 3)]
    assert outputs[0].endswith("next token")
    assert outputs[2].endswith("3 tokens ahead")


def test_everything_lies_within_the_axes():
    figure = architecture_figure(n_future=4, n_trunk_layers=3)
    (left, right), (bottom, top) = figure.layout.xaxis.range, figure.layout.yaxis.range
    for shape in figure.layout.shapes:
        assert left < shape.x0 < shape.x1 < right
        assert bottom < shape.y0 < shape.y1 < top
    assert all(left < note.x < right and bottom < note.y < top for note in figure.layout.annotations)
