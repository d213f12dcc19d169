"""Every result goes to JSON and back, and into a table; what they compute of their own."""

import dataclasses
import inspect
import json
import math
from typing import Any, TypeVar

import numpy as np
import pytest
from typing_extensions import TypeAliasType

from playground import results
from playground.results import (
    AblationEffects,
    Acceptance,
    AttentionScores,
    Behaviour,
    Completions,
    Composition,
    Copying,
    DecodedRow,
    Decoding,
    DecodingSpeed,
    DecodingStep,
    Draft,
    Event,
    ExactMatch,
    Formation,
    GradientShares,
    Head,
    HeadPatching,
    InductionAfterAblation,
    Knockout,
    Lens,
    LensView,
    LinearProbes,
    MarginalAcceptance,
    OffsetAgreement,
    PathPatching,
    PositionPatching,
    Result,
    TokenCircuit,
    heads_of,
    history,
    layer_title,
    score_title,
)
from playground.results.base import measured_mean, measured_spread
from playground.results.restoring import restore

NAN = float("nan")
TRUNK = (Head("blocks.0", 0), Head("blocks.0", 1))
LATER = (Head("future_heads.0", 0), Head("future_heads.1", 1))
_random = np.random.default_rng(0)


def _some(*shape: int) -> np.ndarray:
    """Values of all sizes, with a NaN in a corner."""
    values = _random.normal(size=shape) * 10.0 ** _random.integers(-6, 6, size=shape)
    values.ravel()[-1:] = NAN
    return values


def _event(**changes: Any) -> Event:
    values = {"name": "induction", "subject": "blocks.0.1", "start": 0.05, "null": 0.1, "ceiling": NAN, "final": 0.9,
              "half": 1234, "t50": None, "t90": None, "seen": 99_999}  # fmt: skip
    return Event(**(values | changes))


DRAFTS = (Draft(token=7, offset=2, parent=-1, accepted=True), Draft(token=8, offset=3, parent=0, accepted=False))
STEPS = (DecodingStep(drafts=(), emitted=(5,)), DecodingStep(drafts=DRAFTS, emitted=(7, 3)))
DECODED = DecodedRow(prompt=(1, 2), tokens=(5, 7, 3), offsets=(1, 2, 1), steps=STEPS, ended="length")
ACCEPTANCE = Acceptance(offsets=(2, 3), accepted=np.array([1, 0]), tried=np.array([1, 1]))
MARGINAL = MarginalAcceptance(offsets=(2, 3), rate=_some(2), conditional=_some(2), count=99_999)

EXAMPLES: list[Result] = [
    AttentionScores(
        layers=("blocks.0", "future_heads.0", "future_heads.1"), rows_from="task", back=_some(4, 3, 2),
        duplicate_token=_some(3, 2), ahead=_some(6, 3, 2), null_back=_some(4, 3, 2), null_duplicate_token=_some(3, 2),
        null_ahead=_some(6, 3, 2),
    ),
    AblationEffects(
        components=("blocks.0.1", "blocks.0.attn + blocks.0.mlp"), method="mean", patterns="free", clean_loss=_some(3, 2),
        clean_accuracy=_some(3, 2), loss=_some(2, 3, 2), accuracy=_some(2, 3, 2),
    ),
    Behaviour(
        loss=_some(2), score_loss=_some(2), accuracy=_some(2), early=(1, 16), late=(48, 63), in_context=_some(2)
    ),
    ACCEPTANCE,
    Completions(
        windows=8, prompt_bytes=64, new_bytes=32, byte_share=0.25, chance=0.125, line_share=0.1, lines=20,
        first_line_share=0.2, first_lines=8, speculative=4, tokens_per_forward=NAN,
    ),
    Composition(
        senders=TRUNK, receivers=TRUNK + LATER, q=_some(2, 4), k=_some(2, 4), v=_some(2, 4), random=(0.1, 0.1, NAN),
        null_qk=_some(2, 4), null_v=_some(2, 4), strongest_qk=_some(4), strongest_v=_some(4),
    ),
    Copying(
        heads=TRUNK + LATER, direct_eigenvalues=_some(4), direct_top1=_some(4), via=LATER,
        through_eigenvalues=_some(4, 2), through_top1=_some(4, 2), chance_top1=1 / 64, direct_eigenvalues_null=_some(4),
        direct_top1_null=_some(4), through_eigenvalues_null=_some(4, 2), through_top1_null=_some(4, 2),
    ),
    DECODED,
    Decoding(decoded=(DECODED, DECODED), speculative=3, exact=True, prefill_seconds=0.01, decode_seconds=0.5),
    DecodingSpeed(
        speculative=3, nodes=3, prompts=4, batch=2, new_tokens=256, device="cpu", dtype="float32", cached=True,
        identical=None, gap=NAN, plain_seconds=np.array([2.0, 3.0]), speculative_seconds=np.array([1.0, 1.0]),
        plain_forwards=100, speculative_forwards=50, tokens_per_forward=2.0, acceptance=ACCEPTANCE, marginal=MARGINAL,
    ),
    *STEPS,
    *DRAFTS,
    _event(),
    ExactMatch(
        operations=(1, 2), share=_some(2), chance=_some(2), count=np.array([10, 20]), speculative=2, tokens_per_forward=1.5
    ),
    Formation(
        run="a-run", n_future=2, seed=1, main=(_event(), _event(name="K-composition", start=NAN)),
        heads=(_event(half=None), _event(t50=55)),
    ),
    GradientShares(share=_some(2), cosine=_some(2, 2), loss=_some(2)),
    HeadPatching(heads=TRUNK, offset=1, recovery=_some(3, 2), rows_given=4, rows_counted=3),
    InductionAfterAblation(ablated=TRUNK, heads=TRUNK + LATER, before=_some(4), after=_some(2, 4), null=_some(4)),
    Knockout(
        induction=LATER[:1], previous_token=(), others=TRUNK, accuracy=0.987654321, without_induction=0.1,
        without_induction_spread=0.01, without_previous=NAN, without_others=_some(3), n_control=1,
    ),
    Lens(sites=("embed", "blocks.0"), loss=_some(2, 3), accuracy=_some(2, 3), direct_loss=_some(2, 3), direct_accuracy=_some(2, 3)),
    LensView(
        sites=("embed", "blocks.0"), tokens=(3, 1, 4), through=np.arange(24).reshape(2, 2, 3, 2),
        probability=_some(2, 2, 3, 2), direct=np.arange(12).reshape(2, 3, 2), direct_probability=_some(2, 3, 2),
    ),
    LinearProbes(
        sites=("embed", "blocks.0"), targets=("token +1", "token +2"), accuracy=_some(2, 2), shuffled=_some(2, 2),
        baseline=_some(2), counted=np.array([1000, 2000]),
    ),
    MARGINAL,
    OffsetAgreement(agreement=_some(2), chance=_some(2), count=np.array([10, 20])),
    PathPatching(
        senders=TRUNK, receivers=LATER, offset=2, q=_some(2, 2), k=_some(2, 2), v=_some(2, 2), to_logits=_some(2)
    ),
    PositionPatching(
        sites=("hook_embed", "blocks.0.hook_resid_post"), offset=1, recovery=_some(2, 2, 3),
        roles=(("before source", "source", "query"), ("other", "source", "query")), clean_difference=_some(2),
        corrupted_difference=_some(2),
    ),
    TokenCircuit(name="embed -> blocks.0.1 OV -> unembed", matrix=_some(5, 5), top1=0.2, eigenvalues=-0.1),
]  # fmt: skip
every_result = pytest.mark.parametrize("result", EXAMPLES, ids=lambda result: type(result).__name__)


def test_the_examples_are_all_results_that_there_are():
    public = {value for value in vars(results).values() if inspect.isclass(value) and issubclass(value, Result)}
    assert {type(example) for example in EXAMPLES} == public - {Result} == _subclasses(Result)
    assert set(results.__all__) <= set(dir(results))


def _subclasses(cls: type) -> set[type]:
    found = set(cls.__subclasses__()).union(*(_subclasses(sub) for sub in cls.__subclasses__()))
    return {sub for sub in found if sub.__module__.startswith("playground.")}


def _same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=6e-5)
    elif isinstance(ours, Result):
        for item in dataclasses.fields(ours):
            _same(getattr(ours, item.name), getattr(theirs, item.name))
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs, strict=True):
            _same(*pair)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-7, nan_ok=True)
    else:
        assert ours == theirs


@every_result
def test_to_json_and_back(result):
    text = json.dumps(result.to_dict(), allow_nan=False)
    restored = type(result).from_dict(json.loads(text) | {"step": 3, "something": "else"})
    _same(restored, result)
    assert restored.to_dict() == result.to_dict()


PARTS = (Draft, DecodingStep, DecodedRow)
"""Parts of a Decoding, which has the table."""


@pytest.mark.parametrize(
    "result", [result for result in EXAMPLES if not isinstance(result, PARTS)], ids=lambda result: type(result).__name__
)
def test_all_rows_of_a_table_have_equal_keys_and_plain_values(result):
    rows = result.rows()
    assert rows
    for row in rows:
        assert list(row) == list(rows[0])
        assert all(value is None or type(value) in (str, int, float) for value in row.values())
    if result.sort_by:
        assert result.sort_by in rows[0]


@every_result
def test_a_result_is_frozen_and_a_missing_field_is_named(result):
    name = dataclasses.fields(result)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, name, None)
    values = result.to_dict()
    del values[name]
    with pytest.raises(ValueError, match=f"it has no '{name}'"):
        type(result).from_dict(values)


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "stored"), [
    (0.123456789, 0.12346), (-123456.789, -123460.0), (1e-12, 1e-12), (9.99999e-5, 0.0001), (0.0, 0.0), (1.0, 1.0),
    (1e-310, 0.0), (1e300, 1e300), (NAN, None), (float("inf"), None), (-float("inf"), None), (99999.5, 1e5),
])  # fmt: skip
def test_arrays_keep_five_significant_digits(value, stored):
    (written,) = GradientShares(share=np.array([value]), cosine=np.zeros((1, 1)), loss=np.zeros(1)).to_dict()["share"]
    assert written is None if stored is None else written == pytest.approx(stored, rel=1e-12)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (2, 0)])
def test_arrays_without_entries_keep_their_shape(shape):
    result = TokenCircuit(name="", matrix=np.zeros(shape), top1=0.0, eigenvalues=0.0)
    assert TokenCircuit.from_dict(json.loads(json.dumps(result.to_dict()))).matrix.shape == shape


def test_numbers_of_numpy_are_plain_when_stored():
    event = _event()
    for name, value in {"half": np.int64(7), "final": np.float64(0.5)}.items():
        object.__setattr__(event, name, value)
    values = event.to_dict()
    assert (type(values["half"]), type(values["final"])) == (int, float)


def test_means_and_spreads_of_what_was_measured():
    values = np.array([[1.0, NAN, 4.0], [3.0, NAN, NAN]])
    np.testing.assert_allclose(measured_mean(values, axis=0), [2, NAN, 4])
    np.testing.assert_allclose(measured_spread(values, axis=0), [1, NAN, 0])
    np.testing.assert_allclose(measured_mean(values, axis=1), [2.5, 3])
    np.testing.assert_allclose(measured_spread(values, axis=1), [1.5, 0])
    assert float(measured_mean(values)) == pytest.approx(8 / 3)
    assert math.isnan(measured_mean(np.array([])))


def test_a_history_is_read_from_stored_lines():
    example = EXAMPLES[0]
    found = history([{"step": step, "tokens": 10 * step} | example.to_dict() for step in (0, 5)], AttentionScores)
    assert (found.steps, found.tokens, len(found.results)) == ((0, 5), (0, 50), 2)
    _same(found.results[1], example)
    empty = history([], AttentionScores)
    assert empty.steps == empty.tokens == empty.results == ()


# --- heads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "title", "short"), [
    ("blocks.0.3", "trunk 0, head 3", "T0.3"), ("blocks.12.10", "trunk 12, head 10", "T12.10"),
    ("future_heads.0.3", "future head 1, head 3", "F1.3"), ("future_heads.10.0", "future head 11, head 0", "F11.0"),
])  # fmt: skip
def test_heads_by_name(name, title, short):
    head = Head.parse(name)
    assert (str(head), head.title, head.short) == (name, title, short)
    assert layer_title(head.layer) == title.partition(",")[0]


@pytest.mark.parametrize(
    "name", ["", "blocks.0", "blocks.0.", "blocks.a.1", "future_heads.0.1.2", "embed.0.1", "blocks.0.1 "]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"names no attention head; write layer and head, such as blocks\.1\.2"):
        Head.parse(name)


def test_heads_come_in_the_order_of_flattened_arrays():
    heads = heads_of(("blocks.0", "future_heads.0"), 2)
    assert [str(head) for head in heads] == ["blocks.0.0", "blocks.0.1", "future_heads.0.0", "future_heads.0.1"]


@pytest.mark.parametrize(("later", "earlier", "expected"), [
    ("blocks.1.0", "blocks.0.0", True), ("blocks.10.0", "blocks.9.1", True), ("blocks.0.0", "blocks.1.0", False),
    ("blocks.0.0", "blocks.0.1", False), ("future_heads.0.0", "blocks.7.0", True),
    ("future_heads.1.0", "future_heads.0.0", False), ("blocks.5.0", "future_heads.0.0", False),
])  # fmt: skip
def test_which_head_comes_after_which(later, earlier, expected):
    assert Head.parse(later).comes_after(Head.parse(earlier)) is expected


# --- attention scores -----------------------------------------------------------------------------------------------


def _scores() -> AttentionScores:
    """Two layers of two heads; `ahead_2` is NaN, as on rows without a target for it."""
    shape = (2, 2)
    ahead = np.stack([[[0.1, 0.6], [0.9, NAN]], np.full(shape, NAN)])
    return AttentionScores(
        layers=("blocks.0", "future_heads.0"), rows_from="task", ahead=ahead, null_ahead=np.full((2, *shape), 0.2),
        back=np.stack([np.full(shape, 0.5), np.full(shape, 0.25)]), null_back=np.full((2, *shape), NAN),
        duplicate_token=np.zeros(shape), null_duplicate_token=np.full(shape, 0.3),
    )  # fmt: skip


def test_scores_by_name():
    scores = _scores()
    assert scores.names == ("previous_token", "prefix_matching", "duplicate_token", "ahead_2", "back_2")
    assert scores.score("previous_token") is not None and scores.score("back_2")[0, 0] == 0.25
    np.testing.assert_array_equal(scores.score("prefix_matching"), scores.ahead[0])
    np.testing.assert_array_equal(scores.null("ahead_2"), scores.null_ahead[1])
    np.testing.assert_array_equal(scores.null("previous_token"), scores.null_previous_token)
    assert [score_title(name) for name in scores.names] == [
        "previous token", "induction", "duplicate token", "2-ahead induction", "2 back"]  # fmt: skip


@pytest.mark.parametrize("name", ["ahead_3", "back_0", "ideal", "layers", "induction", ""])
def test_an_unknown_score_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=rf"there is no score '{name}'; there are: previous_token, .*, back_2"):
        _scores().score(name)


def test_the_strongest_heads_are_above_the_limit_and_above_the_null_band():
    scores = _scores()
    names = lambda heads: [str(head) for head in heads]  # noqa: E731
    assert names(scores.strongest("prefix_matching")) == ["future_heads.0.0", "blocks.0.1"]
    assert names(scores.strongest("prefix_matching", least=0.7)) == ["future_heads.0.0"]
    assert scores.strongest("ahead_2") == scores.strongest("duplicate_token") == ()
    assert scores.strongest("previous_token") == ()  # no null band was measured


def test_the_table_of_scores_ends_with_null_band_and_ideal():
    scores = _scores()
    rows = scores.rows()
    assert [row["head"] for row in rows] == [*map(str, scores.heads), "null band (99%), largest", "ideal head"]
    assert (rows[0]["induction"], rows[-2]["induction"], rows[-1]["induction"]) == (0.1, 0.2, 1.0)
    assert math.isnan(rows[-2]["previous token"]) and math.isnan(rows[0]["2-ahead induction"])


# --- what the others compute ----------------------------------------------------------------------------------------


def test_knockout_drops():
    found = Knockout(
        induction=TRUNK[:1], previous_token=(), others=LATER, accuracy=0.9, without_induction=0.2,
        without_induction_spread=0.0, without_previous=0.9, without_others=np.array([0.8, 0.9, 0.7]), n_control=1,
    )  # fmt: skip
    assert found.drop == pytest.approx(0.7) and found.control_drop == pytest.approx(0.1)
    induction, previous, control = found.rows()
    assert (induction["heads"], previous["heads"], control["heads"]) == (
        "blocks.0.0",
        "none",
        "of future_heads.0.0 future_heads.1.1",
    )
    assert control["accuracy"] == pytest.approx(0.8) and control["worst draw"] == pytest.approx(0.2)


def test_formation_shows_main_events_and_heads_that_got_half_way():
    found = next(example for example in EXAMPLES if isinstance(example, Formation))
    assert [row["t50"] for row in found.rows()] == [None, None, 55]
    assert found.event("K-composition") is found.main[1] and found.event("nothing") is None
    assert {row["run"] for row in found.rows()} == {"a-run"}


def test_only_heads_that_come_after_the_ablated_one_are_in_the_table():
    found = next(example for example in EXAMPLES if isinstance(example, InductionAfterAblation))
    assert {(row["ablated"], row["head"]) for row in found.rows()} == {
        (str(ablated), str(head)) for ablated in TRUNK for head in LATER
    }


Element = TypeVar("Element", bound=np.generic)
Alias = TypeAliasType("Alias", np.ndarray[Any, np.dtype[Element]], type_params=(Element,))


def test_an_array_is_read_under_a_named_alias_of_its_type():
    """As NDArray is one from numpy 2.5 on."""
    found = restore([1, 2], Alias[np.float64], lambda value, cls: value)
    assert found.tolist() == [1.0, 2.0] and found.dtype == np.float64


def test_composition_that_was_stored_with_one_band_for_all_pairs_is_read_with_it():
    k = np.array([[NAN, 0.03], [NAN, 0.01]])
    values = {"senders": ["blocks.0.0", "blocks.0.1"], "receivers": ["blocks.0.0", "future_heads.0.0"],
              "q": k.tolist(), "k": [[None, 0.03], [None, 0.01]], "v": [[None, 0.0]] * 2, "random": [0.1] * 3,
              "null": [0.01, 0.02, 0.03]}  # fmt: skip
    found = Composition.from_dict(json.loads(json.dumps(values).replace("NaN", "null")))
    assert not found.rotated and found.sizes == {"sender": 2, "receiver": 2}
    for kind, band in (("q", 0.01), ("k", 0.02), ("v", 0.03)):
        np.testing.assert_array_equal(found.band(kind), [[NAN, band]] * 2)
    assert np.isnan(found.band_of_strongest("k")).all()
    assert [row["K null 99%"] for row in found.rows()] == [0.02, 0.02]
    assert Composition.from_dict(found.to_dict()).null == (0.01, 0.02, 0.03)
    with pytest.raises(ValueError, match="its null_qk has 1 entries for sender in place of 2"):
        Composition.from_dict(values | {"q": [[None, 0.03]] * 2, "null_qk": [[0.1, 0.1]]})
