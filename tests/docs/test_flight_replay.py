import gzip
import itertools
import logging
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import anyio
import pytest
from chrono_core import SimClock, Supervisor, WallClock, open_channel
from chrono_core.testing import Trace, available_backends

from . import examples

NAME = "flight_replay"
DATA = examples.EXAMPLES / NAME / "data"
SEED = 49

main, daemons, filters, logs, pictures, records, reports, runs = examples.load(
    NAME,
    "flight_daemons",
    "flight_filter",
    "flight_log",
    "flight_picture",
    "flight_records",
    "flight_report",
    "flight_run",
)

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def log() -> Any:
    """The whole log."""
    return logs.read_flight(DATA)


@pytest.fixture(scope="module")
def flights(log: Any) -> dict[str, Any]:
    """The whole flight, once on each backend, and on asyncio not in its slow debug mode."""

    async def fly() -> Any:
        return await runs.fly(log, seed=SEED)

    options = {"asyncio": {"debug": False}}
    return {
        backend: anyio.run(fly, backend=backend, backend_options=options.get(backend))
        for backend in available_backends()
    }


@pytest.fixture(scope="module")
def flight(anyio_backend: str, flights: dict[str, Any]) -> Any:
    """The whole flight on one backend."""
    return flights[anyio_backend]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the log that a test may damage."""
    return shutil.copytree(DATA, tmp_path / "data")


def test_roll_and_pitch_stay_within_0_4_degrees_of_the_autopilot(flight: Any) -> None:
    """From the inertial sensors alone, the estimate is within 0.4° RMS of the EKF."""
    assert len(flight.comparisons) == 6459
    roll, pitch = reports.rms_degrees(flight.comparisons)
    assert 0.01 < roll < 0.4
    assert 0.01 < pitch < 0.4


def test_every_gap_over_12_ms_is_noticed_as_its_deadline_passes(log: Any, flight: Any) -> None:
    """The watchdog's gaps are those of the data, each noticed 12 ms after the last sample."""
    times = [sample.time for sample in log.imu]
    expected = [(a, b) for a, b in itertools.pairwise(times) if b - a > 0.012 + 1e-7]
    assert [(gap.began, gap.ended) for gap in flight.gaps] == expected
    assert len(expected) == 6
    assert [gap.noticed for gap in flight.gaps] == pytest.approx(
        [began + 0.012 for began, _ in expected], abs=2e-9
    )
    assert max(gap.length for gap in flight.gaps) == pytest.approx(0.064793)


def test_the_drill_fails_once_and_the_restart_waits_on_the_clock(flight: Any) -> None:
    """The estimator is restarted once, a tenth of a virtual second after its failure."""
    assert flight.restarts == 1
    events = [line.split(maxsplit=2) for line in flight.trace.text().splitlines()]
    estimates = [int(instant) for instant, _, event in events if event.startswith("estimates")]
    (failure,) = [int(instant) for instant, _, event in events if event == "fails in a drill"]
    assert len(estimates) == 17070
    before = [instant for instant in estimates if instant < failure]
    assert estimates[len(before)] == failure + 100_000_000
    states = [
        finding.state for finding in flight.findings if finding.daemon == "attitude-estimator"
    ]
    assert states[:3] == ["running", "restarting", "running"]


def test_the_flight_lasts_as_long_as_the_log(log: Any, flight: Any) -> None:
    """The run ends with the log's last row, and nothing waits for anything after it."""
    assert flight.duration == pytest.approx(log.duration) == pytest.approx(68.919199)


def test_the_trace_is_the_same_on_both_backends(flights: dict[str, Any]) -> None:
    """Every line of the whole flight is, in the same order."""
    first, *others = (flight.trace for flight in flights.values())
    for trace in others:
        assert first.difference(trace) is None


def test_the_command_of_the_readme_runs(flights: dict[str, Any], tmp_path: Path) -> None:
    """One more run, in a process of its own: the same hash, and its files where the page says."""
    output = examples.command(NAME, cwd=tmp_path)
    assert {flight.trace.digest() for flight in flights.values()} == {examples.trace(output)}
    out = tmp_path / "flight-out"
    assert sorted(path.name for path in out.iterdir()) == ["flight.log", "flight.svg", "trace.txt"]
    assert "wrote flight.svg, flight.log and trace.txt into flight-out\n" in output


def test_the_trace_is_the_same_on_every_run(
    anyio_backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs of the first seconds have one hash, which is that of the trace they write."""
    outputs = set()
    for out in (tmp_path / "1", tmp_path / "2"):
        assert main(["--seconds", "2", "--backend", anyio_backend, "--out", str(out)]) == 0
        outputs.add(examples.trace(capsys.readouterr().out))
        trace = Trace()
        for line in (out / "trace.txt").read_text("utf-8").splitlines():
            trace.write(line)
        outputs.add(trace.digest())
    assert len(outputs) == 1


def test_another_seed_is_another_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hash sees when the drill struck."""
    traces = set()
    for seed in ("1", "2"):
        assert main(["--seconds", "2", "--seed", seed, "--out", str(tmp_path)]) == 0
        traces.add(examples.trace(capsys.readouterr().out))
    assert len(traces) == 2


def test_a_paced_run_has_the_trace_of_an_unpaced_one(
    anyio_backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--realtime`` changes how long a run takes and nothing else."""
    short = ["--seconds", "1", "--backend", anyio_backend, "--out", str(tmp_path)]
    assert main(short) == 0
    unpaced = examples.trace(capsys.readouterr().out)
    assert main([*short, "--realtime", "5"]) == 0
    output = capsys.readouterr().out
    assert examples.trace(output) == unpaced
    wall = re.search(r"wall time +([0-9.]+) s", output)
    assert wall is not None
    assert float(wall[1]) > 0.19


def test_the_failure_is_logged_with_its_simulated_time_and_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The restart's traceback goes into a file; the logger is left as it was found."""
    handlers = list(logging.getLogger("chrono_core").handlers)
    assert main(["--seconds", "1", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    assert logging.getLogger("chrono_core").handlers == handlers
    first, *_, last = (tmp_path / "flight.log").read_text("utf-8").splitlines()
    (failure,) = re.findall(
        r"^(\d+) attitude-estimator fails in a drill$",
        (tmp_path / "trace.txt").read_text("utf-8"),
        re.MULTILINE,
    )
    assert first.startswith(f"{int(failure) / 1e9:.6f} s ERROR attitude-estimator: ")
    assert "DrillError: attitude-estimator was made to fail" in last


def test_the_same_daemons_run_on_the_wall_clock(log: Any) -> None:
    """On ``WallClock``, here of a loop whose time is virtual, they find the same gap and score."""
    trio = pytest.importorskip("trio")
    testing = pytest.importorskip("trio.testing")
    part = log.first(6.0)
    flight = runs.Flight()

    async def fly() -> None:
        async with Supervisor(clock=WallClock()) as supervisor:
            last = runs.add_daemons(supervisor, part, flight, seed=SEED)
            await last.wait_stopped()
            await supervisor.stop()

    clock = testing.MockClock(autojump_threshold=0)
    trio.run(fly, clock=clock)
    assert len(flight.comparisons) == len([row for row in part.ekf if row.time > 0.04])
    assert [gap.length for gap in flight.gaps] == pytest.approx([0.036])
    assert max(reports.rms_degrees(flight.comparisons)) < 0.5


@pytest.mark.parametrize(
    ("silence", "gaps"), [(0.011999, []), (0.012, []), (0.012001, [0.012001]), (1.5, [1.5])]
)
def test_a_silence_of_exactly_the_limit_is_no_gap(
    anyio_backend: str, silence: float, gaps: list[float]
) -> None:
    """The watchdog reports what is longer than its limit, not what is as long."""
    found: list[Any] = []

    async def watch() -> None:
        clock = SimClock()
        stream = open_channel[int](4)
        async with Supervisor(clock=clock) as supervisor:
            supervisor.add(daemons.gap_watchdog(stream.recv, 0.012, found, Trace()))
            for number in range(3):
                await stream.send.send(number)
                await clock.advance(silence)
            await stream.send.aclose()

    anyio.run(watch, backend=anyio_backend)
    assert [gap.length for gap in found] == pytest.approx(gaps * 2)


def test_the_filter_learns_a_gyroscope_bias() -> None:
    """At rest with a biased gyroscope, the attitude comes back to level."""
    attitude_filter = filters.MahonyFilter()
    for n in range(30_000):
        sample = records.ImuSample(n * 0.004, (0.01, -0.02, 0.0), (0.0, 0.0, -9.81))
        attitude = attitude_filter.update(sample)
    assert attitude.roll == pytest.approx(0.0, abs=1e-4)
    assert attitude.pitch == pytest.approx(0.0, abs=1e-4)


def test_the_filter_bears_free_fall() -> None:
    """Where the accelerometer reads nothing, the gyroscope alone goes on."""
    attitude_filter = filters.MahonyFilter()
    for n in range(1001):
        attitude = attitude_filter.update(
            records.ImuSample(n * 0.001, (0.5, 0.0, 0.0), (0.0, 0.0, 0.0))
        )
    assert attitude.roll == pytest.approx(0.5, abs=1e-3)


def test_the_picture_is_an_svg_with_both_curves_and_every_gap(flights: dict[str, Any]) -> None:
    """It is well-formed, names each gap, and shows a part of a long flight larger."""
    flight = flights["asyncio"]
    root = ElementTree.fromstring(pictures.picture(flight))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    styles = [element.get("class") for element in root.iter()]
    assert styles.count("gap-length") == len(flight.gaps) == 6
    curves = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert [curve.get("class") for curve in curves] == 2 * [
        *("ekf", "estimate"),
        *("ekf", "estimate"),
        *("roll-error", "pitch-error"),
    ]
    for whole, part in zip(curves[:6], curves[6:], strict=True):
        assert len(whole.get("points", "").split()) > 200
        assert len(part.get("points", "").split()) > 200


def lines(edit: Callable[[list[str]], list[str]]) -> Damage:
    """Damage to the lines of a log file."""

    def damage(path: Path) -> None:
        text = gzip.decompress(path.read_bytes()).decode()
        path.write_bytes(gzip.compress("\n".join(edit(text.splitlines())).encode()))

    return damage


def row(edit: Callable[[str], str]) -> Damage:
    """Damage to one row of a log file."""
    return lines(lambda text: [*text[:9], edit(text[9]), *text[10:]])


def last_value(value: str) -> Damage:
    """Another last value in one row of a log file."""
    return row(lambda text: text.rpartition(",")[0] + "," + value)


def octets(edit: Callable[[bytes], bytes]) -> Damage:
    """Damage to the compressed bytes of a log file."""
    return lambda path: path.write_bytes(edit(path.read_bytes()))


DAMAGES: dict[str, Damage] = {
    "missing": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "empty": octets(lambda _: b""),
    "truncated": octets(lambda data: data[:-5000]),
    "truncated in its trailer": octets(lambda data: data[:-3]),
    "truncated in its header": octets(lambda data: data[:5]),
    "damaged": octets(lambda data: data[:3000] + bytes(64) + data[3064:]),
    "not gzip": octets(gzip.decompress),
    "binary": octets(lambda _: gzip.compress(bytes(range(256)))),
    "without any line": lines(lambda _: []),
    "of a header alone": lines(lambda text: text[:1]),
    "foreign": lines(lambda _: ["name,price", "apple,3"]),
    "cut between rows": lines(lambda text: text[: len(text) // 2]),
    "cut in a row": lines(lambda text: [*text[:-1], text[-1][:30]]),
    "going back in time": lines(lambda text: [*text[:9], text[5], *text[9:]]),
    "from another day": lines(lambda text: [text[0], *("9" + line for line in text[1:])]),
    "leaping in time": row(lambda text: "9" + text),
    "with an empty line": row(lambda _: ""),
    "with one value too many": row(lambda text: text + ",0"),
    "with garbage": row(lambda _: "\x07;;%&"),
    "with a word": last_value("west"),
    "with NaN": last_value("nan"),
    "with infinity": last_value("inf"),
    "with a huge number": last_value("1e300"),
}


@pytest.mark.parametrize("name", ["imu.csv.gz", "attitude.csv.gz"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_bad_log_gets_one_sentence_and_exit_code_2(
    data: Path, name: str, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with a file, stderr has one sentence that names it, and stdout nothing."""
    damage(data / name)
    assert main(["--data", str(data), "--out", str(data / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"flight_replay: [^\n]+\.\n", err)
    assert name in err
    assert not (data / "out").exists()


def test_a_quaternion_that_is_none_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An attitude without unit length is not taken for one."""
    row(lambda text: text.partition(",")[0] + ",0,0,0,0")(data / "attitude.csv.gz")
    assert main(["--data", str(data), "--out", str(data / "out")]) == 2
    assert "quaternion" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0.01", "0.05"])
def test_too_short_a_part_of_the_log_is_refused(
    seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is nothing to compare, there is a sentence and no score."""
    assert main(["--seconds", seconds, "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "argv",
    [["--seconds", "0"], ["--seconds", "nan"], ["--realtime", "-1"], ["--backend", "curio"]],
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for trio without having it is told so."""
    monkeypatch.setitem(sys.modules, "trio", None)
    assert main(["--backend", "trio", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr() == ("", "flight_replay: trio is not installed.\n")
    assert not (tmp_path / "out").exists()


def test_an_output_directory_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the directory should be gets a sentence as well."""
    blocked = tmp_path / "file"
    blocked.touch()
    assert main(["--out", str(blocked)]) == 2
    assert str(blocked) in capsys.readouterr().err


def test_the_score_of_nothing_is_not_a_number() -> None:
    """Without comparisons there is no error to speak of."""
    assert all(math.isnan(error) for error in reports.rms_degrees([]))
