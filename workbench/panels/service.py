"""The page of pipelines, as panels use it: its operations by name, under the rights of whoever asks.

In a user's server it is asked over HTTP with the token that JupyterHub gave that server. Where nobody has told an
address, what the package `pipelines` has registered under the entry point `workbench.panels` does the same in
this process, with the rights of whoever may read the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import SecretStr

from workbench.errors import WorkbenchError
from workbench.logs.context import HEADER, new_request_id
from workbench.settings import Settings

Row = dict[str, Any]
ANSWER_SECONDS = 10.0
GROUP = "workbench.panels"
#: Of the OpenAPI document: method and path by name.
OPERATIONS: Mapping[str, tuple[str, str]] = {
    "list_flows": ("GET", "flows"),
    "start_flow": ("POST", "flows/{flow}/start"),
    "stop_flow": ("POST", "flows/{flow}/stop"),
    "restart_flow": ("POST", "flows/{flow}/restart"),
    "list_pipelines": ("GET", "pipelines"),
    "show_form": ("GET", "pipelines/{pipeline}/form"),
    "show_matrix": ("GET", "pipelines/{pipeline}/runs"),
    "start_run": ("POST", "pipelines/{pipeline}/runs"),
    "cancel_run": ("POST", "runs/{run}/cancel"),
    "repair_run": ("POST", "runs/{run}/repair"),
    "show_run": ("GET", "runs/{run}"),
    "list_alerts": ("GET", "alerts"),
    "silence_alert": ("POST", "silences"),
    "unsilence_alert": ("POST", "silences/{silence}/end"),
    "preview_backfill": ("GET", "pipelines/{pipeline}/backfills/preview"),
    "start_backfill": ("POST", "pipelines/{pipeline}/backfills"),
}


class ServiceError(WorkbenchError):
    """The page of pipelines cannot be asked, or has refused."""


class Pipelines(Protocol):
    """Does what the page of pipelines can do."""

    def ask(self, operation: str, **values: Any) -> Row:
        """The answer of an operation.

        Raises:
            WorkbenchError: in words, when it cannot be done.
        """

    def close(self) -> None:
        """Let go of connections."""


class PipelinesService:
    """Asks over HTTP; one connection is kept.

    Args:
        address: of the service, with its prefix.
        token: of the hub.
    """

    def __init__(self, address: str, token: SecretStr) -> None:
        self._address, self._token = address.rstrip("/"), token
        self._client: Any = None

    def ask(self, operation: str, **values: Any) -> Row:
        """See `Pipelines`."""
        import httpx2

        method, template = OPERATIONS[operation]
        in_path = {name for name in values if f"{{{name}}}" in template}
        path = template.format(**{name: quote(str(values[name]), safe="") for name in in_path})
        rest = {name: each for name, each in values.items() if name not in in_path}
        sent: dict[str, Any] = {"params": rest} if method == "GET" else {"json": rest}
        if self._client is None:
            # No proxy of the environment: the token is for the hub alone.
            self._client = httpx2.Client(timeout=ANSWER_SECONDS, trust_env=False)
        request = new_request_id()
        try:
            answer = self._client.request(
                method,
                f"{self._address}/api/v1/{path}",
                headers={"Authorization": f"token {self._token.get_secret_value()}", HEADER: request},
                **sent,
            )
        except (httpx2.HTTPError, OSError) as error:
            raise ServiceError(
                f"the page of pipelines at {self._address} does not answer ({type(error).__name__})",
                remedy="`workbench status` shows whether it runs; this panel goes on when it answers again.",
            ) from None
        return _answer(answer, request)

    def close(self) -> None:
        """See `Pipelines`."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class NoPipelines:
    """Where there is neither an address nor a store. Says so."""

    def __init__(self, why: str, remedy: str) -> None:
        self._why, self._remedy = why, remedy

    def ask(self, operation: str, **values: Any) -> Row:
        """See `Pipelines`."""
        raise ServiceError(self._why, remedy=self._remedy)

    def close(self) -> None:
        """See `Pipelines`."""


def find_pipelines(settings: Settings) -> Pipelines:
    """The page of pipelines of these settings; opens no connection yet."""
    told = settings.pipelines
    if told.service_url:
        return PipelinesService(told.service_url, told.service_token)
    for each in entry_points(group=GROUP):
        found: Pipelines = each.load()(settings)
        return found
    return NoPipelines(
        "no page of pipelines is known here", "Set WORKBENCH_PIPELINES_SERVICE_URL, or use the page itself."
    )


def _answer(answer: Any, request: str) -> Row:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if answer.is_success and isinstance(found, dict):
        return found
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict):
        remedy = str(error.get("remedy", ""))
        if answer.is_server_error:
            remedy = f"{remedy} `workbench logs --request {request}` shows what it has logged.".strip()
        raise ServiceError(str(error.get("message", "")), remedy=remedy)
    raise ServiceError(
        f"the page of pipelines has answered {answer.status_code}, and not in its own words",
        remedy="Look at WORKBENCH_PIPELINES_SERVICE_URL; `workbench status` shows whether it runs.",
    )
