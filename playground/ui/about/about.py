"""About: what n-token prediction is, a glossary, and what to try first."""

import streamlit as st

from playground.config.future_heads import HeadDescription
from playground.figures.architecture import architecture_figure
from playground.ui.shared.charts import chart
from playground.ui.shared.text import plain
from playground.ui.shared.words import CONTROL_HELP, plural

TRAIN, COMPARE, HEADS, PROBES, LENS = (
    f"playground/ui/{name}/{name}.py" for name in ("train", "compare", "heads", "probes", "lens")
)
N_LAYERS = 5
WORDS = {
    "n": "How many tokens a model learns to predict at every position. n = 1 is ordinary next-token training.",
    "offset": "How far ahead a prediction lies: offset 1 is the next token, offset 2 the one after it.",
    "trunk": "The layers that all offsets share. They read the tokens so far, once.",
    "future head": "One transformer layer that takes the trunk's output and predicts one offset. There are n of them, side "
    "by side. At inference all but the first can be dropped.",
    "head": "An attention head, inside a layer: it decides which earlier tokens a position attends to.",
    "control": CONTROL_HELP,
    "induction head": "An attention head that finds the earlier occurrence of the current token and attends to the token that "
    "followed it. With it a model can repeat a sequence that it has seen once.",
    "chance and ceiling": "Chance is the score of a guess without the measured ability, such as a random token of the row; the "
    "ceiling is the score of a perfect model. A model that has not yet learned to guess like this is below chance.",
    "previous-token head": "An attention head that attends to the token before. An induction head in a later layer reads its "
    "output, which token came before each position, and so finds the earlier occurrence.",
    "k-ahead head": "Like an induction head, but it attends to the k-th token after the earlier occurrence, as offset k needs.",
    "composition": "How much of the output of one head a later head reads, as its query (Q), key (K) or value (V).",
    "ablation": "Removing a head's output from the model, by replacing it with its mean, to see what depends on it.",
    "null band": "The score that a head reaches by chance: the 99th percentile of its score when the targets are moved.",
    "t50": "Training tokens until a score is half of the way from chance to ceiling, and stays there.",
}


def main() -> None:
    """Draw the page."""
    st.title("About")
    text, drawing = st.columns([5, 4], gap="large")
    with text:
        _what_it_is()
        _what_to_try()
    with drawing:
        _architecture()
    st.subheader("Words", anchor=False)
    for word, meaning in WORDS.items():
        st.markdown(f"**{word}**: {meaning}")


def _what_it_is() -> None:
    st.subheader("What n-token prediction is", anchor=False)
    st.markdown(
        "A language model usually learns to predict the next token. *Better & Faster Large Language Models via "
        "Multi-token Prediction* (Gloeckle et al. 2024, [arXiv 2404.19737](https://arxiv.org/abs/2404.19737)) lets it "
        "predict the next **n** tokens at once: from every position, n small output modules each guess one token "
        "further ahead, and all their losses are added up. The paper finds that models trained this way get better at "
        "copying and at step-by-step problems, and can write several tokens per step."
    )
    st.markdown(
        "Why that happens is an open question. One hypothesis: to predict the token after next, a model must carry information "
        "from earlier tokens forward, which is what an induction head does. This playground trains small models on tasks whose "
        "answers are known, shows what forms inside them while they learn, and compares n-token with next-token training."
    )


def _what_to_try() -> None:
    st.subheader("What to try first", anchor=False)
    st.markdown(
        "**1.** Train on the task Induction with its preset settings: a next-token and a 2-token model, a minute or two."
    )
    st.page_link(TRAIN, label="Go to Train", icon=":material/play_arrow:")
    st.markdown("**2.** See which model learned to repeat first, and how the loss of each offset changed.")
    st.page_link(COMPARE, label="Go to Compare", icon=":material/stacked_line_chart:")
    st.markdown(
        "**3.** See when each head formed and what the strongest induction head attends to. Then switch it off: what can the "
        "model no longer predict?"
    )
    st.page_link(HEADS, label="Go to Heads", icon=":material/grid_view:")
    st.markdown(
        "**4.** Read the model layer by layer: after which layer can the next token, and the one after it, be predicted?"
    )
    st.page_link(LENS, label="Go to Lens", icon=":material/layers:")
    st.markdown(
        "**5.** Put any other measurement of two models side by side: composition, copying, patching, linear probes."
    )
    st.page_link(PROBES, label="Go to Probes", icon=":material/biotech:")


def _architecture() -> None:
    st.subheader("The architecture", anchor=False)
    left, right = st.columns(2)
    n_future = left.slider("n", 1, 4, 2, key="about-n")
    control = right.segmented_control(
        "Control", ["layers", "trunk"], default="layers", required=True, key="about-control", help=CONTROL_HELP
    )
    from playground.config import ModelConfig, future_head_names

    names = future_head_names()
    usual = ModelConfig().future_heads
    name = st.selectbox("Future heads", names, names.index(usual), format_func=plain, key="about-heads")
    config = ModelConfig(
        n_layers=N_LAYERS,
        n_future=n_future,
        control="trunk" if control == "trunk" else "layers",
        future_heads=name,
    )
    kind = config.head_type
    modules = [kind.module(index) for index in range(n_future)]
    figure = architecture_figure(
        n_future=n_future,
        n_trunk_layers=config.n_trunk_layers,
        paths=config.paths,
        notes=[_note(module) if name != usual else "" for module in modules],
    )
    st.caption(plain(f"{kind.summary} {kind.source}."))
    chart(figure, "architecture", alt="Tokens flow through the trunk into n future heads, which share one unembedding.")
    st.caption(
        f"{plural(config.n_trunk_layers, 'trunk layer')} and {plural(n_future, 'future head')}; the next token is "
        f"{plural(config.next_token_depth, 'layer')} away from the input. After figure 1 of the paper. "
        "Models under the controls flops and detached have the shape of trunk."
    )


def _note(module: HeadDescription) -> str:
    """What a future head is, for the drawing."""
    what = "layer" if module.has_attention else "no attention"
    return f"{what}, reads x<sub>t+{module.reads_ahead}</sub>" if module.reads_ahead else what


main()
