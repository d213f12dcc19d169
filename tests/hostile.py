"""A run whose every text is an attempt: marks of Markdown, HTML, LaTeX, plotly and rich, addresses, escape codes."""

import json
import re
from pathlib import Path
from typing import Any

from playground.config.stored import hash_values, read_values
from playground.runs.writing import write_json
from playground.text import visible
from tests.fake_runs import write_run, write_weights

HOSTILE = (
    "![x](http://127.0.0.1:1/i.png) [l](http://e.example) <img src=x> $x^2$ :red[y] :smile: **b** `c` # h [/y] [red]z "
    "\x1b[31m http://e.example <b>h</b> <a href=http://e.example>a</a> www.e.example a@e.example x -> y :material/home: "
    "%{x} &lt;\n- l | ~s~ _e_ {u}"
)
SHOWN = visible(HOSTILE)
"""How it reads where it is shown as it is."""
NAME = "![x](i.png) [l](u) <img src=x> $x^2$ ;red[y] ;smile; **b** `c` # h [red]z <b>h<;b> www.e.example a@e.example x -> y"
"""A name of a folder, which holds no slash, and no colon on some systems."""
TASK = "![x](http://127.0.0.1:1/i.png) <img src=x> $x^2$ :red[y] :smile: **b** %{x} x -> y\x1b"
"""A name of a task, which may have a hundred letters."""
LIVE = re.compile(
    r"!\[x|\]\((http:|u\)|i\.)|<(img|b|a|/)|\$x|:red\[|:smile|:material|\*\*b\*|http://[1e]|www\.e|a@e|x -> y|\x1b|`c`|~s|_e_|&lt"
)
"""What of it would be markup in Markdown, where neither a backslash nor letters of code keep it from that."""


def is_live(markdown: str) -> bool:
    """Whether something of the hostile text stands in a Markdown text as markup."""
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"\\[!-/:-@\[-`{-~]", "\0", markdown))
    return LIVE.search(text.replace(":color[]", "\1")) is not None


def write_hostile(
    folder: Path,
    *,
    task: str | None = None,
    state: str = "failed",
    name: str = NAME,
    text: str = HOSTILE,
    **options: Any,
) -> Path:
    """A run of a task that is not installed, or of `task`, then with weights. Every text that a run may hold is hostile."""
    path = write_run(folder, state=state, steps=100, **options).rename(folder / name)
    config = json.loads((path / "config.json").read_text())
    if task is None:
        config["task"] = {"name": TASK, "n_ctx": 64, "text": text}
    values = read_values(config)
    write_json(path / "config.json", config)
    record = json.loads((path / "run.json").read_text())
    texts = ("reason", "device", "commit", "data_hash", "host")
    record |= dict.fromkeys(texts, HOSTILE) | {"versions": {HOSTILE: HOSTILE}, "config_hash": hash_values(values)}
    record["task"] = config["task"]["name"]
    known = record["scores"][0]["name"]
    record["scores"][0] |= {"name": HOSTILE, "unit": HOSTILE}
    if known in record["final"]:
        record["final"] = {HOSTILE: record["final"][known]}
    write_json(path / "run.json", record)
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows = [{HOSTILE if key == known else key: value for key, value in row.items()} for row in metrics]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if task is not None:
        write_weights(path, (0, record["step"]))
    return path
