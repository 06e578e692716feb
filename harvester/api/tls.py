"""TLS: whose word is taken for who a server is, and what a refused certificate means to a person.

Invariant: a certificate is always verified, for the name that was asked for. There is no way to switch that off.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from harvester.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST, _OTHER_ADDRESS = 62, 64
"""Codes of OpenSSL (``X509_V_ERR_…``, x509_vfy.h)."""


def context(ca_file: Path) -> ssl.SSLContext:
    """What a connection over TLS is verified by, if not by the system's authorities.

    Args:
        ca_file: certificates of authorities in PEM, which are trusted in place of those.

    Raises:
        UsageError: the file can't be read, or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise UsageError(f"--ca-file {ca_file} holds no certificates in PEM (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise UsageError(f"--ca-file {ca_file}: {error.strerror or error}") from None


def why_refused(error: Exception) -> str:
    """Why a certificate was refused, and what to do, in one clause after the host's name."""
    code = getattr(error, "verify_code", None)
    if code == _EXPIRED:
        return "its certificate has expired: whoever runs it has to renew it, unless this machine's clock is wrong"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet: look at this machine's clock"
    if code in (_OTHER_HOST, _OTHER_ADDRESS):
        return "its certificate is for another host: see --endpoint"
    reason = getattr(error, "verify_message", None) or "it can't be verified"
    return (
        f"its certificate is not trusted ({reason}); if a private authority has signed it, name the file with that "
        "authority's certificate with --ca-file"
    )


__all__ = ["context", "why_refused"]
