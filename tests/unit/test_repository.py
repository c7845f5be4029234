"""The repository keeps its own rules: the lock, the environment for conda, the layout, what is never written down."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from workbench.embedded.jars import ROOTS, read_lock

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP_LEVEL = {
    *("hub", "notebooks", "workbench", "spark_conf", "pipelines", "tests"),
    *("jupyterhub_config.py", "environment.yml", "README.md"),
}


def locked() -> dict[str, set[str]]:
    """Versions by name; one name may have several, each for other Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    ):
        found.setdefault(name, set()).add(version)
    return found


def requirements() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    lists = [PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["dev"], *extras]
    return [Requirement(text) for each in lists for text in each]


def test_the_lock_has_every_dependency_in_a_version_that_fits():
    versions = locked()

    for requirement in requirements():
        name = requirement.name.lower()
        assert name in versions, name
        assert any(version in requirement.specifier for version in versions[name]), requirement


def test_every_locked_file_has_a_hash_and_no_address():
    text = (ROOT / "requirements.lock").read_text()

    assert "://" not in text
    assert text.count("==") <= text.count("--hash=sha256:")


def test_the_environment_for_conda_is_that_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = dict(each.split("=") for each in environment["dependencies"] if isinstance(each, str) and "=" in each)
    pip = next(each["pip"] for each in environment["dependencies"] if isinstance(each, dict))

    assert "-r requirements.lock" in pip
    assert "--require-hashes" in pip
    assert f"{conda['python']}.0" in SpecifierSet(PROJECT["project"]["requires-python"])
    assert int(conda["openjdk"]) >= 17


def test_the_top_level_names_are_there():
    assert {path for path in TOP_LEVEL if not (ROOT / path).exists()} == set()


def test_every_dependency_has_its_line():
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()

    assert [each.name for each in requirements() if each.name.lower() not in page] == []


def test_the_jar_lock_has_every_root_once():
    jars = read_lock()

    assert len({(jar.server, jar.file_name) for jar in jars}) == len(jars)
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    for server, roots in ROOTS.items():
        assert set(roots) <= {jar.coordinates for jar in jars if jar.server == server}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_have_no_outputs_and_run_on_our_kernel(path):
    notebook = nbformat.read(path, as_version=4)

    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


def test_production_notebooks_take_parameters():
    paths = list((ROOT / "notebooks" / "production").glob("*.ipynb"))
    assert len(paths) >= 3
    for path in paths:
        tags = [tag for cell in nbformat.read(path, as_version=4).cells for tag in cell.metadata.get("tags", [])]
        assert tags == ["parameters"]


def test_no_file_names_a_registry_or_somebodys_folder():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    pattern = re.compile(
        # `/users/NAME` is a path of JupyterHub's API.
        r"(?i:://[\w.-]*(pypi|pythonhosted|npmjs|maven|debian|crates)[\w.-]*(/|$|\s))|(?<![\w.])/(home|Users)/\w"
    )

    found = [
        name
        for name in tracked
        if (ROOT / name).suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".lock"}
        and pattern.search((ROOT / name).read_text())
    ]

    assert found == []
