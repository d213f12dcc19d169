"""A transformer that predicts the next n tokens (Gloeckle et al. 2024, 2404.19737, section 2).

    tokens -> embedding -> trunk layers -> z -+-> future head 1 -+
                                              +-> future head 2 -+-> final norm -> unembedding -> logits, one per offset
                                              +-> ...           -+

Every future head is one transformer layer that reads z alone; final norm and unembedding are shared, and the unembedding
is not tied to the embedding. Trunk + one future head + norm + unembedding is an ordinary transformer.

Dimension letters: B batch, T position, K offset, D d_model, V d_vocab.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from playground.config import ModelConfig
from playground.model.init import init_weights
from playground.model.layers import Block, Norm, Rotary, Rotation


class MTPTransformer(HookedRootModule):
    """Trunk, `n_future` future heads, shared final norm and unembedding.

    Activations carry TransformerLens's names: `blocks.0.attn.hook_pattern`, `future_heads.1.hook_resid_post`, ...;
    `hook_trunk` is the trunk's output z. `future_heads[k - 1]` predicts offset k.

    `generator` decides the initial weights; without one they come from a fixed seed.
    Raises ValueError when the configuration leaves `d_vocab` or `n_ctx` open.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if config.d_vocab is None or config.n_ctx is None:
            raise ValueError("the model needs a vocabulary and a context; write ModelConfig(d_vocab=..., n_ctx=...)")
        self.config = config
        self.n_ctx = config.n_ctx
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own, which are replaced below
            self._build(config, config.d_vocab, config.n_ctx)
        init_weights(self, config.next_token_depth, generator or torch.Generator().manual_seed(0))
        self.setup()

    def _build(self, config: ModelConfig, d_vocab: int, n_ctx: int) -> None:
        self.embed = nn.Embedding(d_vocab, config.d_model)
        self.hook_embed = HookPoint()
        if config.positions == "standard":
            self.pos_embed = nn.Embedding(n_ctx, config.d_model)
            self.hook_pos_embed = HookPoint()
        else:
            self.rotary = Rotary(config.d_head, n_ctx, config.rotary_base)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_trunk_layers))
        self.hook_trunk = HookPoint()
        self.future_heads = nn.ModuleList(Block(config) for _ in range(config.n_future))
        self.ln_final = Norm(config)
        self.unembed = nn.Linear(config.d_model, d_vocab, bias=False)

    @property
    def n_future(self) -> int:
        """How many offsets the model predicts."""
        return self.config.n_future

    def forward(
        self, tokens: Int[Tensor, "batch pos"], offsets: Sequence[int] | None = None
    ) -> Float[Tensor, "batch pos d_vocab"] | Float[Tensor, "batch pos offset d_vocab"]:
        """Logits of the next token, or, with `offsets`, of each of them in the order given.

        Raises ValueError for tokens that are not rows, a row longer than n_ctx, no offsets at all, or an offset that the
        model has no head for.
        """
        z = self.trunk(tokens)
        if offsets is None:
            return self.logits(self.future_resid(z, 1))
        if not len(offsets):
            raise ValueError(
                "offsets is empty; write the offsets wanted, such as (1, 2), or leave it out for the next token"
            )
        return self.logits(torch.stack([self.future_resid(z, offset) for offset in offsets], dim=2))

    def trunk(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The trunk's output z, which all future heads read."""
        if tokens.ndim != 2:
            raise ValueError(f"tokens have the shape {tuple(tokens.shape)}; write [batch, pos], such as tokens[None]")
        length = tokens.shape[1]
        if length > self.n_ctx:
            raise ValueError(f"a row of {length} tokens is longer than the model's context of {self.n_ctx}")
        resid = self.hook_embed(self.embed(tokens))
        if self.config.positions == "standard":
            resid = resid + self.hook_pos_embed(self.pos_embed.weight[:length].expand_as(resid))
        rotation = self._rotation(length)
        for block in self.blocks:
            resid = block(resid, rotation)
        return self.hook_trunk(resid)

    def future_resid(self, z: Float[Tensor, "batch pos d_model"], offset: int) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream behind the future head of one offset."""
        if not 1 <= offset <= self.n_future:
            raise ValueError(f"offset is {offset}, and the model predicts the offsets 1 to {self.n_future}")
        return self.future_heads[offset - 1](z, self._rotation(z.shape[1]))

    def logits(self, resid: Float[Tensor, "*rest d_model"]) -> Float[Tensor, "*rest d_vocab"]:
        """Final norm and unembedding, shared by all offsets."""
        return self.unembed(self.ln_final(resid))

    def _rotation(self, length: int) -> Rotation | None:
        return self.rotary(length) if self.config.positions == "rotary" else None

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        return self.embed.weight

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        return self.unembed.weight.T
