"""Reads the metrics of a process, within bounds, and keeps those that are declared."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from workbench.observability.alerts.samples import Labels, labels_of
from workbench.observability.monitor.targets import Target

SECONDS = 5.0
MOST_BYTES = 10_000_000
MOST_SERIES = 10_000  #: of one process: one that has more has put into labels what people type
MOST_LABEL = 200

Found = dict[tuple[str, Labels], float]


class ScrapeFailed(Exception):
    """The metrics of a process cannot be read; says why, without the token."""


@dataclass(frozen=True)
class Scraper:
    """Reads metrics.

    Args:
        token: that the processes ask for.
        wanted: whether a metric of that name is kept.
    """

    token: SecretStr
    wanted: Callable[[str], bool]

    def scrape(self, target: Target) -> Found:
        """The values of a process now; each with the label `job`.

        Raises:
            ScrapeFailed: when they cannot be read, or are more than they may be.
        """
        try:
            text = self._get(target)
            families = text_string_to_metric_families(text)
            samples = [each for family in families for each in family.samples if self.wanted(each.name)]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise ScrapeFailed(f"{target.job} at {target.address}: {error or type(error).__name__}") from None
        if len(samples) > MOST_SERIES:
            raise ScrapeFailed(f"{target.job} has {len(samples)} series; {MOST_SERIES} are the most")
        found: Found = {}
        for each in samples:
            labels = {name: value[:MOST_LABEL] for name, value in each.labels.items()}
            found[each.name, labels_of({**labels, "job": target.job})] = float(each.value)
        return found

    def _get(self, target: Target) -> str:
        host, _, port = target.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
        try:
            headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"}
            connection.request("GET", target.path, headers=headers)
            response = connection.getresponse()
            body = response.read(MOST_BYTES + 1)
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"it answers with status {response.status}")
        if len(body) > MOST_BYTES:
            raise ValueError(f"it answers with more than {MOST_BYTES} bytes")
        return body.decode("utf-8", "replace")
