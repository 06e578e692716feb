"""What a person sees while a run goes on and at its end, drawn from snapshots and results made by hand."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from rich.console import Console

from harvester.config import TableChoice, TableFormat
from harvester.console import secrecy
from harvester.console.findings import Findings
from harvester.console.progress import LineView, LiveView, Meter, Pace, picture
from harvester.console.report import report
from harvester.console.secrecy import hide, redacted
from harvester.console.wording import count, size, size_option, span, span_option
from harvester.harvest.outcome import Paced, Result, Search, SliceOutcome, SliceProgress, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

SNAPSHOT = Snapshot(
    seconds=100.0,
    rows={"messages": 1_000_000, "bounces": 20_000},
    rows_before={"messages": 500_000, "bounces": 0},
    rows_expected={},
    queries=523,
    attempts=531,
    in_flight=6,
    concurrency=8,
    rate=1.0,
    rate_used=0.97,
    slices=20_000,
    slices_complete=5_000,
    slices_failed=0,
    under_way=tuple(
        SliceProgress("messages", 2**62 + number, 9_812_000_123, None if number % 2 else 10_000_000_000, number == 4)
        for number in range(40)
    ),
    waiting=1,
    trouble=None,
    paused_s=0.0,
    draining=False,
)
COMPLETE = SliceOutcome(
    dataset="messages",
    id_send=1,
    state="complete",
    proof="tail",
    rows=100,
    expected=None,
    unsettled=0,
    overdue=0,
    changed=0,
    gone=0,
    queries=2,
    error=None,
)
LAKE = Path("/data/a lake")


def drawn(*parts: RenderableType, width: int = 80) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    for part in parts:
        console.print(part)
    return console.export_text(styles=False)


def result(slices: Iterable[SliceOutcome], *, interrupted: bool = False, **more: Any) -> Result:
    slices = tuple(slices)
    return Result(
        complete=all(one.state == "complete" for one in slices) and not more.get("doubts"),
        interrupted=interrupted,
        rows={"messages": sum(one.rows for one in slices), "bounces": 0},
        queries=10,
        attempts=12,
        seconds=61.0,
        slices=lambda: iter(slices),
        **more,
    )


def told(slices: Iterable[SliceOutcome], *, interrupted: bool = False, early: bool = False, **more: Any) -> str:
    found = result(slices, interrupted=interrupted, **more)
    return "\n".join(line.plain for line in report(found, LAKE, early=early))


def test_a_lake_with_tables_is_not_to_be_read_by_its_folders() -> None:
    assert "Read its tables" not in told([COMPLETE])
    for table, says in ((TableFormat.DELTA, "deltalake.DeltaTable("), (TableFormat.ICEBERG, "by their catalog")):
        said = told([COMPLETE], table=TableChoice(table))
        assert says in said
        assert "*.parquet" not in said


def failed(id_send: int, why: str | None = "the server answered 500") -> SliceOutcome:
    return replace(COMPLETE, id_send=id_send, state="incomplete", proof=None, error=why)


def test_the_live_view_fits_80_columns_and_one_screen_whatever_there_is_to_show() -> None:
    trouble = "messages of send 601181 from 723043606 limit 25000: the body ended early,\nafter 3 of 9 bytes, " * 3
    snapshot = replace(
        SNAPSHOT, slices=10_000_000, slices_failed=1234, trouble=trouble, paused_s=61, draining=True, waiting=100
    )
    text = drawn(picture(snapshot, Pace(123_456.7, 0.5, 86_400 * 3)))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) <= 16
    assert "9,812,000,123 of 10,000,000,000" in text
    assert "the server asked for a pause: 1 min 01 s more" in text
    assert "latest trouble: messages of send 601181" in text
    assert "1,234 given up" in text
    assert "finishing what is in flight" in text


def test_the_live_view_says_what_matters() -> None:
    text = drawn(picture(SNAPSHOT, Pace(9_876.5, 0.25, 600)))
    assert "messages 1,500,000 · bounces 20,000 · 9,876 rows/s" in text
    assert "25% about 10 min 00 s left" in text
    assert "523 queries (+8 again) · 0.97 of 1 a second · 6/8 in flight" in text
    assert "5,000 of 20,000 slices complete · 1 waiting after a failure" in text
    assert "waiting" in text


@pytest.mark.parametrize(
    ("rate", "concurrency", "says"),
    [
        (1.0, 8, None),
        (0.4712, 8, "the server bears 0.471 queries a second"),
        (1.0, 6, "the server bears 6 queries at once"),
        (0.5, 1, "the server bears 0.5 queries a second, 1 at once"),
    ],
)
def test_what_the_server_bears_is_shown_where_it_is_less(rate: float, concurrency: int, says: str | None) -> None:
    paced = Paced(rate, concurrency, refused=3, pauses=1)
    text = drawn(picture(replace(SNAPSHOT, paced=paced), Pace(1, 0.5, None)))
    with structlog.testing.capture_logs() as events:
        LineView().show(replace(SNAPSHOT, paced=paced))
    assert events[0].get("bears") == says
    assert (says in text) if says else ("bears" not in text)
    summed = drawn(*report(result([COMPLETE], told=(1.0, 8), paced=paced), LAKE), width=120)
    told = f"bears {says.removeprefix('the server bears ')}; " if says else ""
    assert f"  server    {told}refused 3 attempts; asked for 1 pause\n" in summed
    took_it = result([COMPLETE], told=(1.0, 8), paced=Paced(1.0, 8, refused=0, pauses=0))
    assert "server" not in drawn(*report(took_it, LAKE))


def test_the_live_view_of_the_first_instant_needs_no_knowledge() -> None:
    nothing = replace(
        SNAPSHOT, rows={}, rows_before={}, slices=0, slices_complete=0, under_way=(), queries=0, attempts=0
    )
    assert "0 queries" in drawn(picture(nothing, Meter().read(nothing)))


def test_lines_of_log_tell_of_finding_and_then_of_slices() -> None:
    with structlog.testing.capture_logs() as events:
        view = LineView()
        view.show(replace(SNAPSHOT, slices=0, search=None))
        view.show(replace(SNAPSHOT, slices=0, search=Search(3, 12, 45)))
        view.show(replace(SNAPSHOT, search=Search(12, 12, 50)))
    assert [event["event"] for event in events] == ["finding sends", "progress"]
    assert (events[0]["lists_done"], events[0]["lists"], events[0]["sends"]) == (3, 12, 45)


@pytest.mark.parametrize("no_color", [True, False])
def test_colours_are_left_out_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=80)
    console.print(picture(replace(SNAPSHOT, trouble="timed out"), Pace(1, 0.5, None)))
    assert ("\x1b[33m" in file.getvalue()) is not no_color


def test_what_is_said_meanwhile_stands_above_the_picture() -> None:
    file = io.StringIO()
    view = LiveView(Console(file=file, force_terminal=True, width=80), keep=True)
    view.show(SNAPSHOT)
    view.say("stopping soon")
    view.close()
    text = file.getvalue()
    assert text.index("523 queries") < text.index("stopping soon") < text.rindex("523 queries")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"


def test_a_view_whose_terminal_is_gone_harms_nobody() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    view = LiveView(Console(file=Gone(), force_terminal=True, width=80), keep=True)
    view.say("hello")
    view.close()


def test_the_pace_is_smooth_and_settles() -> None:
    meter = Meter()
    for second in range(120):
        rows = 25_000 * (second // 4)  # a page every four seconds
        pace = meter.read(replace(SNAPSHOT, seconds=float(second), rows={"messages": rows}))
        if second > 60:
            assert pace.rows_per_s == pytest.approx(6_250, rel=0.25)


def test_what_is_done_is_counted_in_rows_where_they_are_known() -> None:
    start = replace(SNAPSHOT, rows_before={"messages": 400, "bounces": 7}, rows_expected={"messages": 1_400})
    assert Meter().read(replace(start, rows={"messages": 200, "bounces": 50})).done == pytest.approx(600 / 1_400)


def test_what_is_done_is_counted_in_slices_where_rows_are_not_known() -> None:
    snapshot = replace(SNAPSHOT, slices=100, slices_complete=58, slices_failed=2, under_way=())
    assert Meter().read(snapshot).done == pytest.approx(0.6)


def test_time_left_is_shown_once_it_is_more_than_a_guess() -> None:
    assert Meter().read(replace(SNAPSHOT, seconds=2, left_s=40)).left_s is None
    assert Meter().read(replace(SNAPSHOT, seconds=3, left_s=40)).left_s == 40
    assert Meter().read(SNAPSHOT).left_s is None


def test_of_slices_that_say_how_large_they_are_what_has_come_counts() -> None:
    begun = (
        SliceProgress("messages", 601, rows=30, expected=120, waiting=False),
        SliceProgress("messages", 602, rows=70, expected=60, waiting=True),
        SliceProgress("messages", 603, rows=50, expected=None, waiting=False),
    )
    snapshot = replace(SNAPSHOT, slices=10, slices_complete=2, under_way=begun)
    assert Meter().read(snapshot).done == pytest.approx((2 + 0.25 + 1) / 10)


def test_work_that_is_done_is_never_more_than_all_of_it() -> None:
    over = replace(SNAPSHOT, rows_expected={"messages": 10}, slices=4, slices_complete=4, slices_failed=0)
    assert Meter().read(over).done == 1.0


def test_a_complete_run_says_what_there_is_and_what_to_try() -> None:
    text = told([COMPLETE, replace(COMPLETE, dataset="bounces", rows=0), replace(COMPLETE, id_send=2, rows=1)])
    assert "Complete: 3 slices" in text
    assert "messages  101 rows" in text
    assert "10 queries (12 attempts) in 1 min 01 s, 0.2 a second" in text
    assert str(LAKE) in text
    assert "SELECT message_status, count(*) FROM '/data/a lake/messages/*/*.parquet' GROUP BY 1" in text
    assert "again" not in text
    assert "No rows" not in text


def test_what_is_missing_is_named_with_its_reason_and_how_to_resume() -> None:
    text = told([COMPLETE, replace(failed(2), rows=3, expected=10), failed(3, None)])
    assert "Incomplete: 1 of 3 slices complete." in text
    assert "messages of send 2: 3 of 10 rows; the server answered 500" in text
    assert "Not finished yet: 1 slice." in text
    assert "run the same command again" in text
    assert "SELECT" not in text


def test_a_long_list_is_cut_and_says_how_to_see_the_rest() -> None:
    text = told([failed(number) for number in range(1, 26)])
    assert "messages of send 10:" in text
    assert "messages of send 11:" not in text
    assert "… and 15 more; harvester status '/data/a lake' --json lists them" in text


def test_an_interrupted_run_says_that_nothing_is_lost() -> None:
    assert "Stopped: 1 of 2 slices complete; what was fetched is kept." in told(
        [COMPLETE, failed(2, None)], interrupted=True
    )
    text = told([COMPLETE, failed(2, None)], early=True)
    assert "Ended early: 1 of 2 slices complete" in text
    assert "Once that is put right, the same command resumes" in text


def test_a_send_without_rows_may_be_mistyped() -> None:
    bounces = replace(COMPLETE, dataset="bounces", rows=0)
    text = told(
        [
            replace(COMPLETE, id_send=1, rows=0, proof="empty"),
            replace(bounces, id_send=1),
            replace(bounces, id_send=2),  # no bounces is no riddle
            replace(COMPLETE, id_send=3, rows=0, expected=0),  # it is known to be empty
            replace(failed(4), rows=0),  # it is not known to be empty
            replace(COMPLETE, id_send=5, rows=0),
        ]
    )
    assert "No rows at all: sends 1, 5. Perhaps a mistyped id?" in text


def test_rows_other_than_expected_unsettled_and_gone_are_told() -> None:
    text = told(
        [
            replace(COMPLETE, expected=103, unsettled=2),
            replace(COMPLETE, id_send=2, expected=99, gone=1),
            replace(COMPLETE, id_send=3, expected=100),
        ]
    )
    assert "messages of send 1: 100 rows, 3 fewer than the 103 expected" in text
    assert "messages of send 2: 100 rows, 1 more than the 99 expected" in text
    assert "send 3" not in text
    assert "2 messages not delivered yet" in text
    assert "1 row that the lake holds" in text


def test_rows_that_changed_or_wait_for_too_long_are_counted() -> None:
    text = told([replace(COMPLETE, changed=1_200, overdue=3), replace(COMPLETE, id_send=2, changed=34)])
    assert "changed   1,234 rows since they were fetched before" in text
    assert "Overdue: 3 messages waiting for over 60 days; they count as settled." in text
    assert "changed" not in told([COMPLETE])


def test_lists_that_are_not_proven_are_named_and_make_no_run_complete() -> None:
    doubts = tuple(f"sends of campaign {n} from 2024-01-01 to 2024-02-01: askings don't agree" for n in range(12))
    text = told([COMPLETE], doubts=doubts)
    assert "Incomplete: 1 of 1 slice complete; but there may be sends that are not among them." in text
    assert "There may be more sends. These lists are not proven:" in text
    assert "sends of campaign 9 from" in text
    assert "sends of campaign 10 from" not in text
    assert "… and 2 more; --json lists them" in text
    assert "run the same command again" in text


def test_a_run_that_finds_nothing_says_that_the_lists_say_so() -> None:
    assert "Complete: there is nothing to harvest; the lists are proven, and name no send." in told([])
    assert "Incomplete: 0 of 0 slices complete; but there may be sends" in told([], doubts=("silence",))


def test_sends_that_lists_lack_and_fields_that_are_new_are_told() -> None:
    text = told([COMPLETE], unlisted=tuple(range(1, 15)), met={"messages": ("X_batch", "X_note"), "bounces": ("Y",)})
    assert "Not listed any more: sends 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 4 more. The lake holds them" in text
    assert "The API sent fields that this version does not know; they are in _extra:" in text
    assert "  messages: X_batch, X_note\n  bounces: Y" in text
    assert "Not listed any more: send 7. The lake holds it" in told([COMPLETE], unlisted=(7,))


def test_the_live_view_shows_how_far_finding_is_before_there_are_slices() -> None:
    finding = replace(SNAPSHOT, slices=0, slices_complete=0, under_way=(), search=Search(0, 0, 0))
    assert "finding sends: since when there are some" in drawn(picture(finding, Meter().read(finding)))
    finding = replace(finding, search=Search(3, 1_200, 45))
    assert "finding sends: 3 of 1,200 lists · 45 sends so far" in drawn(picture(finding, Meter().read(finding)))
    assert "finding" not in drawn(picture(replace(SNAPSHOT, search=Search(9, 9, 9)), Meter().read(SNAPSHOT)))


def test_findings_stay_small() -> None:
    findings = Findings(most=3).read(failed(number) for number in range(1_000))
    assert (len(findings.failed.shown), findings.failed.more) == (3, 997)
    assert findings.incomplete == {"messages": 1_000}


def test_a_hidden_text_is_hidden_also_where_it_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrecy, "_hidden", set[str]())
    hide('se"cr\\et')
    assert redacted('a se"cr\\et {"md5": "se\\"cr\\\\et"}') == 'a *** {"md5": "***"}'


def test_numbers_times_and_sizes_read_well() -> None:
    assert [span(s) for s in (0.04, 9.94, 59.4, 61, 3_725, 90_000)] == [
        "0.0 s",
        "9.9 s",
        "59 s",
        "1 min 01 s",
        "1 h 02 min",
        "1 d 1 h",
    ]
    assert [size(n) for n in (0, 1_023, 1_536, 150 * 2**20, 2**40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "150 MiB",
        "1.0 TiB",
    ]
    assert [size_option(n) for n in (2**30, 1_536 * 2**20, 1_000)] == ["1GiB", "1536MiB", "1000B"]
    assert [span_option(s) for s in (600, 3_600, 90, 0.5, 14 * 86_400)] == ["10m", "1h", "90s", "0.5s", "14d"]
    assert [count(n, "query", "queries") for n in (0, 1, 2_000)] == ["0 queries", "1 query", "2,000 queries"]
