"""Where an option's value comes from when the command line doesn't give it: the environment, then a TOML file.

Cyclopts calls each source in turn with the arguments that earlier ones left empty. The file is named by ``--config`` or
HARVESTER_CONFIG; its keys are the options' names, with dashes or underscores, at the top level or in a table of the
command's name (``[run]``), which wins. A key that no option has is an error: a setting that is mistyped must not be
one that is silently ignored. The MD5 code itself is refused there, since such a file gets copied and committed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Token

from harvester.console.exits import tell
from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App, ArgumentCollection

PREFIX = "HARVESTER_"
MD5_VARIABLE = "HARVESTER_CLIENT_MD5"
ALTERNATIVES = (("--send", "--sends-file"),)
"""Options that say the same thing in two ways: the one from the stronger source wins."""
_OTHERS = {MD5_VARIABLE, "HARVESTER_LOG_LEVEL", "HARVESTER_DEBUG"}
_OTHER_COMMANDS = ("HARVESTER_SIMULATE_", "HARVESTER_DEMO_")
_STRENGTH = {"cli": 0, "env": 1}
_WEAKEST = 2


def toml_file(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in what the TOML file says, if there is one. Raises UsageError."""
    named = arguments["--config"].tokens
    if not named:
        return
    path = named[-1].value
    for key, value in _entries(path, commands[-1]):
        name = "--" + key.replace("_", "-")
        if name == "--client-md5":
            raise UsageError(
                f"{path}: {key} does not belong in a settings file; name a file that holds it in client_md5_file"
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
        elif isinstance(value, str | int | float):
            yield str(value)
        else:
            raise UsageError(f"{path}: {key} is a number, a text, true or false, or a list of them")


def strongest_alternative(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Of two options that say the same, forget the one from the weaker source; two from one source are an error."""
    for names in ALTERNATIVES:
        given = [arguments[name] for name in names if arguments[name].tokens]
        if len(given) <= 1:
            continue
        strengths = [_STRENGTH.get(argument.tokens[0].source, _WEAKEST) for argument in given]
        if len(set(strengths)) == 1:
            raise UsageError(f"give {' or '.join(str(a.tokens[0].keyword) for a in given)}, not both")
        for argument, strength in zip(given, strengths, strict=True):
            if strength > min(strengths):
                argument.tokens.clear()


def code_or_file(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """The same for the MD5 code, which only the environment can give, and the file that holds it."""
    file = arguments["--client-md5-file"]
    if not file.tokens or not os.environ.get(MD5_VARIABLE, "").strip():
        return
    source = file.tokens[0].source
    if source == "env":
        raise UsageError(f"{MD5_VARIABLE} and {MD5_VARIABLE}_FILE are both set; unset one of them")
    if source != "cli":
        file.tokens.clear()


def warn_of_strangers(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Warn of variables that look like settings and are none. Not an error, since the prefix belongs to nobody."""
    known = {PREFIX + argument.name.lstrip("-").replace("-", "_").upper() for argument in arguments} | _OTHERS
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(_OTHER_COMMANDS):
            meant = difflib.get_close_matches(name, known, n=1)
            tell(f"harvester: {name} is set, but no setting has that name{f'; is it {meant[0]}?' if meant else ''}")


__all__ = [
    "ALTERNATIVES",
    "MD5_VARIABLE",
    "PREFIX",
    "code_or_file",
    "strongest_alternative",
    "toml_file",
    "warn_of_strangers",
]
