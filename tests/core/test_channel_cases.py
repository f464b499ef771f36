"""The cases of every channel, over those within a process."""

from collections.abc import AsyncIterator

import pytest

from .channel_cases import *  # noqa: F403
from .channels import IN_PROCESS, Opener


@pytest.fixture
async def opener() -> AsyncIterator[Opener]:
    """Opens channels within this process."""
    opener = Opener(IN_PROCESS)
    yield opener
    await opener.close()
