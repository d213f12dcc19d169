"""The probes of the offsets say the same of a model on a GPU."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from playground.model.transformer import MTPTransformer
from playground.probes.agreement import offset_agreement
from playground.probes.gradients import gradient_shares
from playground.probes.lens import lens, lens_view
from playground.probes.linear import linear_probes
from playground.results import Result
from tasks.base import Batch, seeded_generator
from tests.cases import make_batch, random_tokens, small_model

PROBES: dict[str, Callable[[MTPTransformer, Batch], Result]] = {
    "lens": lens,
    "lens_view": lambda model, batch: lens_view(model, batch.tokens[0]),
    "linear": lambda model, batch: linear_probes(model, batch.rows(0, 20), batch.rows(20, 30), seeded_generator(0)),
    "gradients": gradient_shares,
    "agreement": offset_agreement,
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", PROBES)
def test_on_a_gpu_as_on_the_cpu(name):
    model, batch = small_model(n_layers=4, n_future=2), make_batch(random_tokens(rows=30))
    expected = PROBES[name](model, batch)
    for moved in (batch, batch.to("cuda")):
        result = PROBES[name](model.cuda(), moved)
        for field in dataclasses.fields(expected):
            value, on_cpu = getattr(result, field.name), getattr(expected, field.name)
            if isinstance(value, np.ndarray):
                assert value == pytest.approx(on_cpu, abs=0.03), field.name  # a near tie may fall the other way
            else:
                assert value == on_cpu
