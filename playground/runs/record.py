"""`run.json`: the identity, status, progress and final scores of a run. Reading it needs no torch."""

import dataclasses
import itertools
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import psutil

from playground.config import MOST_SEED, FutureHeads
from playground.config.values import fits, readable, short_value
from playground.results import ScoreInfo
from playground.runs.errors import Damaged
from playground.runs.lock import is_locked
from playground.runs.reading import MOST_NUMBER, is_number, is_text, read_json

Status = Literal["running", "finished", "stopped", "failed", "interrupted"]
"""`interrupted` is never written: a run with status `running` that no process trains is read as interrupted."""
FORMAT = 2
"""Version of the run format that is written. Format 1 has no checksums, and stores no files of text tasks."""
AWAY_SECONDS = 600.0
"""Seconds after its last update for which a run of another machine counts as alive."""


def default_runs_dir() -> Path:
    """Default folder of stored runs: PLAYGROUND_RUNS_DIR, or `runs` in the current folder."""
    return Path(os.environ.get("PLAYGROUND_RUNS_DIR") or "runs")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The contents of `run.json`. Times are seconds since 1970, durations are seconds."""

    run: str
    """The run's id, and the name of its folder."""
    format: int = 1
    """Version of the run format; the oldest runs have no such key."""
    status: Status
    reason: str = ""
    """Why a run stopped or failed."""
    task: str
    preset: str | None
    n_future: int
    control: str
    future_heads: FutureHeads = "independent"
    """Type of the future heads (playground/model/future_heads)."""
    base: str = ""
    """Id of the run on whose frozen trunk the further future heads were trained; empty without a base."""
    base_config_hash: str = ""
    base_step: int = 0
    """Step of the base's weights."""
    seed: int
    config_hash: str
    steps: int
    """Total number of steps to train."""
    step: int = 0
    """Steps trained so far."""
    tokens: int = 0
    """Input tokens seen."""
    seconds: float = 0.0
    """Training time, without evaluations and checkpoints, over all sessions of the run."""
    probe_seconds: float = 0.0
    """Time of the probes during training, their preparation included; not part of `seconds`."""
    tokens_per_second: float = 0.0
    created: float = 0.0
    updated: float = 0.0
    """When the record was last written."""
    finished: float | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    """Per part: embedding, trunk, future_heads, final_norm, unembedding, total, non_embedding, next_token."""
    next_token_depth: int = 0
    """Layers between embedding and next-token logits."""
    scores: tuple[ScoreInfo, ...] = ()
    """What the columns of the evaluation rows mean; the first is the task's headline score."""
    final: dict[str, float] = field(default_factory=dict)
    """Scores on the whole test set, after the last step."""
    pid: int = 0
    pid_started: float = 0.0
    host: str = ""
    device: str = ""
    """Name of the device, such as `cpu (2 threads)` or `NVIDIA H200`."""
    threads: int = 0
    replicas: int = 1
    """Number of runs that the process trained side by side; `seconds` and `tokens_per_second` are this run's share."""
    processes: int = 1
    """Number of processes that shared the training (docs/guides/several-gpus.md)."""
    peak_memory: int = 0
    """Peak memory of the process in bytes, of GPU memory if it trained on a GPU; 0 if unknown."""
    matmul_flops: float = 0.0
    """FLOPs per second of a large matrix product, measured on the device before training; 0 if not measured."""
    data_hash: str = ""
    """Fingerprint of the text of a task that reads files; empty for other tasks."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 by name of the files in the folder `task`, which a text task stores in the run."""
    metrics_sha256: str = ""
    """SHA-256 of metrics.jsonl when the run finished; nothing is written to it after that."""
    commit: str = ""
    """Commit of the code if it is in a git checkout; a `+` at the end means uncommitted changes."""
    versions: dict[str, str] = field(default_factory=dict)

    folder: str = ""
    """Folder that the record was read from; not part of the file."""

    @property
    def alive(self) -> bool:
        """True if a process trains this run now, that is, if its lock is held. A lock held on another machine may not be
        visible here, so a run of another host also counts as alive for AWAY_SECONDS after its last update."""
        if self.folder and is_locked(Path(self.folder)):
            return True
        return self.host != socket.gethostname() and abs(time.time() - self.updated) < AWAY_SECONDS

    @property
    def state(self) -> Status:
        """The stored status, or `interrupted` for a run with status `running` that no process trains."""
        return "interrupted" if self.status == "running" and not self.alive else self.status

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = dataclasses.asdict(self)
        del values["folder"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunRecord":
        """Read what `to_dict` wrote; unknown keys, of a later version, are ignored.

        Raises ValueError, naming the field, when one is missing, has a wrong type, or is out of range.
        """
        known = {item.name: item for item in dataclasses.fields(cls) if item.name != "folder"}
        needed = (item.name for item in known.values() if _is_needed(item))
        missing = [name for name in needed if name not in values]
        if missing:
            raise ValueError(f"it has no '{missing[0]}'")
        values = {key: value for key, value in values.items() if key in known}
        for name, value in values.items():
            problem = _problem(name, value)
            if problem:
                raise ValueError(f"its {name} is {short_value(value)}; {problem}")
        if "scores" in values:
            values["scores"] = tuple(ScoreInfo(**score) for score in values["scores"])
        return cls(**values)


def parse_record(path: Path) -> RunRecord:
    """The record in the file `path`. The run's id is the name of its folder, also after the folder was copied or renamed.

    Raises Absent, Denied or Damaged.
    """
    folder = path.absolute().parent
    if not is_text(folder.name) or not folder.name.isprintable():
        raise Damaged(f"the folder {folder.name!a} has a name that cannot be shown; rename it")
    values = read_json(path)
    try:
        record = RunRecord.from_dict(values)
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return dataclasses.replace(record, run=folder.name, folder=str(folder))


def this_process() -> dict[str, Any]:
    """The fields of a record that identify the process that writes it."""
    return {"pid": os.getpid(), "pid_started": psutil.Process().create_time(), "host": socket.gethostname()}


# --- what each field may hold -----------------------------------------------------------------------------------------

MOST_ENTRIES = 2000
_LEAST = {"n_future": 1, "steps": 1, "format": 1}
_MOST = {"seed": MOST_SEED, "n_future": 10_000, "pid": 2**31 - 1, "created": 1e11, "updated": 1e11, "finished": 1e11}
_HINTS = get_type_hints(RunRecord)
_SCORE_HINTS = get_type_hints(ScoreInfo)


def _is_needed(item: "dataclasses.Field[Any]") -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _problem(name: str, value: Any) -> str:
    """Error text for an invalid value of a field; empty for a valid one."""
    if name == "scores":
        is_list = isinstance(value, list | tuple) and len(value) <= MOST_ENTRIES and all(map(_is_score, value))
        return "" if is_list else "it must be a list of scores with name, chance, ceiling, unit and higher_is_better"
    if name == "status" and value == "interrupted":
        return "that is never stored"
    if not fits(value, _HINTS[name]):
        return f"it must be {readable(_HINTS[name])}"
    if isinstance(value, dict) and len(value) > MOST_ENTRIES:
        return f"at most {MOST_ENTRIES} entries are read"
    least, most = _LEAST.get(name, 0), _MOST.get(name, MOST_NUMBER)
    for part in itertools.chain(value, value.values()) if isinstance(value, dict) else (value,):
        if isinstance(part, str):
            if not is_text(part):
                return "it must be a text of bounded length"
        elif isinstance(part, int | float) and not isinstance(part, bool):
            if not is_number(part):
                return "it must be a finite number"
            if name != "final" and not least <= part <= most:
                return f"it must be {least:,} to {most:,}"
    return ""


def _is_score(value: Any) -> bool:
    """True if a value is a stored ScoreInfo."""
    if not isinstance(value, dict) or value.keys() != _SCORE_HINTS.keys():
        return False
    texts = (part for part in value.values() if isinstance(part, str))
    numbers = (value["chance"], value["ceiling"])
    return all(fits(value[name], hint) for name, hint in _SCORE_HINTS.items()) and all(
        (*map(is_text, texts), *map(is_number, numbers))
    )
