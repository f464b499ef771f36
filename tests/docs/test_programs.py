import re
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import ROOT, Program, pages, programs, programs_in

PROGRAMS = [program for page in pages() for program in programs(page)]
SECONDS = 60

TEST = re.compile(r"^(async )?def test_", re.MULTILINE)

# What asyncio's debug mode says on a busy machine.
SLOW = re.compile(r"^Executing <.*> took \d+\.\d+ seconds\n", re.MULTILINE)


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-X", "utf8", "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.where)
def test_program_runs_and_prints_what_its_page_shows(program: Program, tmp_path: Path) -> None:
    """A reader who copies a block from the documentation gets what the page says.

    Tests in it pass under pytest.
    """
    file = tmp_path / "program.py"
    file.write_text(program.source, encoding="utf-8")
    done = run(tmp_path, file)
    assert done.returncode == 0, f"{program.where}\n{done.stdout}{done.stderr}"
    assert SLOW.sub("", done.stderr) == ""
    if program.output is not None:
        assert done.stdout == program.output
    if TEST.search(program.source):
        done = run(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", file)
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
"""


def test_programs_are_found_with_their_output() -> None:
    """A block in a list counts too, and output belongs to the program before it."""
    assert programs_in(PAGE, "page.md") == [
        Program("page.md:5", "print(1)\n", "1\n"),
        Program("page.md:15", "pass\n", None),
    ]
