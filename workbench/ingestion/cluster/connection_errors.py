"""Why a cluster could not be reached: from what a client said, and from a handshake of our own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from workbench.errors import KafkaError, KafkaUnavailable
from workbench.ingestion.cluster.handshake import Finding, Verdict, peer_certificate, probe
from workbench.sections import KafkaSettings

if TYPE_CHECKING:
    from workbench.ingestion.cluster.connection import KafkaConnection

PROBED_SERVERS = 3  # one is usually like the others, and each may take seconds
# How librdkafka names a broker at the head of its errors, for example sasl_ssl://host:9093/bootstrap.
ADDRESS = re.compile(r"://(?P<host>[^\s/]+):(?P<port>\d+)/")
MECHANISMS = re.compile(r"supported mechanisms: ([\w, -]+)")
# What librdkafka adds to an error, and what makes one error look like several.
TIMES = re.compile(r" \(after \d+ms in state \w+(, \d+ identical error\(s\) suppressed)?\)")
# Words of librdkafka's errors after which the transport is worth a look.
TRANSPORT_WORDS = ("ssl", "tls", "certificate", "handshake", "disconnect", "transport")

# The words of both clients for a missing ACL.
DENIED = re.compile(r"(?P<what>topic|group|cluster|transactional ?id) ?authorization ?failed")
RIGHTS = {
    "topic": "Read on the topic, or Write to send to it",
    "group": "Read on the consumer group",
    "cluster": "Describe on the cluster, or what it is to do there (Create, Alter, IdempotentWrite)",
    "transactionalid": "Write on the transactional id",
}


def setting(connection: KafkaConnection, field: str) -> str:
    """What to write to change *field* of this connection: a variable, or a field of the clusters file."""
    if connection.cluster:
        return f"`{field}` of cluster {connection.cluster} in the clusters file"
    return str(KafkaSettings.model_fields[field].validation_alias)


def joined(texts: Iterable[str]) -> str:
    """What a client said, each thing once."""
    return "; ".join(dict.fromkeys(TIMES.sub("", text) for text in texts))


def known_cause(connection: KafkaConnection, text: str) -> KafkaError | None:
    """The error for causes that another attempt does not cure; asks the broker when it is the transport."""
    lowered = text.lower()
    if denied := DENIED.search(lowered):
        return _denied(connection, denied["what"].replace(" ", ""), text)
    if error := _login_cause(connection, lowered, text):
        return error
    if any(word in lowered for word in TRANSPORT_WORDS):
        for host, port in _addresses(connection, text):
            if error := _transport_cause(connection, probe(connection, host, port)):
                return error
    if "certificate" in lowered:
        return KafkaError(
            f"the certificate of Kafka at {_where(connection)} is not accepted: {text[:200]}",
            remedy=f"Set {setting(connection, 'ca_file')} to the PEM file of the authority that signed it.",
        )
    return None


def unknown_cause(connection: KafkaConnection, text: str) -> KafkaError:
    """The error when nothing more is known than that it did not work."""
    return KafkaUnavailable(
        f"Kafka at {_where(connection)} did not answer: {text[:200]}",
        remedy=f"Check that {setting(connection, 'brokers')} names running brokers and that this machine reaches them.",
    )


def _where(connection: KafkaConnection) -> str:
    return ",".join(connection.bootstrap_servers)


def _login_cause(connection: KafkaConnection, lowered: str, text: str) -> KafkaError | None:
    where, mechanism = _where(connection), connection.sasl_mechanism
    if "oidc token" in lowered or "oauthbearer token" in lowered:
        return _token_cause(connection, text)
    if "unsupported sasl mechanism" in lowered:
        offered = MECHANISMS.search(text)
        return KafkaError(
            f"Kafka at {where} does not offer {mechanism}, but {offered[1].strip() if offered else 'others'}",
            remedy=f"Set {setting(connection, 'sasl_mechanism')} to one that it offers.",
        )
    if "not valid in current sasl state" in lowered:
        return KafkaError(
            f"Kafka at {where} takes no login on this port",
            remedy=f"Give the port with SASL, or unset {setting(connection, 'username')}.",
        )
    refused = "authentication failed" in lowered or "sasl authentication error" in lowered
    if refused and mechanism == "OAUTHBEARER":
        return KafkaError(
            f"Kafka at {where} refused the token of client {connection.username!r}: {text[:200]}",
            remedy=f"The token endpoint gave one, so the brokers expect another issuer, audience or scope. Compare theirs with {setting(connection, 'token_url')} and {setting(connection, 'token_scope')}.",
        )
    if refused:
        names = [setting(connection, name) for name in ("username", "password", "sasl_mechanism")]
        return KafkaError(
            f"Kafka at {where} refused the user {connection.username!r} or its password ({mechanism})",
            remedy=f"Check {names[0]}, {names[1]} and {names[2]}.",
        )
    return None


def _denied(connection: KafkaConnection, what: str, text: str) -> KafkaError:
    who = repr(connection.username) if connection.username else "this client"
    return KafkaError(
        f"Kafka at {_where(connection)} lets {who} in, but not to do this: {text[:200]}",
        remedy=f"It needs an ACL: {RIGHTS[what]}. See docs/topics.md.",
    )


def _token_cause(connection: KafkaConnection, text: str) -> KafkaError:
    from workbench.ingestion.cluster.oauth import fetch_token

    try:
        fetch_token(connection)
    except KafkaError as error:
        return error
    # We got one: librdkafka has been refused, or does not take it.
    return KafkaError(
        f"the token endpoint {connection.token_url} gives tokens, but librdkafka has none: {text[:200]}",
        remedy="Kafka's clients want a JSON Web Token with `sub`, `exp` and `iat`. Check what the endpoint issues.",
    )


def _addresses(connection: KafkaConnection, text: str) -> list[tuple[str, int]]:
    """The brokers that *text* speaks of, else those to begin with."""
    found = [(match["host"], match["port"]) for match in ADDRESS.finditer(text)]
    if not found:
        found = [(host, port) for host, _, port in (each.rpartition(":") for each in connection.bootstrap_servers)]
    unique = dict.fromkeys((host.strip("[]"), int(port)) for host, port in found)
    return list(unique)[:PROBED_SERVERS]


def _transport_cause(connection: KafkaConnection, verdict: Verdict) -> KafkaError | None:
    where = f"Kafka at {verdict.address}"
    match verdict.finding:
        case Finding.NO_TLS:
            return KafkaError(
                f"{where} does not speak TLS: {verdict.detail}",
                remedy=f"Give its TLS port, or set {setting(connection, 'ssl_enabled')} to false if the cluster really is plaintext.",
            )
        case Finding.TLS_ONLY:
            return KafkaError(
                f"{where} speaks TLS, but {setting(connection, 'ssl_enabled')} is false",
                remedy=f"Unset {setting(connection, 'ssl_enabled')}: TLS is the default.",
            )
        case Finding.LOGIN_WANTED if not connection.username:
            return KafkaError(
                f"{where} wants a login ({verdict.detail}), and none is configured",
                remedy=f"Set {setting(connection, 'username')}, {setting(connection, 'password')} and {setting(connection, 'sasl_mechanism')}.",
            )
        case Finding.CLIENT_REFUSED:
            return _client_refused(connection, where, verdict)
        case Finding.EXPIRED | Finding.NOT_YET_VALID | Finding.OTHER_NAME | Finding.UNTRUSTED:
            return _certificate_refused(connection, where, verdict)
    return None


def _certificate_refused(connection: KafkaConnection, where: str, verdict: Verdict) -> KafkaError:
    host, _, port = verdict.address.rpartition(":")
    shown = peer_certificate(host, int(port))
    brokers, ca_file = setting(connection, "brokers"), setting(connection, "ca_file")
    match verdict.finding:
        case Finding.EXPIRED:
            since = f" on {shown.not_valid_after_utc:%Y-%m-%d %H:%M} UTC" if shown else ""
            return KafkaError(
                f"the certificate of {where} expired{since}: {verdict.detail}",
                remedy="Whoever runs the cluster has to renew it. If it is valid by that date, look at its authority's and at this machine's clock.",
            )
        case Finding.NOT_YET_VALID:
            since = f" before {shown.not_valid_before_utc:%Y-%m-%d %H:%M} UTC" if shown else ""
            return KafkaError(
                f"the certificate of {where} is not valid{since}: {verdict.detail}",
                remedy="Check the clock of this machine.",
            )
        case Finding.OTHER_NAME:
            return KafkaError(
                f"the certificate of {where} is for another host: {verdict.detail}",
                remedy=f"Write a name that the certificate has into {brokers}, or have the brokers advertise one (advertised.listeners).",
            )
    issuer = f" (signed by {shown.issuer.rfc4514_string()})" if shown else ""
    return KafkaError(
        f"the certificate of {where} is not trusted{issuer}: {verdict.detail}",
        remedy=f"Set {ca_file} to the PEM file of the authority that signed it.",
    )


def _client_refused(connection: KafkaConnection, where: str, verdict: Verdict) -> KafkaError:
    certificate, key = setting(connection, "certificate_file"), setting(connection, "key_file")
    if not connection.certificate_file:
        return KafkaError(
            f"{where} wants a client certificate, and none is configured: {verdict.detail}",
            remedy=f"Set {certificate} and {key}.",
        )
    return KafkaError(
        f"{where} refused our client certificate {connection.certificate_file}: {verdict.detail}",
        remedy=f"Set {certificate} to one that is signed by an authority which the brokers trust.",
    )
