"""What a person reads at the end of a run: what happened, what is missing and why, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from harvester.config import TableFormat
from harvester.console.findings import Examples, Findings
from harvester.console.secrecy import redacted
from harvester.console.wording import bears, count, span
from harvester.datasets import BOUNCES, MESSAGES
from harvester.places import as_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harvester.config import TableChoice
    from harvester.harvest.outcome import Result
    from harvester.places import Place

RESUME = "To resume, run the same command again: it asks only for what is missing."
RESUME_LATER = "Once that is put right, the same command resumes: it asks only for what is missing."
_MOST_DOUBTS = 10
_QUERIES = {
    MESSAGES.name: "SELECT message_status, count(*) FROM {files} GROUP BY 1",
    BOUNCES.name: "SELECT bounce_cat, count(*) FROM {files} GROUP BY 1",
}


def report(result: Result, lake: Place, *, early: bool = False) -> Iterator[Text]:
    """The summary, line by line. ``early``: an error, told elsewhere, ended the run."""
    findings = Findings().read(result.slices())
    yield _headline(result, findings, early=early)
    yield from _totals(result, findings, lake)
    yield from open_slices(findings, f"harvester status {as_arguments(lake)} --json lists them")
    yield from doubtful(result.doubts)
    yield from _oddities(findings)
    yield from _unlisted(result)
    yield from _new_fields(result)
    yield Text("")
    if not result.complete:
        yield Text(RESUME_LATER if early else RESUME, style="bold")
    elif result.table is not None:
        yield Text(how_to_read(lake, result.table))
    elif sql := example(result.rows, lake):
        yield Text("Try it:", style="bold")
        yield Text(f'  duckdb -c "{sql}"')


def how_to_read(lake: Place, table: TableChoice) -> str:
    """What to say of a lake that has tables: its folders also hold files that were replaced."""
    if table.format is TableFormat.DELTA:
        return f'Read its tables, not its folders: deltalake.DeltaTable("{lake}/{MESSAGES.name}"), for one.'
    return "Read its tables by their catalog, not its folders, which also hold files that were replaced."


def example(rows: Mapping[str, int], lake: Place) -> str | None:
    """An SQL query for DuckDB that shows the lake at work; None if it holds no rows."""
    name = next((name for name in _QUERIES if rows.get(name)), None)
    if name is None:
        return None
    pattern = f"{lake}/{name}/*/*.parquet".replace("'", "''")
    return _QUERIES[name].format(files=f"'{pattern}'")


def open_slices(findings: Findings, how_to_list: str) -> Iterator[Text]:
    """The slices that are not complete: those that failed with their reasons, and how many more there are."""
    if findings.failed.total:
        yield Text("")
        yield Text("Not complete:", style="bold")
    for one in findings.failed.shown:
        of = "" if one.expected is None else f" of {one.expected:,}"
        why = redacted(" ".join((one.error or "").split()))
        yield Text(f"  {one.dataset} of send {one.id_send}: {one.rows:,}{of} rows; {why}")
    if findings.failed.more:
        yield Text(f"  … and {findings.failed.more:,} more; {how_to_list}")
    if findings.unfinished:
        yield Text("")
        yield Text(f"Not finished yet: {count(findings.unfinished, 'slice')}.")


def _headline(result: Result, findings: Findings, *, early: bool) -> Text:
    done, slices = sum(findings.complete.values()), count(findings.slices, "slice")
    if early:
        return Text(f"Ended early: {done:,} of {slices} complete; what was fetched is kept.", style="bold red")
    if result.complete and not findings.slices:
        return Text(
            "Complete: there is nothing to harvest; the lists are proven, and name no send.", style="bold green"
        )
    if result.complete:
        return Text(f"Complete: {slices}, each proven to hold every row.", style="bold green")
    if result.interrupted:
        return Text(f"Stopped: {done:,} of {slices} complete; what was fetched is kept.", style="bold yellow")
    doubt = "; but there may be sends that are not among them" if result.doubts else ""
    return Text(f"Incomplete: {done:,} of {slices} complete{doubt}.", style="bold red")


def _totals(result: Result, findings: Findings, lake: Place) -> Iterator[Text]:
    wide = max(map(len, ("changed", *result.rows))) + 2
    for name, rows in result.rows.items():
        yield Text(f"  {name:<{wide}}{count(rows, 'row')}")
    if findings.changed:
        yield Text(f"  {'changed':<{wide}}{count(findings.changed, 'row')} since they were fetched before")
    again = result.attempts - result.queries
    retries = f" ({count(result.attempts, 'attempt')})" if again else ""
    pace = f", {result.attempts / result.seconds:.2g} a second" if result.seconds > 0 and result.attempts else ""
    yield Text(
        f"  {'asked':<{wide}}{count(result.queries, 'query', 'queries')}{retries} in {span(result.seconds)}{pace}"
    )
    if refused := _refused(result):
        yield Text(f"  {'server':<{wide}}{refused}", style="yellow")
    if result.limit is not None:
        fewer = f"{count(result.limit, 'record')} at a time: answers with more would not fit into --memory"
        yield Text(f"  {'limit':<{wide}}{fewer}", style="yellow")
    yield Text(f"  {'lake':<{wide}}{lake}")


def _refused(result: Result) -> str | None:
    """What the server refused, and what it was found to bear; None if it took all that it was asked."""
    if result.told is None or result.paced is None:
        return None
    paced, (most_rate, most_at_once) = result.paced, result.told
    rate = paced.rate if paced.rate < most_rate else None
    concurrency = paced.concurrency if paced.concurrency < most_at_once else None
    parts = []
    if rate is not None or concurrency is not None:
        parts.append(f"bears {bears(rate, concurrency)}")
    if paced.refused:
        parts.append(f"refused {count(paced.refused, 'attempt')}")
    if paced.pauses:
        parts.append(f"asked for {count(paced.pauses, 'pause')}")
    return "; ".join(parts) or None


def _oddities(findings: Findings) -> Iterator[Text]:
    if findings.rowless.total:
        yield Text("")
        yield Text(f"No rows at all: {_named(findings.rowless)}. Perhaps a mistyped id?", style="yellow")
    if findings.miscounted.total:
        yield Text("")
        yield Text("Proven complete, yet not as many rows as expected:", style="yellow")
        for one in findings.miscounted.shown:
            difference = one.rows - (one.expected or 0)
            which = f"{abs(difference):,} {'more' if difference > 0 else 'fewer'}"
            yield Text(
                f"  {one.dataset} of send {one.id_send}: {one.rows:,} rows, {which} than the {one.expected:,} expected"
            )
        if findings.miscounted.more:
            yield Text(f"  … and {findings.miscounted.more:,} more")
    if findings.unsettled:
        yield Text("")
        yield Text(
            f"Unsettled: {count(findings.unsettled, 'message')} not delivered yet; their status may still change."
        )
    if findings.overdue:
        yield Text("")
        yield Text(f"Overdue: {count(findings.overdue, 'message')} waiting for over 60 days; they count as settled.")
    if findings.gone:
        yield Text("")
        yield Text(f"Gone: {count(findings.gone, 'row')} that the lake holds and the source no longer serves.")


def doubtful(doubts: Sequence[str]) -> Iterator[Text]:
    """Why there may be more sends than were found."""
    if not doubts:
        return
    yield Text("")
    yield Text("There may be more sends. These lists are not proven:", style="bold yellow")
    for doubt in doubts[:_MOST_DOUBTS]:
        yield Text(f"  {redacted(' '.join(doubt.split()))}")
    if len(doubts) > _MOST_DOUBTS:
        yield Text(f"  … and {len(doubts) - _MOST_DOUBTS:,} more; --json lists them")


def _unlisted(result: Result) -> Iterator[Text]:
    if result.unlisted:
        sends: Examples[int] = Examples(_MOST_DOUBTS)
        for send in result.unlisted:
            sends.add(send)
        yield Text("")
        yield Text(
            f"Not listed any more: {_named(sends)}. The lake holds {'it' if sends.total == 1 else 'them'}, and the "
            "lists should name them and don't; they were not asked for.",
            style="yellow",
        )


def _new_fields(result: Result) -> Iterator[Text]:
    if result.met:
        yield Text("")
        yield Text("The API sent fields that this version does not know; they are in _extra:", style="yellow")
        for name, fields in result.met.items():
            yield Text(f"  {name}: {', '.join(fields)}")


def _named(sends: Examples[int]) -> str:
    noun = "send" if sends.total == 1 else "sends"
    more = f" and {sends.more:,} more" if sends.more else ""
    return f"{noun} {', '.join(map(str, sends.shown))}{more}"


__all__ = ["RESUME", "RESUME_LATER", "doubtful", "example", "open_slices", "report"]
