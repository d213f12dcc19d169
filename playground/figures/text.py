r"""Shows data verbatim in a figure: plotly interprets `<b>`, `<a href>`, entities and `%{x}` in every text.

This holds for titles, legends, ticks, categories, annotations and hover texts.
"""

from playground.text import visible

MOST = 300
"""Most letters of a text in a figure."""
_MARKS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%": "&#37;"})


def plain(text: str, most: int = MOST) -> str:
    """A text for a figure that shows `text` verbatim, on one line.

    >>> plain("<b>50%{x}</b>")
    '&lt;b&gt;50&#37;{x}&lt;/b&gt;'
    """
    return visible(text, most).translate(_MARKS)
