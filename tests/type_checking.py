"""The checker that the import hook of conftest.py puts around every function: beartype, where an int is a float too.

What torch.compile traces runs without checks, as if there were no hook. Traced, they would cut the compiled graph into pieces,
and the compiled check refuses tensors of the right shape.
"""

import functools
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def _decorator(*args: Any, **options: Any) -> Any:
    """`jaxtyping.jaxtyped`, which the hook writes with a checker alone before every definition, for definitions to be compiled."""
    if args:
        return _jaxtyped(*args, **options)
    if torch.compiler.is_compiling():  # a function inside the one that is traced
        return lambda definition: definition
    return lambda definition: _checked_unless_compiling(definition, _jaxtyped(**options))


def _checked_unless_compiling(definition: Any, check: Callable[[Any], Any]) -> Any:
    if "triton" in getattr(definition, "__globals__", {}):
        return definition  # triton compiles a kernel from its source, with the names of its own module
    if not isinstance(definition, type):
        return _unless_compiling(definition, check(definition))
    plain = definition.__init__
    check(definition)  # where it is a dataclass, its __init__ is checked from now on
    if definition.__init__ is not plain:
        definition.__init__ = _unless_compiling(plain, definition.__init__)
    return definition


def _unless_compiling(plain: Callable[..., Any], checking: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile takes the condition as constant and looks at the plain function alone."""

    @functools.wraps(plain)
    def either(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs) if torch.compiler.is_compiling() else checking(*args, **kwargs)

    return either


jaxtyping.jaxtyped = _decorator
