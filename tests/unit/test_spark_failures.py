"""What errors of Spark mean, in a sentence with the variable and its value."""

from __future__ import annotations

import linecache

import pytest

from workbench.transformation.failures import explanation, users_line
from workbench.transformation.session import EXECUTORS, executors_of
from workbench.transformation.whereabouts import last_words

SETTINGS = {"SPARK_MASTER_URL": "local[*]", "SPARK_DRIVER_MEMORY": "1g", "SPARK_EXECUTOR_MEMORY": "2g"}
WORKER = """An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "/env/lib/python3.11/site-packages/pyspark/python/lib/pyspark.zip/pyspark/worker.py", line 100, in main
    process()
  File "/tmp/ipykernel_1/77.py", line 3, in area
  File "/env/lib/python3.11/site-packages/numpy/linalg.py", line 9, in solve
    raise LinAlgError("Singular matrix")
numpy.linalg.LinAlgError: Singular matrix
"""


@pytest.mark.parametrize(
    ("text", "master", "expected"),
    [
        ("Job aborted: java.lang.OutOfMemoryError: Java heap space", "local[*]", "SPARK_DRIVER_MEMORY, which is 1g"),
        ("Task failed: java.lang.OutOfMemoryError: Java heap space", "yarn", "SPARK_EXECUTOR_MEMORY, which is 2g"),
        ("ExecutorLostFailure: Command exited with code 137", "yarn", "SPARK_EXECUTOR_MEMORY, which is 2g"),
        ("Container killed by YARN for exceeding physical memory limits", "yarn", "SPARK_EXECUTOR_MEMORY"),
    ],
)
def test_want_of_memory_names_the_variable_and_its_value(text, master, expected):
    error = RuntimeError(text.replace("exited with code", "exit code"))

    assert expected in explanation(error, SETTINGS | {"SPARK_MASTER_URL": master})


def test_a_full_disk_names_the_folder_and_what_is_free(tmp_path):
    text = explanation(OSError("java.io.IOException: No space left on device"), {"spark.local.dir": str(tmp_path)})

    assert str(tmp_path) in text
    assert "GiB free" in text


def test_the_users_own_line_is_told_not_that_of_a_library():
    linecache.cache["/tmp/ipykernel_1/77.py"] = (1, None, ["def area(m):\n", "    #\n", "    return solve(m)\n"], "x")
    try:
        text = users_line(WORKER)
    finally:
        del linecache.cache["/tmp/ipykernel_1/77.py"]

    assert text == ("Your function raised numpy.linalg.LinAlgError: Singular matrix\n  line 3 of area: return solve(m)")


def test_what_speaks_for_itself_is_not_explained():
    assert explanation(ValueError("[TABLE_OR_VIEW_NOT_FOUND] no x"), SETTINGS) == ""


@pytest.mark.parametrize(
    ("master", "instances", "dynamic", "expected"),
    [
        ("yarn", "3", None, 3),
        ("yarn", "3", "true", None),
        ("local[*]", "3", None, None),
        ("spark://h:7077", None, None, None),
    ],
)
def test_executors_are_told_where_their_number_is_known(master, instances, dynamic, expected):
    assert executors_of(dict(zip(EXECUTORS, (master, instances, dynamic), strict=True))) == expected


def test_the_log_of_a_server_says_whether_it_was_out_of_memory(tmp_path):
    log = tmp_path / "spark.log"
    log.write_text("x\n" * 50_000 + "java.lang.OutOfMemoryError: Java heap space\n")

    assert "SPARK_DRIVER_MEMORY, which is 1g" in last_words(log, "1g")
    log.write_text("ended\n")
    assert last_words(log, "1g") == ""
    assert last_words(tmp_path / "none.log", "1g") == ""
