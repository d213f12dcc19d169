r"""Data on a page, shown as it is: Streamlit draws Markdown in texts, labels, help and in the options of most widgets.

Its Markdown is GitHub's with more: `:red[..]`, `:smile:`, `:material/home:`, `$..$`, arrows. A backslash hides a mark from the
parser, but links, emoji, icons and arrows are looked for in the text that comes out of it; `SPLIT` parts that text. Options of
`selectbox` and `multiselect` and the cells of tables are not Markdown: `visible` is enough there.
"""

import re

from playground.text import visible

MOST = 300
"""Letters of a text that a page shows."""
SPLIT = ":color[]"
"""Draws nothing, an empty element, and parts the text before it from the text after it."""
_MARKS = re.compile(
    r"(?P<arrow>(?<![^\s:])(?:<->|->|<-|--|>=|<=|~=)(?![^\s@]))"
    r"|(?P<www>[wW]{3}(?=\.))"
    r"|(?P<mail>(?<=[\w.+-])@(?=[\w-]))"
    r"|(?P<colon>:(?=\S|$))"
    r"|(?P<mark>[\\`*\[\]<>&$~|#]|(?<![^\W_])_|_(?![^\W_]))"  # an underscore inside a word is no mark
)


def plain(text: object, most: int = MOST) -> str:
    r"""Markdown that shows the text itself, on one line.

    >>> print(plain("a_b _c_ [d](http://e)"))
    a_b \_c\_ \[d\](http\::color[]//e)
    """
    seen = visible(str(text), most)
    inner = seen.strip()
    if not inner:
        return _spaces(seen)
    at = seen.index(inner)
    marked = _MARKS.sub(lambda found: _hidden(found, last=found.end() == len(inner)), inner)
    marked = re.sub(r"^(?:(?=[-+=])|(\d+)(?=[.)]))", r"\1\\", marked)  # what begins a list or underlines a heading
    return _spaces(seen[:at]) + marked + _spaces(seen[at + len(inner) :])


def code(text: object, most: int = MOST) -> str:
    """Markdown that shows the text itself in the letters of code, on one line.

    >>> code("runs"), code("a`b")
    ('`runs`', '``a`b``')
    """
    # Streamlit replaces `:material/` before it parses anything.
    return SPLIT.join(map(_code, re.split(r"(?<=:)(?=material/)", visible(str(text), most))))


def file_name(text: str) -> str:
    """The text as the name of a file that is saved: letters, digits, dots and hyphens.

    >>> file_name("heads-<x>/../1")
    'heads-_x_1'
    """
    return re.sub(r"(?:[^\w.-]|\.\.+)+", "_", text).strip("_")[:100] or "file"


def _hidden(found: re.Match[str], *, last: bool) -> str:
    """What stands for a mark. A colon begins an emoji, an icon, a directive or the rest of an address."""
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
    """White space at an end, which Markdown would drop, or take for code."""
    return "".join(f"&#{ord(space)};" for space in text)


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not text or text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"
