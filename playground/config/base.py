"""A finished next-token run as the base of another: only the future heads of further offsets are trained on its frozen trunk.

That is how Medusa (Cai et al. 2024, 2401.10774) and Hydra (Ankner et al. 2024, 2402.05109) come by their heads.
"""

from dataclasses import dataclass, field
from typing import get_args

from playground.config.checks import check_fields, setting
from playground.config.future_heads import FutureHeads, future_head_paths, is_layer


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The run whose trunk, layer of offset 1, final norm, embedding and unembedding are taken over and stay as they are.

    `make_config_on` and the start of a training fill in the two hashes.
    """

    run: str = field(metadata={"experiment": False})
    """Id of a run in the same folder, or path of a run; a whole path once the training has started."""
    config_hash: str = setting("", experiment=False)
    """Hash of its configuration."""
    experiment: str = setting("")
    """Hash of its experiment: bases that differ in their seeds only share it."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.run:
            raise ValueError("base names no run; write its id or the path of its folder")

    def check(self, n_future: int, future_heads: FutureHeads) -> None:
        """Raises ValueError where nothing would be trained, or for future heads that change how the next token is predicted."""
        if n_future < 2:
            raise ValueError(
                f"n_future is {n_future}, and the next token's future head is the base's, which stays as it is; "
                "write n_future=2 or more"
            )
        if not fits_base(future_heads):
            fitting = ", ".join(kind for kind in get_args(FutureHeads) if fits_base(kind))
            raise ValueError(
                f"{future_heads} future heads cannot stand on a base: their offset 1 does not run through one layer "
                f"on the trunk, as the base's does; write one of {fitting}"
            )


def fits_base(kind: FutureHeads) -> bool:
    """Whether offset 1 of this type is what it is in a model that predicts the next token only: one layer on the trunk.

    >>> fits_base("medusa_mlp"), fits_base("causal"), fits_base("anticausal"), fits_base("linear")
    (True, True, False, False)
    """
    return future_head_paths(kind, 2)[0] == (0,) and is_layer(kind, 0)
