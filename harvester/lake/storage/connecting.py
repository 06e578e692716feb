"""Connecting to object stores, with the credentials and endpoints that their own tools use.

obstore (bindings of Rust's ``object_store``) was chosen over ``pyarrow.fs``: an upload is whole or it is not there,
whatever ends it, while an output stream of ``pyarrow.fs`` that is left by an exception publishes what it has; uploads
carry a checksum as metadata; parts go up side by side, off the interpreter's lock; it retries what may pass; and it is
one package without others below it. It does not read ``~/.aws``: botocore does, for ``s3://`` alone.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    from harvester.config import Tuning
    from harvester.places import ObjectLake

    Connected = S3Store | GCSStore | AzureStore

_CONNECT_S = 15.0
_CREDENTIALS_LAST = timedelta(minutes=5)
_MOST_RETRIES = 1000
_DEVELOPMENT = {"usedevelopmentstorage": "true"}


def connect(place: ObjectLake, tuning: Tuning) -> Connected:
    """The object store of a lake; nothing is asked of it yet.

    Raises UsageError if a package is missing, or the settings of its ecosystem make no sense. Blocking.
    """
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415  an extra: only lakes in object stores need it

        how: Callable[[ObjectLake, Tuning], Any] = {"s3": _s3, "gs": _gs, "abfs": _abfs}[place.scheme]
        try:
            connected: Connected = how(place, tuning)
        except (BaseError, ValueError) as error:
            raise UsageError(f"{place.url} can't be reached with these settings: {_first_line(error)}") from error
        else:
            return connected
    except ImportError as error:
        raise UsageError(
            f"lakes in {place.scheme}:// need a package that is not installed ({error.name}): "
            f"pip install 'mailkit-harvester[{place.scheme}]'"
        ) from error


def endpoint_of(place: ObjectLake) -> str | None:
    """Where requests go, if the environment or a file says so; None for the public service. Blocking."""
    try:
        return {"s3": _s3_endpoint, "gs": _gs_endpoint, "abfs": _abfs_endpoint}[place.scheme](place)
    except ImportError:
        return None


def options_of(place: ObjectLake) -> dict[str, str]:
    """What other users of Rust's ``object_store``, such as deltalake, have to be told to reach a lake. Blocking.

    Credentials are as they are now: ask again for each use, since they may expire. Raises UsageError.
    """
    endpoint = endpoint_of(place)
    options = {"allow_http": "true"} if endpoint is not None and urlsplit(endpoint).scheme == "http" else {}
    if place.scheme == "s3":
        return options | s3_options(place)
    if place.scheme == "gs":
        return options | ({"google_base_url": endpoint, "google_skip_signature": "true"} if endpoint else {})
    return options | _abfs_options(place)


def s3_options(place: ObjectLake) -> dict[str, str]:
    """Likewise, of S3 alone. Raises UsageError. Blocking."""
    import botocore.session  # noqa: PLC0415  an extra
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    options: dict[str, str | None] = {"aws_endpoint": _s3_endpoint(place)}
    try:
        session = botocore.session.get_session()
        options["aws_region"] = os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
        if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in {"1", "true"}:
            options["aws_skip_signature"] = "true"
        elif (found := session.get_credentials()) is not None:
            frozen = found.get_frozen_credentials()
            options["aws_access_key_id"] = frozen.access_key
            options["aws_secret_access_key"] = frozen.secret_key
            options["aws_session_token"] = frozen.token
    except BotoCoreError as error:
        raise UsageError(f"{place.url}: the AWS settings can't be used: {_first_line(error)}") from error
    return {name: value for name, value in options.items() if value}


def _client(endpoint: str | None, tuning: Tuning, authorities: bytes | None = None) -> ClientConfig:
    """Requests end in time, and go without TLS only where the endpoint says so."""
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=min(_CONNECT_S, tuning.store_timeout_s)),
        "timeout": timedelta(seconds=tuning.store_timeout_s),
        "allow_http": endpoint is not None and urlsplit(endpoint).scheme == "http",
    }
    if authorities is not None:
        options["root_certificate"] = authorities
    return options


def _retries(tuning: Tuning) -> RetryConfig:
    """What may pass (5xx, 429, connections that break, no answer in time) is asked again for so long."""
    return {
        "max_retries": _MOST_RETRIES if tuning.store_patience_s else 0,
        "retry_timeout": timedelta(seconds=tuning.store_patience_s),
        "backoff": {
            "init_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=min(15.0, max(0.2, tuning.store_patience_s / 8))),
            "base": 2,
        },
    }


# --- Amazon S3, and what speaks like it


def _s3(place: ObjectLake, tuning: Tuning) -> S3Store:
    import botocore.session  # noqa: PLC0415  an extra
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from obstore.store import S3Store  # noqa: PLC0415

    authorities: bytes | None = None
    try:
        endpoint = _s3_endpoint(place)
        session = botocore.session.get_session()
        config: dict[str, Any] = {
            "region": os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
        }
        if endpoint is not None:
            config["endpoint"] = endpoint
        if ca_bundle := session.get_config_variable("ca_bundle"):
            authorities = Path(ca_bundle).read_bytes()
        credentials = None
        if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() not in {"1", "true"}:
            found = session.get_credentials()
            if found is None:
                raise UsageError(
                    f"{place.url} needs AWS credentials, and there are none: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or make ~/.aws/credentials (aws configure)"
                )
            credentials = _Credentials(found)
    except (BotoCoreError, OSError) as error:
        raise UsageError(f"{place.url}: the AWS settings can't be used: {_first_line(error)}") from error
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        config=config,  # type: ignore[arg-type]
        client_options=_client(endpoint, tuning, authorities),
        retry_config=_retries(tuning),
        credential_provider=credentials,
    )


def _s3_endpoint(_place: ObjectLake) -> str | None:
    """By AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or the profile in ~/.aws/config."""
    import botocore.session  # noqa: PLC0415  an extra
    from botocore.configprovider import ConfiguredEndpointProvider  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    session = botocore.session.Session(include_builtin_handlers=False)  # which are for requests, and take their time
    try:
        provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), "s3")
        found: str | None = provider.provide()
    except BotoCoreError as error:
        raise UsageError(f"the AWS settings can't be used: {_first_line(error)}") from error
    return found


class _Credentials:
    """Hands botocore's credentials to obstore, renewed whenever they are to be."""

    def __init__(self, found: Any) -> None:  # noqa: ANN401  botocore has no types
        self._found = found

    def __call__(self) -> Any:  # noqa: ANN401  a dictionary of obstore's
        frozen = self._found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }


# --- Google Cloud Storage


def _gs(place: ObjectLake, tuning: Tuning) -> GCSStore:
    """By GOOGLE_APPLICATION_CREDENTIALS, gcloud's own file, or the machine's service account, as obstore finds them."""
    from obstore.store import GCSStore  # noqa: PLC0415  an extra

    endpoint = _gs_endpoint(place)
    return GCSStore(
        place.bucket,
        prefix=place.prefix or None,
        config={} if endpoint is None else {"base_url": endpoint},
        client_options=_client(endpoint, tuning),
        retry_config=_retries(tuning),
        # Emulators let everybody in, and are to have nobody's real token.
        credential_provider=_anybody if "STORAGE_EMULATOR_HOST" in os.environ else None,
    )


def _anybody() -> Any:  # noqa: ANN401  a dictionary of obstore's
    return {"token": "emulator", "expires_at": None}


def _gs_endpoint(_place: ObjectLake) -> str | None:
    """By STORAGE_EMULATOR_HOST, which may lack its scheme, or GOOGLE_BASE_URL."""
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    return emulator.rstrip("/") or os.environ.get("GOOGLE_BASE_URL") or None


# --- Azure


def _abfs(place: ObjectLake, tuning: Tuning) -> AzureStore:
    """By AZURE_STORAGE_CONNECTION_STRING, or the variables that obstore reads itself."""
    from obstore.store import AzureStore  # noqa: PLC0415  an extra

    options = _abfs_options(place)
    if "account_name" not in options and "use_emulator" not in options:
        raise UsageError(
            f"{place.url} does not say which storage account it is in: set AZURE_STORAGE_ACCOUNT_NAME or "
            "AZURE_STORAGE_CONNECTION_STRING, or write it like abfs://container@account.dfs.core.windows.net/prefix"
        )
    return AzureStore(
        place.bucket,
        prefix=place.prefix or None,
        config=options,  # type: ignore[arg-type]
        client_options=_client(options.get("endpoint"), tuning),
        retry_config=_retries(tuning),
    )


def _abfs_options(place: ObjectLake) -> dict[str, str]:
    told = _connection_string()
    pairs = {
        "account_name": _account_of(place),
        "account_key": told.get("accountkey") or os.environ.get("AZURE_STORAGE_KEY"),
        "sas_key": told.get("sharedaccesssignature"),
        "endpoint": _abfs_endpoint(place),
        "use_emulator": "true" if told.items() >= _DEVELOPMENT.items() else None,
    }
    return {name: value for name, value in pairs.items() if value}


def _account_of(place: ObjectLake) -> str | None:
    if place.host is not None:
        return place.host.partition(".")[0]
    told = _connection_string().get("accountname")
    return told or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT")


def _abfs_endpoint(place: ObjectLake) -> str | None:
    told = _connection_string()
    endpoint = told.get("blobendpoint") or os.environ.get("AZURE_STORAGE_ENDPOINT") or os.environ.get("AZURE_ENDPOINT")
    if endpoint is None and place.host is not None and not place.host.endswith(".core.windows.net"):
        endpoint = f"https://{place.host.replace('.dfs.', '.blob.', 1)}"  # a cloud of its own
    if endpoint is None and (suffix := told.get("endpointsuffix")) and suffix != "core.windows.net":
        endpoint = f"{told.get('defaultendpointsprotocol', 'https')}://{_account_of(place)}.blob.{suffix}"
    return endpoint.rstrip("/") if endpoint else None


def _connection_string() -> Mapping[str, str]:
    """What AZURE_STORAGE_CONNECTION_STRING says, by names in lower case."""
    parts = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";")
    pairs = (part.partition("=") for part in parts if "=" in part)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


__all__ = ["Connected", "connect", "endpoint_of", "options_of", "s3_options"]
