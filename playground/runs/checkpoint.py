"""Checkpoints: weights, optimizer, generator and counters as safetensors, written atomically and checked when opened.

checkpoints/<step>/weights.safetensors   the model
                   resume.safetensors    only for resuming: optimizer, random state, counters
                   checkpoint.json       step, hash of the configuration, size and SHA-256 of both files

Weights are kept at every stored step; resume.safetensors is kept at the last two, so that a run can resume from the
second-last checkpoint if the last is damaged. Checkpoints of format 1 have no checkpoint.json: only their tensors' names,
shapes and values are checked.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from playground.config import ModelConfig
from playground.model.transformer import MTPTransformer
from playground.runs.errors import Absent, Damaged, reading_error
from playground.runs.reading import open_regular, read_json, sha256_of
from playground.runs.steps import RESUME, WEIGHTS, resumable
from playground.runs.writing import sync_file, sync_folder, write_json

MANIFEST = "checkpoint.json"
KEPT = 2
"""Number of checkpoints that keep their resume.safetensors."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def save_checkpoint(
    folder: Path,
    step: int,
    model: MTPTransformer,
    optimizer: torch.optim.Optimizer,
    counters: dict[str, Tensor],
    config_hash: str = "",
) -> Path:
    """Write `folder/<step>/`, then delete the resume files of steps before the last KEPT. `counters` are stored as well.

    When it returns, the checkpoint is on the disk (fsync). Raises OSError, for example for a full disk; no earlier checkpoint
    is changed then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary, old = folder / str(step), folder / f".{step}.tmp", folder / f".{step}.old"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        files = {WEIGHTS: weights, RESUME: counters | _optimizer_tensors(model, optimizer)}
        stored = {name: _write(temporary / name, tensors) for name, tensors in files.items()}
        write_json(temporary / MANIFEST, {"step": step, "config_hash": config_hash, "files": stored})
        mode = (temporary / MANIFEST).stat().st_mode & 0o777  # safetensors ignores the umask
        for name in files:
            (temporary / name).chmod(mode)
        sync_folder(temporary)
        # A folder that is not empty cannot be replaced in one rename: the old one is moved aside first. A kill between the two
        # renames leaves only `.old`, which `tidy` moves back.
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(temporary, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)
    # Only now: until the new checkpoint is on the disk, the older ones must stay resumable.
    for other in [other for other in resumable(folder) if other < step][: -(KEPT - 1)]:
        (folder / str(other) / RESUME).unlink(missing_ok=True)
    return target


def load_model(folder: Path, config: ModelConfig, config_hash: str = "") -> MTPTransformer:
    """The model stored in a checkpoint folder, on the CPU, in evaluation mode. Raises Absent, Denied or Damaged."""
    model = MTPTransformer(config)
    _put(model, _read(folder, WEIGHTS, check_manifest(folder, config_hash)), folder / WEIGHTS)
    return model.eval()


def load_checkpoint(
    folder: Path, model: MTPTransformer, optimizer: torch.optim.Optimizer, config_hash: str = ""
) -> dict[str, Tensor]:
    """Load a checkpoint into `model` and `optimizer`; returns the counters it was saved with.

    Raises Absent, Denied or Damaged; `model` and `optimizer` are unchanged then.
    """
    manifest = check_manifest(folder, config_hash)
    weights, tensors = (_read(folder, name, manifest) for name in (WEIGHTS, RESUME))
    counters = {name: value for name, value in tensors.items() if not name.startswith("optimizer/")}
    _check_tensors(weights, model.state_dict(), folder / WEIGHTS)
    states = _optimizer_states(tensors, model, folder / RESUME)
    step = int(counters["step_tokens"][0]) if "step_tokens" in counters else None
    if step is not None and str(step) != folder.name:
        raise Damaged(f"{folder / RESUME} is of step {step}, but its folder is {folder.name}")
    trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in model.named_parameters() if parameter in trained and name not in states]
    if step and missing:
        raise Damaged(f"{folder / RESUME} is damaged: it has no optimizer state of {missing[0]}")
    model.load_state_dict(weights)
    device = next(model.parameters()).device
    for name, parameter in model.named_parameters():
        if name in states:
            optimizer.state[parameter] = {key: value.to(device) for key, value in states[name].items()}
    return counters


@dataclass(frozen=True)
class Manifest:
    """Contents of checkpoint.json; `files` maps file name to `bytes` and `sha256`."""

    step: int
    config_hash: str
    files: Mapping[str, Mapping[str, Any]]


def check_manifest(folder: Path, config_hash: str = "") -> Manifest | None:
    """Read the manifest of a checkpoint folder, and compare it with the folder's name and the run's configuration hash.

    None for a checkpoint of format 1, which has no manifest. Raises Denied or Damaged.
    """
    path = folder / MANIFEST
    try:
        values = read_json(path)
    except Absent:
        return None
    files = values.get("files")
    known = isinstance(files, dict) and all(
        isinstance(one, dict) and type(one.get("bytes")) is int and isinstance(one.get("sha256"), str)
        for one in files.values()
    )
    if not known or type(values.get("step")) is not int or not isinstance(values.get("config_hash"), str):
        raise Damaged(f"{path} is damaged: it does not have valid step, config_hash and files")
    found = Manifest(values["step"], values["config_hash"], files)  # type: ignore[arg-type]
    if str(found.step) != folder.name:
        raise Damaged(f"the checkpoint in {folder} is of step {found.step}: it was copied under another step's name")
    if config_hash and found.config_hash not in ("", config_hash):
        raise Damaged(
            f"the checkpoint in {folder} belongs to another configuration ({found.config_hash}, not {config_hash})"
        )
    return found


def tidy(folder: Path) -> None:
    """Remove the remains of a checkpoint whose writing was killed. The caller must hold the run's lock."""
    for path in folder.glob(".*.old"):
        target = folder / path.name[1:-4]
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if target.exists() else os.replace(path, target)
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Write a file and fsync it; returns its size and SHA-256. Raises OSError."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        # safetensors has the error number only in its text; callers need it to recognise a full disk.
        number = _OS_ERROR.search(str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
    sync_file(path)
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _read(folder: Path, name: str, manifest: Manifest | None) -> dict[str, Tensor]:
    """The tensors of a file, after a check of size and SHA-256 against the manifest. Raises Absent, Denied or Damaged."""
    path = folder / name
    with open_regular(path) as file:
        if manifest is not None:
            expected = manifest.files.get(name)
            if expected is None:
                raise Damaged(f"{folder / MANIFEST} does not name {name}")
            if os.fstat(file.fileno()).st_size != expected["bytes"]:
                raise Damaged(f"{path} is damaged: its size differs from when it was written")
            if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                raise Damaged(f"{path} is damaged: its SHA-256 differs from when it was written")
    try:
        return load_file(path)
    except OSError as error:
        raise reading_error(path, error) from error
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, OverflowError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise Damaged(f"{path} is damaged: {said}") from error


def _put(model: MTPTransformer, weights: dict[str, Tensor], path: Path) -> None:
    _check_tensors(weights, model.state_dict(), path)
    model.load_state_dict(weights)


def _check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raises Damaged unless names, shapes and dtypes equal those of `expected` and all values are finite."""
    odd = sorted(found.keys() ^ expected.keys())
    if odd:
        kind = "no" if odd[0] in expected else "an unknown"
        raise Damaged(f"{path} is damaged or of another model: it has {kind} tensor {odd[0][:80]}")
    for name, value in found.items():
        want = expected[name]
        if value.shape != want.shape or value.dtype != want.dtype:
            raise Damaged(f"{path} is damaged or of another model: {name} is {_kind(value)} instead of {_kind(want)}")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise Damaged(f"{path} is damaged: {name} holds values that are not finite")


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _optimizer_states(tensors: Mapping[str, Tensor], model: MTPTransformer, path: Path) -> dict[str, dict[str, Tensor]]:
    """The optimizer's state by parameter name. Raises Damaged where a state does not fit its parameter."""
    parameters = dict(model.named_parameters())
    states: dict[str, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        if not full.startswith("optimizer/"):
            continue
        name, _, key = full.removeprefix("optimizer/").rpartition("/")
        if name not in parameters or (value.ndim and value.shape != parameters[name].shape):
            raise Damaged(f"{path} is damaged or of another model: {full[:80]} fits no parameter")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise Damaged(f"{path} is damaged: {full[:80]} holds values that are not finite")
        states.setdefault(name, {})[key] = value
    if len({frozenset(state) for state in states.values()}) > 1:
        raise Damaged(f"{path} is damaged: parts of the optimizer's state are missing")
    return states


def _optimizer_tensors(model: MTPTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    # Replicas with one optimizer share its counter tensor, and safetensors rejects shared memory: hence the clone.
    return {
        f"optimizer/{name}/{key}": value.contiguous() if value.ndim else value.clone()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
