"""Which attention heads are held to a pattern, kept from one, or frozen, by name."""

import dataclasses
from dataclasses import dataclass

from playground.config.checks import check_fields
from playground.config.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ClampConfig:
    """Attention patterns held fixed or forbidden from step 0, to see what forms without them (playground/model/clamp.py).

    Each field names heads: `all`, `trunk`, a layer (`blocks.0`, `future_heads.0`) or a head (`blocks.0.2`).
    """

    force_previous_token: tuple[str, ...] = ()
    """These heads attend to the token before, whatever their weights."""
    forbid_previous_token: tuple[str, ...] = ()
    """These heads cannot attend to the token before."""
    force_induction: tuple[str, ...] = ()
    """These heads attend to what followed earlier occurrences of the current token."""
    forbid_induction: tuple[str, ...] = ()
    """These heads cannot attend to what followed earlier occurrences of the current token."""
    freeze_heads: tuple[str, ...] = ()
    """These heads keep their initial weights."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def changes_patterns(self) -> bool:
        """Whether any pattern is forced or forbidden."""
        forced = self.force_previous_token or self.force_induction
        return bool(forced or self.forbid_previous_token or self.forbid_induction)

    def check(self, model: ModelConfig) -> None:
        """Raises ValueError for a head that `model` does not have, or one that is forced to two things."""
        chosen = {item.name: select_heads(getattr(self, item.name), model) for item in dataclasses.fields(self)}
        for layer, heads in chosen["force_previous_token"].items():
            both = set(heads) & set(chosen["force_induction"].get(layer, ()))
            if both:
                raise ValueError(
                    f"force_previous_token and force_induction both name head {layer}.{min(both)}; leave it out of one"
                )


def select_heads(names: tuple[str, ...], model: ModelConfig) -> dict[str, list[int]]:
    """Layer -> heads that the names choose in a model. Raises ValueError for a name that chooses none.

    >>> select_heads(("blocks.0", "future_heads.0.1"), ModelConfig(n_layers=2, n_heads=2))
    {'blocks.0': [0, 1], 'future_heads.0': [1]}
    """
    layers = model.attention_layers
    trunk = layers[: model.n_trunk_layers]
    every = [(layer, head) for layer in layers for head in range(model.n_heads)]
    chosen: set[tuple[str, int]] = set()
    for name in names:
        found = [
            (layer, head)
            for layer, head in every
            if name in ("all", layer, f"{layer}.{head}") or (name == "trunk" and layer in trunk)
        ]
        if not found:
            raise ValueError(
                f"'{name}' names no attention head of this model; write all, trunk, one of {', '.join(layers)}, or a head "
                f"of one, such as {layers[0]}.0 (0 to {model.n_heads - 1})"
            )
        chosen.update(found)
    selected: dict[str, list[int]] = {}
    for layer, head in every:
        if (layer, head) in chosen:
            selected.setdefault(layer, []).append(head)
    return selected
