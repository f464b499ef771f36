"""What a daemon is, as a class and as a function."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, overload

from ._context import Context

P = ParamSpec("P")


class Daemon(ABC):
    """A long-running component, hosted by a `Supervisor`.

    Attributes:
        name: what errors and reports call it; where empty, the supervisor makes one up.
    """

    name: str = ""

    async def on_start(self, ctx: Context) -> None:  # noqa: B027 - need not be overridden
        """Acquire what ``run`` needs. Where it fails or is cancelled, it cleans up itself."""

    @abstractmethod
    async def run(self, ctx: Context) -> None:
        """Do the work; returning ends the daemon."""

    async def on_stop(self, ctx: Context) -> None:  # noqa: B027 - need not be overridden
        """Release what ``on_start`` acquired.

        Runs exactly once for every ``on_start`` that returned, on every way out, shielded from
        cancellation. Where the daemon is forced to stop, it is cut short after the
        ``finalize_timeout``.
        """


class CallableDaemon(Daemon):
    """Runs a callable with arguments."""

    def __init__(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        name: str = "",
    ) -> None:
        self.name = name
        self.function = function
        self._args = args
        self._kwargs = kwargs

    def __repr__(self) -> str:
        return f"<daemon {self.name or default_name(self)!r}>"

    async def run(self, ctx: Context) -> None:
        """Call it and await what it returns."""
        try:
            result = self.function(ctx, *self._args, **self._kwargs)
        except TypeError:
            with suppress(ValueError):  # not everything that can be called has a signature
                signature = inspect.signature(self.function)
                check_arguments(self.function, signature, self._args, self._kwargs)
            raise
        await awaitable(result, f"{default_name(self)}()")


class Factory(Generic[P]):
    """What `daemon` makes of a function."""

    def __init__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, None]], name: str
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        try:
            self._signature.bind_partial(None)
        except TypeError:
            raise TypeError(
                f"the first parameter of a daemon is its context: make {function.__qualname__}() "
                f"`async def {function.__name__}(ctx, ...)`"
            ) from None
        self._name = name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Daemon:
        check_arguments(self._function, self._signature, args, kwargs)
        return CallableDaemon(self._function, args, kwargs, self._name)

    def __repr__(self) -> str:
        return f"<daemon factory {self._function.__qualname__}>"


@overload
def daemon(
    function: Callable[Concatenate[Context, P], Coroutine[Any, Any, None]], /
) -> Callable[P, Daemon]: ...


@overload
def daemon(
    *, name: str
) -> Callable[
    [Callable[Concatenate[Context, P], Coroutine[Any, Any, None]]], Callable[P, Daemon]
]: ...


def daemon(function: Any = None, /, *, name: str = "") -> Any:
    """Make a factory of daemons from ``async def f(ctx, *args, **kwargs)``.

    Calling the factory with the arguments after ``ctx`` makes one `Daemon`. Wrong arguments fail
    there, and type checkers know them.

    Args:
        function: the function; left out in ``@daemon(name=...)``.
        name: the name of every daemon made by this factory; made up from the function's where
            not given.

    Raises:
        TypeError: what is decorated is not an async function.
    """

    def decorate(function: Any) -> Any:
        if not inspect.iscoroutinefunction(function):
            if inspect.isfunction(function):
                raise TypeError(
                    f"@daemon needs an async function: make {function.__qualname__}() "
                    f"`async def {function.__name__}(ctx, ...)`, without `yield`"
                )
            raise TypeError(
                f"@daemon needs an async function, got {function!r}; a name is given as "
                "@daemon(name=...)"
            )
        return Factory(function, name)

    return decorate if function is None else decorate(function)


def default_name(daemon: Daemon) -> str:
    """What to call a daemon that has no name of its own."""
    named: object = daemon
    if isinstance(daemon, CallableDaemon):
        named = daemon.function
        while isinstance(named, functools.partial):
            named = named.func
    name = getattr(named, "__name__", type(named).__name__)
    return "lambda" if name == "<lambda>" else str(name)


def check_arguments(
    function: Callable[..., object],
    signature: inspect.Signature,
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    """Refuse arguments with which a daemon's function could not be called."""
    try:
        signature.bind(None, *args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"daemon {name}({', '.join(signature.parameters)}): {error}; the first is the context, "
            "which the supervisor gives, and the others are yours to give"
        ) from None


def awaitable(result: object, call: str) -> Awaitable[object]:
    """What a hook has returned, which must be awaitable."""
    if isinstance(result, Awaitable):
        return result
    raise TypeError(
        f"{call} returned {result!r}, which cannot be awaited: make it an async function, "
        "`async def` without `yield`"
    )
