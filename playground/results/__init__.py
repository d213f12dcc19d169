"""Frozen numpy results: the data that probes return, runs store and figures draw. Imports neither torch nor Streamlit."""

from playground.results.attention import AttentionHistory, AttentionScores, score_title
from playground.results.base import Head, History, Result, Row, heads_of, history, layer_title, used_by
from playground.results.behaviour import Behaviour, ScoreInfo
from playground.results.causal import AblationEffects, AblationMethod, InductionAfterAblation, Knockout
from playground.results.circuits import Composition, Copying, TokenCircuit
from playground.results.decoding import Acceptance, DecodedRow, Decoding, DecodingStep, Draft, MarginalAcceptance
from playground.results.decoding_speed import Completions, DecodingSpeed, ExactMatch
from playground.results.formation import Event, Formation
from playground.results.offsets import GradientShares, Lens, LensView, LinearProbes, OffsetAgreement
from playground.results.patching import HeadPatching, PathPatching, PositionPatching

__all__ = [
    "AblationEffects",
    "AblationMethod",
    "Acceptance",
    "AttentionHistory",
    "AttentionScores",
    "Behaviour",
    "Completions",
    "Composition",
    "Copying",
    "DecodedRow",
    "Decoding",
    "DecodingSpeed",
    "DecodingStep",
    "Draft",
    "Event",
    "ExactMatch",
    "Formation",
    "GradientShares",
    "Head",
    "HeadPatching",
    "History",
    "InductionAfterAblation",
    "Knockout",
    "Lens",
    "LensView",
    "LinearProbes",
    "MarginalAcceptance",
    "OffsetAgreement",
    "PathPatching",
    "PositionPatching",
    "Result",
    "Row",
    "ScoreInfo",
    "TokenCircuit",
    "heads_of",
    "history",
    "layer_title",
    "score_title",
    "used_by",
]
