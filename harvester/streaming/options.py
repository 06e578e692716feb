"""What a caller says, as a harvest's settings and sends: names and defaults are those of the command line's options.

The account may come from the environment, by the command line's names. Refuses with UsageError, before anything is
asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from harvester.config import Settings, Tuning, Wire, parse_duration, parse_size, read_md5, read_redact_key
from harvester.datasets import CATALOGUE
from harvester.errors import UsageError
from harvester.events import log
from harvester.harvest.wanted import Wanted
from harvester.model import KEY_END, Secret, Send
from harvester.redaction import Redaction, parse_redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TUNING = Tuning()
_NO_LAKE = Path(os.devnull)
_PREFIX = "HARVESTER_"
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)")


class Options(TypedDict, total=False):
    """How to ask: whom, in which way, and how hard. What is not given is as on the command line.

    Attributes:
        client_id: the account's client id; else HARVESTER_CLIENT_ID.
        client_md5: its MD5 code; else what is in the file, else HARVESTER_CLIENT_MD5.
        client_md5_file: a file that holds it and nothing else; else HARVESTER_CLIENT_MD5_FILE.
        endpoint: the API's URL; else HARVESTER_ENDPOINT.
        ca_file: a file with certificates (PEM) to trust besides the system's; else HARVESTER_CA_FILE.
        insecure_http: allows an endpoint on another machine that begins with ``http://``.
        wire: ``json``, or ``xml`` for XML-RPC.
        limit: records to ask for in one query.
        rate: the most queries a second; else HARVESTER_RATE.
        burst: how many queries may start at once after a quiet time.
        concurrency: the most queries in flight at once.
        adaptive: whether to ask less often, and fewer at once, where the server bears no more.
        memory: the memory to stay within, in bytes or such as ``512MiB``.
        timeout: the longest that one answer may take, in seconds or such as ``10m``.
        patience: how long to keep trying what fails, in seconds or such as ``1h``.
        redact: what not to yield of people's data: such as ``email=hash,first_name=drop``, or a mapping of columns to
            ``drop``, ``hash`` or ``domain``; else HARVESTER_REDACT.
        redact_key: the key of what is hashed; else what is in the file, else HARVESTER_REDACT_KEY.
        redact_key_file: a file that holds it and nothing else; else HARVESTER_REDACT_KEY_FILE.
    """

    client_id: int | str
    client_md5: str
    client_md5_file: str | os.PathLike[str]
    endpoint: str
    ca_file: str | os.PathLike[str]
    insecure_http: bool
    wire: Literal["json", "xml"]
    limit: int
    rate: float
    burst: int
    concurrency: int
    adaptive: bool
    memory: int | str
    timeout: float | str | timedelta
    patience: float | str | timedelta
    redact: str | Iterable[str] | Mapping[str, str]
    redact_key: str
    redact_key_file: str | os.PathLike[str]


def settings_of(dataset: str, options: Options) -> Settings:
    """The settings of a harvest of one dataset. Raises UsageError, and TypeError for an option that there is not."""
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}; there are {known}")
    said: dict[str, Any] = {name: value for name in _FROM_ENVIRONMENT if (value := _environment(name)) is not None}
    said |= {name: value for name, value in options.items() if value is not None}
    given = {setting: _meant(name, said[name]) for name, setting in _SETTINGS.items() if name in said}
    with _named_as_here():
        if not given.get("client_id"):
            raise UsageError("which account? Give its client_id, or put it into HARVESTER_CLIENT_ID")
        secrets: dict[str, Any] = {"client_md5": _md5(options), "redaction": _redaction(options)}
        return Settings(lake=_NO_LAKE, datasets=(dataset,), tuning=TUNING, **secrets, **given)


def wanted_of(
    sends: int | Send | Iterable[int | Send] | None,
    campaigns: int | Iterable[int] | None,
    *,
    everything: bool,
    since: date | str | None,
    until: date | str | None,
) -> tuple[Send, ...] | Wanted:
    """The sends that are named, or what is to be found. Raises UsageError."""
    if (sends is not None) + (campaigns is not None) + everything != 1:
        raise UsageError("say what to harvest: sends=[601181, …], campaigns=[32443, …] or all=True, and one of them")
    if sends is not None:
        if since is not None or until is not None:
            raise UsageError("since and until go with campaigns or all")
        return tuple(one if isinstance(one, Send) else Send(_id(one)) for one in _several(sends))
    ids = () if campaigns is None else tuple(map(_id, _several(campaigns)))
    if campaigns is not None and not ids:
        return ()
    with _named_as_here():
        return Wanted(campaigns=ids, since=_day("since", since), until=_day("until", until))


def dataset_of(name: str) -> str:
    """A dataset's name. Raises UsageError."""
    if name not in CATALOGUE:
        raise UsageError(f"there is no dataset {name!r}; there are {', '.join(CATALOGUE)}")
    return name


@contextmanager
def _named_as_here() -> Iterator[None]:
    """Errors name options as a caller in Python knows them."""
    try:
        yield
    except UsageError as error:
        raise UsageError(_OPTION.sub(lambda found: found[1].replace("-", "_"), str(error))) from None


def _environment(name: str) -> str | None:
    return os.environ.get(_PREFIX + name.upper(), "").strip() or None


def _md5(options: Options) -> Secret:
    code = _secret(options, "client_md5", read_md5, "the account's MD5 code")
    if code is None:
        raise UsageError(
            "the account's MD5 code is missing: give client_md5 or client_md5_file, or put it into HARVESTER_CLIENT_MD5"
        )
    return code


def _secret(options: Options, name: str, read: Callable[[Path], tuple[str, bool]], what: str) -> Secret | None:
    """A secret: said, in a file, in the environment, or in a file that the environment names; None if it is nowhere."""
    given: Mapping[str, Any] = {**options}
    if secret := given.get(name):
        return Secret(secret)
    file = given.get(f"{name}_file")
    if file is None and (secret := _environment(name)):
        return Secret(secret)
    if not (file or (file := _environment(f"{name}_file"))):
        return None
    secret, seen_by_others = read(Path(file).expanduser())
    if seen_by_others:
        log.warning(f"other users can read the file that holds {what}", file=os.fspath(file))
    return Secret(secret)


def _redaction(options: Options) -> Redaction:
    """What is to be redacted. The key is looked for only where something is to be hashed."""
    said: Any = options.get("redact")
    if said is None:
        said = _environment("redact") or ()
    if isinstance(said, Mapping):
        said = [f"{column}={way}" for column, way in said.items()]
    texts = [str(text) for text in _several(said)]
    hashes = any("=hash" in text.lower() for text in texts)
    key = _secret(options, "redact_key", read_redact_key, "the key of what is redacted") if hashes else None
    return parse_redaction(texts, key)


def _meant(name: str, value: Any) -> Any:  # noqa: ANN401  whatever a caller may give, and what a setting is
    with _named_as_here():
        try:
            return _CONVERTERS[name](value)
        except (TypeError, ValueError):
            raise UsageError(f"{name} can't be {value!r}") from None


def _text(value: Any) -> str:  # noqa: ANN401  likewise
    return str(value).strip()


def _path(value: str | os.PathLike[str]) -> Path:
    return Path(value).expanduser()


def _size(value: int | str) -> int:
    return parse_size(value) if isinstance(value, str) else index(value)


def _seconds(value: float | str | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return parse_duration(value) if isinstance(value, str) else float(value)


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "client_id": _text,
    "endpoint": _text,
    "ca_file": _path,
    "insecure_http": bool,
    "wire": Wire,
    "limit": index,
    "rate": float,
    "burst": index,
    "concurrency": index,
    "adaptive": bool,
    "memory": _size,
    "timeout": _seconds,
    "patience": _seconds,
}
_SETTINGS = {name: name for name in _CONVERTERS} | {"timeout": "timeout_s", "patience": "patience_s"}
_FROM_ENVIRONMENT = ("client_id", "endpoint", "ca_file", "rate")
"""What belongs to an account, besides its code."""


def _day(name: str, day: date | str | None) -> date | None:
    if not isinstance(day, str):
        return day
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise UsageError(f"{name} is a day such as 2024-05-31, not {day!r}") from None


def _several(value: Any) -> Iterable[Any]:  # noqa: ANN401  whatever a caller may give
    """What is given one by one, or alone."""
    return value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def _id(value: Any) -> int:  # noqa: ANN401  likewise: numbers of numpy, say
    try:
        number = index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 0 < number < KEY_END:
        raise UsageError(f"{value!r} is not an id; an id is a whole number such as 601181")
    return number


__all__ = ["TUNING", "Options", "dataset_of", "settings_of", "wanted_of"]
