"""The embedded broker takes a new certificate from its file while it runs."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from workbench.errors import ComponentError
from workbench.ingestion.cluster.connection import KafkaConnection

NODE = "1"  #: node.id of the one broker
KEYSTORE = "listener.name.client.ssl.keystore.location"
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.2


def take_certificate(connection: KafkaConnection, address: tuple[str, int], server: Path) -> bool:
    """Have the broker show the certificate of its file; False when it does already.

    A broker reads its key stores again whenever its own configuration is altered, even to what it was (KIP-226). So
    a setting is deleted that is not there: nothing of it is kept. Connections that are open stay so.

    Args:
        connection: to the broker, as somebody who may alter its configuration.
        address: its host and port, where the certificate that it shows is looked at.
        server: the PEM file with the certificate first.

    Raises:
        ComponentError: when it still shows another one after 10 s.
        OSError: when it does not answer.
    """
    wanted = x509.load_pem_x509_certificates(server.read_bytes())[0].public_bytes(Encoding.PEM).decode()
    if _shown(address) == wanted:
        return False
    entry = ConfigEntry(KEYSTORE, None, incremental_operation=AlterConfigOpType.DELETE)
    broker = ConfigResource(ConfigResource.Type.BROKER, NODE, incremental_configs=[entry])
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        admin = AdminClient(connection.for_confluent())  # which ends its requests when it is let go of
        (done,) = admin.incremental_alter_configs([broker]).values()
        done.result(ANSWER_SECONDS)
    except (KafkaException, TimeoutError) as error:
        raise ComponentError(f"kafka does not take its new certificate, {server}: {error}") from error
    while _shown(address) != wanted:
        if time.monotonic() > deadline:
            raise ComponentError(
                f"kafka goes on with an old certificate, and not with that of {server}",
                remedy="Look into the end of logs/kafka.log; a new start of the workbench takes it.",
            )
        time.sleep(POLL_SECONDS)
    return True


def _shown(address: tuple[str, int]) -> str:
    """The certificate that a server shows, as PEM. Whether it can be trusted is not asked: it is compared."""
    return ssl.get_server_certificate(address, timeout=2)
