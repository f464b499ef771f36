from importlib.util import find_spec

import pytest
from hypothesis import settings

BACKENDS = [
    "asyncio",
    pytest.param(
        "trio", marks=pytest.mark.skipif(find_spec("trio") is None, reason="trio is not installed")
    ),
]

pytest.register_assert_rewrite("tests.core.channel_cases")

# No test fails because the machine was busy.
settings.register_profile("chrono", settings(), deadline=None)
settings.load_profile("chrono")


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that a test runs on: every asynchronous test runs on each."""
    return str(request.param)
