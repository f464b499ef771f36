import sys

import pytest

from . import examples


@pytest.mark.parametrize(
    ("name", "module"), [("flight_replay", "flight_run"), ("inference_stack", "stack_session")]
)
def test_a_loaded_example_leaves_no_module_behind(name: str, module: str) -> None:
    """What one example calls its modules is not in the way of the next."""
    path = list(sys.path)
    main, loaded = examples.load(name, module)
    assert callable(main)
    assert loaded.__name__ == module
    assert sys.path == path
    assert module not in sys.modules
