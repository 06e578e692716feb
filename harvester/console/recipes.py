"""The options of ``harvester simulate``, and how they become the simulator's account and behaviour.

Every field of the simulator's own recipes has an option here; a test holds the two together. The MD5 code of a
simulated account is no secret, and always the same.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from harvester.console.converters import duration, ids

if TYPE_CHECKING:
    from harvester.simulator import AccountSpec, Behaviour, Shape

ACCOUNT = Group("The account", sort_key=1)
JSON = Group("How its answers look", sort_key=2)
SERVER = Group("How the server behaves", sort_key=3)
TROUBLE = Group("What goes wrong", sort_key=4)
WHERE = Group("Where, and output", sort_key=5)

_RECENT_DAYS = 29
"""How far back the sends of an account go that has messages waiting."""
_STEP_DAYS = 7 / 24
"""From one of them to the next, if nothing else is said and they aren't many."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What ``harvester simulate`` can be told."""

    sends: Annotated[
        str,
        Parameter(
            group=ACCOUNT,
            metavar="SENDS",
            help="The sends: 6x2000 (six of 2000 messages), skewed:24:1000000 (24, unequal, a million together), or "
            "601181=12,601182=30000.",
        ),
    ] = "6x2000"
    seed: Annotated[int, Parameter(group=ACCOUNT, metavar="N", help="What every record follows from.")] = 0
    gaps: Annotated[int, Parameter(group=ACCOUNT, metavar="N", help="Mean distance of neighbouring keys.")] = 1
    first_key: Annotated[int | None, Parameter(group=ACCOUNT, metavar="N", help="The lowest possible key.")] = None
    room: Annotated[
        int, Parameter(group=ACCOUNT, metavar="N", help="Messages that each send can grow by, when told to.")
    ] = 0
    sends_per_campaign: Annotated[
        int, Parameter(group=ACCOUNT, metavar="N", help="Sends that share an ID_message.")
    ] = 4
    first_date: Annotated[
        str | None,
        Parameter(
            group=ACCOUNT,
            metavar="DATE",
            help="When the first send went out: 2026-11-01, or with a time. If not given, 2016-06-20; with --waiting "
            "above 0, so that all sends lie in the last 30 days.",
        ),
    ] = None
    days_between: Annotated[
        float | None,
        Parameter(group=ACCOUNT, metavar="DAYS", help="From one send to the next. If not given, seven hours or less."),
    ] = None
    today: Annotated[
        str | None,
        Parameter(
            group=ACCOUNT,
            metavar="DATE",
            help="The last day of lists that are asked for without a range. If not given, the real one; for an account "
            "of 2016, the day after its last send.",
        ),
    ] = None
    failed: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of messages that bounced, 0 to 1.")
    ] = 0.03
    waiting: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of messages not delivered yet, 0 to 1.")
    ] = 0.0
    opened: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of delivered messages that were opened, 0 to 1.")
    ] = 0.33
    opened_later: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of them opened only once settled, 0 to 1.")
    ] = 0.0
    awkward: Annotated[
        bool, Parameter(group=ACCOUNT, show_default=False, help="Text that breaks careless readers; keys beyond 2^53.")
    ] = False
    foul: Annotated[
        bool, Parameter(group=ACCOUNT, show_default=False, help="Some values hold bytes that are not text.")
    ] = False
    client_id: Annotated[str, Parameter(group=ACCOUNT, metavar="N", help="The client id that is let in.")] = "12345"

    pretty: Annotated[bool, Parameter(group=JSON, show_default=False, help="Indented.")] = False
    ascii: Annotated[bool, Parameter(group=JSON, show_default=False, help="Escapes beyond ASCII.")] = False
    numbers: Annotated[
        Literal["text", "bare", "mixed"], Parameter(group=JSON, metavar="HOW", help="How numbers are sent.")
    ] = "text"
    xml_types: Annotated[
        Literal["typed", "strings", "untyped"],
        Parameter(group=JSON, metavar="HOW", help="Which types values have over XML-RPC."),
    ] = "typed"
    shuffle: Annotated[
        bool, Parameter(group=JSON, show_default=False, help="Another order of fields on each page.")
    ] = False
    case: Annotated[
        Literal["documented", "upper", "lower"], Parameter(group=JSON, metavar="HOW", help="How fields are spelled.")
    ] = "documented"
    missing: Annotated[
        tuple[str, ...],
        Parameter(group=JSON, metavar="FIELD...", consume_multiple=True, show_default=False, help="Fields never sent."),
    ] = ()
    unknown: Annotated[bool, Parameter(group=JSON, show_default=False, help="Fields that no documentation names.")] = (
        False
    )
    bare_single: Annotated[
        bool, Parameter(group=JSON, show_default=False, help="A lone record is an object, not a list of one.")
    ] = False
    nothing: Annotated[
        Literal["{}", "[]", ""],
        Parameter(group=JSON, metavar="HOW", help="An answer without records; '' for an empty one."),
    ] = "{}"

    page_cap: Annotated[int, Parameter(group=SERVER, metavar="N", help="Most records in one answer.")] = 25_000
    exclusive: Annotated[
        bool, Parameter(group=SERVER, show_default=False, help="The record that a cursor names doesn't come back.")
    ] = False
    latency: Annotated[
        str, Parameter(group=SERVER, metavar="TIME", help="Time to an answer's start: 0.4, 250ms or 0.2..0.8.")
    ] = "0"
    server_rate: Annotated[
        float | None, Parameter(group=SERVER, metavar="NUMBER", help="Requests a second let in; above it, 429.")
    ] = None
    server_burst: Annotated[int, Parameter(group=SERVER, metavar="N", help="Requests let in at once.")] = 1
    server_concurrency: Annotated[
        int | None, Parameter(group=SERVER, metavar="N", help="Requests that may be under way at a time.")
    ] = None
    server_workers: Annotated[
        int | None,
        Parameter(group=SERVER, metavar="N", help="Requests worked on at a time; the others stand in line."),
    ] = None
    busy_status: Annotated[
        int, Parameter(group=SERVER, metavar="STATUS", help="The answer to one request too many.")
    ] = 503
    no_gzip: Annotated[bool, Parameter(group=SERVER, show_default=False, help="Bodies are not compressed.")] = False

    faults: Annotated[
        str,
        Parameter(
            group=TROUBLE,
            metavar="FAULTS",
            show_default=False,
            help="Probabilities: 500=0.05,reset=0.02. There are statuses (206 302 400 401 403 404 429 443 500 501 502 "
            "503 504), 429-seconds, 429-date, 503-seconds, 503-date, 404-data, reset, truncate, short, length, type, "
            "html, text, empty, empty-list, blank, null, no-body, error, unauthorized, disallowed, invalid-message, "
            "missing-send, invalid-send, unknown-error, unknown-status, status-0, bare, fault, other-wire, bad-gzip, "
            "encoding, hang, silence.",
        ),
    ] = ""
    script: Annotated[
        str,
        Parameter(
            group=TROUBLE,
            metavar="FAULTS",
            show_default=False,
            help="What the first requests meet, before chance takes over: 500,ok,reset.",
        ),
    ] = ""
    fault_seed: Annotated[int, Parameter(group=TROUBLE, metavar="N", help="What faults and latencies follow from.")] = 0
    retry_after: Annotated[
        float | None,
        Parameter(group=TROUBLE, metavar="DURATION", converter=duration, help="Retry-After with 429 and 503."),
    ] = None
    fail_sends: Annotated[
        tuple[int, ...],
        Parameter(
            group=TROUBLE,
            metavar="ID...",
            converter=ids,
            consume_multiple=True,
            show_default=False,
            help="Sends that always answer 500.",
        ),
    ] = ()
    vanish: Annotated[
        float,
        Parameter(group=TROUBLE, metavar="SHARE", help="How often a page's last record is erased, 0 to 1."),
    ] = 0.0
    disallowed: Annotated[
        bool, Parameter(group=TROUBLE, show_default=False, help="Every call is refused: Disallowed IP.")
    ] = False
    no_reports: Annotated[
        bool, Parameter(group=TROUBLE, show_default=False, help="Lists of campaigns and sends are refused.")
    ] = False
    unsteady_lists: Annotated[
        float, Parameter(group=TROUBLE, metavar="SHARE", help="How often a list lacks its last entry, 0 to 1.")
    ] = 0.0
    total_counts: Annotated[
        bool, Parameter(group=TROUBLE, show_default=False, help="A campaign's SEND_COUNT is not that of the range.")
    ] = False
    hidden_sends: Annotated[
        tuple[int, ...],
        Parameter(
            group=TROUBLE,
            metavar="ID...",
            converter=ids,
            consume_multiple=True,
            show_default=False,
            help="Sends that no list shows.",
        ),
    ] = ()

    host: Annotated[str, Parameter(group=WHERE, metavar="HOST", help="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Parameter(group=WHERE, metavar="PORT", help="The port; 0 for any that is free.")] = 0
    json: Annotated[
        bool, Parameter(group=WHERE, show_default=False, help="Print one line of JSON instead of text.")
    ] = False
    until_stdin_closes: Annotated[bool, Parameter(show=False)] = False
    """For a parent process: stop when it ends, in whatever way it does."""

    def account(self) -> "AccountSpec":
        """The account's recipe. Raises UsageError."""
        from harvester.simulator import AccountSpec, parse_sends  # noqa: PLC0415  only this command pays for it

        sends = parse_sends(self.sends)
        first_date, days_between, today = self._dates(len(sends.ids))
        return AccountSpec(
            seed=self.seed,
            sends=sends,
            gap=self.gaps,
            first_key=self.first_key,
            room=self.room,
            sends_per_campaign=self.sends_per_campaign,
            first_date=first_date,
            days_between=days_between,
            today=today,
            failed=self.failed,
            waiting=self.waiting,
            opened=self.opened,
            opened_later=self.opened_later,
            awkward=self.awkward,
            foul=self.foul,
            shape=self._shape(),
            client_id=self.client_id,
        )

    def _dates(self, sends: int) -> tuple[datetime, float | None, date | None]:
        """When the first send went out, the days from one to the next, and the day that lists go up to.

        Messages that wait belong to sends of late: nobody believes in one that has waited for months.
        """
        from harvester.simulator import parse_date  # noqa: PLC0415  only this command pays for it
        from harvester.simulator.spec import FIRST_DATE  # noqa: PLC0415  likewise

        now = datetime.now(UTC).date()
        today = None if self.today is None else parse_date(self.today).date()
        if self.first_date is not None:
            return parse_date(self.first_date), self.days_between, today or now
        if not self.waiting:
            return FIRST_DATE, self.days_between, today
        step = _STEP_DAYS if self.days_between is None else self.days_between
        if self.days_between is None:
            step = min(step, _RECENT_DAYS / max(1, sends))
        back = timedelta(days=min(_RECENT_DAYS, -(-step * sends // 1)))
        return datetime.combine(now, time()) - back, step, today or now

    def _shape(self) -> "Shape":
        from harvester.simulator import Case, Nothing, Numbers, Shape, XmlTypes  # noqa: PLC0415  only this command pays

        return Shape(
            pretty=self.pretty,
            ascii=self.ascii,
            numbers=Numbers(self.numbers),
            xml_types=XmlTypes(self.xml_types),
            shuffle=self.shuffle,
            case=Case(self.case),
            missing=self.missing,
            unknown=self.unknown,
            single_bare=self.bare_single,
            nothing=Nothing(self.nothing),
        )

    def behaviour(self) -> "Behaviour":
        """The server's behaviour. Raises UsageError."""
        from harvester.simulator import (  # noqa: PLC0415  only this command pays for it
            Behaviour,
            parse_faults,
            parse_latency,
            parse_script,
        )

        return Behaviour(
            page_cap=self.page_cap,
            inclusive=not self.exclusive,
            latency_s=parse_latency(self.latency),
            rate=self.server_rate,
            burst=self.server_burst,
            most_in_flight=self.server_concurrency,
            workers=self.server_workers,
            busy_status=self.busy_status,
            gzip=not self.no_gzip,
            faults=parse_faults(self.faults),
            script=parse_script(self.script),
            fault_seed=self.fault_seed,
            retry_after_s=self.retry_after,
            fail_sends=frozenset(self.fail_sends),
            vanish=self.vanish,
            disallowed=self.disallowed,
            no_reports=self.no_reports,
            unsteady_lists=self.unsteady_lists,
            total_counts=self.total_counts,
            hidden_sends=frozenset(self.hidden_sends),
        )


__all__ = ["SimulateOptions"]
