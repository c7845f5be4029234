from __future__ import annotations

import inspect
import re
import subprocess
import sys

import workbench
from workbench import errors

DRIVERS = ("kafka", "confluent_kafka", "pyspark", "sqlalchemy", "pandas", "pyarrow", "jupyterhub", "papermill")


def test_importing_workbench_loads_no_driver():
    probe = f"import sys, workbench; print([name for name in {DRIVERS} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_public_names_are_few_and_exist():
    assert len(workbench.__all__) <= 12
    assert all(getattr(workbench, name) is not None for name in workbench.__all__)
    assert dir(workbench) == sorted(workbench.__all__)


def test_the_hub_needs_no_data_drivers():
    probe = f"import sys, hub.components, hub.demo_identity; print([name for name in {DRIVERS[:-2]} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.strip() in ("[]", "['sqlalchemy']")  # JupyterHub's own database


def test_the_tree_of_errors_has_all_of_them_under_their_bases():
    drawn, above = {}, ["WorkbenchError"]
    for branch, name in re.findall(r"^    ((?:[│ ]   )*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4 + 1
        above[depth:] = [name]
        drawn[name] = above[depth - 1]

    classes = [each for each in vars(errors).values() if inspect.isclass(each)]
    found = {each.__name__: each.__base__.__name__ for each in classes if issubclass(each, errors.WorkbenchError)}
    assert found == drawn | {"WorkbenchError": "Exception"}
