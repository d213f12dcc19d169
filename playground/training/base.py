"""Further future heads on the frozen trunk of a finished next-token model: Medusa-1 (Cai et al. 2024, 2401.10774, section 2.2).

The embedding and all parameters on the path of offset 1 are copied from the base and frozen: no gradient, no weight decay, no
entry in the optimizer. The logits of offset 1 therefore stay bitwise equal to the base's. Trained are the future heads from
offset 2 on and, if the unembedding is replicated, their unembeddings, which start as copies of the base's.

The output matrices of Medusa's heads and of Hydra's heads (Ankner et al. 2024, 2402.05109) start at zero: before the first step
each of them predicts for its offset what offset 1 predicts. Heads that are whole layers keep their usual initial weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from playground.model.transformer import MTPTransformer


def is_further(name: str) -> bool:
    """True if the parameter of this name is used by offsets from 2 on only.

    >>> [is_further(name) for name in ("future_heads.0.mlp.out.weight", "future_heads.10.out.weight", "unembed.weight")]
    [False, True, False]
    """
    return name.startswith(("future_heads.", "more_unembeds.")) and not name.startswith("future_heads.0.")


def freeze_base(model: MTPTransformer) -> None:
    """Set `requires_grad` to True for the parameters that only offsets from 2 on use, and to False for all others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_further(name))


@torch.no_grad()
def start_on_base(model: MTPTransformer, weights: Mapping[str, Tensor]) -> None:
    """Copy the base's weights (its `state_dict`) into a new model, and set the initial weights of heads 2 .. n_future.

    Their unembeddings become copies of the base's; their modules change what `HeadModule.start_on_base` says.
    Raises ValueError for weights that are not those of this model with n_future = 1.
    """
    ours = {name: value for name, value in model.state_dict().items() if not is_further(name)}
    shapes, theirs = ({name: tuple(value.shape) for name, value in part.items()} for part in (ours, weights))
    if shapes != theirs:
        different = sorted(name for name in shapes.keys() | theirs.keys() if shapes.get(name) != theirs.get(name))
        name = different[0]
        raise ValueError(
            f"the base's weights are not of this model: {name} has the shape {theirs.get(name)} there and "
            f"{shapes.get(name)} here; write the model options of the base"
        )
    for name, value in ours.items():
        value.copy_(weights[name])
    for unembed in model.more_unembeds:
        unembed.get_parameter("weight").copy_(model.unembed.weight)
    for module, head in list(zip(model.head_modules, model.future_heads, strict=True))[1:]:
        module.start_on_base(head)
