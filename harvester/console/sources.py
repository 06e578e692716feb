"""Where an option's value comes from when the command line doesn't give it: the environment, then a TOML file.

Cyclopts calls each source in turn with the arguments that earlier ones left empty. The file is named by ``--config`` or
HARVESTER_CONFIG; its keys are the options' names, with dashes or underscores, at the top level or in a table of the
command's name (``[run]``, also for ``plan``), which wins. A key that no option has is an error: a setting that is
mistyped must not be one that is silently ignored. The MD5 code itself is refused there, since such a file gets copied
and committed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Token

from harvester.console.exits import tell
from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App, Argument, ArgumentCollection

PREFIX = "HARVESTER_"
MD5_VARIABLE = "HARVESTER_CLIENT_MD5"
KEY_VARIABLE = "HARVESTER_REDACT_KEY"
SECRETS = {MD5_VARIABLE: "--client-md5-file", KEY_VARIABLE: "--redact-key-file"}
"""Secrets that the environment can give, and the options that name a file that holds them."""
ALTERNATIVES = ("--send", "--sends-file", "--campaign", "--all")
"""Options that say what to harvest, each in its way: the one from the strongest source wins."""
NAMED = ("--send", "--sends-file")
"""Those of them that name each send, so that there is nothing to find."""
DAYS = ("--since", "--until")
"""Options that go with the others, where sends are to be found."""
_OTHERS = {*SECRETS, "HARVESTER_LOG_LEVEL", "HARVESTER_DEBUG"}
_OTHER_COMMANDS = ("HARVESTER_SIMULATE_", "HARVESTER_DEMO_")
_STRENGTH = {"cli": 0, "env": 1}
_WEAKEST = 2
_TABLES = {"plan": "run"}
"""Commands that take the settings of another."""
_NO = {"0", "f", "false", "n", "no"}


def toml_file(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in what the TOML file says, if there is one. Raises UsageError."""
    named = arguments["--config"].tokens
    if not named:
        return
    path = named[-1].value
    for key, value in _entries(path, _TABLES.get(commands[-1], commands[-1])):
        name = "--" + key.replace("_", "-")
        if (in_file := f"{name}-file") in SECRETS.values():
            in_file = in_file.lstrip("-").replace("-", "_")
            raise UsageError(
                f"{path}: {key} does not belong in a settings file; name a file that holds it in {in_file}"
            )
        if name == "--config" or arguments.get(name, None) is None:
            raise UsageError(f"{path}: there is no setting {key!r}; see harvester {commands[-1]} --help")
        argument = arguments[name]
        if argument.tokens:
            continue
        values = value if isinstance(value, list) else [value]
        for index, text in enumerate(_texts(values, path, key)):
            argument.append(Token(keyword=f"{key} in {path}", value=text, source=path, index=index))


def _entries(path: str, command: str) -> Iterator[tuple[str, Any]]:
    try:
        with Path(path).expanduser().open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    table = document.pop(command, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {command} is a table, [{command}]")
    yield from table.items()
    taken = {key.replace("_", "-") for key in table}
    yield from ((key, value) for key, value in document.items() if key.replace("_", "-") not in taken)


def _texts(values: list[Any], path: str, key: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, bool):
            yield str(value).lower()
        elif isinstance(value, str | int | float) or type(value) is date:
            yield str(value)
        else:
            raise UsageError(f"{path}: {key} is a number, a text, a day, true or false, or a list of them")


def strongest_alternative(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Of options that say what to harvest, forget those from weaker sources; two from one source are an error.

    Days that come from a weaker source than the sends themselves do not belong to them, and are forgotten, too.
    """
    everything = arguments["--all"]
    if any(token.value.lower() in _NO for token in everything.tokens):
        everything.tokens.clear()
    given = [arguments[name] for name in ALTERNATIVES if arguments[name].tokens]
    if not given:
        return
    strongest = min(map(_strength, given))
    chosen = [argument for argument in given if _strength(argument) == strongest]
    if len(chosen) > 1:
        names = [str(argument.tokens[0].keyword) for argument in chosen]
        raise UsageError(f"give {', '.join(names[:-1])} or {names[-1]}, not {'both' if len(names) == 2 else 'all'}")  # noqa: PLR2004
    for argument in given:
        if argument is not chosen[0]:
            argument.tokens.clear()
    if chosen[0].name in NAMED:
        for argument in (arguments[name] for name in DAYS):
            if argument.tokens and _strength(argument) > strongest:
                argument.tokens.clear()


def _strength(argument: Argument) -> int:
    return _STRENGTH.get(argument.tokens[0].source, _WEAKEST)


def secret_or_file(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """The same for secrets, which only the environment can give, and the files that hold them."""
    for variable, option in SECRETS.items():
        file = arguments[option]
        if not file.tokens or not os.environ.get(variable, "").strip():
            continue
        source = file.tokens[0].source
        if source == "env":
            raise UsageError(f"{variable} and {variable}_FILE are both set; unset one of them")
        if source != "cli":
            file.tokens.clear()


def forget_empty_variables() -> None:
    """A setting's variable that is empty is as good as unset: that is how files for containers leave one out."""
    for name in [name for name, value in os.environ.items() if name.startswith(PREFIX) and not value.strip()]:
        del os.environ[name]


def warn_of_strangers(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Warn of variables that look like settings and are none. Not an error, since the prefix belongs to nobody."""
    known = {PREFIX + argument.name.lstrip("-").replace("-", "_").upper() for argument in arguments} | _OTHERS
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(_OTHER_COMMANDS):
            meant = difflib.get_close_matches(name, known, n=1)
            tell(f"harvester: {name} is set, but no setting has that name{f'; is it {meant[0]}?' if meant else ''}")


__all__ = [
    "ALTERNATIVES",
    "DAYS",
    "KEY_VARIABLE",
    "MD5_VARIABLE",
    "NAMED",
    "PREFIX",
    "SECRETS",
    "forget_empty_variables",
    "secret_or_file",
    "strongest_alternative",
    "toml_file",
    "warn_of_strangers",
]
