"""A playground for multi-token prediction: train small n-token models on tasks with known answers, and inspect them.

>>> from playground import make_config, train
>>> run = train(make_config("induction-cpu", n_future=2))  # doctest: +SKIP
>>> run.metrics, run.attention, run.model()  # doctest: +SKIP

Names are loaded when first used, so that reading stored runs does not import torch.
"""

import sys

if sys.argv[:1] == ["-m"] and "playground" in sys.orig_argv:
    # `python -m playground` loads this file first. Until its main function catches signals, Ctrl-C ends the process without a
    # traceback; the default handler would raise KeyboardInterrupt inside the import system. `_signal` is the C module that
    # `signal` wraps: the enums of `signal` take milliseconds to build, in which Ctrl-C would still end in a traceback.
    signal = __import__("_signal")

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playground.analysis.compare import compare_run
    from playground.analysis.formation import formation
    from playground.config import BaseConfig, ClampConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
    from playground.generation.config import DecodingConfig, Sampling
    from playground.generation.generate import generate
    from playground.model.export import export_to_transformer_lens
    from playground.model.transformer import MTPTransformer
    from playground.probes.attention_scores import attention_patterns, attention_scores
    from playground.probes.knockout import knockout
    from playground.probes.rows import probe_batch
    from playground.running.base import make_config_on
    from playground.running.presets import make_config
    from playground.running.replicas import resume_many, train_many
    from playground.running.runner import resume, train
    from playground.runs.store import Run, list_runs, load_run
    from playground.training.evaluation import evaluate

__version__ = "0.1.0"

_MODULE_OF = {
    "BaseConfig": "playground.config",
    "ClampConfig": "playground.config",
    "ModelConfig": "playground.config",
    "OptimConfig": "playground.config",
    "RunConfig": "playground.config",
    "TrainConfig": "playground.config",
    "DecodingConfig": "playground.generation.config",
    "MTPTransformer": "playground.model.transformer",
    "Sampling": "playground.generation.config",
    "Run": "playground.runs.store",
    "attention_patterns": "playground.probes.attention_scores",
    "attention_scores": "playground.probes.attention_scores",
    "compare_run": "playground.analysis.compare",
    "evaluate": "playground.training.evaluation",
    "export_to_transformer_lens": "playground.model.export",
    "formation": "playground.analysis.formation",
    "generate": "playground.generation.generate",
    "knockout": "playground.probes.knockout",
    "list_runs": "playground.runs.store",
    "load_run": "playground.runs.store",
    "probe_batch": "playground.probes.rows",
    "make_config": "playground.running.presets",
    "make_config_on": "playground.running.base",
    "resume": "playground.running.runner",
    "resume_many": "playground.running.replicas",
    "train": "playground.running.runner",
    "train_many": "playground.running.replicas",
}

__all__ = [
    "BaseConfig",
    "ClampConfig",
    "DecodingConfig",
    "MTPTransformer",
    "ModelConfig",
    "OptimConfig",
    "Run",
    "RunConfig",
    "Sampling",
    "TrainConfig",
    "attention_patterns",
    "attention_scores",
    "compare_run",
    "evaluate",
    "export_to_transformer_lens",
    "formation",
    "generate",
    "knockout",
    "list_runs",
    "load_run",
    "make_config",
    "make_config_on",
    "probe_batch",
    "resume",
    "resume_many",
    "train",
    "train_many",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'playground' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
