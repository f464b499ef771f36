"""Replacing private names for as long as anybody needs that, and putting back what was there.

A shim belongs to the process, whatever thread a simulation runs in: it is put in place with the
first that needs it, and taken away with the last. So what it puts in place must do no harm to event
loops that are not simulated, and run beside.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Patch:
    """One name that is replaced.

    Attributes:
        owner: the module or the class that has the name; None where that is gone.
        name: the name.
        replace: makes what takes its place, of what was there.
        promise: what does not hold without it, for a warning.
        builtin: whether the name is one of the built-ins', which the owner looks up and need not
            have itself.
    """

    owner: Any
    name: str
    replace: Callable[[Any], Any]
    promise: str
    builtin: bool = False

    @property
    def possible(self) -> bool:
        """Whether the name is where it is looked for."""
        return self.owner is not None and (self.builtin or hasattr(self.owner, self.name))


class Shim:
    """Names that are replaced together."""

    def __init__(self, library: str, patches: Iterable[Patch]) -> None:
        self._library = library
        self._patches = tuple(patches)
        self._lock = threading.Lock()
        self._users = 0
        self._saved: list[tuple[Any, str, object]] = []

    def begin(self) -> None:
        """Put it in place."""
        missing = [patch for patch in self._patches if not patch.possible]
        for patch in missing:
            warnings.warn(
                f"{self._library} has no {patch.name!r} any more where a simulation needs it: "
                f"{patch.promise}",
                RuntimeWarning,
                stacklevel=2,
            )
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            for patch in self._patches:
                if patch.possible:
                    before = vars(patch.owner).get(patch.name, _ABSENT)
                    self._saved.append((patch.owner, patch.name, before))
                    setattr(patch.owner, patch.name, patch.replace(before))

    def end(self) -> None:
        """Take it away, unless somebody else needs it."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for owner, name, before in reversed(self._saved):
                if before is _ABSENT:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)
            self._saved.clear()


class OrderedSet(set[Any]):
    """A set that is iterated over in the order in which things were added."""

    __slots__ = ("_order",)

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._order: dict[Any, None] = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[Any]:
        yield from self._order

    def add(self, item: Any) -> None:
        super().add(item)
        self._order[item] = None

    def remove(self, item: Any) -> None:
        super().remove(item)
        del self._order[item]

    def discard(self, item: Any) -> None:
        super().discard(item)
        self._order.pop(item, None)

    def pop(self) -> Any:
        for item in self._order:
            self.remove(item)
            return item
        raise KeyError("pop from an empty set")

    def clear(self) -> None:
        super().clear()
        self._order.clear()

    def update(self, *others: Iterable[Any]) -> None:
        for other in others:
            for item in other:
                self.add(item)

    def difference_update(self, *others: Iterable[Any]) -> None:
        for other in others:
            for item in list(other):
                self.discard(item)

    def copy(self) -> OrderedSet:
        return type(self)(self)


class Ordered(dict[Any, None]):
    """The same for sets that nobody outside sees: faster, and no set."""

    __slots__ = ()

    add = dict.setdefault
    remove = dict.__delitem__

    def discard(self, item: Any) -> None:
        self.pop(item, None)


class Backward(Ordered):
    """For who puts it on a stack, and takes from the end of that."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return reversed(self)


def ordered(items: Iterable[Any] = ()) -> Ordered:
    """Stands in for ``set``."""
    found = Ordered()
    for item in items:
        found.add(item)
    return found
