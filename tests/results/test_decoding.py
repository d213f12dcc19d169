"""What results of decoding compute: tokens per forward, acceptance, speed-ups, and their tables. By hand."""

import math

import numpy as np
import pytest

from playground.results import (
    Acceptance,
    Completions,
    DecodedRow,
    Decoding,
    DecodingSpeed,
    DecodingStep,
    Draft,
    ExactMatch,
    MarginalAcceptance,
)
from playground.results.decoding import acceptance

NAN = float("nan")


def step(*accepted: bool, emitted: tuple[int, ...] | None = None) -> DecodingStep:
    """A forward whose chain of drafts was accepted so."""
    drafts = tuple(
        Draft(token=9, offset=2 + index, parent=index - 1, accepted=each) for index, each in enumerate(accepted)
    )
    return DecodingStep(drafts=drafts, emitted=emitted or (9,) * (1 + sum(accepted)))


def row(*steps: DecodingStep, tokens: tuple[int, ...]) -> DecodedRow:
    return DecodedRow(prompt=(0,), tokens=tokens, offsets=(1,) * len(tokens), steps=steps, ended="length")


def decoding(*rows: DecodedRow, seconds: float = 2.0, speculative: int = 3) -> Decoding:
    return Decoding(decoded=rows, speculative=speculative, exact=True, prefill_seconds=9.0, decode_seconds=seconds)


TWO_ROWS = decoding(
    row(step(), step(True, True), step(True, False), tokens=(1, 2, 3, 4, 5)),  # the last forward emits one too many
    row(step(), step(False, False), tokens=(1, 2)),
)


def test_tokens_per_forward_and_second_leave_the_prefill_out():
    assert [(row.forwards, row.emitted) for row in TWO_ROWS.decoded] == [(2, 5), (1, 1)]
    assert TWO_ROWS.tokens_per_forward == 6 / 3
    assert TWO_ROWS.tokens_per_second == (4 + 1) / 2
    assert TWO_ROWS.rows() == [
        {"row": 0, "new tokens": 5, "forwards": 2, "tokens per forward": 2.5, "ended": "length"},
        {"row": 1, "new tokens": 2, "forwards": 1, "tokens per forward": 1.0, "ended": "length"},
    ]


def test_where_the_prefill_was_all_there_is_nothing_to_divide_by():
    only = decoding(row(step(), tokens=(1,)), seconds=0.0)
    assert math.isnan(only.tokens_per_forward) and math.isnan(only.tokens_per_second)
    assert only.rows()[0]["tokens per forward"] is None
    assert np.isnan(only.acceptance.conditional).all() and only.acceptance.predicted_tokens_per_forward == 1


def test_acceptance_is_conditional_on_the_drafts_before():
    found = TWO_ROWS.acceptance
    assert (found.offsets, found.accepted.tolist(), found.tried.tolist()) == ((2, 3), [2, 1], [3, 2])
    np.testing.assert_allclose(found.conditional, [2 / 3, 1 / 2])
    assert found.predicted_tokens_per_forward == pytest.approx(1 + 2 / 3 + 1 / 3)
    assert found.rows()[1] == {"offset": 3, "accepted": 1, "tried": 2, "conditional acceptance": 0.5}


def test_without_drafts_there_is_no_acceptance():
    found = acceptance([step(), step()], 1)
    assert (found.offsets, found.accepted.shape, found.predicted_tokens_per_forward, found.rows()) == (
        (),
        (0,),
        1.0,
        [],
    )


def test_of_a_tree_an_offset_counts_once_a_forward_and_only_behind_accepted_drafts():
    """Two candidates of offset 2, the second right; behind the first two of offset 3, behind the second one."""

    def tree(second: bool, last: bool) -> DecodingStep:
        values = [(2, -1, False), (2, -1, second), (3, 0, False), (3, 0, False), (3, 1, last)]
        drafts = [Draft(token=1, offset=offset, parent=parent, accepted=each) for offset, parent, each in values]
        return DecodingStep(drafts=tuple(drafts), emitted=(1,) * (1 + second + last))

    found = acceptance([tree(True, True), tree(True, False), tree(False, False)], 3)
    assert (found.accepted.tolist(), found.tried.tolist()) == ([2, 1], [3, 2])


@pytest.mark.parametrize(
    ("accepted", "tried", "expected"),
    [
        ([8, 4], [10, 8], 2.2),
        ([0, 0], [10, 0], 1.0),
        ([10, 10], [10, 10], 3.0),
        ([0, 0], [0, 0], 1.0),
        ([5], [10], 1.5),
    ],
)
def test_predicted_tokens_per_forward(accepted, tried, expected):
    offsets = tuple(range(2, 2 + len(tried)))
    found = Acceptance(offsets=offsets, accepted=np.array(accepted), tried=np.array(tried))
    assert found.predicted_tokens_per_forward == pytest.approx(expected)
    assert [line["conditional acceptance"] is None for line in found.rows()] == [count == 0 for count in tried]


@pytest.mark.parametrize("emitted", [(), (1,), (1, 2, 3)])
def test_a_forward_emits_its_accepted_drafts_and_one_token(emitted):
    with pytest.raises(ValueError, match="emits the accepted drafts and one more token"):
        DecodingStep(drafts=step(True, False).drafts, emitted=emitted)


def test_marginal_acceptance_in_a_table():
    found = MarginalAcceptance(offsets=(2, 3), rate=np.array([0.5, 0.25]), conditional=np.array([0.5, 0.75]), count=8)
    assert found.rows()[1] == {"offset": 3, "marginal acceptance": 0.25, "conditional acceptance": 0.75}


# --- speed ----------------------------------------------------------------------------------------------------------


def speed(**changes) -> DecodingSpeed:
    values = {
        "speculative": 3, "nodes": 3, "prompts": 4, "batch": 2, "new_tokens": 256, "device": "cpu", "dtype": "float32",
        "cached": True, "identical": True, "gap": NAN, "plain_seconds": np.array([4.0, 6.0, 5.0]),
        "speculative_seconds": np.array([2.0, 2.0, 5.0]), "plain_forwards": 100, "speculative_forwards": 40,
        "tokens_per_forward": 2.4, "acceptance": TWO_ROWS.acceptance,
        "marginal": MarginalAcceptance(offsets=(2, 3, 4), rate=np.array([0.5, 0.3, NAN]), conditional=np.zeros(3), count=9),
    }  # fmt: skip
    return DecodingSpeed(**(values | changes))


def test_speed_up_is_of_medians_and_its_spread_of_neighbours():
    found = speed()
    assert (found.speedup, found.spread) == (5 / 2, (1.0, 3.0))
    assert (found.plain_seconds_per_forward, found.speculative_seconds_per_forward) == (0.05, 0.05)
    assert found.speedup_by_parts == pytest.approx(2.4)


def test_the_speed_up_by_parts_is_the_measured_one_where_all_tokens_of_all_forwards_are_wanted():
    """An identity and no prediction: plain forwards are as many as tokens."""
    for seconds in (0.5, 2.0, 17.0):
        found = speed(tokens_per_forward=100 / 40, speculative_seconds=np.full(3, seconds))
        assert found.speedup_by_parts == pytest.approx(found.speedup)
    (line,) = found.rows()
    assert line["by parts"] == found.speedup_by_parts
    assert found.summary()["speedup_by_parts"] == pytest.approx(found.speedup_by_parts)
    assert not any("predicted" in name for name in line)


@pytest.mark.parametrize(("identical", "shown"), [(True, "yes"), (False, "NO"), (None, None)])
def test_the_line_of_a_speed(identical, shown):
    (line,) = speed(identical=identical).rows()
    assert (line["same"], line["conditional"], line["marginal"]) == (shown, "67 50", "50 30")
    assert (line["ms"], line["spread"], line["speed-up"]) == (pytest.approx(50), "1.00-3.00", 2.5)


def test_nothing_decoded_behind_the_prefill_has_no_speed():
    nothing = np.zeros(1)
    found = speed(plain_seconds=nothing, speculative_seconds=nothing, plain_forwards=0, speculative_forwards=0)
    assert math.isnan(found.speedup) and math.isnan(found.speedup_by_parts)
    summary = found.summary()
    assert (summary["speedup"], summary["spread"]) == (None, [None, None])


def test_the_summary_has_what_is_computed_and_reads_back():
    summary = speed().summary()
    assert (summary["speedup"], summary["spread"], summary["conditional_acceptance"]) == (
        2.5,
        [1, 3],
        [pytest.approx(2 / 3), 0.5],
    )
    assert DecodingSpeed.from_dict(summary).to_dict() == speed().to_dict()


def test_tables_of_quality():
    match = ExactMatch(
        operations=(1, 2),
        share=np.array([1.0, 0.5]),
        chance=np.array([0.1, 0.2]),
        count=np.array([3, 4]),
        speculative=2,
        tokens_per_forward=1.5,
    )
    assert match.rows()[1] == {"operations": 2, "expressions": 4, "exact match": 0.5, "chance": 0.2}
    found = Completions(
        windows=3,
        prompt_bytes=9,
        new_bytes=5,
        byte_share=0.25,
        chance=0.1,
        line_share=0.5,
        lines=4,
        first_line_share=0.75,
        first_lines=3,
        speculative=2,
        tokens_per_forward=1.5,
    )
    assert [(line["of"], line["share"], line["chance"]) for line in found.rows()] == [
        (15, 0.25, 0.1),
        (4, 0.5, None),
        (3, 0.75, None),
    ]
