"""The types of future heads: what each module reads, against the modules called by hand one after another."""

import pytest
import torch
import torch.nn.functional as F

from playground.model.layers import Block
from playground.model.transformer import MTPTransformer
from tests.cases import FUTURE_HEADS, MODEL_OPTIONS, TYPE_OPTIONS, random_tokens, small_model

OFFSETS = (1, 2, 3)
PATHS = {
    "independent": ((0,), (1,), (2,)),
    "linear": ((0,), (1,), (2,)),
    "causal": ((0,), (0, 1), (0, 1, 2)),
    "sequential": ((0,), (0, 1), (0, 1, 2)),
    "hydra": ((0,), (0, 1), (0, 1, 2)),
    "anticausal": ((2, 1, 0), (2, 1), (2,)),
    "medusa_linear": ((0,), (0, 1), (0, 2)),
    "medusa_mlp": ((0,), (0, 1), (0, 2)),
}
CLASSES = {
    "independent": ("Block", "Block", "Block"),
    "linear": ("ResidualLinear", "ResidualLinear", "ResidualLinear"),
    "causal": ("Block", "Block", "Block"),
    "sequential": ("Block", "SequentialHead", "SequentialHead"),
    "hydra": ("Block", "HydraHead", "HydraHead"),
    "anticausal": ("Block", "Block", "Block"),
    "medusa_linear": ("Block", "ResidualLinear", "ResidualLinear"),
    "medusa_mlp": ("Block", "ResidualSiLU", "ResidualSiLU"),
}

READ_TOKENS = ("sequential", "hydra")


def model_of(kind: str, **changes) -> MTPTransformer:
    return small_model(**({"n_layers": 5, "n_future": 3, "future_heads": kind} | changes))


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def by_hand(model: MTPTransformer, tokens: torch.Tensor, offset: int) -> torch.Tensor:
    """Logits of one offset in the plainest way: the table of playground/model/future_heads/__init__.py, case by case (RMS)."""
    kind, heads = model.config.future_heads, model.future_heads
    z, rotation = model.trunk(tokens), model.rotary(tokens.shape[1])

    def matrix(x, head):
        written = norm(x, head.ln.weight) @ head.out.weight.T
        return x + (written * torch.sigmoid(written) if kind == "medusa_mlp" else written)

    if kind == "independent":
        resid = heads[offset - 1](z, rotation)
    elif kind == "linear":
        resid = matrix(z, heads[offset - 1])
    elif kind == "causal":
        resid = z
        for head in heads[:offset]:
            resid = head(resid, rotation)
    elif kind == "anticausal":
        resid = z
        for head in reversed(heads[offset - 1 :]):
            resid = head(resid, rotation)
    elif kind in ("sequential", "hydra"):
        resid = heads[0](z, rotation)
        for k in range(2, offset + 1):
            ahead = torch.zeros_like(resid)
            for t in range(tokens.shape[1] - (k - 1)):
                ahead[:, t] = model.embed.weight[tokens[:, t + k - 1]]
            head = heads[k - 1]
            joined = torch.cat([norm(resid, head.ln_resid.weight), norm(ahead, head.ln_embed.weight)], dim=-1)
            if kind == "sequential":
                resid = Block.forward(head, joined @ head.get_parameter("project.weight").T, rotation)
            else:
                weights = dict(head.named_parameters())
                gate, linear = (joined @ weights["gate_in.weight"].T).chunk(2, dim=-1)
                resid = resid + (gate * torch.sigmoid(gate) * linear) @ weights["out.weight"].T
    else:
        resid = heads[0](z, rotation)
        resid = resid if offset == 1 else matrix(resid, heads[offset - 1])
    weights = model.state_dict()
    unembed = weights.get(f"more_unembeds.{offset - 2}.weight", weights["unembed.weight"])
    return norm(resid, model.ln_final.weight) @ unembed.T


@pytest.mark.parametrize("options", TYPE_OPTIONS, ids=str)
def test_logits_equal_the_modules_called_by_hand(options):
    model, tokens = small_model(n_layers=5, n_future=3, **options).double(), random_tokens()
    logits = model(tokens, OFFSETS)
    assert logits.shape == (3, 12, 3, 11)
    for k in OFFSETS:
        torch.testing.assert_close(logits[:, :, k - 1], by_hand(model, tokens, k), rtol=1e-6, atol=1e-6)
        alone = model.logits(model.future_resid(model.trunk(tokens), k, tokens), k)
        torch.testing.assert_close(logits[:, :, k - 1], alone)
    torch.testing.assert_close(model(tokens), logits[:, :, 0])
    torch.testing.assert_close(model(tokens, (3, 1)), logits[:, :, [2, 0]])


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_paths_and_modules(kind):
    model = model_of(kind)
    assert tuple(model.path(k) for k in OFFSETS) == PATHS[kind] == model.config.paths
    assert tuple(type(head).__name__ for head in model.future_heads) == CLASSES[kind]
    with pytest.raises(ValueError, match="the model predicts the offsets 1 to 3"):
        model.path(4)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_only_what_an_offset_depends_on_runs_and_it_runs_once(kind):
    model, tokens, ran = model_of(kind), random_tokens(), []
    for index, head in enumerate(model.future_heads):
        head.register_forward_hook(lambda *_, index=index: ran.append(index))
    for k in OFFSETS:
        ran.clear()
        model(tokens, (k,))
        assert tuple(ran) == PATHS[kind][k - 1]
    ran.clear()
    model(tokens, OFFSETS)
    assert sorted(ran) == [0, 1, 2]


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_no_offset_sees_its_target_or_what_comes_after(kind, options):
    """A sequential or hydra head of offset k reads the tokens up to k - 1 ahead; all others none."""
    model, tokens = model_of(kind, **options), random_tokens()
    before = model(tokens, OFFSETS)
    for first in (5, 11):
        changed = tokens.clone()
        changed[:, first:] = (changed[:, first:] + 1) % 11
        after = model(changed, OFFSETS)
        for k in OFFSETS:
            seen = first - (k - 1 if kind in READ_TOKENS else 0)
            torch.testing.assert_close(after[:, :seen, k - 1], before[:, :seen, k - 1])
            assert not torch.allclose(after[:, seen, k - 1], before[:, seen, k - 1])


@pytest.mark.parametrize("kind", READ_TOKENS)
@pytest.mark.parametrize("length", [1, 2])
def test_rows_shorter_than_a_head_looks_ahead(length, kind):
    logits = model_of(kind)(random_tokens(length=length), OFFSETS)
    assert logits.shape == (3, length, 3, 11) and logits.isfinite().all()


@pytest.mark.parametrize("kind", READ_TOKENS)
def test_a_head_that_reads_tokens_asks_for_them(kind):
    model, tokens = model_of(kind), random_tokens()
    z = model.trunk(tokens)
    torch.testing.assert_close(model.future_resid(z, 1), model.future_resid(z, 1, tokens))
    with pytest.raises(
        ValueError, match=f"the {kind} future head of offset 2 also reads the tokens up to 1 ahead; pass tokens"
    ):
        model.future_resid(z, 2)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_hook_points(kind):
    model, tokens = model_of(kind), random_tokens()
    _, cache = model.run_with_cache(tokens, OFFSETS)
    for index, head in enumerate(model.future_heads):
        name = f"future_heads.{index}"
        assert cache[f"{name}.hook_resid_pre"].shape == cache[f"{name}.hook_resid_post"].shape == (3, 12, 16)
        assert (f"{name}.attn.hook_pattern" in cache) == isinstance(head, Block)
    if kind.startswith("medusa"):
        difference = cache["future_heads.2.hook_resid_post"] - cache["future_heads.2.hook_resid_pre"]
        torch.testing.assert_close(difference, cache["future_heads.2.hook_linear_out"])
        torch.testing.assert_close(cache["future_heads.2.hook_resid_pre"], cache["future_heads.0.hook_resid_post"])
    if kind in READ_TOKENS:
        read = "hook_resid_in" if kind == "sequential" else "hook_resid_pre"
        torch.testing.assert_close(cache[f"future_heads.2.{read}"], cache["future_heads.1.hook_resid_post"])
        embedded = F.pad(model.W_E[tokens][:, 2:], (0, 0, 0, 2))
        torch.testing.assert_close(cache["future_heads.2.hook_embed_in"], embedded)
        torch.testing.assert_close(cache["hook_embed"], model.W_E[tokens])


def test_names_of_an_independent_model_are_those_of_older_checkpoints():
    names = set(model_of("independent").state_dict())
    assert not any(name.startswith("more_unembeds") for name in names) and "unembed.weight" in names
    assert {name for name in names if name.startswith("future_heads.1.")} == {
        f"future_heads.1.{part}.weight" for part in ("ln1", "attn.qkv", "attn.out", "ln2", "mlp.gate_in", "mlp.out")
    }


def test_initial_weights():
    model = small_model(n_layers=3, n_future=2, d_model=256, future_heads="sequential", unembedding="replicated")
    assert model.future_heads[1].project.weight.std().item() == pytest.approx(1 / 512**0.5, rel=0.03)
    assert model.more_unembeds[0].weight.std().item() == pytest.approx(1 / 16, rel=0.05)
    assert not torch.equal(model.more_unembeds[0].weight, model.unembed.weight)
    linear = small_model(n_layers=3, n_future=2, d_model=256, future_heads="linear")
    assert linear.future_heads[1].out.weight.std().item() == pytest.approx(1 / (256 * 6) ** 0.5, rel=0.03)


def test_a_stream_stays_in_full_precision_under_autocast():
    model, tokens = model_of("sequential"), random_tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(resid.dtype == torch.float32 for resid in model.future_resids(model.trunk(tokens), tokens))
