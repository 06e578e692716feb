"""The texts that records choose from: people, domains, dates, reasons for bouncing. The same in every run, and small.

An awkward account draws from the same banks with texts mixed in that break careless readers.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from harvester.simulator.foul import FOUL, FOUL_DATE, FOUL_IDS, FOUL_LOCAL
from harvester.simulator.parts import Bank, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PEOPLE = 512
"""Variants of a recipient; a power of two, so that bits of a hash choose one."""
DOMAINS = 64
EMAIL_DATES = 1024
BOUNCE_KINDS = 64
CODES = 4096
RESPONSE_KINDS = 64
VISITS = 256
NAMES = 32
"""Names of campaigns, and subjects."""
STATUSES = ("sent", "failed", "wait", "wait_ab")
SENT, FAILED, WAIT, WAIT_AB = range(4)
VERSIONS = ("", "A", "B")
ZERO_DATE = "0000-00-00 00:00:00"

_SEED = 601_181
_ODD_DATES = 0.1
"""The share of dates, in an awkward account, that are none."""
_FOUL_SHARE = 0.15
"""How often, in a foul account, a text is foul where it might be awkward in an awkward one."""
_WITH_CUSTOM = 0.4
"""The share of recipients who have any custom fields."""
_WELL_KNOWN = 0.1
"""The share of recipients of whom more than the name is known."""
_FIRST_NAMES = (
    *("Jana", "Petr", "Marie", "Jiří", "Eva", "Tomáš", "Hana", "Pavel", "Lucie", "Martin", "Kateřina", "Jakub", "Věra"),
    *("Ondřej", "Zuzana", "Lukáš", "Anna", "Michal", "Šárka", "Václav", "Alena", "František", "Markéta", "Karel"),
    *("Tereza", "Josef", "Lenka", "David", "Ivana", "Radek", "Monika", "Filip"),
)
_LAST_NAMES = (
    *("Novák", "Svoboda", "Dvořák", "Černý", "Procházka", "Kučera", "Veselý", "Horák", "Němec", "Pokorný", "Marek"),
    *("Pospíšil", "Hájek", "Jelínek", "Král", "Růžička", "Beneš", "Fiala", "Sedláček", "Doležal", "Zeman", "Kolář"),
    *("Navrátil", "Čermák", "Urban", "Vaněk", "Blažek", "Kříž", "Kovář", "Kratochvíl", "Bartoš", "Vlček"),
)
_CITIES = ("Praha", "Brno", "Ostrava", "Plzeň", "Liberec", "Olomouc", "Znojmo", "České Budějovice", "Hradec Králové")
_STREETS = ("Dlouhá", "Krátká", "Nádražní", "Husova", "Školní", "Zahradní", "Na Příkopě", "Lidická")
_COMPANIES = ("Seznam.cz, a.s.", "Mailkit s.r.o.", "O2 Czech Republic", "T-Mobile", "Vodafone", "UPC", "CESNET")
_BROWSERS = ("Thunderbird", "Email.cz", "Chrome", "Outlook", "Apple Mail", "Firefox", "Gmail")
_SYSTEMS = ("Windows", "Android", "iOS", "macOS", "Linux")
_HOSTS = ("seznam.cz", "gmail.com", "email.cz", "centrum.cz", "volny.cz", "atlas.cz", "post.cz", "outlook.com")
_CUSTOM = ("1", "4", "927", "69", "99220", "3667", "2016-02-15", "2016-02-15 14:52:22+01", "premium", "Nároční")
_BOUNCES = (
    ("5.1.1", "permanent", "bad-mailbox", "Bad Mailbox"),
    ("4.2.2", "temporary", "full-mailbox", "Full Mailbox"),
    ("4.4.1", "temporary", "no-answer", "No answer from host"),
    ("5.4.4", "unknown", "bad-domain", "Unable to route"),
    ("5.7.1", "enabled", "spam-related", "Message refused; see https://example.com/why?a=1&b=2"),
    ("5.1.2", "permanent", "bad-domain", "Bad destination system address"),
    ("5.2.1", "unsubscribe", "inactive-mailbox", "Mailbox disabled, not accepting messages"),
)
_CAMPAIGNS = ("Newsletter", "Jarní výprodej", "Vítejte", "Opuštěný košík", "Novinky", "Pozvánka", "Dotazník", "Soutěž")
_SUBJECTS = ("Sleva 20 %", "Tipy na víkend", "Děkujeme za nákup", "Co je nového?", "Jen dnes!", "Vaše body", "Ahoj")
AWKWARD = (
    "},{",
    '"},{"',
    '[{"ID_send_message":"1"},{"ID_send_message":"2"}]',
    'say "hello"',
    "back\\slash \\n \\u0041 \\",
    "first line\nsecond line\r\n\tthird",
    "žluťoučký kůň úpěl ďábelské ódy",
    "\U0001f4e7 mail \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "</script><!-- &amp; -->",
    "\u2028 separators \u2029",
    "control \x01 \x1f \x7f",
    "  spaces around  ",
    "null",
    "true",
    "0012",
    "1.50",
    "1e3",
    "-0",
    "0x10",
    "日本語 العربية",
)
"""Text that careless readers break on."""
AWKWARD_IDS = ("", "00123", "18446744073709551617", "9223372036854775808", "9007199254740993", "-5", "+7", "0x10")
"""Values of an id that a reader may get wrong. Digits, signs and letters only: nothing here needs escaping."""
_AWKWARD_DATES = (ZERO_DATE, "", "2016-02-30 00:00:00", "2016-02-16", "2016-02-16 4:30:15", "2016-02-16 04:30:15.5")


class Banks:
    """Every bank of an account. The same for all seeds: which texts a record picks is what the seed decides.

    Attributes:
        locals: the part of an address before a number and the domain; as many as people.
        domains: the part of an address from the ``@`` on.
        email_dates: when addresses were added.
        deliveries: ``ab_version`` … ``domain``, at ``(version * 4 + status) * DOMAINS + domain``.
        people: ``custom_1`` … ``s_os``, first without and then with what is known of those who opened the message.
        codes: eight random hexadecimal digits.
        awkward_ids: ids that a reader may get wrong.
        foul_ids: ids that are not text.
        bounce_codes: ``STATUS`` of a bounce.
        bounces: what goes with it: ``EMAIL_STATUS``, ``BOUNCE_CAT``, ``REASON``.
        campaigns: names of campaigns, ``NAMES`` of them.
        subjects: of their messages, as many.
        logged_bounces: ``STATUS`` … ``UTM_CAMPAIGN`` of a logged bounce, of the same kinds as ``bounces``.
        origins: ``ab_version`` … ``tld`` of a response, at ``version * DOMAINS + domain``.
        responses: ``type`` … ``unsubscribe_answer``; the first is an opening.
        visits: ``IP`` … ``org`` of a response.
        notes: what an undocumented field holds.
    """

    def __init__(self, *, awkward: bool, foul: bool = False) -> None:
        rng = random.Random(_SEED)  # noqa: S311 - reproducible texts, not secrets
        self._awkward = awkward
        self._foul = foul
        names = [(rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)) for _ in range(PEOPLE)]
        self.locals = texts([self._local(first, last) for first, last in names])
        hosts = [
            _HOSTS[n] if n < len(_HOSTS) else f"{_LAST_NAMES[n % len(_LAST_NAMES)]}{n}.cz".lower()
            for n in range(DOMAINS)
        ]
        hosts = hosts if awkward else [_plain(host) for host in hosts]
        self.domains = texts([f"@{host}" for host in hosts])
        first_s = int(datetime(2008, 1, 1, tzinfo=UTC).timestamp())
        dates = [date_text(first_s + rng.randrange(8 * 365 * 86_400)) for _ in range(EMAIL_DATES)]
        self.email_dates = texts(
            [
                rng.choice(_AWKWARD_DATES)
                if awkward and rng.random() < _ODD_DATES
                else FOUL_DATE
                if foul and rng.random() < _ODD_DATES
                else date
                for date in dates
            ]
        )
        self.deliveries = Bank(
            ("ab_version", "message_status", "tld", "domain"),
            [(v, status, host.rpartition(".")[2], host) for v in VERSIONS for status in STATUSES for host in hosts],
        )
        closed = [self._custom(rng) | self._person(rng, *name) for name in names]
        seen = [person | self._seen(rng) for person in closed]
        unseen = [person | dict.fromkeys(_SEEN, "") for person in closed]
        self.people = Bank(tuple(seen[0]), [tuple(person.values()) for person in unseen + seen])
        self.codes = texts([f"{rng.getrandbits(32):08x}" for _ in range(CODES)])
        self.awkward_ids = texts(AWKWARD_IDS)
        self.foul_ids = texts(FOUL_IDS)
        kinds = [rng.choice(_BOUNCES) for _ in range(BOUNCE_KINDS)]
        self.bounce_codes = texts([kind[0] for kind in kinds])
        self.bounces = Bank(
            ("EMAIL_STATUS", "BOUNCE_CAT", "REASON"),
            [(kind[1], kind[2], self._text(rng, kind[3], 0.2)) for kind in kinds],
        )
        self.campaigns = texts([self._text(rng, f"{kind} {n}", 0.3) for n, kind in _numbered(_CAMPAIGNS)])
        self.subjects = texts([self._text(rng, f"{kind} {n}", 0.3) for n, kind in _numbered(_SUBJECTS)])

        self.logged_bounces = Bank(
            ("STATUS", "TEXT_STATUS", "REMOTE_MTA", "BOUNCE_CAT", "UTM_CAMPAIGN"),
            [self._logged(rng, *kind) for kind in kinds],
        )
        self.origins = Bank(
            ("ab_version", "domain", "tld"),
            [(version, host, host.rpartition(".")[2]) for version in VERSIONS for host in hosts],
        )
        self.responses = Bank(_RESPONSE, [_OPEN, *(self._response(rng) for _ in range(RESPONSE_KINDS - 1))])
        self.notes = ("seen },{ twice", FOUL[0]) if foul else ("seen },{ twice",)
        self.visits = Bank(_VISIT, [self._visit(rng) for _ in range(VISITS)])

    def _local(self, first: str, last: str) -> str:
        if self._awkward and first == "Hana":
            return f'"{first}' + "},{" + f'{last}".'
        if self._foul and first == "Lukáš":
            return FOUL_LOCAL
        return _plain(f"{first}.{last}".lower())

    def _text(self, rng: random.Random, text: str, share: float) -> str:
        if self._awkward and rng.random() < share:
            return rng.choice(AWKWARD)
        return rng.choice(FOUL) if self._foul and rng.random() < share * _FOUL_SHARE else text

    def _custom(self, rng: random.Random) -> dict[str, str]:
        # Most lists use no custom fields; those that do fill a few.
        share = 0.15 if rng.random() < _WITH_CUSTOM else 0.0
        values = (rng.choice(_CUSTOM) if rng.random() < share else "" for _ in range(25))
        return {f"custom_{number}": self._text(rng, value, 0.04) for number, value in enumerate(values, 1)}

    def _person(self, rng: random.Random, first: str, last: str) -> dict[str, str]:
        full = rng.random() < _WELL_KNOWN
        given = {"first_name": first, "last_name": last, "full_name": f"{first} {last}"}
        if full:
            given |= {
                "prefix": rng.choice(("Ing.", "Mgr.", "")),
                "vocative": f"{first}e",
                "gender": rng.choice(("F", "M")),
                "company": rng.choice(_COMPANIES),
                "street": f"{rng.choice(_STREETS)} {rng.randrange(1, 2000)}/{rng.randrange(1, 40)}",
                "city": rng.choice(_CITIES),
                "country": "Czech Republic",
                "zip": f"{rng.randrange(100, 799)} {rng.randrange(100):02}",
                "mobile": f"+420{rng.randrange(600_000_000, 799_999_999)}",
            }
        return {name: self._text(rng, given.get(name, ""), 0.04) for name in _PERSON}

    def _logged(self, rng: random.Random, code: str, _: str, category: str, reason: str) -> tuple[str, ...]:
        text = self._text(rng, f"{'5' if code[0] == '5' else '4'}50 {code} {reason}", 0.2)
        mta = rng.choice(("", *(f"mx{number}.{host}" for number, host in enumerate(_HOSTS))))
        return (code, text, mta, category, rng.choice(("", "", "jaro", "newsletter-12")))

    def _response(self, rng: random.Random) -> tuple[str, ...]:
        kind = rng.choice(("open", "click", "click", "click", "unsubscribe"))
        if kind == "open":
            return _OPEN
        if kind == "unsubscribe":
            return (kind, *[""] * 6, self._text(rng, rng.choice(("", "Už mě to nezajímá", "too many mails")), 0.5))
        number = rng.randrange(1, 40)
        url = f"https://www.example.com/item?id={number}&utm_source=mail#top"
        text, title = self._text(rng, "Koupit", 0.3), self._text(rng, rng.choice(("", "Do košíku")), 0.3)
        return (
            kind,
            str(7_700_000 + number),
            "www",
            url,
            text,
            title,
            rng.choice(("", "https://mail.example/?b=1")),
            "",
        )

    def _visit(self, rng: random.Random) -> tuple[str, ...]:
        address = f"192.0.2.{rng.randrange(256)}"
        country = rng.choice((("CZ", "CZE", "203", "Czech Republic"), ("SK", "SVK", "703", "Slovakia")))
        browser, major = rng.choice(_BROWSERS), str(rng.randrange(40, 130))
        system = rng.choice(_SYSTEMS)
        return (
            *(address, rng.choice(("", address)), "europe", country[3], country[1], country[0]),
            *("Praha", rng.choice(("10", "")), self._text(rng, rng.choice(_CITIES), 0.1)),
            self._text(rng, f"Mozilla/5.0 ({system}; x64) {browser}/{major}.0", 0.1),
            *(browser, major, rng.choice(("0", "")), rng.choice(("desktop", "mobile"))),
            *(system, rng.choice(("10", "14.1", "")), rng.choice(("computer", "phone", "")), rng.choice(_COMPANIES)),
        )

    def _seen(self, rng: random.Random) -> dict[str, str]:
        where = ("europe", "Czech Republic", rng.choice(("Praha", "Prazsky", "")), rng.choice((*_CITIES, "", "", "")))
        what = (rng.choice(_COMPANIES), rng.choice(_BROWSERS), rng.choice((*_SYSTEMS, "")))
        return {name: self._text(rng, value, 0.04) for name, value in zip(_SEEN, where + what, strict=True)}


_PERSON = (
    *("prefix", "vocative", "first_name", "last_name", "full_name", "nick_name", "gender", "reply_to", "company"),
    *("street", "city", "state", "country", "zip", "phone", "mobile", "fax"),
)
_SEEN = ("s_continent", "s_country", "s_region", "s_city", "s_org", "s_browser", "s_os")
_RESPONSE = (*("type", "ID_url", "link_type", "link_url", "link_text", "link_title", "referer", "unsubscribe_answer"),)
_OPEN = ("open", *[""] * 7)
_VISIT = (
    *("IP", "IP_orig", "continent", "country", "code3", "code", "region", "region_code", "city", "user_agent"),
    *("browser", "browser_major", "browser_minor", "browser_type", "os", "os_version", "device", "org"),
)
_UNACCENTED = str.maketrans("áčďéěíňóřšťúůýž", "acdeeinorstuuyz")


def _numbered(kinds: Sequence[str]) -> Iterator[tuple[int, str]]:
    return ((number, kinds[number % len(kinds)]) for number in range(NAMES))


def _plain(text: str) -> str:
    return text.translate(_UNACCENTED)


@cache
def banks_of(*, awkward: bool, foul: bool = False) -> Banks:
    """The banks of ordinary, awkward or foul accounts: made once, since nothing changes them."""
    return Banks(awkward=awkward, foul=foul)


def date_text(seconds: int) -> str:
    """Seconds since 1970 as the API writes dates."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


__all__ = [
    "AWKWARD",
    "AWKWARD_IDS",
    "BOUNCE_KINDS",
    "CODES",
    "DOMAINS",
    "EMAIL_DATES",
    "FAILED",
    "NAMES",
    "PEOPLE",
    "SENT",
    "STATUSES",
    "VERSIONS",
    "WAIT",
    "WAIT_AB",
    "ZERO_DATE",
    "Banks",
    "banks_of",
    "date_text",
]
