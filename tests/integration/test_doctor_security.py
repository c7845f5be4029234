"""`workbench doctor --security` on a whole workbench."""

from __future__ import annotations

import json

import pytest

from tests.services.workbench import run

HOPS = {
    "kafka",
    "warehouse",
    "store of pipelines",
    "spark connect",
    "spark rpc and ui",
    "schema registry",
    "notifications",
    "proxy",
    "hub API",
    "proxy API",
    "demo identity provider",
    "people's servers",
    "pipelines service",
    "metrics",
    "steps to warehouse",
    "other ports",
}
STORES = {
    "keys",
    "keys of subjects",
    "addresses and tokens",
    "warehouse files",
    "broker's log",
    "audit log",
    "checkpoints",
    "spark scratch",
    "logs",
    "hub database",
    "jupyter files",
    "run outputs",
    "backups",
}
RUNNING = {"kafka", "warehouse", "spark connect", "spark rpc and ui", "proxy", "hub API", "proxy API"}


@pytest.mark.timeout(180)
def test_every_hop_and_every_store_has_a_row_that_says_what_protects_it(shared_workbench):
    done = run("doctor", "--security", "--json", home=shared_workbench.home)
    rows = {(row["kind"], row["subject"]): row for row in json.loads(done.stdout)}

    assert set(rows) == {*(("hop", each) for each in HOPS), *(("store", each) for each in STORES)}
    assert done.returncode == 0, [row for row in rows.values() if row["is_broken"]]
    for (_, subject), row in rows.items():
        assert row["state"] in {"protected", "not protected", "not in use"}
        assert row["proved"] or row["lacks"], subject
        assert all(lack["remedy"] for lack in row["lacks"]), subject
    for subject in RUNNING:
        assert rows["hop", subject]["state"] == "protected", rows["hop", subject]


@pytest.mark.timeout(180)
def test_a_key_that_others_may_read_is_found_in_the_table_with_its_remedy(shared_workbench):
    key = shared_workbench.home / "keys" / "proxy-api"
    key.chmod(0o644)
    try:
        done = run("doctor", "--security", home=shared_workbench.home)
    finally:
        key.chmod(0o600)

    assert done.returncode == 1
    assert "FIX" in done.stdout
    assert "chmod -R go-rwx" in done.stdout
