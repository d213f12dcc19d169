"""Compare: stored runs of one task together: score, loss of each offset, half-way crossing, a table, downloads."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st

from playground.analysis.claims import best_rate_note, best_rates, control_notes, rate_note, several_rates
from playground.analysis.groups import Group, counted_runs
from playground.figures.crossing import Crossing, median_bounds
from playground.figures.curves import MOST_LINES
from playground.figures.means import MOST_PARTS, X
from playground.figures.scores import readable
from playground.runs.record import default_runs_dir
from playground.runs.store import Run, read_store
from playground.text import visible
from playground.ui.compare.comparisons import comparison, metrics_csv, shown_table, table_csv
from playground.ui.compare.figures import (
    CLIPPING,
    Chosen,
    draw_bits,
    draw_clipping,
    draw_crossings,
    draw_losses,
    draw_operations,
    draw_score,
    failed_seeds,
    score_infos,
)
from playground.ui.shared.charts import Look, chart, choose_look, html_download
from playground.ui.shared.empty import no_rows, no_runs
from playground.ui.shared.guard import guarded
from playground.ui.shared.selection import choose_filters, choose_task, experiments_of, groups_of
from playground.ui.shared.system_view import stored_system
from playground.ui.shared.text import MOST, plain
from playground.ui.shared.words import plural, short

Draw = Callable[[], go.Figure | None]
MOST_REASONS = 3
MOST_NAMED = 4
ENOUGH_SEEDS = 8
"""Seeds that a claim needs: a 95% interval of the median needs six times, and some runs never cross."""


BEST_RATE = (
    "Of the learning rates that a model was trained at, the one with the earliest median t50 over seeds; if no rate has a "
    "median, the one with the best mean score. Only seeds that ended at all rates count; a failed one counts as the worst."
)


def main() -> None:
    """Draw the page."""
    st.title("Compare")
    st.markdown("Next-token training (n = 1) compared with n-token training: what each learned, and when.")
    store = read_store(default_runs_dir(), lenient=True)
    if not store.runs:
        no_runs(store, "This page compares runs.")
        return
    task = choose_task(store)
    of_task = [run for run in store.runs if run.record.task == task]
    runs = choose_filters(of_task).keep(of_task)
    if not runs:
        st.info("No run passes these filters; remove one of them.", icon=":material/filter_alt_off:")
        return
    groups = groups_of(runs)
    runs.sort(key=lambda run: (run.record.n_future, groups[run.id].control, groups[run.id].variant, run.record.seed))
    runs, groups = _at_best_rates(runs, groups)
    chosen = Chosen(runs=runs, groups=groups, counted=counted_runs([run.record for run in runs], groups))
    _verdict(chosen)
    if any(len(run.read_metrics()) for run in runs):
        _figures(chosen, task)
    else:
        no_rows(runs, "stored a measurement")
    _table(chosen)
    _left_out(runs)
    stored_system(runs, groups)
    _failed(runs)


def _at_best_rates(runs: list[Run], groups: Mapping[str, Group]) -> tuple[list[Run], Mapping[str, Group]]:
    """If a model was trained at several learning rates, offer to show only each model's best rate."""
    experiments = experiments_of(runs)
    if not several_rates(experiments):
        return runs, groups
    if not st.toggle("Each model at its best learning rate", key="best-rates", persist_state="session", help=BEST_RATE):
        return runs, groups
    kept = best_rates(experiments, {run.id: comparison(run) for run in runs})
    st.caption(plain(best_rate_note(experiments, kept), 2000))
    best = [run for run in runs if run.id in kept]
    return best, groups_of(best)


def _verdict(chosen: Chosen) -> None:
    """The comparison in one sentence per model."""
    found = chosen.crossings
    info = next(iter(score_infos(chosen.runs).values()), None)
    if info is None or not found:
        return
    aim = info.chance + 0.5 * (info.ceiling - info.chance)
    lines = [
        f"Half way from chance ({info.chance:.3g}) to {'ceiling' if info.higher_is_better else 'floor'} "
        f"({info.ceiling:.3g}) in **{plain(readable(info.name))}**, that is {aim:.3g} ({plain(info.unit)}), "
        "is crossed and not left again:"
    ]
    failed = failed_seeds(chosen)
    for label in dict.fromkeys(item.label for item in found):
        line = _verdict_line(label, [item for item in found if item.label == label])
        lines.append(line + _not_counted(failed.get(label, [])))
    st.markdown("\n".join(lines))
    st.caption(" ".join(plain(note, 1000) for note in _rests_on(chosen)))


def _rests_on(chosen: Chosen) -> list[str]:
    """Sentences on the controls and learning rates of the counted runs, and on the conclusions that these allow."""
    counted = [run for run in chosen.runs if run.id in chosen.counted]
    flops = [run.record for run in counted if run.record.control == "flops" and run.record.n_future > 1]
    notes = control_notes(chosen.groups[run.id] for run in counted)
    if flops:
        steps = sorted({(record.n_future, record.steps) for record in flops})
        notes.append(f"Under flops {', '.join(f'n = {n} took {count:,} steps' for n, count in steps)}.")
    return [*notes, *filter(None, [rate_note(experiments_of(counted))])]


def _not_counted(failed: Sequence[int]) -> str:
    """The failed seeds, in words: leaving them out without a word would make the other seeds look better."""
    if not failed:
        return ""
    more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    names = f"{', '.join(map(str, failed[:MOST_NAMED]))}{more}"
    return (
        f"; seed {names} failed and is not counted"
        if len(failed) == 1
        else f"; seeds {names} failed and are not counted"
    )


def _verdict_line(label: str, group: Sequence[Crossing]) -> str:
    """When the runs of a model got half way; a run that has not is only known to need more than its own tokens."""
    (low, high), name = median_bounds(group), plain(label)
    missed = [item for item in group if item.tokens is None]
    several = len(group) > 1
    seeds = f"{len(group) - len(missed)} of {plural(len(group), 'seed')} got there" if several else "1 seed"
    if high is not None:
        between = short(low) if short(low) == short(high) else f"{short(low)} to {short(high)}"
        found = f"after **{between} tokens** ({'median, ' if several else ''}{seeds})"
    elif len(missed) == len(group):
        found = f"not reached within {_seen(missed)} tokens"
    else:
        found = (
            f"the median is more than **{short(low)} tokens** ({seeds}; the others not within {_seen(missed)} tokens)"
        )
    running = sum(item.running for item in missed)
    return f"- **{name}**: {found}" + (f"; {running} of them still in training" if running else "")


def _seen(missed: Sequence[Crossing]) -> str:
    """Tokens seen by runs, from the fewest to the most."""
    fewest, most = (short(end(item.seen for item in missed)) for end in (min, max))
    return most if fewest == most else f"{fewest} to {most}"


@st.fragment
@guarded
def _figures(chosen: Chosen, task: str) -> None:
    """The figures and their controls, as a fragment: changing an axis reruns neither the tables nor the verdict."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        axis = st.segmented_control(
            "Horizontal axis", ["tokens", "steps"], default="tokens", required=True, key="axis", persist_state="session"
        )
        look = choose_look()
    st.caption(_bands(chosen))
    x = "step" if axis == "steps" else "tokens"
    infos = score_infos(chosen.runs)
    if infos:
        name = next(iter(infos))
        if len(infos) > 1:
            name = (
                st.selectbox(
                    "Score", list(infos), format_func=lambda name: visible(readable(name), MOST), key=f"score-{task}"
                )
                or name
            )
        _section("Score", lambda: draw_score(chosen, name, x, look.style), f"{task}-{name}", look)
    _section("Exact match by number of operations", lambda: draw_operations(chosen, look.style), f"{task}-by-m", look)
    _section(
        "Tokens to half way (t50)",
        lambda: draw_crossings(chosen.crossings, look.style),
        f"{task}-t50",
        look,
        "One dot per run; an open arrow is a run that has not got there yet and needs more tokens than that. The bar is the "
        "median over seeds.",
    )
    if task == "bytes":
        _section("Bits per byte, per offset", lambda: draw_bits(chosen, x, look.style), f"{task}-bits", look)
    _losses(chosen, task, x, look)
    _clipping(chosen, task, x, look)


def _clipping(chosen: Chosen, task: str, x: X, look: Look) -> None:
    stored = [what for what, name in CLIPPING.items() if any(name in run.columns for run in chosen.runs)]
    if not stored:  # older runs have no share of clipped steps
        return
    what = (
        st.segmented_control(
            "Gradients", stored, default=stored[0], required=True, key="gradients", persist_state="session"
        )
        or stored[0]
    )
    _section(
        "Clipping",
        lambda: draw_clipping(chosen, what, x, look.style),
        f"{task}-{CLIPPING[what]}",
        look,
        "A gradient larger than clip is scaled down to it. The sum over more offsets is larger and is scaled down more often: "
        "--clip-by next_token compares only the next token's part of the gradient with clip.",
    )


def _losses(chosen: Chosen, task: str, x: str, look: Look) -> None:
    on = st.segmented_control(
        "Loss on",
        ["test set", "training batches"],
        default="test set",
        required=True,
        key="loss-on",
        persist_state="session",
    )
    kind = "train" if on == "training batches" else "eval"
    _section(
        "Loss per offset",
        lambda: draw_losses(chosen, kind, "step" if x == "step" else "tokens", look.style),
        f"{task}-loss-{kind}",
        look,
        "Offset 1 is the next token; only models with n at least k predict offset k.",
    )


def _section(title: str, draw: Draw, name: str, look: Look, says: str = "") -> None:
    """A figure under its title, with its download; nothing if there is nothing to draw."""
    figure = draw()
    if figure is None:
        return
    st.subheader(title, anchor=False)
    if says:
        st.caption(says)
    chart(figure, name, look=look)
    html_download(lambda: figure, name)


def _table(chosen: Chosen) -> None:
    rows = [comparison(run) for run in chosen.runs]
    st.subheader("Runs", anchor=False)
    st.dataframe(
        shown_table(rows, chosen.groups),
        hide_index=True,
        key="table",
        column_config={
            "score": st.column_config.NumberColumn(format="%.4f", help="Headline score: final, or newest so far."),
            "t50 (tokens)": st.column_config.TextColumn(help="Tokens to half way from chance to ceiling."),
            "t50 (FLOPs)": st.column_config.TextColumn(help="Model FLOPs of training up to there."),
            "t50 (seconds)": st.column_config.TextColumn(
                help="Seconds of training up to there, on the run's own machine."
            ),
            "clipped": st.column_config.NumberColumn(
                format="percent", help="Share of steps whose gradient was scaled down to clip."
            ),
            "parameters": st.column_config.NumberColumn(format="localized", help="All of them, embeddings included."),
            "next-token depth": st.column_config.NumberColumn(help="Layers between the embedding and the next token."),
            "tokens/s": st.column_config.NumberColumn(format="localized", help="Input tokens a second of training."),
            "tokens seen": st.column_config.NumberColumn(format="compact"),
        },
    )
    with st.container(horizontal=True):
        st.download_button(
            "Table as CSV", lambda: table_csv(rows), "runs.csv", "text/csv", on_click="ignore", key="csv-table"
        )
        st.download_button(
            "All measurements as CSV",
            lambda: metrics_csv(chosen.runs),
            "measurements.csv",
            "text/csv",
            on_click="ignore",
            key="csv-metrics",
        )


def _bands(chosen: Chosen) -> str:
    """Explains lines and bands of the curves, and lists the models with few seeds."""
    seeds = chosen.seeds()
    early = Counter(
        chosen.groups[run.id].label
        for run in chosen.runs
        if run.id in chosen.averaged and run.record.state not in ("finished", "running")
    )
    several = max(seeds.values()) > 1
    few = [(label, count) for label, count in seeds.items() if count < ENOUGH_SEEDS]
    notes: list[str] = []
    if several:
        notes.append(
            "Thin lines are single seeds, bold lines their mean; a band is the 95% t interval of the mean over seeds at each "
            "point. It assumes normally distributed values: where a run either learns or does not, look at the single seeds."
        )
    if chosen.most_lines() > MOST_LINES:
        notes.append(
            f"At most {MOST_LINES} single seeds of a model are drawn as lines, spread evenly over all of them; means, "
            "bands, t50 and the tables use all seeds."
        )
    if few:
        counts = "; ".join(f"{plain(label)}: {count}" for label, count in few[:MOST_NAMED])
        more = f"; and {len(few) - MOST_NAMED} more" if len(few) > MOST_NAMED else ""
        here = f"{plural(few[0][1], 'seed')} here" if len(set(seeds.values())) == 1 else f"Few seeds ({counts}{more})"
        notes.append(f"{here}: a claim needs at least {ENOUGH_SEEDS}.")
    if early:
        notes.append(
            "A cross marks where a seed ended early; from there on the mean is a thinner line over the remaining seeds. "
            "Such runs do not count for t50, unless there are no others."
        )
    if max(early.values(), default=0) > MOST_PARTS:
        notes.append(
            f"Of more than {MOST_PARTS} seeds that ended early, several may be dropped from the mean at one step."
        )
    return " ".join(notes)


def _left_out(runs: Sequence[Run]) -> None:
    """Lists the stored measurements that cannot be read, and so are in no figure."""
    problems = [f"{run.id}: {problem}" for run in runs for problem in run.problems_without_probes]
    for problem in problems[:MOST_REASONS]:
        st.caption(plain(problem))
    if len(problems) > MOST_REASONS:
        st.caption(
            f"and {plural(len(problems) - MOST_REASONS, 'more file')} that can be read only in part or not at all"
        )


def _failed(runs: Sequence[Run]) -> None:
    """Lists the runs that failed."""
    notes: list[str] = []
    failed = [run for run in runs if run.record.state == "failed"]
    for run in failed[:MOST_REASONS]:
        notes.append(f"{plain(run.id)} failed: {plain(run.record.reason or 'no reason was stored')}.")
    if notes:
        st.caption(" ".join(notes))


main()
