"""What the dialog sends: the fields of a pipeline as a person typed them, and what was agreed to."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.errors import WorkbenchError


class Form(BaseModel):
    """All texts are as they were typed; an empty one says nothing. What is wrong with them is told by the check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notebook: str  #: its path as JupyterLab has it
    name: str
    description: str = ""
    owner: str = ""
    cron: str = ""  #: empty is a pipeline that only people start
    zone: str = "UTC"
    parameters: dict[str, str] = {}
    retries: str = ""
    wait: str = ""  #: before the second attempt
    step_timeout: str = ""  #: of one attempt
    timeout: str = ""  #: of a whole run


class WriteForm(Form):
    """The same, to be written."""

    replaces: str = ""  #: sha256 of the file that may be replaced; empty is none
    makes_project: bool = False  #: whether pipelines/jobs may be made in a folder that is no project


F = TypeVar("F", bound=Form)


def read_form(kind: type[F], body: Any) -> F:
    """The form that a request has sent.

    Raises:
        WorkbenchError: with every field that is missing, unknown or no text.
    """
    try:
        return kind.model_validate(body, strict=True)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}" for each in error.errors()]
        raise WorkbenchError(f"the request is no form: {'; '.join(wrong)}", remedy="Reload the page.") from None
