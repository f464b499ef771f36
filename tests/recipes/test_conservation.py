"""What goes into a recipe comes out, is still in a channel, or was dropped for a reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .routing import ONE_SOURCE, plans, play

RECIPES = (*ONE_SOURCE, "merge", "select")


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=50)
@given(data=st.data())
def test_nothing_is_lost_or_comes_twice(
    recipe: str, data: st.DataObject, anyio_backend: str
) -> None:
    """Whoever is slow, leaves or is cancelled, every item is where it can be accounted for."""
    play(data.draw(plans(recipe)), anyio_backend)
