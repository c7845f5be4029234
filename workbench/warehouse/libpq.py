"""How every client of libpq connects, and what its refusals mean; loads no driver."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import certifi

from workbench.sections import WarehouseSettings

CONNECT_SECONDS = 10
# SQLSTATEs after which the same transaction may succeed (postgresql.org, "PostgreSQL Error Codes"): connection,
# read only while recovering, time-outs, conflict, no resources, lock, shutdown, system.
TRY_AGAIN = ("08", "25006", "25P03", "25P04", "40", "53", "55P03", "57", "58")


def libpq_options(settings: WarehouseSettings) -> Mapping[str, str]:
    """Connection parameters of libpq (postgresql.org, "Parameter Key Words") beside address and password."""
    sslmode = settings.effective_sslmode
    options = {
        "connect_timeout": str(CONNECT_SECONDS),
        "sslmode": sslmode,
        "application_name": "workbench",
        # A server that is gone without a word is noticed after a minute, not after hours.
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "60000",
    }
    if sslmode == "disable":
        # Unencrypted, only SCRAM: whoever answers is not sent the password, and proves to know it.
        return {**options, "require_auth": "scram-sha-256"}
    if sslmode == "require":
        return options
    return {**options, "sslrootcert": str(settings.ca_file or system_authorities())}


def silence_options(seconds: float) -> Mapping[str, str]:
    """Of connections that have to notice within *seconds* that the server is gone, over those of `libpq_options`.

    A server that is stopped and not gone still confirms what it is sent: that is noticed by nobody.
    """
    third = str(max(1, int(seconds / 3)))
    return {
        "connect_timeout": str(max(2, int(seconds))),  # libpq takes 1 for 2
        "keepalives_idle": third,
        "keepalives_interval": third,
        "keepalives_count": "2",
        "tcp_user_timeout": str(int(seconds * 1000)),
    }


def system_authorities() -> str:
    """The PEM file of the authorities that this machine trusts, else those of Mozilla.

    libpq's own `system` means the folder that its OpenSSL was built with, which a wheel's lacks.
    """
    return ssl.get_default_verify_paths().cafile or certifi.where()


def is_refusal(message: str) -> bool:
    """Whether a connection was refused for a reason that waiting does not cure."""
    return any(
        text in message
        for text in (
            "password authentication failed",
            "does not exist",
            "no pg_hba.conf entry",
            "certificate",
            "authentication method requirement",
            # Not "SSL" alone: a connection that breaks says that, too.
            "does not support SSL",
            "SSL required",
        )
    )
