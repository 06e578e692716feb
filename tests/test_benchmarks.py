"""What the benchmarks share does what it says: turns, spreads, goals, and what counts as faster or slower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import compare
from benchmarks.account import served, unpacked
from benchmarks.figures import Better, Figure, Report, WrongResult, compared, ratios, spread
from benchmarks.measuring import in_turns, peak_bytes, versions

MAKEFILE = Path(__file__).parent.parent / "Makefile"


class Clock:
    """Goes on by what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def figure(*samples: float, **fields: object) -> Figure:
    return Figure(**{"name": "it", "unit": "ms", "samples": samples} | fields)  # type: ignore[arg-type]


def report_file(path: Path, *figures: Figure) -> Path:
    whole = {"benchmarks": {"some": Report("about", figures).as_json() | {"seconds": 1.0}}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def test_ways_go_in_turns_and_the_first_round_does_not_count() -> None:
    clock, calls = Clock(), []

    def way(name: str, seconds: float) -> None:
        calls.append(name)
        clock.now += seconds * len(calls)

    times = in_turns({"a": lambda: way("a", 1), "b": lambda: way("b", 10)}, 2, clock)
    assert calls == ["a", "b"] * 3
    assert times == {"a": (3, 5), "b": (40, 60)}


def test_a_spread_is_half_the_distance_between_the_quartiles() -> None:
    assert spread([1, 2, 3, 4, 5]) == pytest.approx(1 / 3)
    assert spread([7, 7, 7]) == 0
    assert spread([1, 2]) is None
    assert spread([0, 0, 0]) is None


def test_ratios_are_to_the_reference_of_the_same_round() -> None:
    base, other = compared({"way": (4, 9), "base": (2, 3)}, "base", unit="ms", scale=1000, goals={"way": 2.5})
    assert (base.name, base.samples, base.ratios) == ("base", (2000, 3000), ())
    assert (other.name, other.samples, other.ratios, other.reference) == ("way", (4000, 9000), (2, 3), "base")
    assert other.met
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (figure(9, goal=10), True),
        (figure(11, goal=10), False),
        (figure(11, goal=10, better=Better.MORE), True),
        (figure(9, goal=10, better=Better.MORE), False),
        (figure(9, reference="other", ratios=(11.0,), goal=10), False),  # it is the ratio that counts
        (figure(9), None),
    ],
)
def test_a_goal_is_met_or_not(found: Figure, met: bool | None) -> None:
    assert found.met is met
    said = {True: "met]", False: "NOT MET]", None: "ms"}[met]
    assert found.line(5).endswith(said)


def test_a_report_comes_back_from_its_json() -> None:
    report = Report("about", (figure(1, 2, 3), figure(4, 5, 6, name="b", reference="it", ratios=(4, 2.5, 2), goal=3)))
    fields = json.loads(json.dumps(report.as_json()))
    assert Report.from_json(fields) == report
    assert [found["median"] for found in fields["figures"]] == [2, 5]
    assert (fields["figures"][1]["ratio"], fields["figures"][1]["met"]) == (2.5, True)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (figure(100, 100, 100), figure(104, 104, 104), "same"),  # five percent are noise, however steady it seems
        (figure(100, 100, 100), figure(106, 106, 106), "worse"),
        (figure(100, 100, 100), figure(94, 94, 94), "better"),
        (figure(100, 100, 100, better=Better.MORE), figure(94, 94, 94, better=Better.MORE), "worse"),
        (figure(80, 100, 120), figure(90, 112, 130), "same"),  # each spread is a tenth, and so is the noise, and more
        (figure(100), figure(109), "same"),  # one round says nothing of its spread
        (figure(100), figure(111), "worse"),
        # by their ratios, since the second machine is three times as fast
        (figure(300, reference="r", ratios=(3.0,)), figure(100, reference="r", ratios=(3.0,)), "same"),
        (figure(0), figure(0), "same"),
        (figure(0), figure(1), "worse"),
    ],
)
def test_what_is_beyond_the_noise_is_better_or_worse(old: Figure, new: Figure, verdict: str) -> None:
    assert compare.change("it", old, new).verdict == verdict


def test_a_comparison_says_what_changed_and_what_has_no_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = report_file(tmp_path / "old.json", figure(10, name="slow"), figure(10, name="quick"), figure(1, name="gone"))
    new = report_file(tmp_path / "new.json", figure(20, name="slow"), figure(5, name="quick"), figure(1, name="new"))
    assert compare.main([str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Worse:",
        "  +100.0%  some: slow: 10 → 20 (noise ±10%)",
        "Better:",
        "   -50.0%  some: quick: 10 → 5 (noise ±10%)",
        "0 of 2 figures are the same within the noise.",
        "Only in one of the files: some: gone; some: new",
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"benchmarks": {"some": {"about": "x"}}}', '{"versions": {}}'])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    good = report_file(tmp_path / "good.json", figure(1))
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        compare.main([str(good), str(tmp_path / "bad.json")])
    assert ended.value.code == 2
    assert "bad.json was not written by" in capsys.readouterr().err


def run_alone(monkeypatch: pytest.MonkeyPatch, result: Report | WrongResult, *arguments: str) -> int:
    """Runs one benchmark that finds this."""

    class Module:
        @staticmethod
        def measure(_: object) -> Report:
            if isinstance(result, WrongResult):
                raise result
            return result

    monkeypatch.setattr(runner, "import_module", lambda _: Module)
    return runner.main(["decode", *arguments])


def test_a_goal_that_is_not_met_is_said_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Report("some pages", (figure(5, name="way", goal=4), figure(5, name="other", goal=6)))
    assert run_alone(monkeypatch, found, "--json", str(tmp_path / "found.json")) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 goals met; not met:\n  decode: way: 5, goal 4" in printed
    assert "harvester " in printed.splitlines()[0]
    assert compare.read(tmp_path / "found.json") == {"decode": found}


def test_a_wrong_result_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    assert run_alone(monkeypatch, WrongResult("a row is missing"), "--json", str(found)) == 1
    assert "decode FAILED: a row is missing" in capsys.readouterr().err
    assert json.loads(found.read_text(encoding="utf-8"))["failed"] == ["decode"]


def test_there_is_one_benchmark_for_each_thing_that_is_promised() -> None:
    promised = "decode end_to_end loop memory peers permits records schedule seal sends split stage wire"
    assert " ".join(runner.BENCHMARKS) == promised


def test_an_account_in_its_own_process_sends_the_same_page_again() -> None:
    with served("2x7") as account:
        first = account.page(account.sends.ids[1])
        assert account.page(account.sends.ids[1]) == first
        records = json.loads(unpacked(first))
        (only,) = account.pages(account.sends.ids[1])
    assert only == first
    assert (account.rows, len(records)) == (14, 7)
    assert {record["ID_send"] for record in records} == {str(account.sends.ids[1])}


def test_versions_name_what_does_the_work() -> None:
    assert {"harvester", "python", "pyarrow", "aiohttp"} <= versions().keys()


def test_memory_at_its_peak_is_that_of_this_process() -> None:
    before = peak_bytes()
    held = b"x" * (before + 2**26)
    assert peak_bytes() >= len(held)
