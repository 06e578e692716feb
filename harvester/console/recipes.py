"""The options of ``harvester simulate``, and how they become the simulator's account and behaviour.

Every field of the simulator's own recipes has an option here; a test holds the two together. The MD5 code of a
simulated account is no secret, and always the same.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from harvester.console.options import duration, ids

if TYPE_CHECKING:
    from harvester.simulator import AccountSpec, Behaviour, Shape

ACCOUNT = Group("The account", sort_key=1)
JSON = Group("How its JSON looks", sort_key=2)
SERVER = Group("How the server behaves", sort_key=3)
TROUBLE = Group("What goes wrong", sort_key=4)
WHERE = Group("Where, and output", sort_key=5)


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
    sends_per_campaign: Annotated[
        int, Parameter(group=ACCOUNT, metavar="N", help="Sends that share an ID_message.")
    ] = 4
    failed: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of messages that bounced, 0 to 1.")
    ] = 0.03
    waiting: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of messages not delivered yet, 0 to 1.")
    ] = 0.0
    opened: Annotated[
        float, Parameter(group=ACCOUNT, metavar="SHARE", help="Share of delivered messages that were opened, 0 to 1.")
    ] = 0.33
    awkward: Annotated[
        bool, Parameter(group=ACCOUNT, show_default=False, help="Text that breaks careless readers; keys beyond 2^53.")
    ] = False
    client_id: Annotated[str, Parameter(group=ACCOUNT, metavar="N", help="The client id that is let in.")] = "12345"

    pretty: Annotated[bool, Parameter(group=JSON, show_default=False, help="Indented.")] = False
    ascii: Annotated[bool, Parameter(group=JSON, show_default=False, help="Escapes beyond ASCII.")] = False
    numbers: Annotated[
        Literal["text", "bare", "mixed"], Parameter(group=JSON, metavar="HOW", help="How numbers are sent.")
    ] = "text"
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
            help="Probabilities: 500=0.05,reset=0.02. There are 429, 500, 502, 503, reset, truncate, short, html, "
            "empty, error, hang.",
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

        return AccountSpec(
            seed=self.seed,
            sends=parse_sends(self.sends),
            gap=self.gaps,
            first_key=self.first_key,
            sends_per_campaign=self.sends_per_campaign,
            failed=self.failed,
            waiting=self.waiting,
            opened=self.opened,
            awkward=self.awkward,
            shape=self._shape(),
            client_id=self.client_id,
        )

    def _shape(self) -> "Shape":
        from harvester.simulator import Case, Nothing, Numbers, Shape  # noqa: PLC0415  only this command pays for it

        return Shape(
            pretty=self.pretty,
            ascii=self.ascii,
            numbers=Numbers(self.numbers),
            shuffle=self.shuffle,
            case=Case(self.case),
            missing=self.missing,
            unknown=self.unknown,
            single_bare=self.bare_single,
            nothing=Nothing(self.nothing),
        )

    def behaviour(self) -> "Behaviour":
        """The server's behaviour. Raises UsageError."""
        from harvester.simulator import Behaviour, parse_faults, parse_latency  # noqa: PLC0415  only this command pays

        return Behaviour(
            page_cap=self.page_cap,
            inclusive=not self.exclusive,
            latency_s=parse_latency(self.latency),
            rate=self.server_rate,
            burst=self.server_burst,
            most_in_flight=self.server_concurrency,
            busy_status=self.busy_status,
            gzip=not self.no_gzip,
            faults=parse_faults(self.faults),
            fault_seed=self.fault_seed,
            retry_after_s=self.retry_after,
            fail_sends=frozenset(self.fail_sends),
            vanish=self.vanish,
            disallowed=self.disallowed,
        )


__all__ = ["SimulateOptions"]
