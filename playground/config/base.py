"""A finished next-token run as the base of another run, which trains only further future heads on the frozen trunk.

Medusa (Cai et al. 2024, 2401.10774) and Hydra (Ankner et al. 2024, 2402.05109) train their heads this way.
"""

from dataclasses import dataclass, field

from playground.config.checks import check_fields, setting
from playground.config.future_heads import FutureHeads, future_head_names, future_head_type


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The run whose trunk, layer of offset 1, final norm, embedding and unembedding are copied and kept frozen.

    `make_config_on` and the start of a training fill in the two hashes.
    """

    run: str = field(metadata={"experiment": False})
    """Id of a run in the same folder, or path of a run; an absolute path once the training has started."""
    config_hash: str = setting("", experiment=False)
    """Hash of the base's configuration."""
    experiment: str = setting("")
    """Hash of the base's experiment; equal for bases that differ only in their seeds."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.run:
            raise ValueError("base names no run; write the run's id or the path of its folder")

    def check(self, n_future: int, future_heads: FutureHeads) -> None:
        """Raises ValueError if nothing would be trained, or for future heads that change how the next token is predicted."""
        if n_future < 2:
            raise ValueError(
                f"n_future is {n_future}, and the next token's future head is that of the base, which stays frozen; "
                "write n_future=2 or more"
            )
        if not future_head_type(future_heads).fits_base:
            fitting = ", ".join(name for name in future_head_names() if future_head_type(name).fits_base)
            raise ValueError(
                f"{future_heads} future heads cannot stand on a base: their offset 1 does not run through one layer "
                f"on the trunk, as the base's does; write one of {fitting}"
            )
