"""Linear probes on streams whose content is known, with the n-gram baseline and the control beside them."""

import numpy as np
import pytest
import torch

from playground.probes.linear import (
    LinearProbe,
    ProbeTarget,
    counted_rows,
    linear_probes,
    linear_rows,
    token_targets,
    value_targets,
)
from playground.results import LinearProbes
from tasks.base import Batch, seeded_generator
from tasks.induction import Induction, InductionConfig
from tasks.polynomial import Polynomial, PolynomialConfig
from tasks.targets import IGNORED, future_targets
from tests.cases import MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace

SMALL_RING = PolynomialConfig(prime=3, coefficients=2, test_operations=5, n_ctx=64, test_per_m=60, quick_per_m=10)


def _sets(d_vocab: int = 11, rows: int = 60) -> tuple[Batch, Batch]:
    train, test = (make_batch(random_tokens(rows=rows, d_vocab=d_vocab, seed=seed)) for seed in (1, 2))
    return train, test


def _target(name: str, sets: tuple[Batch, Batch], labels) -> ProbeTarget:
    return ProbeTarget(name=name, train=labels(sets[0].tokens), test=labels(sets[1].tokens))


class _Writer:
    """A hook that adds to each row's stream what belongs to it; rows come in their order, a part at a time."""

    def __init__(self, tokens: torch.Tensor, what: torch.Tensor) -> None:
        self.rows, self.what, self.next = len(tokens), what, 0

    def __call__(self, resid: torch.Tensor, hook: object) -> torch.Tensor:
        first, self.next = self.next, (self.next + len(resid)) % self.rows
        return resid + 5 * self.what[first : first + len(resid)]


def test_a_linearly_encoded_token_is_read_and_shuffled_labels_are_not():
    """The current token stands in the embedding, and stays in the stream of a model whose layers add little.

    On shuffled labels a probe reads some other token for each token: chance is one token in 48 that is read right.
    """
    model, sets = small_model(n_layers=4, n_future=2, d_model=64, d_vocab=48), _sets(d_vocab=48, rows=150)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".attn." in name or ".mlp." in name:
                parameter.mul_(0.1)
    target = _target("current token", sets, lambda tokens: tokens)
    result = linear_probes(model, *sets, seeded_generator(0), [target])
    assert result.sites == ("embed", "blocks.0", "blocks.1", "future_heads.0", "future_heads.1")
    assert result.targets == ("current token",)
    assert result.accuracy.tolist() == [[1.0]] * 5
    assert result.baseline.tolist() == [1.0]
    assert (result.shuffled <= 4 / 48).all()


def test_what_only_a_layer_has_computed_is_read_behind_it_and_beyond_the_n_gram():
    """A hook in place of a trunk layer writes the token five before, which neither embedding nor trigram knows."""
    model, sets = small_model(n_layers=4, n_future=2), _sets(d_vocab=4, rows=200)

    def before(tokens):
        return torch.where(torch.arange(12) >= 5, tokens.roll(5, dims=1), IGNORED)

    tokens = torch.cat([batch.tokens for batch in sets])
    one_hot = torch.nn.functional.one_hot(before(tokens).clamp(min=0), 16)
    model.blocks[1].hook_resid_post.add_hook(_Writer(tokens, one_hot.float()))
    result = linear_probes(model, *sets, seeded_generator(0), [_target("5 before", sets, before)])
    accuracy = dict(zip(result.sites, result.accuracy[:, 0].tolist(), strict=True))
    assert accuracy["blocks.1"] == accuracy["future_heads.0"] == 1.0
    assert abs(accuracy["embed"] - 0.25) < 0.06
    assert abs(result.baseline[0] - 0.25) < 0.06
    assert (np.abs(result.shuffled - 0.25) < 0.1).all()


def test_tokens_ahead_on_a_chain_are_read_from_the_embedding_as_the_n_gram_does():
    following = torch.tensor([3, 0, 4, 2, 1])
    columns = [torch.arange(5).repeat(8)]
    for _ in range(11):
        columns.append(following[columns[-1]])
    batch = make_batch(torch.stack(columns, dim=1))
    result = linear_probes(small_model(), batch, batch, seeded_generator(0))
    assert result.targets == ("token +1", "token +2", "token +3", "token +4")
    assert (result.accuracy[0] == 1.0).all() and (result.baseline == 1.0).all()


def _trigram_chain(rows: int, seed: int, d_vocab: int = 16, sure: float = 0.7) -> Batch:
    """Rows in which the last three tokens decide the next one in 70 of 100 cases, and otherwise it is any."""
    successor = torch.randint(d_vocab, (d_vocab**3,), generator=seeded_generator(0))
    generator = seeded_generator(seed)
    tokens = torch.randint(d_vocab, (rows, 32), generator=generator)
    is_sure = torch.rand(tokens.shape, generator=generator) < sure
    for t in range(3, 32):
        decided = successor[(tokens[:, t - 3] * d_vocab + tokens[:, t - 2]) * d_vocab + tokens[:, t - 1]]
        tokens[:, t] = torch.where(is_sure[:, t], decided, tokens[:, t])
    return make_batch(tokens)


def test_the_n_gram_counted_on_many_samples_is_as_good_as_is_known():
    """0.7 + 0.3 / 16 where three tokens decide; on the rows that probes are trained on each context occurs once."""
    train, test, counted = _trigram_chain(140, 1), _trigram_chain(160, 2), _trigram_chain(10_000, 3)

    def targets(*counted: Batch) -> tuple[ProbeTarget, ...]:
        found = token_targets(train, test, 1, *counted)
        for target in found:
            target.test[:, :2] = IGNORED  # fewer than three tokens
        return found

    few = LinearProbe(train, test, targets(), seeded_generator(0))
    many = LinearProbe(train, test, targets(counted), seeded_generator(0), counted)
    assert many.baseline[0] == pytest.approx(0.7 + 0.3 / 16, abs=0.02)
    assert few.baseline[0] < 0.6
    assert (few.counted[0], many.counted[0]) == (140 * 31, 10_000 * 31)


def test_the_result_says_how_many_positions_the_n_gram_is_counted_on():
    task = Induction(InductionConfig(n_ctx=32, d_vocab=11, max_distance=16))
    sets, counted = linear_rows(task, positions=64), counted_rows(task, seeded_generator(3), 1 << 11)
    assert counted.tokens.shape == (64, 32)
    assert torch.equal(counted.tokens, task.sample(64, seeded_generator(3)).tokens)
    model = small_model(d_vocab=11, n_ctx=32)
    found = linear_probes(model, *sets, seeded_generator(0), counted=counted)
    assert found.counted.tolist() == [64 * (32 - ahead) for ahead in (1, 2, 3, 4)]
    assert found.note == "n-gram counted on 1,792 to 1,984 positions"
    assert found.rows()[0]["counted on"] == 1984
    before = LinearProbes.from_dict({name: value for name, value in found.to_dict().items() if name != "counted"})
    assert before.counted is None and "too low" in before.note


def test_counted_rows_need_their_labels():
    train, test = _sets(rows=10)
    for counted, targets in ((train, token_targets(train, test, 1)), (None, token_targets(train, test, 1, train))):
        with pytest.raises(ValueError, match=r"write token_targets\(\.\., counted=counted\)"):
            LinearProbe(train, test, targets, seeded_generator(0), counted)


def test_targets_never_cross_documents():
    documents = torch.tensor([0] * 5 + [1] * 6 + [-1]).expand(60, -1)
    train, test = (make_batch(random_tokens(rows=60, seed=seed), documents=documents) for seed in (1, 2))
    for ahead, target in enumerate(token_targets(train, test, 4), start=1):
        assert torch.equal(target.train, future_targets(train, ahead))
        assert torch.equal(target.test, future_targets(test, ahead))
        assert (target.train != IGNORED).sum() == 60 * (5 - ahead + 6 - ahead)


@pytest.mark.parametrize("options", MODEL_OPTIONS[::3])
def test_streams_are_gathered_in_order_in_several_parts(options):
    """More rows than go through the model at once, and labels at some positions only, against the whole at once."""
    model, sets = small_model(n_future=2, **options), _sets(rows=150)
    probe = LinearProbe(
        *sets, [_target("some", sets, lambda tokens: tokens.masked_fill(tokens > 3, IGNORED))], seeded_generator(0)
    )
    streams, where = probe._train.streams(model), sets[0].tokens <= 3
    with torch.no_grad():
        z = model.trunk(sets[0].tokens)
        assert torch.allclose(streams["blocks.0"], z[where], atol=1e-5)
        assert torch.allclose(streams["future_heads.1"], model.future_resid(z, 2)[where], atol=1e-5)
    assert torch.equal(probe._train.labels[0], sets[0].tokens[where])


def test_the_control_has_the_same_labels_in_another_order_and_repeats_exactly():
    sets = _sets()
    targets = token_targets(*sets, 2)
    first, second, other = (LinearProbe(*sets, targets, seeded_generator(seed)) for seed in (0, 0, 1))
    for own, shuffled in zip(first._train.labels, first._shuffled, strict=True):
        assert not torch.equal(own, shuffled)
        assert torch.equal(own.sort().values, shuffled.sort().values)
        assert torch.equal(own == IGNORED, shuffled == IGNORED)
    assert not torch.equal(first._shuffled[0], other._shuffled[0])
    model = small_model()
    results = [probe(model) for probe in (first, first, second)]
    for result in results[1:]:
        assert np.array_equal(result.accuracy, results[0].accuracy)
        assert np.array_equal(result.shuffled, results[0].shuffled)


def test_as_many_tokens_ahead_as_the_model_predicts_and_none_where_rows_are_too_short():
    sets = tuple(make_batch(random_tokens(rows=20, length=6, seed=seed)) for seed in (1, 2))
    model = small_model(n_layers=1, control="trunk", n_future=8)
    result = linear_probes(model, *sets, seeded_generator(0))
    assert result.sites == ("embed", *(f"future_heads.{index}" for index in range(8)))
    assert result.accuracy.shape == (9, 8)
    assert np.isfinite(result.accuracy[:, :5]).all() and np.isfinite(result.baseline[:5]).all()
    assert np.isnan(result.accuracy[:, 5:]).all() and np.isnan(result.baseline[5:]).all()
    restored = LinearProbes.from_dict(result.to_dict())
    assert restored.targets == result.targets and len(restored.rows()) == 72


def test_nothing_to_read_out_or_no_rows_says_what_to_write():
    with pytest.raises(ValueError, match=r"write targets such as token_targets\(train, test, 4\)"):
        LinearProbe(*_sets(), [], seeded_generator(0))
    train, test = _sets()
    with pytest.raises(ValueError, match="60 rows to train on and 0 to measure on; write at least one of each"):
        linear_probes(small_model(), train, test.rows(0, 0), seeded_generator(0))


def test_a_model_that_has_diverged_reads_no_number():
    model = small_model(n_layers=4, n_future=2)
    torch.nn.init.constant_(model.blocks[1].attn.out.weight, torch.nan)
    result = linear_probes(model, *_sets(rows=10), seeded_generator(0))
    assert np.isfinite(result.accuracy[:2]).all() and np.isnan(result.accuracy[2:]).all()
    assert np.isnan(result.shuffled[2:]).all() and np.isfinite(result.baseline).all()


def test_rows_to_train_on_and_to_measure_on_are_different_rows_of_the_test_set():
    task = Induction(InductionConfig(n_ctx=32, max_distance=16))
    train, test = linear_rows(task, positions=640)
    assert train.tokens.shape == (20, 32) and test.tokens.shape == (10, 32)
    assert torch.equal(torch.cat([train.tokens, test.tokens]), task.test_batch(30).tokens)


def test_rows_of_polynomials_are_many_and_without_the_padding():
    task = Polynomial(SMALL_RING)
    train, test = linear_rows(task, positions=300)
    assert len(train.tokens) == 150 and len(test.tokens) == 75
    assert train.loss_mask.sum() == 300
    assert train.tokens.shape[1] == (task.test_batch(225).documents >= 0).sum(dim=1).max()
    everything = linear_rows(task, positions=10**6)
    assert sum(len(part.tokens) for part in everything) == 300


def test_values_of_subexpressions_are_targets_where_they_are_complete():
    task = Polynomial(SMALL_RING)
    train, test = linear_rows(task, positions=300)
    targets = value_targets(task, train, test)
    assert [target.name for target in targets] == [
        "value of a subexpression, coefficient 0",
        "value of a subexpression, coefficient 1",
    ]
    values = task.intermediate_values(train)
    for coefficient, target in enumerate(targets):
        there = values[..., coefficient] >= 0
        assert torch.equal(target.train != IGNORED, there)
        assert torch.equal(target.train[there], values[..., coefficient][there])
        assert 50 < (target.test != IGNORED).sum() < there.sum()


def test_values_written_into_a_stream_are_read_and_without_that_they_are_not():
    task = Polynomial(SMALL_RING)
    train, test = linear_rows(task, positions=500)
    targets = value_targets(task, train, test)
    model = small_model(d_vocab=task.d_vocab, n_ctx=64, n_layers=2)
    plain = linear_probes(model, train, test, seeded_generator(0), targets)
    assert plain.accuracy.shape == (3, 2)
    assert (plain.accuracy < 0.8).all()
    assert (plain.shuffled < 0.55).all() and (plain.baseline > 0.3).all()
    tokens = torch.cat([train.tokens, test.tokens])
    values = torch.cat([task.intermediate_values(batch) for batch in (train, test)])
    one_hot = torch.nn.functional.one_hot(values.clamp(min=0), 8).flatten(2)
    model.hook_embed.add_hook(_Writer(tokens, one_hot.float()))
    written = linear_probes(model, train, test, seeded_generator(0), targets)
    assert written.accuracy[0].tolist() == [1.0, 1.0]
    assert (written.shuffled < 0.55).all()


def test_no_trace_is_left():
    model = small_model(n_layers=4, n_future=2).train()
    with leaves_no_trace(model):
        linear_probes(model, *_sets(rows=10), seeded_generator(0))
