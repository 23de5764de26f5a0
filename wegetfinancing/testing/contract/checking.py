"""What a check of any contract is made of."""

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Generic, Self, TypeVar

import attrs

_Body = TypeVar("_Body", bound=Callable[..., Any])
_Check = TypeVar("_Check", bound="Check[Any]")


def require(condition: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Fail a check unless the condition holds."""
    if not condition:
        raise AssertionError(what)


@attrs.frozen
class Check(Generic[_Body]):
    """One rule of a contract; each contract says how its checks are called."""

    name: str
    rule: str
    _body: _Body = attrs.field(repr=False)

    @classmethod
    def of(cls, body: _Body) -> Self:
        """Make a check of a function: its name is the check's, its docstring the rule."""
        return cls(body.__name__, " ".join(str(body.__doc__).split()), body)

    @contextlib.contextmanager
    def _stating_the_rule(self) -> Iterator[None]:
        """Let what fails inside say which rule is broken."""
        try:
            yield
        except (AssertionError, BaseExceptionGroup) as error:
            failure: BaseException = error
            # A task group wraps what is raised inside it.
            while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
                failure = failure.exceptions[0]
            if not isinstance(failure, AssertionError):
                raise
            msg = f"{self.name}: {failure}. The rule: {self.rule}"
            raise AssertionError(msg) from None

    def __str__(self) -> str:
        """Name it, for the ids of a parametrised test."""
        return self.name


def checks_in(kind: type[_Check], *modules: ModuleType) -> tuple[_Check, ...]:
    """Return the checks of a contract in the order of their definitions."""
    return tuple(each for module in modules for each in vars(module).values() if isinstance(each, kind))
