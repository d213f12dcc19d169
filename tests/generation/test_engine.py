"""What the engine computes from its caches is what the model says of the whole context: logits of nodes and of drafts."""

import itertools

import pytest
import torch

from playground.generation.config import DecodingConfig
from playground.generation.drafters import make_drafter
from playground.generation.drafting import Commit, Memory, final_logits
from playground.generation.engine import Engine, Noise, keep_rows
from playground.generation.tree import Tree
from playground.model.layers import Norm
from tests.cases import FUTURE_HEADS, MODEL_OPTIONS, small_model
from tests.generation.cases import PROMPTS, TREES, behind, sharpened, tiny_model

GREEDY = Noise(None, None)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Listening:
    """A drafter that keeps what the one within it said last."""

    def __init__(self, within):
        self.within, self.said = within, torch.zeros(0)

    def logits(self, commit, view, choose):
        self.said = self.within.logits(commit, view, choose)
        return self.said

    def keep(self, rows):
        self.within.keep(rows)


def no_view(slots, masked):
    raise AssertionError("this drafter looks at no cache")


def start(model, prompts, config):
    """An engine that has read the prompts, its state, and what is known of each row."""
    engine = Engine(model, config, len(prompts))
    engine.drafter = Listening(engine.drafter)
    length = torch.tensor([len(prompt) for prompt in prompts])
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
    state = engine.prefill(torch.arange(len(prompts)), tokens, length, GREEDY)
    return engine, state, [[*prompt, own] for prompt, own in zip(prompts, state.root.tolist(), strict=True)]


def step(engine, state, known):
    """One forward, whose logits are compared with the model's; the new state, and what is known then."""
    tree = engine.tree
    span = max(map(len, known)) - 1 + tree.n_nodes
    nodes, positions, view = engine.prepare(state, span)
    streams, resid = engine._path(nodes, positions, view)
    drafts = state.drafts.tolist()
    lines = [
        [*row, *(mine[node - 1] for node in tree.way_to(node))]
        for row, mine in zip(known, drafts, strict=True)
        for node in range(tree.n_nodes)
    ]
    expected = behind(engine.model, lines, (1,))[:, 0].unflatten(0, (len(known), -1))
    torch.testing.assert_close(final_logits(engine.model, resid), expected, **CLOSE)
    state, outcome = engine.judge(state, GREEDY, nodes, streams, resid, span)
    for row, mine, last, own in zip(known, drafts, outcome[:, 0].tolist(), state.root.tolist(), strict=True):
        row += [mine[node - 1] for node in tree.way_to(last)] + [own]
    assert state.length.tolist() == [len(row) - 1 for row in known]
    return state, outcome


def drafts_are_the_models(engine, state, known):
    """The drafters' logits are those of the model at the token before the last, with the favourites behind it."""
    favourites = engine.drafter.said.argmax(dim=-1)
    rows = [[*row, *more] for row, more in zip(known, favourites.tolist(), strict=True)]
    expected = behind(engine.model, rows, range(2, engine.tree.speculative + 1), back=favourites.shape[1] + 2)
    torch.testing.assert_close(engine.drafter.said, expected, **CLOSE)
    ranked = expected.argsort(dim=-1, descending=True)
    paths = [[ranked[row, len(path) - 1, path[-1]] for path in engine.tree.paths] for row in range(len(known))]
    assert state.drafts.tolist() == paths


@pytest.mark.parametrize("kind", FUTURE_HEADS)
@pytest.mark.parametrize("drafts", [{"speculative": 3}, {"tree": TREES["bushy"]}], ids=["chain", "tree"])
def test_from_the_cache_as_from_the_whole_context(kind, drafts):
    accepted = 0
    for options, unembedding in zip(MODEL_OPTIONS, itertools.cycle(["shared", "replicated"]), strict=False):
        model = sharpened(tiny_model(4, n_ctx=40, future_heads=kind, unembedding=unembedding, **options))
        with torch.no_grad():
            for norm in [module for module in model.modules() if isinstance(module, Norm)]:
                norm.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
                if norm.bias is not None:
                    norm.bias.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
            engine, state, known = start(model, PROMPTS[:4], DecodingConfig(**drafts))
            for _ in range(2):
                drafts_are_the_models(engine, state, known)
                state, outcome = step(engine, state, known)
                accepted += int(outcome[:, 1].sum())
            drafts_are_the_models(engine, state, known)
            rows = torch.tensor([2, 0])
            engine.keep(rows)
            state, known = keep_rows(state, rows), [known[2], known[0]]
            state, _ = step(engine, state, known)
            drafts_are_the_models(engine, state, known)
    assert accepted > 10


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_rows_are_read_anew_into_their_places_while_others_go_on(kind):
    """As when a context slides: row 1 is replaced by other tokens, whose last one is known already."""
    model = sharpened(tiny_model(3, future_heads=kind))
    with torch.no_grad():
        engine, state, known = start(model, PROMPTS[:3], DecodingConfig(speculative=3))
        state, _ = step(engine, state, known)
        fresh = [4, 3, 2, 1, 0]
        new = engine.prefill(
            torch.tensor([1]), torch.tensor([fresh[:-1]]), torch.tensor([4]), GREEDY, torch.tensor([fresh[-1]])
        )
        for old, one in zip(state, new, strict=True):
            if old is not None:
                old[[1]] = one
        known[1] = fresh
        for _ in range(3):
            state, _ = step(engine, state, known)
            drafts_are_the_models(engine, state, known)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_model_without_a_trunk_has_caches_too(n_layers):
    for kind in ("independent", "causal", "sequential", "hydra", "linear"):
        layers = n_layers - (kind == "linear")
        if not layers:
            continue
        model = tiny_model(3, n_layers=layers, future_heads=kind)
        with torch.no_grad():
            engine, state, known = start(model, PROMPTS[:3], DecodingConfig(speculative=3))
            drafts_are_the_models(engine, state, known)
            step(engine, state, known)


@pytest.mark.parametrize("normalization", ["RMS", "LN"])
@pytest.mark.parametrize("unembedding", ["shared", "replicated"])
def test_the_folded_form_of_hydra_heads_is_the_module(normalization, unembedding, monkeypatch):
    """Also where the vocabulary is too large for a table of what each token adds."""
    options = {"future_heads": "hydra", "normalization": normalization, "unembedding": unembedding}
    model = small_model(n_layers=2, n_future=4, **options).eval()
    weights = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=weights)
        tokens = torch.randint(11, (6, 1), generator=weights)
        stream = torch.randn(6, 1, 16, generator=weights)
        for limit in (4096, 3):
            monkeypatch.setattr("playground.generation.mlps_in_turn.SMALL_VOCABULARY", limit)
            engine, _, _ = start(model, [[1]] * 6, DecodingConfig(speculative=4))
            said, resid, token = [], stream[:, 0], tokens[:, 0]
            for offset in (2, 3, 4):
                head = model.future_heads[offset - 1]
                resid = head(resid, None, model.embed(token))
                said.append(model.logits(resid, offset))
                token = said[-1].argmax(dim=-1)
            zero = torch.zeros(6, dtype=torch.long)
            commit = Commit({0: stream}, tokens, zero, zero, tokens[:, 0], zero[:, None], prefill=False)
            found = engine.drafter.within.logits(commit, no_view, lambda logits, offset: logits.argmax(dim=-1))
            torch.testing.assert_close(found, torch.stack(said, dim=1), rtol=1e-4, atol=1e-4)


def test_memory_is_fixed_and_counted():
    model = tiny_model(4, future_heads="causal")
    engine = Engine(model, DecodingConfig(tree=TREES["bushy"]), rows=3)
    slots = 24 + 8
    assert engine.cache.keys.shape == (2, 3, 2, slots, 8)
    assert engine.cache.n_bytes == 2 * 4 * engine.cache.keys.numel()
    assert engine.drafter.cache.keys.shape == (3, 3, 2, slots, 8)
    engine.keep(torch.tensor([2]))
    assert engine.cache.keys.shape[1] == engine.drafter.cache.keys.shape[1] == 1


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_plain_decoding_runs_no_future_head_behind_the_first(kind):
    model = tiny_model(4, future_heads=kind)
    engine = Engine(model, DecodingConfig(), rows=1)
    assert type(engine.drafter).__name__ == "StreamsAtHand"
    assert engine.heads == (0,) if kind != "anticausal" else (3, 2, 1, 0)
    assert engine.tree == Tree(())
    memory = Memory(1, 4, torch.float32, torch.device("cpu"))
    assert (
        type(make_drafter(model, 2, memory)).__name__
        == {
            "independent": "LayersAtOnce",
            "linear": "AtLastToken",
            "causal": "LayersInTurn",
            "anticausal": "StreamsAtHand",
            "sequential": "LayersOverWindow",
            "hydra": "MlpsInTurn",
            "medusa_linear": "AtLastToken",
            "medusa_mlp": "AtLastToken",
        }[kind]
    )
