"""`python -m workbench.warehouse.policies.handover`: a person's credentials, for the hub, which has no driver.

Reads one JSON object from its input, and writes one to its output, which nobody else reads:
`{"do": "hand out", "name": …, "groups": […]}` is answered by the variables with which a server of the
person reaches the warehouse, and until when; `{"do": "close", "name": …, "valid_until": …}` ends such a
password, and is answered by `{"closed": …}`; `{"do": "remove", "name": …}` by `{"steps": […]}`. What went
wrong is `{"error": …, "remedy": …}`, with exit code 1.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workbench.errors import WorkbenchError
from workbench.masking import mask_logs
from workbench.resources import resource
from workbench.security.policies.reading import read_policies
from workbench.settings import Settings
from workbench.warehouse.policies.administration import Administration
from workbench.warehouse.policies.people import close, hand_out, remove


def main() -> int:
    """Answer what stands on the input."""
    # Whatever a library says, the output is one JSON object.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    mask_logs()
    try:
        answer, code = answer_to(json.load(sys.stdin)), 0
    except WorkbenchError as error:
        answer, code = {"error": error.message, "remedy": error.remedy}, 1
    json.dump(answer, sys.stdout)
    return code


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request.

    Raises:
        WorkbenchError: when it cannot be done.
    """
    settings = Settings.load()
    is_embedded = not Settings.load(embedded=False).warehouse.host
    administration = Administration.of(settings, is_embedded=is_embedded)
    name = str(request["name"])
    if request["do"] == "remove":
        return {"steps": remove(administration, name)}
    if request["do"] == "close":
        return {"closed": close(administration, name, datetime.fromisoformat(request["valid_until"]))}
    policies = read_policies(settings.policies.file or resource("pipelines") / "policies.yaml")
    groups = tuple(map(str, request["groups"]))
    hours = settings.policies.password_hours
    found = hand_out(administration, policies, name, groups, hours=hours)
    variables = {"DW_USER": found.user, "DW_PASSWORD": found.password.get_secret_value()}
    return {"variables": variables, "valid_until": found.valid_until.isoformat()}


if __name__ == "__main__":
    sys.exit(main())
