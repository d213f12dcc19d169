"""Title and explanation of each benchmark on the page. Other benchmarks get the docstring of their module."""

import ast
from pathlib import Path
from typing import NamedTuple


class Section(NamedTuple):
    """Title and explanation of one benchmark."""

    title: str
    text: str


SECTIONS = {
    "floors": Section(
        "Rates of the device",
        "Copying a tensor larger than any cache (bytes read plus bytes written), and multiplying two square matrices of random "
        "numbers in the precision of training. The other figures are compared with these rates.",
    ),
    "train_step": Section(
        "Training step against other code",
        "Tokens per second at n = 1, divided by the tokens per second of two baselines: a plain GPT of equal shape, and "
        "TransformerLens's own model. Tokens and optimizer are equal. Above 1 this project's step is faster.",
    ),
    "train_memory": Section(
        "Memory of training against other code",
        "Peak memory at n = 1 of weights, optimizer and steps, divided by that of the other model. Below 1 this project needs "
        "less.",
    ),
    "utilization": Section(
        "Use of the device in training",
        "Model FLOPs per second (forward and backward pass, causal attention counted as half) and the measured rate of "
        "matrix products. The percentages are the model FLOPs utilization (MFU).",
    ),
    "n_future_cost": Section(
        "Cost of further offsets",
        "Time of a training step with n offsets divided by that of a step with n = 1 and as many layers; where the table says "
        "so, also divided by the ratio of their FLOPs. At 1 the step costs what its arithmetic costs.",
    ),
    "loss_memory": Section(
        "Memory of the n-token loss",
        "Peak memory that a forward and backward pass adds, divided by its value at n = 1, with a large vocabulary and as many "
        "layers for every n. Head by head (per_head) the n-token loss should need as much as the next-token loss.",
    ),
    "optimizer_step": Section(
        "The optimizer",
        "AdamW's step moves 28 bytes per parameter; the figure shows the bytes per second that it reaches, and the measured "
        "copy rate. A CPU reads memory before it writes to it; the copy rate does not count these reads, and an update in "
        "place does not need them, so it can exceed the copy rate.",
    ),
    "replicas": Section(
        "Many models in one process",
        "Several models of one shape, usually several seeds, trained side by side, against one after another.",
    ),
    "task_speed": Section(
        "Task generators",
        "Tokens (for polynomials: expressions) generated per second, divided by the target rate for two CPU cores.",
    ),
    "data_share": Section(
        "Share of the data in a training step",
        "Time to draw a batch divided by the time of a training step of its preset.",
    ),
    "probe_overhead": Section(
        "Probes during training",
        "Time of all probes of the default schedule divided by the time of the training.",
    ),
    "decoding": Section(
        "Speculative decoding",
        "Time of plain cached decoding divided by that of self-speculative decoding of the same model: the speed-up for the "
        "same text.",
    ),
    "drafting": Section(
        "Ways of drafting",
        "Milliseconds per forward with each way of drafting from independent future heads, and without drafts.",
    ),
    "app_pages": Section(
        "The app",
        "Seconds from the start of the server to the first page, and from a click to the end of the rerun, with stored runs in "
        "the folder.",
    ),
}


def section_of(benchmark: str, module: str) -> Section:
    """The title and explanation of a benchmark; by default the first paragraph of its module's docstring."""
    if benchmark in SECTIONS:
        return SECTIONS[benchmark]
    path = Path(__file__).with_name(f"{module}.py")
    text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else ""
    return Section(benchmark.replace("_", " ").capitalize(), (text or "").split("\n\n")[0])
