from importlib.util import find_spec

import pytest

BACKENDS = [
    "asyncio",
    pytest.param(
        "trio", marks=pytest.mark.skipif(find_spec("trio") is None, reason="trio is not installed")
    ),
]


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that a test runs on: every asynchronous test runs on each."""
    return str(request.param)
