"""Runs every DAG of a folder in this process, as `airflow dags test` does; run by the Python of Airflow.

python run_dags.py FOLDER ANSWER
"""

import json
import sys
import time
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import timezone

folder, answer = Path(sys.argv[1]), Path(sys.argv[2])
began = time.perf_counter()
bag = DagBag(str(folder))
found = {"errors": bag.import_errors, "seconds": time.perf_counter() - began, "runs": {}}
for name, dag in sorted(bag.dags.items()):
    run = dag.test(logical_date=timezone.utcnow())
    states = {each.task_id: str(each.state) for each in run.get_task_instances()}
    found["runs"][name] = {"state": str(run.state), "steps": states}
    answer.write_text(json.dumps(found, default=str))
