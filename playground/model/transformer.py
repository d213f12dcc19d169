"""A transformer that predicts the next n tokens (Gloeckle et al. 2024, 2404.19737, section 2).

    tokens -> embedding -> trunk layers -> z -+-> future head 1 -+
                                              +-> future head 2 -+-> final norm -> unembedding -> logits, one per offset
                                              +-> ...           -+

By default, every future head is one transformer layer that reads only z; final norm and unembedding are shared, and the
unembedding is not tied to the embedding. Trunk + one future head + norm + unembedding is then an ordinary transformer. The
other types of future heads, some of which read the output of another one, have a file each in playground/model/future_heads.

Dimension letters: B batch, T position, K offset, D d_model, V d_vocab.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from playground.config import ModelConfig
from playground.model.future_heads.base import implementation
from playground.model.init import init_weights
from playground.model.layers import Block, Norm, Rotary, Rotation


class MTPTransformer(HookedRootModule):
    """Trunk, `n_future` future heads, shared final norm, and one unembedding or one for each offset.

    Activations carry TransformerLens's names: `blocks.0.attn.hook_pattern`, `future_heads.1.hook_resid_post`, ...;
    `hook_trunk` is the trunk's output z. `future_heads[k - 1]` predicts offset k; `path(k)` lists the future heads before it.
    `unembed` is the unembedding of all offsets. If replicated, it is that of offset 1, and `more_unembeds[k - 2]` that of k.

    `generator` determines the initial weights; without one they come from a fixed seed.
    Raises ValueError when `d_vocab` or `n_ctx` of the configuration is None.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if config.d_vocab is None or config.n_ctx is None:
            raise ValueError("the model needs a vocabulary and a context; write ModelConfig(d_vocab=..., n_ctx=...)")
        self.config = config
        self.paths = config.paths
        """For each offset, the indices of the future heads that it runs through, in order of execution."""
        self.n_ctx = config.n_ctx
        self.recompute = False
        """True for activation checkpointing: training stores only the input of each trunk layer and recomputes the rest."""
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights, which are replaced below
            self._build(config, config.d_vocab, config.n_ctx)
        init_weights(self, config, generator or torch.Generator().manual_seed(0))
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
        kind = implementation(config.future_heads)
        self.head_modules = tuple(kind.module(index) for index in range(config.n_future))
        """What each of `future_heads` is."""
        self.future_heads = nn.ModuleList(head.build(config) for head in self.head_modules)
        self.ln_final = Norm(config)
        self.unembed = nn.Linear(config.d_model, d_vocab, bias=False)
        more = config.n_future - 1 if config.unembedding == "replicated" else 0
        self.more_unembeds = nn.ModuleList(nn.Linear(config.d_model, d_vocab, bias=False) for _ in range(more))

    @property
    def n_future(self) -> int:
        """Number of offsets that the model predicts."""
        return self.config.n_future

    def forward(
        self, tokens: Int[Tensor, "batch pos"], offsets: Sequence[int] | None = None
    ) -> Float[Tensor, "batch pos d_vocab"] | Float[Tensor, "batch pos offset d_vocab"]:
        """Logits of the next token, or of each of `offsets` in the given order.

        Raises ValueError for tokens that are not two-dimensional, a row longer than n_ctx, an empty `offsets`, or an offset
        without a future head.
        """
        z = self.trunk(tokens)
        if offsets is None:
            return self.logits(self.future_resid(z, 1, tokens))
        if not len(offsets):
            raise ValueError(
                "offsets is empty; write the offsets wanted, such as (1, 2), or leave it out for the next token"
            )
        resids = self.future_resids(z, tokens, offsets)
        if not self.more_unembeds:
            return self.logits(torch.stack(resids, dim=2))
        return torch.stack([self.logits(resid, k) for resid, k in zip(resids, offsets, strict=True)], dim=2)

    def trunk(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The trunk's output z, the input of the future heads.

        Raises ValueError for tokens that are not two-dimensional and for a row longer than n_ctx.
        """
        if tokens.ndim != 2:
            raise ValueError(f"tokens have the shape {tuple(tokens.shape)}; write [batch, pos], such as tokens[None]")
        length = tokens.shape[1]
        if length > self.n_ctx:
            raise ValueError(f"a row of {length} tokens is longer than the model's context of {self.n_ctx}")
        resid = self.hook_embed(self.embed(tokens))
        if self.config.positions == "standard":
            position = self.pos_embed.weight[..., :length, :]  # [replica, pos, d_model] in a stack of models
            rows = position if position.ndim == 2 else position.repeat_interleave(len(tokens) // len(position), dim=0)
            resid = resid + self.hook_pos_embed(rows.expand_as(resid))
        rotation = self._rotation(length)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                resid = checkpoint(block, resid, rotation, use_reentrant=False, preserve_rng_state=False)
            else:
                resid = block(resid, rotation)
        return self.hook_trunk(resid)

    def path(self, offset: int) -> tuple[int, ...]:
        """Indices of the future heads that an offset runs through, in order of execution; its own is the last.

        Raises ValueError for an offset without a future head.
        """
        if not 1 <= offset <= self.n_future:
            raise ValueError(f"offset is {offset}, and the model predicts the offsets 1 to {self.n_future}")
        return self.paths[offset - 1]

    def future_resid(
        self, z: Float[Tensor, "batch pos d_model"], offset: int, tokens: Int[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream after the future head of one offset; only the future heads on its path run.

        `tokens` are the rows of which z is the trunk output; some types of future heads read them from offset 2 on.
        Raises ValueError where they are missing, and for an offset without a future head.
        """
        return self.future_resids(z, tokens, (offset,))[0]

    def future_resids(
        self,
        z: Float[Tensor, "batch pos d_model"],
        tokens: Int[Tensor, "batch pos"] | None = None,
        offsets: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """The residual streams `[batch, pos, d_model]` after the future heads of `offsets` (None: all), in that order.

        A future head on several of the paths runs once. Under control `detached` no gradient of a later offset flows into the
        next token's path. `tokens` are the rows of which z is the trunk output; some types of future heads read them
        from offset 2 on. Raises ValueError where they are missing, and for an offset without a future head.
        """
        after: dict[int, Tensor] = {}
        offsets = range(1, self.n_future + 1) if offsets is None else offsets
        for path in map(self.path, offsets):
            resid, left = z, False
            for index in path:
                if self.config.control == "detached" and index and not left:
                    resid, left = resid.detach(), True
                if index not in after:
                    after[index] = self.run_future_head(index, resid, tokens)
                resid = after[index]
        return [after[offset - 1] for offset in offsets]

    def run_future_head(
        self, index: int, resid: Float[Tensor, "batch pos d_model"], tokens: Int[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """Run one future head on its input `resid`: z, or the residual stream after the previous future head on its path.

        Raises ValueError when this future head reads tokens and `tokens` is None.
        """
        head, module = self.future_heads[index], self.head_modules[index]
        rotation = self._rotation(resid.shape[1]) if module.has_attention else None
        if module.reads_ahead:
            return head(resid, rotation, self._embedded_ahead(tokens, module.reads_ahead, index))
        return head(resid, rotation)

    def _embedded_ahead(self, tokens: Tensor | None, ahead: int, index: int) -> Float[Tensor, "batch pos d_model"]:
        """At every position t the embedding of token t + `ahead`; zero where that is past the row, where no target exists."""
        if tokens is None:
            raise ValueError(
                f"the {self.config.future_heads} future head of offset {index + 1} also reads the tokens up to {ahead} ahead; "
                "pass tokens, the rows that z belongs to"
            )
        embedded = self.embed(tokens)  # whole rows: clamp.py takes the tokens of this call as the current rows
        if self.config.control == "detached":
            embedded = embedded.detach()
        return F.pad(embedded[:, ahead:], (0, 0, 0, min(ahead, tokens.shape[1])))

    def logits(self, resid: Float[Tensor, "*rest d_model"], offset: int = 1) -> Float[Tensor, "*rest d_vocab"]:
        """Logits of `offset`: the final norm, which all offsets share, then the unembedding of that offset."""
        return self.unembed_of(offset)(self.ln_final(resid))

    def unembed_of(self, offset: int) -> nn.Linear:
        """The unembedding of one offset: the shared one, or its own if replicated."""
        if offset == 1 or not self.more_unembeds:
            return self.unembed
        index = self.path(offset)[-1]
        return cast(nn.Linear, self.more_unembeds[index - 1])

    def _rotation(self, length: int) -> Rotation | None:
        return self.rotary(length) if self.config.positions == "rotary" else None

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        return self.embed.weight

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        """Unembedding matrix of offset 1, and of all offsets unless it is replicated (see `unembed_of`)."""
        return self.unembed.weight.T
