"""Settings of one's own: any registered task with its own fields, any of the paper's sizes, and the model's basic numbers.

They start where `python -m playground train --task NAME` starts, and an impossible combination gives the same message.
"""

import dataclasses
from typing import Any, TypeVar

import streamlit as st

from playground.config import SIZES, ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.config.values import hints_of
from playground.ui.shared.fields import Bounds, field_help, field_widget
from playground.ui.shared.text import plain
from playground.ui.shared.words import TASKS, task_title
from tasks.config import TaskConfig, field_bounds

NO_SIZE = "custom"
BASIC = {ModelConfig: ("n_layers", "d_model", "n_heads"), OptimConfig: ("lr",), TrainConfig: ("batch_size",)}
"""The fields of a configuration's other parts that are offered."""
COLUMNS = 4
PartT = TypeVar("PartT")


def own_settings() -> tuple[RunConfig, str]:
    """Draw the widgets; returns the configuration, without n, seed and steps, and what is wrong with the chosen values.

    If they are impossible, the configuration is the last one that was possible, so that the rest of the form stays.
    """
    from tasks.registry import config_class, task_names

    left, right = st.columns(2)
    name = left.selectbox(
        "Task to train on",
        [*(name for name in task_names() if name not in TASKS), *TASKS],  # first those that have no preset
        format_func=lambda name: plain(task_title(name)),
        key="own-task",
        persist_state="session",
        help="Every task that is known: each file in the folder tasks is one. The guide *Add a task in one file* writes one.",
    )
    size = right.selectbox(
        "Model size",
        [NO_SIZE, *SIZES],
        key="own-size",
        persist_state="session",
        help="The sizes of the paper, by their number of parameters without embeddings. From 10M on a GPU is needed.",
    )
    task = config_class(name)()
    st.caption(plain((type(task).__doc__ or "").strip().partition("\n")[0]))
    sized = dataclasses.replace(ModelConfig(), **SIZES.get(size, {}))
    try:
        config = _configuration(name, size, task, sized)
    except _Impossible as error:
        usual = RunConfig(task=task, model=sized)
        return st.session_state.get(f"own-possible-{name}-{size}", usual), str(error)
    st.session_state[f"own-possible-{name}-{size}"] = config
    return config, ""


class _Impossible(ValueError):
    """What is wrong with the values of the widgets."""


def _configuration(name: str, size: str, task: TaskConfig, model: ModelConfig) -> RunConfig:
    """Draw the widgets of all parts, then build the parts, so that an error hides no widget. Raises _Impossible."""
    st.markdown("**The task**")
    bounds: dict[str, Bounds] = dict(field_bounds(task))
    of_task = _widgets(task, [item.name for item in dataclasses.fields(task)], f"own-{name}", bounds)
    st.markdown("**The model and its training**")
    parts: list[Any] = [model, OptimConfig(), TrainConfig()]
    chosen: list[dict[str, Any]] = []
    columns = st.columns(sum(map(len, BASIC.values())))
    for part in parts:
        names = BASIC[type(part)]
        known = {item.name: _bounds(item) for item in dataclasses.fields(part)}
        here, columns = columns[: len(names)], columns[len(names) :]
        chosen.append(_widgets(part, names, f"own-{size}", known, here))
    try:
        made = dataclasses.replace(task, **of_task)
        built = [dataclasses.replace(part, **values) for part, values in zip(parts, chosen, strict=True)]
        return RunConfig(task=made, model=built[0], optim=built[1], train=built[2])
    except ValueError as error:
        raise _Impossible(str(error)) from error


def _bounds(item: "dataclasses.Field[Any]") -> Bounds:
    return item.metadata.get("least"), item.metadata.get("most")


def _widgets(part: Any, names: Any, key: str, bounds: dict[str, Bounds], columns: Any = None) -> dict[str, Any]:
    """Draw the widgets of some fields of a configuration; returns the chosen values by name."""
    places = columns or st.columns(COLUMNS)
    items = {item.name: item for item in dataclasses.fields(part)}
    hints, descriptions = hints_of(type(part)), field_help(type(part))
    chosen: dict[str, Any] = {}
    for number, name in enumerate(names):
        with places[number % len(places)]:
            chosen[name] = field_widget(
                items[name],
                hints[name],
                getattr(part, name),
                key=f"{key}-{name}",
                description=descriptions.get(name, ""),
                bounds=bounds.get(name, (None, None)),
            )
    return chosen
