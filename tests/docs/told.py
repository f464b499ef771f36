"""Run a program on several backends, and print what each tells whoever wrote it, as JSON.

That is what it prints, each warning, and the errors in which it ends, as Python names them but
without their modules. `python told.py PROGRAM BACKEND...`.
"""

import contextlib
import functools
import io
import json
import runpy
import sys
import warnings

import anyio

run = anyio.run


def main(program: str, *backends: str) -> None:
    print(json.dumps({backend: told(program, backend) for backend in backends}))


def told(program: str, backend: str) -> str:
    anyio.run = functools.partial(run, backend=backend)
    with contextlib.redirect_stdout(io.StringIO()) as said, warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: tell(category, message)
        try:
            runpy.run_path(program, run_name="__main__")
        except BaseException as error:
            for leaf in leaves(error):
                tell(type(leaf), leaf)
    return said.getvalue()


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, or the one error."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


def tell(kind: type, message: object) -> None:
    print(f"{kind.__name__}: {message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
