"""Notices that a certificate was refused while a client runs, and finds out whether a new client helps."""

from __future__ import annotations

from typing import Any

from workbench.errors import KafkaError, KafkaUnavailable
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.stalled import Stalled


class CertificateWatch:
    """Listens to the errors of one client.

    Args:
        connection: the cluster of the client.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._distrusted = ""  # the broker whose certificate was refused, or that refused ours

    def on_error(self, error: Any) -> None:
        """Keep what concerns certificates: the `error_cb` of the client, called while it polls."""
        from confluent_kafka import KafkaError as Code

        if error.code() == Code._SSL and "certificate" in error.str():
            self._distrusted = error.str().partition(": ")[0]

    def check(self) -> None:
        """Raise what was heard of, if anything was.

        Raises:
            Stalled: when the files of now would be accepted: a new client reads them.
            KafkaError: when they would not.
        """
        if self._distrusted:
            raise self._explain()

    def _explain(self) -> KafkaError:
        # A client keeps the certificates that its files held when it began. What they hold now is looked at here.
        error = self._connection.explain(f"{self._distrusted}: TLS handshake failed")
        if isinstance(error, KafkaUnavailable):
            return Stalled(f"certificates have changed: {self._distrusted} wants a new client")
        return error
