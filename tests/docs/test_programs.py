import re
import sys
from pathlib import Path

import pytest

from .programs import ROOT, Program, pages, programs, programs_in, run, trouble

PROGRAMS = [program for page in pages() for program in programs(page) if program.error is None]

TEST = re.compile(r"^(async )?def test_", re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.where)
def test_program_runs_and_prints_what_its_page_shows(program: Program, tmp_path: Path) -> None:
    """A reader who copies a block from the documentation gets what the page says.

    Tests in it pass under pytest.
    """
    assert trouble(program, sys.executable, tmp_path) == ""
    if TEST.search(program.source):
        arguments = ("-m", "pytest", "-p", "no:cacheprovider", "program.py")
        done = run(sys.executable, tmp_path, *arguments)
        assert done.returncode == 0, f"{program.where}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["chrono-core", "chrono-recipes", "chrono-zmq"])
def test_readme_has_a_program(name: str) -> None:
    """Each package begins with a program that works, and says what it prints."""
    found = programs(ROOT / "packages" / name / "README.md")
    assert found
    assert found[0].output is not None


PAGE = """
1. A list:

   ```python
   print(1)
   ```

   It prints:

   ```output
   1
   ```

```python
pass
```

```python
1 / 0
```

```error
ZeroDivisionError: division by zero
```
"""


def test_programs_are_found_with_their_output() -> None:
    """A block in a list counts too, and output belongs to the program before it."""
    assert programs_in(PAGE, "page.md") == [
        Program("page.md:5", "print(1)\n", output="1\n"),
        Program("page.md:15", "pass\n"),
        Program("page.md:19", "1 / 0\n", error="ZeroDivisionError: division by zero\n"),
    ]
