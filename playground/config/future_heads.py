"""Types of future heads as a configuration sees them, and the registry that finds a type by its name.

Every module in playground/model/future_heads that defines `FUTURE_HEADS` is a type; there is no list. A type defined elsewhere
(such as in a notebook) is added with `register_future_heads`. Nothing here needs torch: a type builds its modules only when a
model is built.

Future head k is that of offset k; its index is k - 1.
"""

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from tyro.constructors import PrimitiveConstructorSpec

from playground.config.checks import nearest
from playground.config.values import short_value

PACKAGE = "playground.model.future_heads"
"""The package that is searched for types."""
DEFAULT = "independent"
"""The type of the paper, and of runs that were stored before there were others."""


@runtime_checkable
class Sizes(Protocol):
    """What the numbers of parameters and operations depend on; a `ModelConfig` is one."""

    @property
    def d_model(self) -> int: ...

    @property
    def d_mlp(self) -> int: ...

    @property
    def layer_elements(self) -> int:
        """Elements of the matrices of one trunk layer."""
        ...

    @property
    def layer_parameters(self) -> int:
        """Parameters of one trunk layer, its norms included."""
        ...

    @property
    def norm_parameters(self) -> int:
        """Parameters of one norm."""
        ...


class HeadDescription(ABC):
    """What one future head is, without its weights."""

    has_attention: ClassVar[bool] = False
    """True for a layer with attention, which the controls count as one of `n_layers`."""
    is_trunk_layer: ClassVar[bool] = False
    """True for a layer that is built like those of the trunk."""
    reads_ahead: int = 0
    """At position t the module also reads the embedding of the token t + `reads_ahead`; 0: it reads no token."""

    @abstractmethod
    def parameters(self, sizes: Sizes) -> int:
        """Number of parameters."""

    @abstractmethod
    def matrix_elements(self, sizes: Sizes) -> int:
        """Number of elements of all matrices by which a token is multiplied: each costs 6 FLOPs in training."""


class TypeDescription(ABC):
    """What a configuration needs to know of a type of future heads. Types derive from `FutureHeadType`, which adds the modules
    (playground/model/future_heads/base.py)."""

    name: ClassVar[str]
    """Value of `ModelConfig.future_heads`."""
    summary: ClassVar[str]
    """One sentence: which module predicts an offset, and what it reads."""
    source: ClassVar[str]
    """Paper and section, or who defined it."""

    @abstractmethod
    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        """For each offset, the indices of the future heads that it runs through in order; the last is its own.

        The first of them reads the trunk's output z, each other one the residual stream after the one before it.
        """

    @abstractmethod
    def module(self, index: int) -> HeadDescription:
        """The future head of this index."""

    @property
    def fits_base(self) -> bool:
        """True if the future heads from offset 2 on can be trained on the frozen trunk of a next-token run.

        Offset 1 must be computed as in a next-token model, by one layer on the trunk.
        """
        return self.paths(2)[0] == (0,) and self.module(0).is_trunk_layer

    def reads_ahead(self, n_future: int, offset: int) -> int:
        """How many tokens after position t the modules on the path of an offset read at position t."""
        return max(self.module(index).reads_ahead for index in self.paths(n_future)[offset - 1])


_registered: dict[str, TypeDescription] = {}


@functools.cache
def _shipped() -> dict[str, TypeDescription]:
    package = importlib.import_module(PACKAGE)
    found: dict[str, TypeDescription] = {}
    for info in pkgutil.iter_modules(package.__path__):
        kind = getattr(importlib.import_module(f"{PACKAGE}.{info.name}"), "FUTURE_HEADS", None)
        if kind is not None:
            _check(kind)
            found[kind.name] = kind
    return found


def register_future_heads(kind: TypeDescription) -> None:
    """Register a type that is defined outside of playground/model/future_heads, under `kind.name`.

    Raises ValueError when the name is taken by another class, and for paths or reads that cannot be.
    """
    known = (_shipped() | _registered).get(kind.name)
    if known is not None and type(known).__qualname__ != type(kind).__qualname__:
        raise ValueError(f"the name '{kind.name}' is taken by {type(known).__qualname__}; choose another name")
    _check(kind)
    _registered[kind.name] = kind


def future_head_names() -> list[str]:
    """Names of all types, sorted."""
    return sorted(_shipped() | _registered)


def future_head_type(name: str) -> TypeDescription:
    """The type of this name. Raises ValueError, with the nearest name, for an unknown one.

    >>> future_head_type("causal").paths(3), future_head_type("anticausal").paths(3), future_head_type("medusa_mlp").paths(3)
    (((0,), (0, 1), (0, 1, 2)), ((2, 1, 0), (2, 1), (2,)), ((0,), (0, 1), (0, 2)))
    >>> [kind for kind in future_head_names() if not future_head_type(kind).fits_base]
    ['anticausal', 'linear']
    """
    found = _registered.get(name) or _shipped().get(name)
    if found is None:
        raise ValueError(f"future_heads is {short_value(name)}{nearest(name, future_head_names())}")
    return found


def future_head_paths(name: str, n_future: int) -> tuple[tuple[int, ...], ...]:
    """For each offset, the indices of the future heads of this type that it runs through (`TypeDescription.paths`).

    Raises ValueError for an unknown type.
    """
    return future_head_type(name).paths(n_future)


MOST_CHECKED = 5
"""Numbers of offsets for which the paths of a new type are checked."""


def _check(kind: TypeDescription) -> None:
    """Raises ValueError for a type whose offsets do not end with their own future head, or read their own target."""
    where = f"the type of future heads '{kind.name}' ({type(kind).__qualname__})"
    for n_future in range(1, MOST_CHECKED + 1):
        paths = kind.paths(n_future)
        if len(paths) != n_future:
            raise ValueError(f"{where} has {len(paths)} paths for n_future {n_future}; return one for each offset")
        for index, path in enumerate(paths):
            if not path or path[-1] != index or len(set(path)) < len(path) or not set(path) <= set(range(n_future)):
                raise ValueError(
                    f"{where} has the path {path} for offset {index + 1} of {n_future}; write different indices below "
                    f"{n_future}, with {index} as the last"
                )
            if kind.reads_ahead(n_future, index + 1) > index:
                raise ValueError(
                    f"{where} reads {kind.reads_ahead(n_future, index + 1)} tokens ahead on the path of offset {index + 1}, "
                    f"whose target is {index + 1} ahead; read at most {index}"
                )


class _Choice(PrimitiveConstructorSpec[str]):
    """Tells the command line that a text is the name of a type; the names are looked up when options are parsed."""

    def __init__(self) -> None:
        super().__init__(
            nargs=1,
            metavar="",
            instance_from_str=lambda words: words[0],
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [value],
        )

    def __hash__(self) -> int:
        return id(self)  # that of the dataclass would look the names up when this module is imported

    def __getattribute__(self, name: str) -> Any:
        if name == "choices":
            return tuple(future_head_names())
        if name == "metavar":
            return f"{{{','.join(future_head_names())}}}"
        return super().__getattribute__(name)


FutureHeads = Annotated[str, _Choice()]
"""Name of a type of future heads."""
