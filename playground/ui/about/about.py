"""About: what n-token prediction is, the words used here, and what to try first."""

import streamlit as st

from playground.figures.architecture import architecture_figure
from playground.ui.shared.charts import chart
from playground.ui.shared.words import CONTROL_HELP, plural

TRAIN, COMPARE, HEADS, LENS = (f"playground/ui/{name}/{name}.py" for name in ("train", "compare", "heads", "lens"))
N_LAYERS = 5
WORDS = {
    "n": "How many tokens a model learns to predict at every position. n = 1 is ordinary next-token training.",
    "offset": "How far ahead a prediction lies: offset 1 is the next token, offset 2 the one after it.",
    "trunk": "The layers that all offsets share. They read the tokens so far, once.",
    "future head": "One transformer layer that takes the trunk's output and predicts one offset. There are n of them, side "
    "by side. At inference all but the first can be dropped.",
    "head": "An attention head, inside a layer: it decides which earlier tokens a position looks at.",
    "control": CONTROL_HELP,
    "induction head": "An attention head that finds the earlier occurrence of the current token and looks at what came "
    "after it. With it a model repeats what it has seen once.",
    "chance and ceiling": "What a guess reaches that needs nothing of the thing measured, such as one among the tokens of the "
    "row, and what a perfect model reaches. A model that has not even learned to guess so is below chance.",
    "previous-token head": "An attention head that looks at the token before. An induction head in a later layer reads there "
    "what came before each token, and so finds the place it needs.",
    "k-ahead head": "Like an induction head, but it looks k tokens after the earlier occurrence, as offset k needs.",
    "composition": "How much of what one head writes a later head reads, as its query (Q), key (K) or value (V).",
    "ablation": "Taking a head's output out of the model, by putting its mean in its place, to see what depended on it.",
    "null band": "What a head's score reaches by accident: its 99th percentile when the targets are moved.",
    "t50": "Training tokens until a score has gone half of the way from chance to ceiling, for good.",
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
        "Why that happens is open. One guess: to foresee the token after next, a model must pass information along "
        "from earlier tokens, which is what an induction head does. This playground trains models small enough to watch "
        "while they learn, on tasks whose answers are known, and sets n-token beside next-token training."
    )


def _what_to_try() -> None:
    st.subheader("What to try first", anchor=False)
    st.markdown(
        "**1.** Train on the task Induction, as it is preset: a next-token and a 2-token model, a minute or two."
    )
    st.page_link(TRAIN, label="Go to Train", icon=":material/play_arrow:")
    st.markdown("**2.** See which one learned to repeat first, and what each offset's loss did.")
    st.page_link(COMPARE, label="Go to Compare", icon=":material/stacked_line_chart:")
    st.markdown(
        "**3.** See when each head formed, read what the strongest induction head looks at, and switch it off: what does "
        "the model no longer know?"
    )
    st.page_link(HEADS, label="Go to Heads", icon=":material/grid_view:")
    st.markdown(
        "**4.** Read the model layer by layer: where does the next token, and the one after it, become readable?"
    )
    st.page_link(LENS, label="Go to Lens", icon=":material/layers:")


def _architecture() -> None:
    st.subheader("The architecture", anchor=False)
    left, right = st.columns(2)
    n_future = left.slider("n", 1, 4, 2, key="about-n")
    control = right.segmented_control(
        "Control", ["layers", "trunk"], default="layers", required=True, key="about-control", help=CONTROL_HELP
    )
    from playground.config import ModelConfig

    config = ModelConfig(n_layers=N_LAYERS, n_future=n_future, control="trunk" if control == "trunk" else "layers")
    figure = architecture_figure(n_future=n_future, n_trunk_layers=config.n_trunk_layers)
    chart(figure, "architecture", alt="Tokens flow through the trunk into n future heads, which share one unembedding.")
    st.caption(
        f"{plural(config.n_trunk_layers, 'trunk layer')} and {plural(n_future, 'future head')}; the next token is "
        f"{plural(config.next_token_depth, 'layer')} away from the input. After figure 1 of the paper. "
        "Models under the controls flops and detached have the shape of trunk."
    )


main()
