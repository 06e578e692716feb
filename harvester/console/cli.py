"""The command line: which commands there are, and what becomes of errors.

Everything that can go wrong ends here as one sentence on standard error and an exit status (see ``exits``); no
traceback reaches a person who didn't ask for one with HARVESTER_DEBUG=1.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError
from cyclopts.config import Env

from harvester import __version__
from harvester.config import Tuning
from harvester.console.compact import compact_lake
from harvester.console.converters import database, path, size
from harvester.console.demo import DemoOptions, run_demo
from harvester.console.exits import Exit, complain, status_of, tell
from harvester.console.options import LEDGER_HELP, RunOptions, table_choice
from harvester.console.output import OutputLost, Terminal, discard_the_rest, forgiving, print_object
from harvester.console.planned import show_plan
from harvester.console.recipes import SimulateOptions
from harvester.console.recover import recover_lake
from harvester.console.running import print_failure, run_harvest
from harvester.console.simulate import simulate_account
from harvester.console.sources import (
    PREFIX,
    forget_empty_variables,
    secret_or_file,
    strongest_alternative,
    toml_file,
    warn_of_strangers,
)
from harvester.console.status import show_status
from harvester.console.table import table_lake
from harvester.console.verify import show_verified
from harvester.console.wording import size_option
from harvester.errors import HarvesterError, UsageError
from harvester.model import Secret
from harvester.places import place_of

_HELP = """Harvests every message and bounce of a Mailkit account into a lake of Parquet files, and proves that it did.

harvester demo shows all of it on a simulated account, in half a minute."""

_EPILOGUE = (
    "Every option can also be set in the environment (--rate as HARVESTER_RATE) or in a TOML file (--config, or "
    "HARVESTER_CONFIG); the command line wins over the environment, and that over the file.\n\n"
    "Exit status: 0 all complete; 1 some of it is not; 2 wrong usage or settings; 3 credentials or address refused; "
    "4 the lake can't be used; 130 interrupted, and the same command resumes.\n\n"
    "HARVESTER_LOG_LEVEL (debug, info, warning, error) sets how much is logged; HARVESTER_DEBUG=1 shows details of "
    "errors."
)

_WHAT = "--lake LAKE (--send ID... | --sends-file FILE | --campaign ID... | --all) [OPTIONS]"
_SETTINGS = (Env(PREFIX, command=False), toml_file, strongest_alternative, secret_or_file, warn_of_strangers)
_SIMULATED = SimulateOptions()
_TUNING = Tuning()
_DEMONSTRATED = DemoOptions()
_Lake = Annotated[str, Parameter(help="The lake: its folder, or the URL of its place in an object store.")]
_Ledger = Annotated[Secret | None, Parameter(converter=database, metavar="URL", help=LEDGER_HELP)]
_State = Annotated[
    Path | None,
    Parameter(converter=path, metavar="DIR", help="Of a lake in an object store: its local folder."),
]

app = App(
    name="harvester",
    help=_HELP,
    version=__version__,
    console=Terminal(),
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_env_var=False),
    config=(Env(PREFIX),),
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@app.command(
    sort_key=1,
    usage=f"Usage: harvester run {_WHAT}",
    help_epilogue=_EPILOGUE,
    config=_SETTINGS,
)
def run(options: RunOptions) -> int:
    """Harvest sends into a lake. The same command again resumes, and later refreshes: it asks only for what is due.

    harvester run --lake ./lake --client-id 12345 --client-md5-file ~/.mailkit-md5 --all --since 2024-01-01
    """
    settings = options.settings()
    with options.sends() as sends:
        return run_harvest(settings, sends, json=options.json, log_format=options.log_format)


@app.command(
    sort_key=2,
    usage=f"Usage: harvester plan {_WHAT}",
    help_epilogue=_EPILOGUE,
    config=_SETTINGS,
)
def plan(options: RunOptions) -> int:
    """Say what the same run would ask: sends, rows, queries, and the least time that they take.

    It asks only for the lists of campaigns and sends, which --campaign and --all need, and makes no lake.
    """
    settings = options.settings()
    with options.sends() as sends:
        return show_plan(settings, sends, json=options.json, log_format=options.log_format)


@app.command(
    sort_key=3,
    usage="Usage: harvester status LAKE [--state DIR] [--ledger URL] [--json]",
    config=(Env(PREFIX, command=False),),
)
def status(
    lake: _Lake,
    /,
    *,
    state: _State = None,
    ledger: _Ledger = None,
    json: Annotated[bool, Parameter(show_default=False, help="Print one JSON object that lists every slice.")] = False,
) -> int:
    """Show what a lake holds: rows, what is complete and by which proof, what is not and why.

    It can be used while a run is at work. The exit status is 0 if all is complete, 1 if not.
    """
    return show_status(place_of(lake, state), ledger, json=json)


@app.command(
    sort_key=4,
    usage="Usage: harvester verify LAKE [--state DIR] [--ledger URL] [--quick] [--json]",
    config=(Env(PREFIX, command=False),),
)
def verify(
    lake: _Lake,
    /,
    *,
    state: _State = None,
    ledger: _Ledger = None,
    quick: Annotated[
        bool, Parameter(show_default=False, help="Leave data pages unread: look at sizes, counts, ranges and names.")
    ] = False,
    json: Annotated[
        bool, Parameter(show_default=False, help="Print one JSON object that lists what was found.")
    ] = False,
) -> int:
    """Read every file of a lake back, hold it against the ledger and the proofs, and say what is wrong and what to do.

    It changes nothing, and can be used while a run is at work. The exit status is 0 if nothing is wrong and all is
    complete, else 1.
    """
    return show_verified(place_of(lake, state), ledger, quick=quick, json=json)


@app.command(
    sort_key=5,
    usage="Usage: harvester recover LAKE [--state DIR] [--ledger URL]",
    config=(Env(PREFIX, command=False),),
)
def recover(lake: _Lake, /, *, state: _State = None, ledger: _Ledger = None) -> int:
    """Rebuild a lost ledger from the data files; or, if it is sound, mend what verify finds wrong.

    The next run then asks only for what the data files can't prove. No file is deleted: what is in the way is set
    aside. Nothing is asked of the API.
    """
    return recover_lake(place_of(lake, state), ledger)


@app.command(
    sort_key=6,
    usage="Usage: harvester compact LAKE [--state DIR] [--ledger URL] [--file-size SIZE]",
    config=(Env(PREFIX, command=False),),
)
def compact(
    lake: _Lake,
    /,
    *,
    state: _State = None,
    ledger: _Ledger = None,
    file_size: Annotated[
        int,
        Parameter(
            converter=size,
            metavar="SIZE",
            show_default=size_option,
            help="The size that data files aim at: what is less than half as large is merged with its neighbours.",
        ),
    ] = _TUNING.target_bytes,
) -> int:
    """Merge small data files of a lake, of the same send or partition, into larger ones, and say what was done.

    Readers find the same rows. Nothing is asked of the API, and no run may be at work.
    """
    return compact_lake(place_of(lake, state), ledger, file_size=file_size)


@app.command(
    sort_key=7,
    usage="Usage: harvester table LAKE [--format FORMAT] [--catalog NAME] [--state DIR] [--ledger URL]",
    config=(Env(PREFIX, command=False),),
)
def table(
    lake: _Lake,
    /,
    *,
    format_: Annotated[
        Literal["delta", "iceberg"] | None,
        Parameter(name="--format", metavar="FORMAT", help="Of a lake without tables: delta or iceberg."),
    ] = None,
    catalog: Annotated[
        str | None,
        Parameter(metavar="NAME", help="With iceberg: a catalog of pyiceberg's settings, or NAME.NAMESPACE."),
    ] = None,
    state: _State = None,
    ledger: _Ledger = None,
) -> int:
    """Make the datasets of a lake tables, for Delta Lake or Iceberg; or bring its tables in step with its data files.

    No data file is written, moved or deleted, and nothing is asked of the API. Every run keeps the tables in step.
    """
    return table_lake(place_of(lake, state), table_choice(format_, catalog, "--format"), ledger)


@app.command(sort_key=9)
def simulate(options: SimulateOptions = _SIMULATED) -> int:
    """Serve a simulated Mailkit account on this machine, to try things on. Ctrl-C ends it.

    It prints the account's credentials, and a command that harvests it.
    """
    return simulate_account(options)


@app.command(sort_key=8)
def demo(options: DemoOptions = _DEMONSTRATED) -> int:
    """See it work: harvests a simulated account, which fails now and then, and compares the lake with the truth.

    Run it twice: the second time, nothing is asked again.
    """
    return run_demo(options)


def command_line(tokens: Sequence[str]) -> int:
    """Do what the command line says; the exit status. Raises nothing but SystemExit."""
    forget_empty_variables()
    try:
        status: int | None = app(list(tokens))
        with forgiving():
            sys.stdout.flush()
    except CycloptsError as error:
        return _failed(UsageError(_explained(error)), tokens)
    except BrokenPipeError:  # of --help, whose reader has gone away
        discard_the_rest()
        return Exit.COMPLETE
    except KeyboardInterrupt:
        tell("harvester: interrupted")
        _print_object_of(HarvesterError("interrupted"), tokens)
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  no traceback reaches a person
        return _failed(error, tokens)
    return status or Exit.COMPLETE


def _failed(error: Exception, tokens: Sequence[str]) -> int:
    complain(error)
    command = next((token for token in tokens if not token.startswith("-")), "")
    if isinstance(error, UsageError) and command in app:
        tell(f"See harvester {command} --help.")
    _print_object_of(error, tokens)
    return status_of(error)


def _print_object_of(error: Exception, tokens: Sequence[str]) -> None:
    """Whoever asked for a JSON object gets one, also if nothing ran."""
    command = next((token for token in tokens if not token.startswith("-")), "")
    if "--json" in tokens or os.environ.get(f"{PREFIX}JSON", "").lower() in {"1", "true", "yes"}:
        with suppress(OutputLost):  # it may be what the error is about
            if command == "run":
                print_failure(error)
            elif command == "plan":
                print_object({"proven": False}, error=error, name="sends")
            elif command == "status":
                print_object({"complete": False}, error=error)
            elif command == "verify":
                print_object({"sound": False, "complete": False}, error=error, name="findings")


def _explained(error: CycloptsError) -> str:
    """What is wrong with the command line, in one line."""
    if isinstance(error, MissingArgumentError) and error.argument is not None and not error.argument.tokens:
        return f"{error.argument.name} is missing" if error.keyword is None else f"{error.keyword} needs a value"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"it is not clear what {error.unused_tokens[0]!r} means here"
    return " ".join(str(error).split())


__all__ = ["app", "command_line"]
