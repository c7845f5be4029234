"""Kernel specifications: what Jupyter knows, with the workbench's own first."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from workbench.errors import ComponentError
from workbench.runtime.kernels import jupyter_folders


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """How a kernel is started."""

    name: str
    argv: tuple[str, ...]  #: with {connection_file} in it
    language: str
    interrupts_by_message: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_python(self) -> bool:
        """Whether folder, environment and secrets can be handed over once the kernel runs."""
        return self.language == "python"

    def command(self, connection_file: str) -> list[str]:
        """The command that starts a kernel which listens as *connection_file* says."""
        return [each.replace("{connection_file}", connection_file) for each in self.argv]

    def environment_over(self, base: Mapping[str, str]) -> dict[str, str]:
        """*base* with the variables of the specification, which may name others as ${NAME}."""
        own = {name: Template(value).safe_substitute(base) for name, value in self.environment.items()}
        return {**base, **own}


def find_spec(name: str) -> KernelSpec:
    """The specification of that name.

    Raises:
        ComponentError: when there is none, or it wants to run elsewhere than on this machine.
    """
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    manager.kernel_dirs = [str(Path(jupyter_folders()["JUPYTER_PATH"]) / "kernels"), *manager.kernel_dirs]
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        known = ", ".join(sorted(manager.find_kernel_specs()))
        raise ComponentError(
            f"there is no kernel {name!r}", remedy=f"Choose one of {known} in JupyterLab and save the notebook."
        ) from None
    if "kernel_provisioner" in spec.metadata:
        raise ComponentError(
            f"the kernel {name!r} is started by a provisioner of its own",
            remedy="Choose a kernel that runs on this machine.",
        )
    first, *rest = spec.argv
    return KernelSpec(
        name=name,
        # As Jupyter has it: the interpreter that runs us, whatever PATH says.
        argv=(sys.executable if first in {"python", "python3"} else first, *_resolved(rest, spec.resource_dir)),
        language=spec.language.lower(),
        interrupts_by_message=spec.interrupt_mode == "message",
        environment=dict(spec.env),
    )


def _resolved(arguments: list[str], resource_dir: str) -> list[str]:
    return [each.replace("{resource_dir}", resource_dir) for each in arguments]
