import itertools
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from . import examples

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no process is killed like this there")

NAME = "flight_processes"
PART = 20.0

# More than the example itself has for a flight that does not end.
SECONDS = 180

# Seconds after which a death is noticed; and where there is none, so that a busy machine is not
# taken for one.
DEAD = "4"
NEVER = "30"

# The buffer of a link, which is also that of a channel, and as much as a daemon has in hand.
BUFFER = 32
REPORT = 64

main, accounts = examples.load(NAME, "process_report")
_, filters, flight_daemons, logs, reports = examples.load(
    "flight_replay", "flight_filter", "flight_daemons", "flight_log", "flight_report"
)

Gaps = list[range]


@pytest.fixture(scope="module")
def log() -> Any:
    """The whole log."""
    return logs.read_flight(examples.EXAMPLES / "flight_replay" / "data")


@pytest.fixture
def folder() -> Iterator[str]:
    """Where the runs of a test have their sockets; the paths of sockets must be short."""
    with tempfile.TemporaryDirectory() as name:
        yield name


PATCHED = """
import runpy, sys
sys.path.insert(0, {directory!r})
import process_parent
process_parent.{patch}
runpy.run_path({directory!r}, run_name="__main__")
"""


def start(folder: str, *options: str, patch: str | None = None) -> subprocess.Popen[str]:
    """Run the example as its page says, not in the slow development mode; warnings are errors.

    A patch changes a constant of the parent.
    """
    directory = str(examples.EXAMPLES / NAME)
    program = [directory]
    if patch is not None:
        program = ["-c", PATCHED.format(directory=directory, patch=patch)]
    environment = {"TMPDIR": folder, "PYTHONDEVMODE": "", "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, "-X", "utf8", *program, *options],
        env={**os.environ, **environment, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed, once it and every process that it has started are gone.

    They have its stdout. In the end, its death is that of all.
    """
    try:
        return process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.communicate()


@dataclass
class Run:
    """What a run has printed.

    Attributes:
        lines: what the processes said.
        table: of each row, named by what is on the left, the value and the note.
    """

    lines: list[str]
    table: dict[str, tuple[str, str]]

    def number(self, name: str) -> int:
        return int(self.table[name][0])

    def gaps(self, name: str) -> Gaps:
        """The rows that are said to be lost."""
        found = re.findall(r"(\d+)-(\d+)", self.table[name][1])
        gaps = [range(int(first), int(last) + 1) for first, last in found]
        assert sum(map(len, gaps)) == self.number(name)
        return gaps

    def said(self, pattern: str) -> list[tuple[str, ...]]:
        """What the processes said of this kind."""
        return [match.groups() for line in self.lines if (match := re.fullmatch(pattern, line))]


def fly(folder: str, killed: str, backend: str) -> Run:
    """A part of the flight, with one of its processes killed, or none."""
    patience = NEVER if killed == "none" else DEAD
    options = ("--seconds", str(PART), "--kill", killed, "--peer-timeout", patience)
    return run(folder, *options, "--backend", backend)


def run(folder: str, *options: str) -> Run:
    """A run that went well."""
    process = start(folder, *options)
    out, err = end(process)
    print(out)  # where a test fails, it is shown
    assert (process.returncode, err) == (0, ""), out + err
    assert os.listdir(folder) == []
    lines = out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("rows read"))
    table = {}
    for line in lines[first:]:
        name, value, note = line[:16].strip(), line[16:31].strip(), line[31:].strip()
        table[name or note.split(",")[0]] = (value, note)
    return Run(lines[:first], table)


def score(log: Any, lost: Gaps, lost_ekf: Gaps, *, forgets: bool) -> tuple[int, float, float]:
    """How many comparisons there must be without the rows that were lost, and their RMS.

    After a gap, an estimator that ``forgets`` begins as at the beginning.
    """
    attitude_filter = filters.MahonyFilter()
    without = set(itertools.chain(*lost))
    ekf = {
        row.time: row for n, row in enumerate(log.ekf) if n not in set(itertools.chain(*lost_ekf))
    }
    comparisons = []
    for number, sample in enumerate(log.imu):
        if forgets and number - 1 in without and number not in without:
            attitude_filter = filters.MahonyFilter()
        estimate = attitude_filter.update(sample)
        if number not in without and estimate.time in ekf:
            comparisons.append(flight_daemons.Comparison(estimate, ekf[estimate.time]))
    return len(comparisons), *reports.rms_degrees(comparisons)


def check(found: Run, log: Any, *, killed: str) -> tuple[int, int]:
    """Every row is scored or lost, and the score is that of those scored; how many were lost."""
    lost, lost_ekf = found.gaps("lost"), found.gaps("ekf rows")
    counts = found.number("lost"), found.number("ekf rows")
    assert found.number("rows read") == len(log.imu)
    assert found.table["rows read"][1] == f"imu rows, and {len(log.ekf)} ekf rows"
    assert found.number("estimates") + counts[0] == len(log.imu)

    if killed == "none":
        assert found.table["restarts"] == ("0", "")
        assert "killed" not in found.table
    else:
        assert found.table["restarts"] == ("1", killed)
        assert found.table["killed"][0] == killed
        assert found.said(rf"parent +the {killed} died: (SIGKILL)") == [("SIGKILL",)]

    compared, *errors = score(log, lost, lost_ekf, forgets=killed == "estimator")
    assert found.table["roll error"][1].endswith(f", {compared} rows")
    for name, error in zip(("roll error", "pitch error"), errors, strict=True):
        assert found.table[name][0] == f"{error:.3f}°"
        assert error < 0.4
    return counts


def test_without_a_death_nothing_is_lost(anyio_backend: str, folder: str, log: Any) -> None:
    """Every row is scored, and nobody has anything to complain of."""
    found = fly(folder, "none", anyio_backend)
    assert check(found, log.first(PART), killed="none") == (0, 0)
    assert len(found.said(r"\w+ +\w+: begins with row 0 of \d+")) == len(found.lines) == 3


def test_a_killed_estimator_is_replaced_and_what_it_had_is_lost(
    anyio_backend: str, folder: str, log: Any
) -> None:
    """The scorer finds the very gap that the parent does; the reader's loss is a part of it."""
    found = fly(folder, "estimator", anyio_backend)
    lost, lost_ekf = check(found, log.first(PART), killed="estimator")
    assert lost_ekf == 0
    assert lost <= 5 * BUFFER
    gaps = found.gaps("lost")
    assert found.said(r"scorer +estimates: (\d+) missing from row (\d+)") == [
        (str(len(gap)), str(gap.start)) for gap in gaps
    ]
    pattern = r"reader +imu: of (\d+) items sent, (\d+) are known to be taken, (\d+) may be lost"
    ((sent, taken, perhaps),) = found.said(pattern)
    assert int(sent) - int(taken) == int(perhaps) <= BUFFER
    begins = found.said(r"estimator +imu: begins with row (\d+) of 4953")
    assert begins[0] == ("0",)
    assert [int(row) for (row,) in begins[1:]] == [int(sent)] == [gap.stop for gap in gaps]


def test_a_killed_reader_reads_the_log_again_and_nothing_is_lost(
    anyio_backend: str, folder: str, log: Any
) -> None:
    """What comes for the second time is left out, so that the score is that of a quiet flight."""
    found = fly(folder, "reader", anyio_backend)
    assert check(found, log.first(PART), killed="reader") == (0, 0)
    assert len(found.said(r"estimator +(.*): PeerLost")) == 1
    assert len(found.said(r"scorer +(.*): PeerLost")) == 1
    assert found.said(r".*(missing).*") == []


def test_a_killed_scorer_is_replaced_and_the_parent_keeps_the_score(
    anyio_backend: str, folder: str, log: Any
) -> None:
    """What it had reported counts; what it had not, and what was on its way, is lost."""
    found = fly(folder, "scorer", anyio_backend)
    lost, lost_ekf = check(found, log.first(PART), killed="scorer")
    assert lost <= 4 * BUFFER + 2 * REPORT
    assert lost_ekf <= 3 * BUFFER + REPORT
    for link, name in (("estimates", "lost"), ("ekf", "ekf rows")):
        begins = found.said(rf"scorer +{link}: begins with row (\d+) of \d+")
        assert [int(row) for (row,) in begins] == [0, *(gap.stop for gap in found.gaps(name))]


def test_the_command_of_the_readme_runs(folder: str, log: Any) -> None:
    """The whole flight, as the page shows it."""
    check(run(folder), log, killed="estimator")


def test_a_parent_that_is_killed_leaves_no_process_behind(folder: str) -> None:
    """The three end by themselves, although nobody has told them."""
    process = start(folder, "--kill", "none")
    assert process.stdout is not None
    assert "begins with row 0" in process.stdout.readline()
    process.kill()
    out, _ = end(process)
    assert "rows read" not in out


def test_a_flight_that_does_not_end_is_given_up(anyio_backend: str, folder: str) -> None:
    """The parent stops what it has started, and says so."""
    process = start(folder, "--backend", anyio_backend, patch="PATIENCE = 0.5")
    out, err = end(process)
    assert process.returncode == 1
    assert err == "flight_processes: the flight did not come to its end within 0.5 s.\n"
    assert "rows read" not in out
    assert os.listdir(folder) == []


def test_a_process_that_cannot_run_is_given_up(folder: str) -> None:
    """After a few restarts, each of which has left its traceback, the parent says so."""
    process = start(folder, patch="REPLAY = '/nowhere'")
    out, err = end(process)
    assert process.returncode == 1
    found = re.fullmatch(
        r"flight_processes: daemon '(\w+)' failed in run and is not restarted again, after 5 "
        r"restarts: ProcessDied: the \1 died: exit code 1\.",
        err.splitlines()[-1],
    )
    assert found is not None, err
    assert "rows read" not in out
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "argv",
    [["--seconds", "9.9"], ["--peer-timeout", "inf"], ["--kill", "pilot"], ["--backend", "curio"]],
)
def test_options_that_make_no_sense_end_with_exit_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line is checked before anything runs."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_a_backend_that_is_not_installed_gets_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for trio without having it is told so."""
    monkeypatch.setitem(sys.modules, "trio", None)
    assert main(["--backend", "trio"]) == 2
    assert capsys.readouterr() == ("", "flight_processes: trio is not installed.\n")


@pytest.mark.parametrize(
    ("spans", "lost", "complete"),
    [
        ([(0, 9)], 0, True),
        ([(0, 3), (6, 9)], 2, True),
        ([(2, 5)], 6, True),
        ([(0, 5), (4, 9)], 0, False),
        ([], 0, False),
    ],
    ids=["all", "a gap", "both ends missing", "twice", "nothing at all"],
)
def test_an_account_is_complete_when_every_row_came_once_or_is_known_to_be_lost(
    spans: list[tuple[int, int]], lost: int, complete: bool
) -> None:
    """A row that came twice is not silently counted."""
    account = accounts.Account()
    account.add([accounts.Span(first, last, 10) for first, last in spans])
    account.close()
    assert (account.lost, account.complete) == (lost, complete)


def test_the_score_of_nothing_is_not_a_number() -> None:
    """Without comparisons there is no error to speak of."""
    assert all(map(math.isnan, accounts.Flight().rms()))
