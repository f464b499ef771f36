"""Every error of chrono-recipes.

ChronoError                      of chrono-core
└── RecipeError
    ├── BatcherStopped           the loop that would have answered has ended
    ├── UnknownKey               has .item, .key: there is no destination for it
    └── WrongBatchSize           a batch function gave another number of answers

ReceiverEnded                    an EndOfStream, has .index: one of several receivers has ended
"""

from __future__ import annotations

from chrono_core import ChronoError, EndOfStream


class RecipeError(ChronoError):
    """Root of the errors of recipes."""


class BatcherStopped(RecipeError):
    """The batcher has ended before it could answer."""


class UnknownKey(RecipeError):
    """An item has a key for which there is no destination.

    Attributes:
        item: the item, which is still the next one of its source.
        key: its key.
    """

    def __init__(self, message: str, *, item: object, key: object) -> None:
        super().__init__(message)
        self.item = item
        self.key = key


class WrongBatchSize(RecipeError):
    """A batch function returned another number of answers than it was given requests."""


class ReceiverEnded(EndOfStream):
    """One of several receivers has ended, and the others may go on.

    Attributes:
        index: which of them.
    """

    def __init__(self, message: str, *, channel: str, index: int) -> None:
        super().__init__(message, channel=channel)
        self.index = index
