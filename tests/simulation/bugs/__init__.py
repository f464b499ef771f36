"""Programs with a bug that only some orders show.

Run as `python -m tests.simulation.bugs`, it looks for each of them in every way there is.
"""

from . import endings, shared_state, waiting
from .bug import BUGS, Bug, Wrong

__all__ = ["BUGS", "Bug", "Wrong", "endings", "shared_state", "waiting"]
