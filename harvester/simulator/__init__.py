"""A faithful, deterministic Mailkit over real HTTP, for the demo, the tests and the benchmarks.

::

    async with serve(AccountSpec(sends=equal(4, 30_000)), Behaviour(page_cap=1000)) as server:
        ...  # POST to server.url + "/json.fcgi" or "/rpc.fcgi"; look at server.stats
        ...  # expected(server.account, MESSAGES, id_send) is what a correct lake holds
"""

from harvester.simulator.account import Account
from harvester.simulator.behaviour import Behaviour, Fault
from harvester.simulator.options import parse_date, parse_faults, parse_latency, parse_script, parse_sends
from harvester.simulator.server import Server, run_simulator, serve
from harvester.simulator.spec import (
    AccountSpec,
    Case,
    Nothing,
    Numbers,
    Sends,
    Shape,
    XmlTypes,
    equal,
    listed,
    skewed,
)
from harvester.simulator.stats import Stats
from harvester.simulator.truth import (
    NoSuchSendError,
    Summary,
    digest,
    expected,
    expected_batches,
    summary,
    truth,
)

__all__ = [
    "Account",
    "AccountSpec",
    "Behaviour",
    "Case",
    "Fault",
    "NoSuchSendError",
    "Nothing",
    "Numbers",
    "Sends",
    "Server",
    "Shape",
    "Stats",
    "Summary",
    "XmlTypes",
    "digest",
    "equal",
    "expected",
    "expected_batches",
    "listed",
    "parse_date",
    "parse_faults",
    "parse_latency",
    "parse_script",
    "parse_sends",
    "run_simulator",
    "serve",
    "skewed",
    "summary",
    "truth",
]
