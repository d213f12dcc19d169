"""The form for a training: a preset or any task with its settings, list of n, seeds, control, steps, and the estimate."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import streamlit as st

from playground.config import Control, ModelConfig, RunConfig
from playground.running.cores import cores
from playground.running.presets import Preset
from playground.runs.record import RunRecord
from playground.runs.store import Run
from playground.ui.shared.text import plain
from playground.ui.shared.words import CONTROL_HELP, TASKS, plural, task_title
from playground.ui.train.estimate import Plan, estimate, guessed_pace
from playground.ui.train.memory import memory_text, too_large
from playground.ui.train.own import own_settings

READY, OWN = "A preset", "Any task, with its settings"
CHOICES_OF_N = (1, 2, 3, 4, 8)
MOST_SEEDS = 64
MOST_NAMED = 4


def train_form(presets: Mapping[str, Preset], runs: Sequence[Run]) -> Plan | None:
    """Draw the form. If the button was pressed, returns the plan without models that `runs` have already trained, else None."""
    from playground.running.presets import make_config

    configs = {name: make_config(name) for name in presets}
    problem = ""
    if _choose_start() == OWN:
        config, problem = own_settings()
        name, pace = f"own-{config.task.name}", _guess(config, presets.values())
    else:
        name = _choose_preset(configs)
        config, pace = configs[name], presets[name].seconds_per_step
        st.caption(plain(presets[name].summary))
    plan = _choose_rest(name, config)
    problem = problem or _problem(plan)
    if problem:
        st.warning(plain(problem), icon=":material/warning:")
    elif not plan.n_futures:
        st.info("Choose at least one n.", icon=":material/info:")
    else:
        plan = _without_stored(plan, runs)
    models = 0 if problem else len(plan.left)
    if models:
        st.markdown(_estimate_text(plan, pace, [run.record for run in runs]))
    label = f"Train {plural(models, 'model')}" if models else "Train"
    pressed = st.button(label, type="primary", key="train", icon=":material/play_arrow:", disabled=not models)
    return plan if pressed else None


def _choose_start() -> str:
    return (
        st.segmented_control(
            "Start from",
            [READY, OWN],
            default=READY,
            key="start-from",
            required=True,
            persist_state="session",
            help="A preset is a task with a model and a learning rate that fit together: the best start. The other choice "
            "offers every task, your own ones too, with all its settings and any size of model.",
        )
        or READY
    )


def _problem(plan: Plan) -> str:
    """Why the plan is impossible; empty for a possible one. Presets are trusted to fit into memory."""
    try:
        configs = plan.configs
    except ValueError as error:
        return str(error)
    return too_large(configs, _device()) if plan.config.preset is None else ""


def _guess(config: RunConfig, presets: Iterable[Preset]) -> float:
    """Seconds per step of a configuration that no preset is."""
    kind = "-gpu" if _has_gpu() else "-cpu"
    known = [(preset.build(), preset.seconds_per_step) for preset in presets if preset.name.endswith(kind)]
    return guessed_pace(config, known)


def _choose_preset(configs: Mapping[str, RunConfig]) -> str:
    by_task: dict[str, list[str]] = {}
    for name, config in configs.items():
        by_task.setdefault(config.task.name, []).append(name)
    ordered = [task for task in TASKS if task in by_task] + [task for task in by_task if task not in TASKS]
    left, right = st.columns(2)
    with left:
        task = st.segmented_control(
            "Task",
            ordered,
            default=ordered[0],
            format_func=lambda name: plain(task_title(name)),
            key="task",
            required=True,
            bind="query-params",
        )
    names = by_task[task or ordered[0]]
    with right:
        preset = st.segmented_control(
            "Preset",
            names,
            default=names[0],
            format_func=plain,
            key=f"preset-{task}",
            required=True,
            persist_state="session",
            help="Task, model size and learning rate that fit together. -cpu presets take minutes on a laptop, "
            "-gpu presets have the paper's sizes.",
        )
    return preset or names[0]


def _choose_rest(preset: str, config: RunConfig) -> Plan:
    n_column, seeds_column, control_column, steps_column = st.columns([5, 4, 8, 4])
    with control_column:
        control = (
            st.segmented_control(
                "Control",
                ["layers", "trunk", "flops", "detached"],
                default=config.model.control,
                key=f"control-{preset}",
                required=True,
                persist_state="session",
                help=CONTROL_HELP,
            )
            or config.model.control
        )
    possible = [n for n in CHOICES_OF_N if _is_possible(config.model, n, cast(Control, control))]
    usual = (1, 2) if config.model.n_future == 1 else (config.model.n_future,)
    with n_column:
        n_futures = st.pills(
            "Tokens to predict, n",
            possible,
            selection_mode="multi",
            default=[n for n in usual if n in possible],
            key=f"n-{preset}-{control}",
            persist_state="session",
            help="n = 1 is ordinary next-token training. Each n is trained as a model of its own."
            + (
                ""
                if len(possible) == len(CHOICES_OF_N)
                else f" This model has {config.model.n_layers} layers; a larger n needs the control trunk."
            ),
        )
    with seeds_column:
        seeds = int(
            st.number_input(
                "Seeds",
                1,
                MOST_SEEDS,
                1,
                key="seeds",
                persist_state="session",
                help="Models of each n, with other initial weights and other data. A claim needs at least 8. "
                "The estimate above the button includes them.",
            )
        )
    with steps_column:
        steps = int(
            st.number_input(
                "Steps",
                1,
                None,
                config.train.steps,
                100,
                key=f"steps-{preset}",
                persist_state="session",
                help=f"{config.train.batch_size} rows of {config.task.n_ctx} tokens each.",
            )
        )
    if len(possible) == 1:
        st.caption(
            f"{plural(config.model.n_layers, 'layer')} hold n = {possible[0]} alone: each further token takes a layer. For a "
            "larger n write a larger n_layers, or choose the control trunk."
        )
    first, parallel, objective = _more(preset, config.train.objective, seeds * len(n_futures))
    train = dataclasses.replace(config.train, objective=objective)
    return Plan(
        config=dataclasses.replace(config, train=train),
        n_futures=tuple(sorted(n_futures)),
        seeds=tuple(range(first, first + seeds)),
        control=cast(Control, control),
        steps=steps,
        parallel=parallel,
    )


def _without_stored(plan: Plan, runs: Sequence[Run]) -> Plan:
    """The plan without models that finished runs have trained (unless trained again on purpose); the page lists these runs."""
    from playground.running.existing import find_existing

    pairs = plan.left
    found = find_existing(plan.configs, runs)
    if not found:
        return plan
    names = [plain(name) for name in found.values()][:MOST_NAMED]
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    st.markdown(
        f"{plural(len(found), 'model')} of {len(pairs)} "
        f"{'is' if len(found) == 1 else 'are'} already trained, as {', '.join(names)}{more}: pages show the stored runs."
    )
    if st.checkbox(
        "Train them again", key="again", help="Each is stored as a run of its own; the existing run is kept."
    ):
        return plan
    return dataclasses.replace(plan, stored=frozenset(pairs[place] for place in found))


def _is_possible(model: ModelConfig, n_future: int, control: Control) -> bool:
    try:
        dataclasses.replace(model, n_future=n_future, control=control)
    except ValueError:
        return False
    return True


def _more(preset: str, objective: str, models: int) -> tuple[int, int, str]:
    """Controls for the first seed, the number of parallel trainings and the objective."""
    from playground.training.objectives.registry import describe_objectives, objective_names

    usual = 1 if preset.endswith("-gpu") else cores()
    with st.expander("More settings"):
        left, right = st.columns(2)
        first = left.number_input(
            "First seed",
            0,
            None,
            0,
            key="first-seed",
            persist_state="session",
            help="To add seeds to those already trained, start after the last of them.",
        )
        parallel = right.number_input(
            "Trainings side by side",
            1,
            64,
            usual,
            key=f"parallel-{preset}",
            persist_state="session",
            help=f"This machine has {plural(cores(), 'CPU core')} for the app; small models train fastest with one core each.",
        )
        names = objective_names()
        chosen = st.selectbox(
            "Objective",
            names,
            names.index(objective),
            format_func=plain,
            key=f"objective-{preset}",
            persist_state="session",
            help=plain("  \n".join(describe_objectives())),
        )
    return int(first), max(1, min(int(parallel), models)), chosen or objective


def _estimate_text(plan: Plan, pace: float, records: Sequence[RunRecord]) -> str:
    device, config = _device(), plan.config
    expected = estimate(plan, records, seconds_per_step=pace, n_layers=config.model.n_layers, device=device)
    if config.preset is None:
        return f"{expected.text()} {memory_text(plan.configs, device)}"
    if config.preset.endswith("-gpu") and device == "cpu":
        return f"This preset is made for a GPU, and none was found here: expect **many hours**. {expected.text()}"
    return expected.text()


def _device() -> str:
    return "cuda" if _has_gpu() else "cpu"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
