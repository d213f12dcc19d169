"""`run.json`: what a run is, where it stands, and what it came to. Needs no torch to read."""

import dataclasses
import json
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from playground.config import FutureHeads
from playground.results import ScoreInfo

Status = Literal["running", "finished", "stopped", "failed", "interrupted"]
"""`interrupted` is never written: a run that says running, but whose process is gone, is read as interrupted."""


def default_runs_dir() -> Path:
    """Where runs are stored unless told otherwise: PLAYGROUND_RUNS_DIR, or `runs` in the current folder."""
    return Path(os.environ.get("PLAYGROUND_RUNS_DIR") or "runs")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The contents of `run.json`. Times are seconds since 1970, durations are seconds."""

    run: str
    """The run's id, and the name of its folder."""
    status: Status
    reason: str = ""
    """Why a run stopped or failed."""
    task: str
    preset: str | None
    n_future: int
    control: str
    future_heads: FutureHeads = "independent"
    """Type of the future heads (playground/config/future_heads.py)."""
    base: str = ""
    """Id of the run on whose frozen trunk the further future heads were trained; empty for those trained from the start."""
    base_config_hash: str = ""
    base_step: int = 0
    """Step of the base's weights."""
    seed: int
    config_hash: str
    steps: int
    """Steps to train in all."""
    step: int = 0
    """Steps trained."""
    tokens: int = 0
    """Input tokens seen."""
    seconds: float = 0.0
    """Training time, without evaluations and checkpoints, over all sessions of the run."""
    probe_seconds: float = 0.0
    """Time that the probes took along training, being made ready included; not part of `seconds`."""
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
    """How many runs the process trained side by side; `seconds` and `tokens_per_second` are of this run among them."""
    processes: int = 1
    """How many processes shared the training (docs/several-gpus.md)."""
    peak_memory: int = 0
    """Most bytes that the process held, on the GPU where it trained on one; 0 where that is not known."""
    matmul_flops: float = 0.0
    """Floating-point operations a second of a large matrix product, measured on the device before training; 0: not measured."""
    data_hash: str = ""
    """Tells whether a task that reads files still reads the same text; empty for the others."""
    commit: str = ""
    """Version of the code, where it lies in a git checkout; `+` behind it means uncommitted changes."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the process that trains this run exists; a run on another host counts as alive for ten minutes."""
        if self.host != socket.gethostname():
            return time.time() - self.updated < 600
        return is_alive(self.pid, self.pid_started)

    @property
    def state(self) -> Status:
        """The status, with `interrupted` for a run whose process is gone."""
        return "interrupted" if self.status == "running" and not self.alive else self.status

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunRecord":
        """Read what `to_dict` wrote; keys of a later version are left out. Raises TypeError when one is missing."""
        known = {item.name for item in dataclasses.fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        values["scores"] = tuple(ScoreInfo(**score) for score in values.get("scores", ()))
        return cls(**values)


def parse_record(path: Path) -> RunRecord:
    """The record in the file `path`. A run goes by the name of its folder, also when that was copied or renamed."""
    return dataclasses.replace(RunRecord.from_dict(json.loads(path.read_text())), run=path.absolute().parent.name)


def is_alive(pid: int, started: float) -> bool:
    """Whether the process `pid` that started then still works; one that has ended and waits for its parent does not."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 5 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def this_process() -> dict[str, Any]:
    """The fields of a record that say which process writes it."""
    return {"pid": os.getpid(), "pid_started": psutil.Process().create_time(), "host": socket.gethostname()}


def write_json(path: Path, values: Any) -> None:
    """Replace a file in one step: a reader sees the old contents or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n")
    os.replace(temporary, path)


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add one JSON line."""
    with path.open("a") as file:
        file.write(json.dumps(values, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last line cut short by a kill is left out, as is a missing file."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def keep_lines_until(path: Path, step: int) -> None:
    """Drop the lines after `step`, so that a resumed run writes them again, once."""
    rows = [row for row in read_lines(path) if row["step"] <= step]
    if path.exists():
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(temporary, path)
