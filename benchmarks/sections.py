"""What the page says of each benchmark: a title, and how to read its figure. Any other has its module's docstring."""

import ast
from pathlib import Path
from typing import NamedTuple


class Section(NamedTuple):
    """Words of one benchmark."""

    title: str
    text: str


SECTIONS = {
    "floors": Section(
        "What the device can do",
        "Copying a tensor larger than any cache (bytes read plus bytes written), and multiplying two square matrices of random "
        "numbers in the precision of training. The other figures are drawn beside these rates.",
    ),
    "train_step": Section(
        "Training step against other code",
        "Tokens a second at n = 1 over those of a plain GPT of the same shape and of TransformerLens's own model, on the same "
        "tokens with the same optimizer. Above 1 this project's step is the faster one.",
    ),
    "train_memory": Section(
        "Memory of training against other code",
        "Peak memory at n = 1 of weights, optimizer and steps, over that of the other model. Below 1 this project takes less.",
    ),
    "utilization": Section(
        "Use of the device in training",
        "Model FLOPs a second (forward and backward pass, causal attention counted as half) beside the measured rate of "
        "matrix products. The percentages are the model FLOPs utilization (MFU).",
    ),
    "n_future_cost": Section(
        "What further offsets cost",
        "A training step with n offsets over one with n = 1 and as many layers: its time, divided by how many more FLOPs it "
        "takes where the table says so. At 1 it costs what its arithmetic costs.",
    ),
    "loss_memory": Section(
        "Memory of the n-token loss",
        "What a forward and backward pass adds at its peak, over the same at n = 1, at a large vocabulary and with as many "
        "layers for every n. Head by head (per_head) the n-token loss should take what the next-token loss takes.",
    ),
    "optimizer_step": Section(
        "The optimizer",
        "AdamW's step moves 28 bytes a parameter; shown is how many bytes a second it reaches, beside the measured copy rate. "
        "A CPU reads memory before it writes to it: a copy pays for that without its being counted, an update in place does "
        "not, and can exceed the rate of copying.",
    ),
    "replicas": Section(
        "Many models in one process",
        "Several models of one shape, usually seeds, trained side by side, against training them one after another.",
    ),
    "task_speed": Section(
        "Task generators",
        "Tokens (for polynomials expressions) generated a second, over the rate wanted of two CPU cores.",
    ),
    "data_share": Section(
        "Time of the data in a training step",
        "Seconds of drawing a batch over seconds of a training step of its preset.",
    ),
    "probe_overhead": Section(
        "Probes along training",
        "Seconds of all probes of the default schedule over seconds of the training they look into.",
    ),
    "decoding": Section(
        "Speculative decoding",
        "Plain cached decoding over self-speculative decoding of the same model: how many times as fast the same text comes.",
    ),
    "drafting": Section(
        "Ways of drafting",
        "Milliseconds of a forward with each way of drafting from independent future heads, and without.",
    ),
    "app_pages": Section(
        "The app",
        "Seconds until the first page is drawn after the server is started, and from a click to the end of the rerun, with "
        "stored runs in the folder.",
    ),
}


def section_of(benchmark: str, module: str) -> Section:
    """The words of a benchmark; where there are none, the first paragraph of its module's docstring."""
    if benchmark in SECTIONS:
        return SECTIONS[benchmark]
    path = Path(__file__).with_name(f"{module}.py")
    text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else ""
    return Section(benchmark.replace("_", " ").capitalize(), (text or "").split("\n\n")[0])
