r"""Shows data verbatim on a page: Streamlit interprets Markdown in texts, labels, help and the options of most widgets.

Its Markdown is GitHub's with extensions: `:red[..]`, `:smile:`, `:material/home:`, `$..$`, arrows. A backslash escapes a mark
for the parser, but links, emoji, icons and arrows are searched in the parsed text, where backslashes are gone; `SPLIT`
interrupts that text. Options of `selectbox` and `multiselect` and table cells are not Markdown: `visible` is enough there.
"""

import re

from playground.text import visible

MOST = 300
"""Most letters of a text on a page."""
SPLIT = ":color[]"
"""An empty element: draws nothing, and separates the text before it from the text after it."""
_MARKS = re.compile(
    r"(?P<arrow>(?<![^\s:])(?:<->|->|<-|--|>=|<=|~=)(?![^\s@]))"
    r"|(?P<www>[wW]{3}(?=\.))"
    r"|(?P<mail>(?<=[\w.+-])@(?=[\w-]))"
    r"|(?P<colon>:(?=\S|$))"
    r"|(?P<mark>[\\`*\[\]<>&$~|#]|(?<![^\W_])_|_(?![^\W_]))"  # an underscore inside a word is no mark
)


def plain(text: object, most: int = MOST) -> str:
    r"""Markdown that shows the text verbatim, on one line.

    >>> print(plain("a_b _c_ [d](http://e)"))
    a_b \_c\_ \[d\](http\::color[]//e)
    """
    seen = visible(str(text), most)
    inner = seen.strip()
    if not inner:
        return _spaces(seen)
    at = seen.index(inner)
    marked = _MARKS.sub(lambda found: _hidden(found, last=found.end() == len(inner)), inner)
    marked = re.sub(r"^(?:(?=[-+=])|(\d+)(?=[.)]))", r"\1\\", marked)  # marks that begin a list or underline a heading
    return _spaces(seen[:at]) + marked + _spaces(seen[at + len(inner) :])


def code(text: object, most: int = MOST) -> str:
    """Markdown that shows the text verbatim in code letters, on one line.

    >>> code("runs"), code("a`b")
    ('`runs`', '``a`b``')
    """
    # Streamlit replaces `:material/` before it parses code spans, so the colon must leave the span.
    return SPLIT.join(map(_code, re.split(r"(?<=:)(?=material/)", visible(str(text), most))))


def file_name(text: str) -> str:
    """The text as the name of a saved file: letters, digits, dots and hyphens.

    >>> file_name("heads-<x>/../1")
    'heads-_x_1'
    """
    return re.sub(r"(?:[^\w.-]|\.\.+)+", "_", text).strip("_")[:100] or "file"


def _hidden(found: re.Match[str], *, last: bool) -> str:
    """The escape for a mark. A colon can begin an emoji, an icon, a directive or the rest of an address."""
    mark = found[0]
    match found.lastgroup:
        case "arrow":
            return SPLIT.join(f"\\{letter}" for letter in mark)
        case "www":
            return mark + SPLIT
        case "mail":
            return SPLIT + mark
        case "colon":
            return "\\:" if last else f"\\:{SPLIT}"
        case _:
            return f"\\{mark}"


def _spaces(text: str) -> str:
    """White space at an end as entities: Markdown would drop it, or read four spaces as code."""
    return "".join(f"&#{ord(space)};" for space in text)


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not text or text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"
