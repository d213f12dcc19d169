"""Random polynomial expressions, thousands at a time: drawn as trees, evaluated, written as tokens.

No step loops over expressions. A tree is stored as its nodes in prefix order, one SLOT each; loops run over slots.

- Trees are drawn from the first slot to the last, with a stack of operation counts still to be placed. An operator is
  uniform over the operations; of the operations left below a binary one, the left operand gets 0, 1, .. or all, each
  equally likely ("split"), or always all, so that every right operand is a plain polynomial ("chain").
- They are evaluated from the last slot to the first, with a stack of polynomials.
- They are written by counting the tokens before each slot. In infix notation every binary operation has brackets; the
  number that close before a slot is the fall in bracket depth since the previous slot.

Worked row, p = 7 and k = 2, prefix slots of the infix text "( neg 1 2 + ( 3 0 * 0 1 ) )":

    slot     0    1    2     3    4     5
    kind     +   neg  1 2    *   3 0   0 1
    depth    0    1    1     1    2     2       brackets around the node
    joint    -    -    -     +    -     *       the operator written just before the node in infix notation

Dimension letters: N expression, J slot, S stack, C coefficient, L token of an expression.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from tasks.polynomial_grammar import OPERATIONS, Grammar
from tasks.polynomial_ring import BINARY, negate

NEGATION, LEAF, EMPTY = 0, len(OPERATIONS), len(OPERATIONS) + 1
"""Kinds of slots. The kinds 0..3 are the operations, in the order of OPERATIONS."""
MOST_TABULATED = 256
"""Largest number of polynomials of a ring for which its operations are tabulated."""


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Expression trees in prefix order (see the module's docstring). Slots past the last node are EMPTY."""

    kind: Int[Tensor, "n slot"]
    depth: Int[Tensor, "n slot"]
    joint: Int[Tensor, "n slot"]
    leaf: Int[Tensor, "n slot coef"]
    """Coefficients of the polynomial in a slot; valid only in slots of kind LEAF."""


@dataclass(frozen=True, kw_only=True)
class Expressions:
    """Expressions with their answers, one per row, padded at the end."""

    tokens: Int[Tensor, "n token"]
    length: Int[Tensor, " n"]
    operations: Int[Tensor, " n"]

    def __getitem__(self, which: slice) -> "Expressions":
        """Some of the expressions, as views."""
        return Expressions(tokens=self.tokens[which], length=self.length[which], operations=self.operations[which])


def sample_expressions(
    operations: Int[Tensor, " n"], most: int, grammar: Grammar, generator: torch.Generator
) -> Expressions:
    """Draw one expression for each entry of `operations`, its number of operations (1..`most`)."""
    trees = sample_trees(operations, most, grammar, generator)
    small = grammar.prime**grammar.coefficients <= MOST_TABULATED
    answer = evaluate_by_table(trees, grammar) if small else evaluate(trees, grammar)
    return write(trees, answer, operations, grammar)


def sample_trees(operations: Int[Tensor, " n"], most: int, grammar: Grammar, generator: torch.Generator) -> Trees:
    """Draw one tree for each entry of `operations`, its number of operations; trees have 2 * `most` + 1 slots."""
    device, shape = operations.device, (len(operations), 2 * most + 1)
    allowed = torch.tensor([list(OPERATIONS).index(name) for name in grammar.operations], device=device)
    drawn_NJ = allowed[torch.randint(len(allowed), shape, generator=generator, device=device)]
    split_NJ = torch.rand(shape, generator=generator, device=device)
    if grammar.tree_shape == "chain":
        split_NJ = split_NJ.new_full((), 1 - 2**-20).expand(shape)
    leaf = torch.randint(grammar.prime, (*shape, grammar.coefficients), generator=generator, device=device)
    # Stack of pending operands, the next one on top: (operations, depth, joint) of each.
    stack_NS3 = torch.zeros(len(operations), most + 2, 3, dtype=torch.long, device=device)
    stack_NS3[:, 0, 0], stack_NS3[:, 0, 2] = operations, EMPTY
    size_N = torch.ones_like(operations)
    slots = []
    for slot in range(shape[1]):
        budget, depth, joint = _take(stack_NS3, size_N - 1).unbind(dim=1)
        kind = torch.where(budget > 0, drawn_NJ[:, slot], LEAF).where(size_N > 0, EMPTY)
        slots.append(torch.stack([kind, depth.where(kind != EMPTY, 0), joint.where(kind != EMPTY, EMPTY)]))
        is_binary = (kind > NEGATION) & (kind < LEAF)
        left = (split_NJ[:, slot] * budget).long()
        inside = depth + is_binary
        last = torch.stack([budget - 1 - left * is_binary, inside, torch.where(is_binary, kind, EMPTY)], dim=1)
        first = torch.stack([left, inside, torch.full_like(left, EMPTY)], dim=1)
        _put(stack_NS3, size_N - 1, last)
        _put(stack_NS3, size_N, first)
        size_N = (size_N - (kind == LEAF).long() + is_binary).clamp(min=0)
    kind_NJ, depth_NJ, joint_NJ = torch.stack(slots, dim=2)
    return Trees(kind=kind_NJ, depth=depth_NJ, joint=joint_NJ, leaf=leaf)


def evaluate(trees: Trees, grammar: Grammar) -> Int[Tensor, "n coef"]:
    """The value of every tree, as coefficients."""
    n, n_slots, size = trees.leaf.shape
    stack_NSC = trees.leaf.new_zeros(n, n_slots // 2 + 1, size)
    size_N = trees.kind.new_zeros(n)
    for slot in reversed(range(n_slots)):
        kind = trees.kind[:, slot]
        first, second = _take(stack_NSC, size_N - 1), _take(stack_NSC, size_N - 2)
        value = trees.leaf[:, slot]
        for index, (name, symbol) in enumerate(OPERATIONS.items()):
            if name in grammar.operations:
                result = BINARY[symbol](first, second, grammar.prime) if index else negate(first, grammar.prime)
                value = torch.where((kind == index)[:, None], result, value)
        operands = torch.where(kind == NEGATION, 1, 2).where(kind < LEAF, 0)
        place = size_N - operands
        _put(stack_NSC, place, value)
        size_N = torch.where(kind == EMPTY, 0, place + 1)
    return stack_NSC[:, 0]


def evaluate_by_table(trees: Trees, grammar: Grammar) -> Int[Tensor, "n coef"]:
    """The value of every tree, as `evaluate` gives it, for rings small enough to tabulate all results: four times as fast.

    A polynomial is encoded as one number with its coefficients as digits, so that an operation is one table look-up.
    """
    n, n_slots, size = trees.leaf.shape
    device = trees.kind.device
    table = _table(grammar, device)
    n_polynomials = table.shape[1]
    digits_C = grammar.prime ** torch.arange(size, device=device)
    leaf_NJ = (trees.leaf * digits_C).sum(dim=2)
    is_leaf_NJ = trees.kind == LEAF
    operands_NJ = torch.where(trees.kind == NEGATION, 1, 2).where(trees.kind < LEAF, 0)
    row_NJ = trees.kind.clamp(max=LEAF - 1) * n_polynomials
    flat = table.flatten()
    stack_NS = trees.kind.new_zeros(n, n_slots // 2 + 1)
    size_N1 = trees.kind.new_zeros(n, 1)
    for slot in reversed(range(n_slots)):
        first = stack_NS.gather(1, (size_N1 - 1).clamp_(min=0))
        second = stack_NS.gather(1, (size_N1 - 2).clamp_(min=0))
        result = flat[(row_NJ[:, slot, None] + first) * n_polynomials + second]
        place = size_N1 - operands_NJ[:, slot, None]
        stack_NS.scatter_(1, place.clamp(min=0), torch.where(is_leaf_NJ[:, slot, None], leaf_NJ[:, slot, None], result))
        size_N1 = (place + 1).where(trees.kind[:, slot, None] != EMPTY, 0)
    return stack_NS[:, :1] // digits_C % grammar.prime


@cache
def _table(grammar: Grammar, device: torch.device) -> Int[Tensor, "kind first second"]:
    """Table of the results of every operation on every pair of polynomials, encoded as numbers."""
    size, count = grammar.coefficients, grammar.prime**grammar.coefficients
    digits_C = grammar.prime ** torch.arange(size)
    every_NC = torch.arange(count)[:, None] // digits_C % grammar.prime
    first, second = every_NC.repeat_interleave(count, dim=0), every_NC.repeat(count, 1)
    results = [negate(first, grammar.prime)]
    results += [BINARY[symbol](first, second, grammar.prime) for symbol in list(OPERATIONS.values())[1:]]
    return torch.stack([(result * digits_C).sum(dim=1).view(count, count) for result in results]).to(device)


def write(trees: Trees, answer: Int[Tensor, "n coef"], operations: Int[Tensor, " n"], grammar: Grammar) -> Expressions:
    """The expressions as tokens: "|", the expression, pauses, "=", the answer."""
    kind, device = trees.kind, trees.kind.device
    size, width = grammar.coefficients, grammar.longest(kind.shape[1] // 2)
    own_NJ = torch.where(kind == LEAF, size, 1).where(kind != EMPTY, 0)
    head_NJ = kind + grammar.prime
    start_NJ = 1 + own_NJ.cumsum(dim=1) - own_NJ
    expression_N = own_NJ.sum(dim=1)
    tokens = kind.new_full((len(kind), width + 1), grammar.token("_"))  # the last column receives unused writes
    if grammar.notation == "infix":
        is_binary = (kind > NEGATION) & (kind < LEAF)
        has_joint = trees.joint != EMPTY
        closed_NJ = F.pad((trees.depth + is_binary)[:, :-1], (1, 0)) - trees.depth
        start_NJ = start_NJ + (closed_NJ + has_joint.long()).cumsum(dim=1)
        expression_N = expression_N + 2 * is_binary.sum(dim=1)
        # Fill the expression with closing brackets; everything else is then written over them.
        within = torch.arange(width + 1, device=device) <= expression_N[:, None]
        tokens = tokens.masked_fill(within, grammar.token(")"))
        tokens.scatter_(1, (start_NJ - 1).where(has_joint, width), trees.joint + grammar.prime)
        head_NJ = torch.where(is_binary, grammar.token("("), head_NJ)
    part_C = torch.arange(size, device=device)
    where_NJC = (start_NJ[:, :, None] + part_C).where(part_C < own_NJ[:, :, None], width)
    what_NJC = torch.where((kind == LEAF)[:, :, None], trees.leaf, head_NJ[:, :, None])
    tokens.scatter_(1, where_NJC.flatten(1), what_NJC.flatten(1))
    tokens[:, 0] = grammar.token("|")
    marks = torch.tensor([grammar.token(".")] * grammar.pause + [grammar.token("=")], device=device)
    tail = torch.cat([marks.expand(len(kind), -1), answer], dim=1)
    tokens.scatter_(1, 1 + expression_N[:, None] + torch.arange(tail.shape[1], device=device), tail)
    return Expressions(tokens=tokens[:, :width], length=1 + expression_N + tail.shape[1], operations=operations)


def _take(stack: Tensor, place_N: Tensor) -> Tensor:
    """One entry of each row's stack; for a `place_N` below 0 the result is not meaningful."""
    return stack.gather(1, place_N.clamp(min=0)[:, None, None].expand(-1, 1, stack.shape[2])).squeeze(1)


def _put(stack: Tensor, place_N: Tensor, entry: Tensor) -> None:
    """Write one entry of each row's stack."""
    stack.scatter_(1, place_N.clamp(min=0)[:, None, None].expand(-1, 1, stack.shape[2]), entry[:, None])
