"""The Python programs that stand in the documentation."""

import itertools
import os
import re
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SECONDS = 60

# What asyncio's debug mode says on a busy machine.
SLOW = re.compile(r"^Executing <.*> took \d+\.\d+ seconds\n", re.MULTILINE)

BLOCK = re.compile(
    r"^(?P<indent>[ ]*)```(?P<language>python|output|error)\b[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Program:
    """One fenced block that says `python`.

    Attributes:
        where: the page and the line of the block's first statement.
        source: the program.
        output: what the next fenced block that says `output` claims it prints; None without one.
        error: the same of one that says `error`, for a program that is wrong.
    """

    where: str
    source: str
    output: str | None = None
    error: str | None = None


def pages() -> list[Path]:
    """Every page that may show a program."""
    readmes = [ROOT / "README.md", *(ROOT / "packages").glob("*/README.md")]
    guides = (ROOT / "docs").rglob("*.md")
    return sorted([*readmes, *guides])


def programs(page: Path) -> list[Program]:
    """The programs of one page, in order."""
    return programs_in(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix())


def programs_in(text: str, name: str) -> list[Program]:
    """The programs of a page's text, in order."""
    blocks = list(BLOCK.finditer(text))
    found = []
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        if block["language"] != "python":
            continue
        said = {}
        if following is not None and following["language"] != "python":
            said[following["language"]] = textwrap.dedent(following["text"])
        line = text.count("\n", 0, block.start()) + 2
        found.append(Program(f"{name}:{line}", textwrap.dedent(block["text"]), **said))
    return found


def run(python: str | Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with every warning as an error."""
    return subprocess.run(
        [os.fspath(python), "-X", "dev", "-X", "utf8", "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def trouble(program: Program, python: str | Path, folder: Path) -> str:
    """What is wrong with a program that is run as its reader would; empty where nothing is."""
    (folder / "program.py").write_text(program.source, encoding="utf-8")
    done = run(python, folder, "program.py")
    complaint = SLOW.sub("", done.stderr)
    if done.returncode != 0 or complaint:
        return f"{program.where} fails:\n{done.stdout}{complaint}"
    if program.output is not None and done.stdout != program.output:
        return f"{program.where} should print\n{program.output}and prints\n{done.stdout}"
    return ""
