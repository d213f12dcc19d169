"""Names of the attention heads whose pattern is forced or forbidden, or whose weights are frozen."""

import dataclasses
from dataclasses import dataclass

from playground.config.checks import check_fields, listed, setting, short_value
from playground.config.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ClampConfig:
    """Attention patterns forced or forbidden from step 0, to see what forms without them (playground/model/clamp.py).

    Each field names heads: `all`, `trunk`, a layer (`blocks.0`, `future_heads.0`) or a head (`blocks.0.2`).
    """

    force_previous_token: tuple[str, ...] = setting(())
    """These heads attend to the previous token, whatever their weights."""
    forbid_previous_token: tuple[str, ...] = setting(())
    """These heads cannot attend to the previous token."""
    force_induction: tuple[str, ...] = setting(())
    """These heads attend to the tokens after earlier occurrences of the current token, whatever their weights."""
    forbid_induction: tuple[str, ...] = setting(())
    """These heads cannot attend to the tokens after earlier occurrences of the current token."""
    freeze_heads: tuple[str, ...] = setting(())
    """These heads keep their initial weights."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def changes_patterns(self) -> bool:
        """True if any pattern is forced or forbidden."""
        forced = self.force_previous_token or self.force_induction
        return bool(forced or self.forbid_previous_token or self.forbid_induction)

    def check(self, model: ModelConfig) -> None:
        """Raises ValueError for a head that `model` does not have, or a head that is forced to two patterns."""
        chosen = {item.name: select_heads(getattr(self, item.name), model) for item in dataclasses.fields(self)}
        for layer, heads in chosen["force_previous_token"].items():
            both = set(heads) & set(chosen["force_induction"].get(layer, ()))
            if both:
                raise ValueError(
                    f"force_previous_token and force_induction both name head {layer}.{min(both)}; remove it from one of them"
                )


def select_heads(names: tuple[str, ...], model: ModelConfig) -> dict[str, list[int]]:
    """Map of layer name to sorted head indices that `names` select. Raises ValueError for a name that selects no head.

    >>> select_heads(("blocks.0", "future_heads.0.1"), ModelConfig(n_layers=2, n_heads=2))
    {'blocks.0': [0, 1], 'future_heads.0': [1]}
    """
    if not names:
        return {}
    layers = model.attention_layers
    every = {layer: index for index, layer in enumerate(layers)}
    chosen: dict[str, set[int]] = {}
    for name in names:
        whole = layers if name == "all" else layers[: model.n_trunk_layers] if name == "trunk" else ()
        layer, _, head = name.rpartition(".")
        if name in every:
            whole = (name,)
        for each in whole:
            chosen[each] = set(range(model.n_heads))
        if whole:
            continue
        if layer not in every or head not in map(str, range(model.n_heads)):
            raise ValueError(
                f"{short_value(name)} names no attention head of this model; write all, trunk, one of {listed(layers)}, or a "
                f"head of one, such as {layers[0]}.0 (0 to {model.n_heads - 1})"
            )
        chosen.setdefault(layer, set()).add(int(head))
    return {layer: sorted(chosen[layer]) for layer in layers if layer in chosen}
