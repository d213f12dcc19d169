"""What ablation puts in comes from tokens of the same place in other rows: never from padding, on polynomials by the distance to "="."""

import dataclasses

import pytest
import torch

from playground.model.transformer import MTPTransformer
from playground.probes.ablation import Ablator, ablate, run_all_offsets
from playground.probes.quiet import quietly
from playground.probes.rows import probe_batch
from playground.running.presets import make_config
from tasks.base import Batch, HasPlaces, seeded_generator
from tasks.polynomial import Polynomial, PolynomialConfig
from tasks.registry import make_task

POINT = "blocks.0.attn.hook_z"


@pytest.fixture(scope="module", params=["polynomial", "packed", "plain"])
def rows(request) -> tuple[MTPTransformer, Batch]:
    """A small model, and rows with padding: of polynomials one a row or several, and rows without places of their own."""
    config = make_config("polynomial-cpu", n_future=2)
    task = make_task(config.task)
    model = MTPTransformer(
        dataclasses.replace(config.model, n_layers=3, d_model=32, n_heads=2, d_vocab=task.d_vocab, n_ctx=task.n_ctx),
        seeded_generator(0),
    )
    batch = task.sample(12, seeded_generator(1)) if request.param == "packed" else probe_batch(task, 12)
    if request.param == "plain":
        batch = dataclasses.replace(batch, places=None)
    return model, batch


def activations(model: MTPTransformer, tokens: torch.Tensor) -> torch.Tensor:
    found = []
    with quietly(model, [(POINT, lambda value, hook: found.append(value.detach().clone()))]):
        run_all_offsets(model, tokens)
    return found[0]


def put_in(model: MTPTransformer, ablator: Ablator, batch: Batch) -> torch.Tensor:
    """What the layer's heads write with all of them taken out."""
    found = []
    hooks = [*ablator.hooks("blocks.0.attn"), (POINT, lambda value, hook: found.append(value.detach().clone()))]
    with quietly(model, hooks):
        run_all_offsets(model, batch.tokens)
    return found[0]


def test_the_mean_is_over_tokens_of_the_same_place(rows) -> None:
    model, batch = rows
    new, own, places = put_in(model, Ablator(model, batch.tokens, places=batch.alignment), batch), None, batch.alignment
    own = activations(model, batch.tokens)
    for row in range(len(places)):
        for position, place in enumerate(places[row].tolist()):
            mean = own[row, position] if place < 0 else own[places == place].mean(dim=0)
            torch.testing.assert_close(new[row, position], mean, rtol=1e-4, atol=1e-6)


def test_resampling_takes_the_same_place_of_another_row(rows) -> None:
    model, batch = rows
    ablator = Ablator(model, batch.tokens, places=batch.alignment, method="resample", generator=seeded_generator(2))
    new, own, places = put_in(model, ablator, batch), activations(model, batch.tokens), batch.alignment
    for row in range(len(places)):
        for position, place in enumerate(places[row].tolist()):
            others = [own[other][places[other] == place] for other in range(len(places)) if other != row]
            choices = torch.cat(others) if place >= 0 else own[row, position][None]
            choices = choices if len(choices) else own[row, position][None]
            assert (choices - new[row, position]).abs().flatten(1).max(dim=1).values.min() < 1e-6


def test_what_stands_in_the_padding_changes_nothing(rows) -> None:
    model, batch = rows
    if bool(batch.real.all()):
        pytest.skip("these rows have no padding")
    junk = torch.randint(model.config.d_vocab or 0, batch.tokens.shape, generator=seeded_generator(3))
    other = dataclasses.replace(batch, tokens=batch.tokens.where(batch.real, junk))
    for method in ("mean", "resample"):
        one, two = (
            ablate(model, each, ["blocks.0.0", "blocks.0.mlp"], method=method, generator=seeded_generator(4))
            for each in (batch, other)
        )
        torch.testing.assert_close(torch.tensor(one.loss), torch.tensor(two.loss), rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("notation", "pause"), [("prefix", 0), ("infix", 3)])
def test_a_polynomials_places_count_from_the_end_of_the_expression(packed, notation, pause) -> None:
    task = Polynomial(PolynomialConfig(packed=packed, notation=notation, pause=pause, n_ctx=96))
    assert isinstance(task, HasPlaces)
    batch = task.sample(6, seeded_generator(0))
    equals = task.encode("=")[0]
    assert batch.places is not None
    coefficients = task.config.coefficients
    assert set(batch.places[batch.tokens == equals].tolist()) == {coefficients}
    last = torch.tensor([documents[documents >= 0].max() for documents in batch.documents])
    whole = batch.real & (batch.documents < last[:, None])  # the last expression of a row may be cut
    typed = task.places(batch.tokens)
    assert (typed == batch.places)[whole].all()
    assert task.places(torch.tensor([task.encode("| 1 2")])).tolist() == [
        [coefficients + 3, coefficients + 2, coefficients + 1]
    ]


def test_rows_other_than_the_reference_need_places(rows) -> None:
    model, batch = rows
    ablator = Ablator(model, batch.tokens[:4], places=batch.alignment[:4])
    with (
        pytest.raises(ValueError, match="there are 4 reference rows; give the places of other rows"),
        quietly(model, ablator.hooks("blocks.0.attn")),
    ):
        run_all_offsets(model, batch.tokens)
    with quietly(model, ablator.hooks("blocks.0.attn", places=batch.alignment)):
        run_all_offsets(model, batch.tokens)
