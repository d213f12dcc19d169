"""Types of future heads in files of their own: the one of docs/guides/add-a-future-head.md, and others without a way to draft."""

import re
import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import playground.model.future_heads as package
from playground.cli import main
from playground.config import ModelConfig, future_head_names, future_head_type, register_future_heads
from playground.config import future_heads as registry
from playground.config.flops import count_training_flops
from playground.figures.architecture import architecture_figure
from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.model.export import export_to_transformer_lens
from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule, each_after_the_first
from playground.model.layers import Block
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.running.base import make_config_on
from playground.running.runner import train
from playground.runs.store import load_run
from tests.cases import random_tokens, small_config
from tests.generation.cases import PROMPTS, TREES, plainly, tiny_model
from tests.generation.test_engine import drafts_are_the_models, start, step


@pytest.fixture
def gated(repository_root, tmp_path, monkeypatch):
    """The file of the guide, in a folder that is searched like the package's own."""
    page = (repository_root / "docs" / "guides" / "add-a-future-head.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    folder = tmp_path / "types"
    folder.mkdir()
    (folder / "gated.py").write_text(code)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    registry._shipped.cache_clear()
    yield "gated"
    registry._shipped.cache_clear()
    sys.modules.pop("playground.model.future_heads.gated", None)


class Shifted(HeadModule):
    """A layer on the sum of the stream and the embedding of a later token."""

    has_attention = True

    def __init__(self, reads_ahead):
        self.reads_ahead = reads_ahead

    def parameters(self, sizes):
        return sizes.layer_parameters

    def matrix_elements(self, sizes):
        return sizes.layer_elements

    def build(self, config):
        return ShiftedBlock(config)


class ShiftedBlock(Block):
    def forward(self, resid, rotation, embedded=None):
        return super().forward(resid if embedded is None else resid + embedded, rotation)


class Fan(FutureHeadType):
    """Layers that read head 1; no way of drafting is named."""

    name, summary, source = "fan", "Layers on the layer of offset 1.", "this test"

    def paths(self, n_future):
        return each_after_the_first(n_future)

    def module(self, index) -> HeadModule:
        return LAYER


class ReadingFan(Fan):
    """As `Fan`, but each further head reads the token before its target as well."""

    name = "reading_fan"

    def module(self, index) -> HeadModule:
        return Shifted(index) if index else LAYER


@pytest.fixture
def fans(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    register_future_heads(Fan())
    register_future_heads(ReadingFan())


def counted(config):
    """Parameters and training FLOPs per token of a built model, with attention over the whole square."""
    model, tokens = MTPTransformer(config), random_tokens(2, config.n_ctx, config.d_vocab)
    offsets = tuple(range(1, config.n_future + 1))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens, offsets).sum().backward()
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / tokens.numel()


def counts_are_those_of_a_built_model(kind):
    config = small_config(n_layers=5, n_future=3, future_heads=kind)
    flops = count_training_flops(config)
    parameters, operations = counted(config)
    assert count_parameters(config).total == parameters
    assert flops.total + flops.attention == pytest.approx(operations)


def test_the_type_of_the_guide_trains_is_probed_and_decodes_by_the_command_line(gated, tmp_path, capsys):
    runs = ["--runs-dir", str(tmp_path / "runs")]
    sizes = "--task induction --n-layers 2 --d-model 16 --n-heads 2 --batch-size 8 --steps 4 --eval-every 2".split()
    heads = ["--future-heads", gated, "--n-future", "3", "--control", "trunk", "--run-id", "own"]
    assert main(["train", *sizes, *heads, *runs, "--device", "cpu"]) == 0
    run = load_run(tmp_path / "runs" / "own")
    assert run.record.status == "finished" and run.record.future_heads == gated
    assert main(["probe", "own", *runs]) == 0
    assert main(["generate", "own", "--speculative", "3", "--max-new-tokens", "4", *runs]) == 0
    assert main(["runs", "list", *runs]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "--task", "induction", "--help"])
    assert "gated" in capsys.readouterr().out
    assert main(["train", *sizes, "--future-heads", "gatet", *runs]) == 2
    assert "gated" in capsys.readouterr().err


def test_the_type_of_the_guide_is_counted_drafts_and_says_why_it_is_not_exported(gated):
    counts_are_those_of_a_built_model(gated)
    model = tiny_model(3, future_heads=gated)
    for config in (
        DecodingConfig(max_new_tokens=6, speculative=3),
        DecodingConfig(max_new_tokens=6, tree=TREES["siblings"]),
    ):
        found = generate(model, PROMPTS, config)
        assert [row.tokens for row in found.decoded] == plainly(model, PROMPTS, 6)
    export_to_transformer_lens(model, offset=1)
    with pytest.raises(
        ValueError, match=r"of the type 'gated', and TransformerLens has no block for it; write offset=1"
    ):
        export_to_transformer_lens(model, offset=2)
    config = model.config
    text = str(architecture_figure(n_future=3, n_trunk_layers=config.n_trunk_layers, paths=config.paths).to_dict())
    assert "future head 3" in text


def test_the_type_of_the_guide_stands_on_a_base(gated, tmp_path):
    base = tmp_path / "base"
    sizes = "--task induction --n-layers 2 --d-model 16 --n-heads 2 --batch-size 8 --steps 2 --device cpu".split()
    assert main(["train", *sizes, "--runs-dir", str(tmp_path), "--run-id", "base"]) == 0
    run = train(make_config_on(base, n_future=2, future_heads=gated), tmp_path)
    assert run.record.base == "base"
    with pytest.raises(ValueError, match="write one of causal, gated, hydra"):
        make_config_on(base, n_future=2, future_heads="linear")


@pytest.mark.parametrize("kind", ["fan", "reading_fan"])
def test_a_type_that_names_no_way_drafts_over_whole_rows(fans, kind):
    counts_are_those_of_a_built_model(kind)
    for positions in ("rotary", "standard"):
        model = tiny_model(3, future_heads=kind, positions=positions)
        with torch.no_grad():
            engine, state, known = start(model, PROMPTS[:3], DecodingConfig(speculative=3))
            for _ in range(4):
                drafts_are_the_models(engine, state, known)
                state, _ = step(engine, state, known)
        for options in ({"speculative": 3}, {"tree": TREES["siblings"]}):
            found = generate(model, PROMPTS, DecodingConfig(max_new_tokens=30, overflow="slide", **options))
            assert [row.tokens for row in found.decoded] == plainly(model, PROMPTS, 30)


def test_paths_that_cannot_be_are_refused(fans):
    class Short(Fan):
        name = "short"

        def paths(self, n_future):
            return ((0,),) * n_future

    class Ahead(Fan):
        name = "ahead"

        def module(self, index) -> HeadModule:
            return Shifted(1)

    class Other(Fan):
        pass

    with pytest.raises(ValueError, match=r"'short' .* has the path \(0,\) for offset 2 of 2; .* with 1 as the last"):
        register_future_heads(Short())
    with pytest.raises(ValueError, match=r"'ahead' .* reads 1 tokens ahead on the path of offset 1, .* read at most 0"):
        register_future_heads(Ahead())
    with pytest.raises(ValueError, match="the name 'fan' is taken by Fan; choose another name"):
        register_future_heads(Other())


def test_an_unknown_type_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="future_heads is 'casual'; did you mean 'causal'"):
        ModelConfig(future_heads="casual")
    assert all(future_head_type(name).summary.endswith(".") for name in future_head_names())


def test_types_are_described_without_torch(repository_root):
    code = (
        "import sys, playground.config as c; c.ModelConfig(n_layers=9, n_future=2).paths; c.future_head_names(); "
        "sys.exit(' '.join({'torch', 'transformer_lens'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository_root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
