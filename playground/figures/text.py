r"""Data in a figure, shown as it is: plotly takes `<b>`, `<a href>` and entities in every text for markup, and fills in `%{x}`.

Titles, legends, ticks, categories, annotations and hover texts are all such texts.
"""

from playground.text import visible

MOST = 300
"""Letters of a text that a figure shows."""
_MARKS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%": "&#37;"})


def plain(text: str, most: int = MOST) -> str:
    """A text of a figure that shows `text` itself, on one line.

    >>> plain("<b>50%{x}</b>")
    '&lt;b&gt;50&#37;{x}&lt;/b&gt;'
    """
    return visible(text, most).translate(_MARKS)
