"""Heads, fifth view: switches that ablate heads, MLPs and layers, and the loss of accuracy without them."""

from collections.abc import Mapping

import numpy as np
import streamlit as st

from playground.figures.ablation import Limits, alone_figure, before_after_figure
from playground.figures.prediction_text import Predictions, predictions_html
from playground.results import AblationEffects, AblationMethod, AttentionScores, Head, layer_title, used_by
from playground.results.base import Paths
from playground.results.causal import CLEAR
from playground.runs.store import Run
from playground.ui.heads.attention import scores_at
from playground.ui.heads.choice import ChosenRow, choose_model, choose_row
from playground.ui.heads.figure import place_figure
from playground.ui.heads.models import (
    DRAWS,
    all_parts,
    has_mlps,
    predicted,
    random_sets,
    seconds_to_measure,
    test_rows,
    without,
)
from playground.ui.heads.stored import RunsOnPage, probe_history
from playground.ui.shared.charts import Look, chart, html_download
from playground.ui.shared.models import Loaded
from playground.ui.shared.text import plain
from playground.ui.shared.words import duration, plural

METHODS: tuple[AblationMethod, ...] = ("mean", "resample", "zero")
METHOD_HELP = (
    "What replaces an ablated part. **mean**: its mean over the rows, position by position. **resample**: its value on "
    "another row. **zero**: zero, which also removes what the part always adds, and so overstates the effect."
)
HELP = {
    "induction heads": f"At least {CLEAR} of the score on rows of the task, above the null band, and used by offset 1.",
    "previous-token heads": f"At least {CLEAR} of the score on rows of the task, above the null band.",
    "random others": "A control: as many heads as there are induction heads (or all that are left), of those in neither group.",
}
AT_ONCE = 1.0
"""`Each part alone` is measured automatically if it takes at most this many seconds, else on request."""


def ablation_view(shown: RunsOnPage) -> None:
    """Choose parts to ablate; shows accuracy, loss and predictions before and after."""
    found = choose_model(shown)
    if found is None:
        return
    run, step, loaded = found
    scores = scores_at(run, step, loaded)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        method: AblationMethod = st.segmented_control(
            "Replaced by",
            METHODS,
            default="mean",
            required=True,
            key="ablation-method",
            persist_state="session",
            help=METHOD_HELP,
        )
    parts = _switches(run, loaded, scores)
    look = _effect(run, loaded, scores, parts, method)
    st.subheader("Predictions on one row", anchor=False)
    row = choose_row(run, loaded)
    if row is not None:
        _predictions(loaded, row, parts, method)
    st.subheader("Each part alone", anchor=False)
    _alone(run, step, loaded, look)


def named_heads(scores: AttentionScores, n_future: int, paths: Paths = ()) -> dict[str, tuple[Head, ...]]:
    """Heads with a clear score of one kind that offset 1 depends on, classified as in playground/probes/knockout.py."""
    named = {"induction heads": used_by(scores.strongest("prefix_matching", CLEAR), 1, paths)}
    for k in range(2, n_future + 1):
        named[f"{k}-ahead heads"] = used_by(scores.strongest(f"ahead_{k}", CLEAR), k, paths)
    taken = {head for heads in named.values() for head in heads}
    previous = used_by(scores.strongest("previous_token", CLEAR), 1, paths)
    return named | {"previous-token heads": tuple(head for head in previous if head not in taken)}


def other_heads(scores: AttentionScores, n_future: int, offset: int, paths: Paths = ()) -> list[Head]:
    """Heads that an offset depends on and that are in no named group."""
    named = {head for heads in named_heads(scores, n_future, paths).values() for head in heads}
    return [head for head in used_by(scores.heads, offset, paths) if head not in named]


def _switches(run: Run, loaded: Loaded, scores: AttentionScores) -> tuple[str, ...]:
    """A row of switches for each layer; returns the components that are off, in the order of the layers."""
    st.markdown("**Take out**")
    _buttons(run, loaded, scores)
    chosen: list[str] = []
    for layer in dict.fromkeys(head.layer for head in scores.heads):
        heads = [head for head in scores.heads if head.layer == layer]
        names = [str(head) for head in heads]
        rest = [f"{layer}.mlp"] if has_mlps(loaded) else []
        labels = {str(head): head.short for head in heads} | {f"{layer}.mlp": "MLP", layer: "whole layer"}
        chosen += st.pills(
            plain(layer_title(layer)),
            [*names, *rest, layer],
            selection_mode="multi",
            format_func=lambda part, labels=labels: plain(labels[part]),
            key=_key(run, layer),
            persist_state="session",
        )
    return tuple(chosen)


def _buttons(run: Run, loaded: Loaded, scores: AttentionScores) -> None:
    n_future, paths = loaded.model.n_future, loaded.model.config.paths
    sets = named_heads(scores, n_future, paths)
    count = len(sets["induction heads"]) or 1
    others = other_heads(scores, n_future, 1, paths)
    drawn = random_sets(others, count, draws=1)
    sets |= {"random others": tuple(Head.parse(name) for names in drawn for name in names), "none": ()}

    def choose(heads: tuple[Head, ...]) -> None:
        for layer in dict.fromkeys(head.layer for head in scores.heads):
            st.session_state[_key(run, layer)] = [str(head) for head in heads if head.layer == layer]

    with st.container(horizontal=True, gap="small"):
        for name, heads in sets.items():
            st.button(
                plain(name) if name == "none" else f"{plain(name)} ({len(heads)})",
                key=f"ablate-{name}",
                on_click=choose,
                args=(heads,),
                disabled=not heads and name != "none",
                help=HELP.get(name),
            )


def _key(run: Run, layer: str) -> str:
    return f"ablate-{run.id}-{layer}"


def _effect(run: Run, loaded: Loaded, scores: AttentionScores, parts: tuple[str, ...], method: AblationMethod) -> Look:
    effect = without(loaded, (parts,), method)
    controls = _controls(loaded, scores, parts, method)
    rows = test_rows(loaded)
    st.caption(
        f"Teacher-forced on {len(rows.tokens)} rows of the test set; ± and whiskers are the standard deviation over "
        f"{plural(len(effect.clean_loss), 'batch', 'batches')} of them. {_control_text(parts, controls)}"
    )
    info = run.record.scores[0] if run.record.scores else None
    limits = Limits(chance=info.chance if info is not None and info.name.endswith("accuracy") else None)
    return place_figure(
        lambda style: before_after_figure(effect, controls=controls, limits=limits, style=style), "ablation"
    )


def _control_text(parts: tuple[str, ...], controls: Mapping[int, AblationEffects]) -> str:
    if not parts:
        return "Nothing is ablated: switch off heads above."
    if not controls:
        return "There is no control for this choice: no other heads are left, or MLPs are ablated too."
    return (
        f"Ticks: up to {DRAWS} draws of as many random other heads (fewer if not as many are left), of those that the "
        "offset uses and that are in no group. An effect beyond the ticks is due to the chosen heads."
    )


def _controls(
    loaded: Loaded, scores: AttentionScores, parts: tuple[str, ...], method: AblationMethod
) -> dict[int, AblationEffects]:
    """By offset, draws of as many random other heads that it depends on; none if MLPs or whole layers are ablated too."""
    heads = [head for head in scores.heads if str(head) in parts]
    found: dict[int, AblationEffects] = {}
    if len(heads) < len(parts):
        return found
    n_future, paths = loaded.model.n_future, loaded.model.config.paths
    for offset in range(1, n_future + 1):
        others = [head for head in other_heads(scores, n_future, offset, paths) if head not in heads]
        sets = random_sets(others, len(used_by(heads, offset, paths)))
        if sets:
            found[offset] = without(loaded, sets, method)
    return found


def _predictions(loaded: Loaded, row: ChosenRow, parts: tuple[str, ...], method: AblationMethod) -> None:
    before, after = (predicted(loaded, row.tokens, which, method, row.places, row.number) for which in ((), parts))
    shown = [
        Predictions(
            offset=offset,
            before=_at_target(before[offset - 1], offset),
            after=_at_target(after[offset - 1], offset),
            scored=np.array(row.scored[offset - 1], dtype=bool),
        )
        for offset in range(1, loaded.model.n_future + 1)
    ]
    used = sorted({int(token) for found in shown for token in (*found.before, *found.after) if token >= 0})
    names = dict(zip(used, loaded.task.token_strings(used), strict=True))
    st.html(predictions_html(np.array(row.tokens), row.strings, names, shown))


def _at_target(predictions: np.ndarray, offset: int) -> np.ndarray:
    """Predictions moved from the position that makes them to the position of the predicted token; -1 where there is none."""
    moved = np.full(len(predictions), -1, dtype=np.int64)
    moved[offset:] = predictions[: max(0, len(predictions) - offset)]
    return moved


def _alone(run: Run, step: int, loaded: Loaded, look: Look) -> None:
    """Bars for every part: stored by the probe `ablation`, or measured now if that is fast, else on request."""
    effects = _stored_alone(run, step) or _measured_alone(run, step, loaded)
    if effects is None:
        return
    offset = 1
    if loaded.model.n_future > 1:
        offset = st.segmented_control(
            "Offset",
            list(range(1, loaded.model.n_future + 1)),
            default=1,
            required=True,
            key=f"alone-offset-{run.id}",
            persist_state="session",
        )
    st.caption(
        f"Each bar is one part replaced by its mean, all others in place, step {step:,}; 0 is no change, whiskers are the "
        "standard deviation over batches. Parts with the same function can replace one another: then each alone costs little, "
        "and all of them together a lot."
    )
    figure = alone_figure(effects, offset or 1, style=look.style)
    chart(figure, "alone", look=look)
    html_download(lambda: figure, "alone")


def _stored_alone(run: Run, step: int) -> AblationEffects | None:
    history = probe_history(run, "ablation", AblationEffects)
    if history is None or step not in history.steps:
        return None
    return history.results[history.steps.index(step)]


def _measured_alone(run: Run, step: int, loaded: Loaded) -> AblationEffects | None:
    parts = all_parts(loaded)
    key = f"alone-{run.id}-{step}"
    expected = seconds_to_measure(loaded) * len(parts)
    if expected > AT_ONCE and not st.session_state.get(key):
        st.button(
            f"Measure {len(parts)} parts, one at a time (about {duration(expected)})",
            key=f"measure-{key}",
            on_click=lambda: st.session_state.update({key: True}),
        )
        return None
    with st.spinner("Measuring every part alone"):
        return without(loaded, parts, "mean")
