"""Ablation: parts of a model (heads, sets of heads, layers, MLPs) are removed, and the lost accuracy shows what they did.

An attention score is a hint, not a mechanism: a head that looks like an induction head may do nothing. The activation of a
removed part is replaced by

- `mean`: its mean over the reference rows, separately for each place (the default: the rest of the model then receives a
  typical input, without the information that distinguishes the rows);
- `resample`: the activation at the same place of another reference row, of one row for all parts that are removed together;
- `zero`: zero. It also removes what the part always adds, and so overstates the effect.

The place of a token is its position in the row; in polynomials it is the distance to the end of the expression
(`Batch.alignment`), because only then do the "=" of all rows share a place. Padding is excluded: it enters no mean, is never
resampled from, and is not changed.

With `freeze_patterns` all other heads keep the attention patterns of the whole model: the effect through what is WRITTEN only.
The rest of the free effect goes through where later heads ATTEND (Elhage et al. 2021; Olsson et al. 2022,
"pattern-preserving").

Names of components: `blocks.1.2` head 2 of trunk layer 1, `future_heads.0.3` head 3 of the future head of offset 1,
`blocks.1.attn` all heads of a layer, `blocks.1.mlp` its MLP, `blocks.1` both; several joined by ` + ` are removed together.
`future_heads.1` also names a future head without attention: what it adds to the residual stream.

Dimension letters: B batch, T position, P place, H attention head, E d_head, D d_model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from playground.figures.probe_charts import ablation_figure
from playground.figures.probe_maps import induction_after_ablation_figure
from playground.model.patterns import match_mask
from playground.model.transformer import MTPTransformer
from playground.probes.attention_scores import AttentionProbe, attention_patterns, masked_attention, scored_queries
from playground.probes.probe import MANY_ROWS, Probe, on_rows
from playground.probes.quiet import Hook, HookFunction, all_offsets, editing, layer_names, matrix_names, quietly
from playground.results import AblationEffects, AblationMethod, Head, InductionAfterAblation, heads_of
from tasks.base import Batch, seeded_generator
from tasks.scoring import teacher_forced

SEED = 20230421
SET = " + "
WRITES = ("attn.hook_z", "hook_mlp_out", "hook_linear_out")
Place = tuple[str, int | None]
"""A hook point, and the index of a head at that point (None: the whole activation)."""


class Ablator:
    """Makes hooks that ablate components of a model, from the model's activations on reference rows.

    `reference` is `[batch, pos]`. `places` holds the place of each of its tokens, -1 for padding (`Batch.alignment`); None:
    every token counts, and its place is its position. `generator` (on the CPU) draws the rows that resampling takes from.
    Raises ValueError for an unknown method, and for resampling with fewer than two reference rows.
    """

    def __init__(
        self,
        model: MTPTransformer,
        reference: Int[Tensor, "batch pos"],
        *,
        places: Int[Tensor, "batch pos"] | None = None,
        method: AblationMethod = "mean",
        generator: torch.Generator | None = None,
    ) -> None:
        if method not in ("mean", "zero", "resample"):
            raise ValueError(f"method is {method!r}; write 'mean', 'resample' or 'zero'")
        if method == "resample" and len(reference) < 2:
            raise ValueError(
                "resample ablation takes activations from other rows, and there is one row; give at least 2"
            )
        self.model, self.method = model, method
        self.generator = generator or seeded_generator(SEED)
        self.values: dict[str, Tensor] = {}
        device = model.W_E.device
        self.aligned = places is not None
        """True if places were given. If not, rows of any number, and up to the length of the reference, can be edited."""
        self.places = (torch.arange(reference.shape[1]).expand_as(reference) if places is None else places).to(device)

        def keep(activation: Tensor, hook: HookPoint) -> None:
            self.values[str(hook.name)] = _mean_at_places(activation, self.places) if method == "mean" else activation

        with quietly(model, [(lambda name: name.endswith(WRITES), keep)]):
            run_all_offsets(model, reference)

    def hooks(
        self, components: str | Sequence[str], *, first_row: int = 0, places: Int[Tensor, "batch pos"] | None = None
    ) -> list[Hook]:
        """Hooks that ablate all these components together.

        `first_row` is the index of the batch's first row among the reference rows, if the batch is taken from them:
        resampling then never gives a row its own activation. `places` (`[batch, pos]`) holds the place of each token of the
        batch; None: the places of the reference rows from `first_row` on. With `resample` every call draws new source rows.
        Raises ValueError for the name of a component that the model does not have.
        """
        names = [components] if isinstance(components, str) else list(components)
        heads: dict[str, list[int | None]] = {}
        for point, head in (place for name in names for part in name.split(SET) for place in self._places(part)):
            heads.setdefault(point, []).append(head)
        shift = 0
        if self.method == "resample":
            shift = int(torch.randint(1, len(self.places), (1,), generator=self.generator))
        edited = _Edited(self, first_row, shift, None if places is None else places.to(self.places.device))
        return [(point, self._replace(point, which, edited)) for point, which in heads.items()]

    def _replace(self, point: str, heads: Sequence[int | None], edited: "_Edited") -> HookFunction:
        def replace(activation: Tensor) -> Tensor:
            if self.method == "zero":
                new = torch.zeros_like(activation)
            else:
                rows, positions = edited.sources(*activation.shape[:2])
                known = (positions >= 0).reshape(*positions.shape, *[1] * (activation.ndim - 2))
                new = self.values[point][rows, positions].where(known, activation)
            if None in heads:
                return new
            changed = activation.clone()
            changed[:, :, list(heads)] = new[:, :, list(heads)]
            return changed

        return editing(replace)

    def _places(self, name: str) -> list[Place]:
        layer, _, part = name.rpartition(".")
        if name in (*layer_names(self.model), *matrix_names(self.model)):
            points = (f"{name}.{point}" for point in WRITES)
            return [(point, None) for point in points if point in self.values]
        point = f"{layer}.hook_mlp_out" if part == "mlp" else f"{layer}.attn.hook_z"
        if part in ("attn", "mlp") and point in self.values:
            return [(point, None)]
        if part.isdecimal() and point in self.values and int(part) < self.model.config.n_heads:
            return [(point, int(part))]
        layers = layer_names(self.model)
        mlp = f" or {layers[0]}.mlp" if self.model.config.mlp != "none" else "; it has no MLPs"
        raise ValueError(
            f"the model has no component '{name}'; it has the layers {', '.join(layers)} with {self.model.config.n_heads} "
            f"heads each: write {layers[0]} (a layer), {layers[0]}.0 (a head), {layers[0]}.attn{mlp}; join a set by '{SET}'"
        )


class _Edited:
    """Source of the activations for edited rows: for each token a row and a position among the stored activations."""

    def __init__(self, source: Ablator, first_row: int, shift: int, places: Tensor | None) -> None:
        self.source, self.first_row, self.shift, self.places = source, first_row, shift, places
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def sources(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """`[batch, pos]` each: row and position among the stored activations; position -1 where a token stays unchanged."""
        if (rows, length) not in self._known:
            self._known[rows, length] = self._sources(self._places_of(rows, length))
        return self._known[rows, length]

    def _places_of(self, rows: int, length: int) -> Tensor:
        known, source = self.source.places, self.source
        if self.places is not None:
            return self.places[:rows, :length]
        if length > known.shape[1]:
            raise ValueError(f"the rows have {length} tokens and the reference rows {known.shape[1]}; give longer ones")
        if not source.aligned:
            return known[:1, :length].expand(rows, length)
        if self.first_row + rows > len(known):
            raise ValueError(f"there are {len(known)} reference rows; give the places of other rows")
        return known[self.first_row : self.first_row + rows, :length]

    def _sources(self, place_BT: Tensor) -> tuple[Tensor, Tensor]:
        stored = self.source.places
        if self.source.method == "mean":
            seen_P = torch.zeros(int(max(stored.max(), place_BT.max())) + 1, dtype=torch.bool, device=stored.device)
            seen_P[stored[stored >= 0]] = True
            known_BT = (place_BT >= 0) & seen_P[place_BT.clamp(min=0)]
            return torch.zeros_like(place_BT), place_BT.where(known_BT, -1)
        count = len(stored)
        at_RP = _positions(stored, int(place_BT.max()) + 1)
        row_B = (torch.arange(len(place_BT), device=stored.device) + self.first_row) % count
        # Take the row `shift` further on, or the next one that has this place. steps_D runs over 1 .. count - 1, so that a row
        # is never its own source.
        steps_D = (self.shift - 1 + torch.arange(count - 1, device=stored.device)) % (count - 1) + 1
        donor_BD = (row_B[:, None] + steps_D) % count
        at_BDT = at_RP[donor_BD[:, :, None], place_BT.clamp(min=0)[:, None]]
        first_BT = (at_BDT >= 0).int().argmax(dim=1)
        at_BT = at_BDT.gather(1, first_BT[:, None])[:, 0]
        return donor_BD.gather(1, first_BT), at_BT.where(place_BT >= 0, -1)


def _positions(place_BT: Tensor, n_places: int) -> Tensor:
    """`[row, place]`: the first position of each place in each row, -1 where the row lacks the place."""
    length = place_BT.shape[1]
    n_places = max(n_places, int(place_BT.max()) + 1)
    found = torch.full((len(place_BT), n_places + 1), length, device=place_BT.device)
    position_BT = torch.arange(length, device=place_BT.device).expand_as(place_BT)
    found = found.scatter_reduce(1, place_BT.where(place_BT >= 0, n_places), position_BT, "amin")[:, :n_places]
    return found.where(found < length, -1)


def _mean_at_places(activation: Float[Tensor, "batch pos *rest"], place_BT: Tensor) -> Float[Tensor, "one place *rest"]:
    """The mean over all tokens of each place, as a matrix product: a GPU sums it in a fixed order, unlike a scatter."""
    places = torch.arange(int(place_BT.max()) + 1, device=place_BT.device)
    is_at_PN = (place_BT.flatten() == places[:, None]).float()
    mean_PE = is_at_PN @ activation.flatten(0, 1).flatten(1).float() / is_at_PN.sum(dim=1, keepdim=True).clamp(min=1)
    return mean_PE.unflatten(1, activation.shape[2:]).to(activation.dtype)[None]


def run_all_offsets(model: MTPTransformer, tokens: Int[Tensor, "batch pos"]) -> None:
    """Run the trunk and every future head on `tokens`, without computing logits, to fire their hooks."""
    tokens = tokens.to(model.W_E.device)
    model.future_resids(model.trunk(tokens), tokens)


def all_components(model: MTPTransformer) -> list[str]:
    """Every head, every layer's attention and every MLP, from first to last layer; then future heads without attention."""
    names: list[str] = []
    for layer in layer_names(model):
        names += [str(head) for head in heads_of([layer], model.config.n_heads)]
        names += [f"{layer}.attn"] + ([f"{layer}.mlp"] if model.config.mlp != "none" else [])
    return [*names, *matrix_names(model)]


def ablate(
    model: MTPTransformer,
    batch: Batch,
    components: Sequence[str],
    *,
    method: AblationMethod = "mean",
    freeze_patterns: bool = False,
    batch_size: int = 16,
    generator: torch.Generator | None = None,
) -> AblationEffects:
    """Loss and accuracy per offset without each component, over `batch` in parts of `batch_size` rows.

    Means and resampled activations are taken from all rows of `batch`. `generator` (on the CPU) draws the resampled rows.
    Raises ValueError for a component that the model does not have.
    """
    batch = batch.to(model.W_E.device)
    ablator = Ablator(model, batch.tokens, places=batch.alignment, method=method, generator=generator)
    clean: list[np.ndarray] = []
    ablated: list[list[np.ndarray]] = [[] for _ in components]
    for start in range(0, len(batch.tokens), batch_size):
        part = batch.rows(start, start + batch_size)
        clean.append(_figures(model, part, []))
        frozen = frozen_patterns(model, part.tokens) if freeze_patterns else []
        for found, component in zip(ablated, components, strict=True):
            found.append(_figures(model, part, ablator.hooks(component, first_row=start) + frozen))
    taken = [np.stack(found, axis=1) for found in ablated]
    return effects_of(components, method, np.stack(clean, axis=1), taken, frozen=freeze_patterns)


def effects_of(
    components: Sequence[str],
    method: AblationMethod,
    clean: NDArray[np.float64],
    without: Sequence[NDArray[np.float64]],
    *,
    frozen: bool = False,
) -> AblationEffects:
    """The result of an ablation from `scores_by_batch` of the whole model, and of the model without each component."""
    taken = np.array(without).reshape(len(components), *clean.shape)
    return AblationEffects(
        components=tuple(components),
        method=method,
        patterns="frozen" if frozen else "free",
        clean_loss=clean[0],
        clean_accuracy=clean[1],
        loss=taken[:, 0],
        accuracy=taken[:, 1],
    )


def scores_by_batch(
    model: MTPTransformer,
    batch: Batch,
    ablator: Ablator | None = None,
    components: str | Sequence[str] = (),
    *,
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """`[2, batch, offset]`: loss and accuracy on scored tokens, over `batch` in parts of `batch_size` rows.

    With an `ablator`, whose reference rows are those of `batch`, all `components` are ablated together.
    """
    batch = batch.to(model.W_E.device)
    found: list[np.ndarray] = []
    for start in range(0, len(batch.tokens), batch_size):
        hooks = [] if ablator is None else ablator.hooks(components, first_row=start)
        found.append(_figures(model, batch.rows(start, start + batch_size), hooks))
    return np.stack(found, axis=1)


def predicted_tokens(
    model: MTPTransformer, tokens: Int[Tensor, "batch pos"], hooks: list[Hook]
) -> Int[np.ndarray, "batch offset pos"]:
    """The token that each offset predicts at each position, under `hooks`, such as those of an `Ablator`."""
    with quietly(model, hooks):
        logits_BTKV = model(tokens.to(model.W_E.device), all_offsets(model))
    return logits_BTKV.argmax(dim=-1).mT.cpu().numpy()


def frozen_patterns(model: MTPTransformer, tokens: Int[Tensor, "batch pos"]) -> list[Hook]:
    """Hooks that fix every head's attention pattern to the one that the whole model has on `tokens`."""
    patterns = attention_patterns(model, tokens)

    def hold(pattern: Tensor) -> HookFunction:
        return editing(lambda activation: pattern.to(activation.dtype))

    return [(f"{layer}.attn.hook_pattern", hold(pattern)) for layer, pattern in patterns.items()]


def _figures(model: MTPTransformer, batch: Batch, hooks: list[Hook]) -> np.ndarray:
    """`[2, offset]`: loss and accuracy on scored tokens."""
    with quietly(model, hooks):
        found = teacher_forced(lambda tokens, offsets: model(tokens, offsets), [batch], model.n_future)
    return np.array([found.loss, found.accuracy])


def induction_after_ablation(
    model: MTPTransformer,
    batch: Batch,
    ablated: Sequence[Head] | None = None,
    *,
    queries: Tensor | None = None,
    method: AblationMethod = "mean",
) -> InductionAfterAblation:
    """Prefix matching of every head while each of `ablated` (by default every trunk head) is ablated, one at a time.

    An induction head that reads the output of a previous-token head loses its score when that head is ablated. `queries`
    (`[batch, pos]`, bool) restricts the score to these queries.
    """
    trunk = heads_of([name for name in layer_names(model) if name.startswith("blocks.")], model.config.n_heads)
    chosen = tuple(trunk if ablated is None else ablated)
    batch = batch.to("cpu")
    tokens = batch.tokens
    clean = AttentionProbe(tokens, seeded_generator(SEED), queries=queries, real=batch.real)(model)
    mask = match_mask(tokens, 1) & (batch.real if queries is None else batch.real & queries.cpu())[..., None]
    ablator = Ablator(model, tokens, places=batch.alignment, method=method)
    after = []
    for head in chosen:
        with quietly(model, ablator.hooks(str(head))):
            patterns = attention_patterns(model, tokens)
        after.append(
            torch.cat([masked_attention(pattern.cpu(), mask) for pattern in patterns.values()]).double().numpy()
        )
    return InductionAfterAblation(
        ablated=chosen,
        heads=clean.heads,
        before=clean.prefix_matching.ravel(),
        null=clean.null_prefix_matching.ravel(),
        after=np.stack(after) if after else np.zeros((0, len(clean.heads))),
        paths=model.config.paths,
    )


def _every_part(model: MTPTransformer, batch: Batch) -> AblationEffects:
    return ablate(model, batch, all_components(model))


def _every_part_directly(model: MTPTransformer, batch: Batch) -> AblationEffects:
    return ablate(model, batch, all_components(model), freeze_patterns=True)


def _induction_on_task(model: MTPTransformer, batch: Batch) -> InductionAfterAblation:
    return induction_after_ablation(model, batch, queries=scored_queries(batch))


PROBE = (
    Probe(
        name="ablation",
        summary="Loss and accuracy of each offset without each head, each layer's attention and each MLP (mean ablation).",
        result=AblationEffects,
        make=on_rows(_every_part, MANY_ROWS),
        figure=ablation_figure,
    ),
    Probe(
        name="direct_ablation",
        summary="Ablation with all attention patterns held at those of the whole model: effects through what is written.",
        result=AblationEffects,
        make=on_rows(_every_part_directly, MANY_ROWS),
        figure=ablation_figure,
    ),
    Probe(
        name="induction_after_ablation",
        summary="Induction score of every head while each trunk head is ablated.",
        result=InductionAfterAblation,
        make=on_rows(_induction_on_task, MANY_ROWS),
        figure=induction_after_ablation_figure,
    ),
)
