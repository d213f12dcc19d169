"""Agreement in hand-built cases and against a slow loop."""

import numpy as np
import pytest
import torch
from torch import Tensor

from playground.probes.agreement import offset_agreement
from tests.cases import MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace


def _saying(*said: list[int]):
    """A model with one future head per list, which puts these tokens out in every row, whatever it reads."""
    model = small_model(n_layers=1, control="trunk", n_future=len(said), d_model=32, n_heads=2)
    for head, tokens in zip(model.future_heads, said, strict=True):
        spoken = torch.nn.functional.one_hot(torch.tensor(tokens), 32).float()
        head.hook_resid_post.add_hook(lambda resid, hook, spoken=spoken: spoken.expand_as(resid), is_permanent=True)
    model.unembed.weight.data = torch.eye(11, 32)
    return model


def test_the_worked_row_of_the_docstring():
    model = _saying([6, 7, 9, 0], [7, 8, 0, 0])
    result = offset_agreement(model, make_batch(torch.tensor([[5, 6, 7, 8]])))
    assert result.agreement.tolist() == [1.0, 0.5]
    assert result.count.tolist() == [3, 2]
    assert result.chance == pytest.approx([1 / 3, 0.5 * 0.5])


def test_offsets_that_say_the_same_of_a_token_agree_and_shifted_ones_do_not():
    cycle = [1, 2, 3, 4] * 3
    batch = make_batch(random_tokens(rows=2))
    ahead = offset_agreement(_saying(cycle, cycle[1:] + cycle[:1], cycle[2:] + cycle[:2]), batch)
    assert ahead.agreement.tolist() == [1.0, 1.0, 1.0]
    assert ahead.chance == pytest.approx([0.25] * 3, abs=0.02)
    copies = offset_agreement(_saying(cycle, cycle, cycle), batch)
    assert copies.agreement.tolist() == [1.0, 0.0, 0.0]


def test_copied_future_heads_agree_where_the_next_token_is_always_the_same():
    """Rows of one token: the copies say of two ahead what they say of one ahead, and offset 1 says it again."""
    model = small_model(n_layers=4, n_future=3)
    for head in model.future_heads[1:]:
        head.load_state_dict(model.future_heads[0].state_dict())
    result = offset_agreement(model, make_batch(torch.arange(5)[:, None].expand(-1, 12)))
    assert result.agreement.tolist() == [1.0, 1.0, 1.0]
    assert (result.chance < 0.9).all()


def _slowly(said: Tensor, documents: Tensor, allowed: Tensor, offset: int) -> tuple[float, float, int]:
    """From predictions `[batch, pos, offset]`."""
    pairs = []
    for b in range(len(said)):
        for t in range(said.shape[1] - offset):
            if documents[b, t] == documents[b, t + offset] != -1 and allowed[b, t + offset]:
                pairs.append((said[b, t, offset - 1].item(), said[b, t + offset - 1, 0].item()))
    first, second = zip(*pairs, strict=True)
    chance = sum(first.count(v) * second.count(v) for v in set(first)) / len(pairs) ** 2
    return np.mean([a == b for a, b in pairs]).item(), chance, len(pairs)


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_against_a_slow_loop_with_documents_padding_and_tokens_that_are_no_targets(options):
    model, tokens = small_model(n_layers=4, n_future=3, **options), random_tokens(rows=20)
    documents = torch.tensor([0] * 4 + [1] * 7 + [-1]).expand(20, -1)
    allowed = torch.rand(20, 12, generator=torch.Generator().manual_seed(1)) > 0.3
    result = offset_agreement(model, make_batch(tokens, documents=documents, loss_mask=allowed))
    said = model(tokens, (1, 2, 3)).argmax(dim=-1)
    for k in (1, 2, 3):
        agreement, chance, count = _slowly(said, documents, allowed, k)
        assert (result.agreement[k - 1], result.chance[k - 1]) == pytest.approx((agreement, chance))
        assert result.count[k - 1] == count


def test_nothing_to_compare_is_no_number():
    batch = make_batch(random_tokens(), documents=torch.arange(6).repeat_interleave(2).expand(3, -1))
    result = offset_agreement(small_model(n_future=2), batch)
    assert result.count.tolist() == [18, 0]
    assert np.isnan(result.agreement[1]) and np.isnan(result.chance[1])
    assert result.agreement[0] == 1.0
    assert len(result.rows()) == 2


def test_no_trace_is_left():
    model = small_model(n_layers=4, n_future=2).train()
    with leaves_no_trace(model):
        offset_agreement(model, make_batch(random_tokens()))
