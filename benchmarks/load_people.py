"""What people do at the hub, for Locust: they sign in once, then look at pages with a second of reading between.

Runs in the environment of requirements-locust.txt, where nothing of the workbench is. LOAD_CODE is the
sign-in code of the demo identity provider, LOAD_LOGINS who signs in: several browsers are one person's.
"""

from __future__ import annotations

import os
import re
from itertools import cycle
from urllib.parse import urljoin

from locust import HttpUser, between, task

PIPELINES = "/services/pipelines/"
logins = cycle(os.environ["LOAD_LOGINS"].split(","))


class Person(HttpUser):
    """One browser."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Sign in, and go through the hub to the page of pipelines."""
        sent = self.client.get("/hub/github/login", allow_redirects=False, name="login, to the provider")
        form = {"login": next(logins), "sign_in_code": os.environ["LOAD_CODE"]}
        consent = sent.headers["Location"]
        agreed = self.client.post(consent, data=form, allow_redirects=False, name="login, at the provider")
        self.client.get(agreed.headers["Location"], name="login, back at the hub")
        self.client.get(PIPELINES, name="page of pipelines, first")

    @task(3)
    def home(self) -> None:
        """The hub's home, where servers are started."""
        self.client.get("/hub/home")

    @task(3)
    def pipelines(self) -> None:
        """All pipelines with their last runs."""
        self.client.get(PIPELINES)

    @task(2)
    def pipeline(self) -> None:
        """One pipeline with its matrix of runs."""
        self.client.get(f"{PIPELINES}pipelines/flights-of-a-day")

    @task(2)
    def last_run(self) -> None:
        """The last run with its steps and what it printed, by the link of the pipeline's page."""
        page = self.client.get(f"{PIPELINES}pipelines/flights-of-a-day").text
        if found := re.search(r'href="([^"]*runs/[^"/]+)"', page):
            self.client.get(urljoin(PIPELINES, found[1]), name="one run")

    @task(1)
    def queue(self) -> None:
        """What runs and waits, pools and workers."""
        self.client.get(f"{PIPELINES}queue")
