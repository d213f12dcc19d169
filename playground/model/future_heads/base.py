"""What a type of future heads is: the paths of the offsets, a module for each, and how they draft; and what types share."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from playground.config import ModelConfig
from playground.config.future_heads import HeadDescription, Sizes, TypeDescription, future_head_type

if TYPE_CHECKING:
    import torch

Drafting = Literal[
    "streams_at_hand",
    "at_last_token",
    "mlps_in_turn",
    "layers_at_once",
    "layers_in_turn",
    "layers_over_window",
    "whole_rows",
]
"""A way to draft the offsets 2 .. K in self-speculative decoding; playground/generation/drafters.py has them."""


class HeadModule(HeadDescription):
    """What one future head is, and how it is built."""

    no_export: ClassVar[str] = "TransformerLens has no block for it"
    """Why the module cannot be exported to TransformerLens; empty where it can."""

    @abstractmethod
    def build(self, config: ModelConfig) -> "torch.nn.Module":
        """The module, called as `module(resid, rotation)`, or as `module(resid, rotation, embedded)` if it reads a token.

        `resid` [batch, pos, d_model] is the residual stream that it reads. `embedded` [batch, pos, d_model] holds at position t
        the embedding of the token t + `reads_ahead`, and zeros past the end of the row. `rotation` is None without attention.
        It returns the residual stream [batch, pos, d_model] after it.

        Probes find it by `hook_resid_pre` on what it reads and `hook_resid_post` on what it returns, both of this shape. A
        matrix that writes into the stream is called `out`: playground/model/init.py scales its initial weights.
        """

    def start_on_base(self, module: "torch.nn.Module") -> None:
        """Change the initial weights for a training on a frozen trunk. By default they stay as they were drawn."""


class FutureHeadType(TypeDescription):
    """A type of future heads. Its file ends with `FUTURE_HEADS = ` and an instance."""

    drafting: ClassVar[Drafting] = "whole_rows"
    """How it drafts. `whole_rows` is right for every type, and slow for long rows: nothing is cached."""

    @abstractmethod
    def module(self, index: int) -> HeadModule:
        """The future head of this index."""


def implementation(name: str) -> FutureHeadType:
    """The type of this name, with its modules. Raises ValueError for an unknown name, TypeError for a description alone."""
    kind = future_head_type(name)
    if not isinstance(kind, FutureHeadType):
        raise TypeError(f"the future heads '{name}' build no modules; derive {type(kind).__name__} from FutureHeadType")
    return kind


class Layer(HeadModule):
    """A layer like those of the trunk."""

    has_attention = True
    is_trunk_layer = True
    no_export = ""

    def parameters(self, sizes: Sizes) -> int:
        return sizes.layer_parameters

    def matrix_elements(self, sizes: Sizes) -> int:
        return sizes.layer_elements

    def build(self, config: ModelConfig) -> "torch.nn.Module":
        from playground.model.layers import Block

        return Block(config)


LAYER = Layer()


def each_on_the_trunk(n_future: int) -> tuple[tuple[int, ...], ...]:
    """Paths on which every future head reads z.

    >>> each_on_the_trunk(3)
    ((0,), (1,), (2,))
    """
    return tuple((index,) for index in range(n_future))


def each_after_the_one_before(n_future: int) -> tuple[tuple[int, ...], ...]:
    """Paths on which head k reads head k - 1.

    >>> each_after_the_one_before(3)
    ((0,), (0, 1), (0, 1, 2))
    """
    return tuple(tuple(range(index + 1)) for index in range(n_future))


def each_after_the_first(n_future: int) -> tuple[tuple[int, ...], ...]:
    """Paths on which all further heads read head 1.

    >>> each_after_the_first(3)
    ((0,), (0, 1), (0, 2))
    """
    return tuple((0, index) if index else (0,) for index in range(n_future))
