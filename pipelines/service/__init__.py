"""The web page and the API of pipelines: what people may see of runs, and what they may do with them.

`operations` lists everything that can be done, each with the right that it takes. Pages and API
both go through it, so that no page can do what the API refuses, and OpenAPI is made of it.

- `entrance` says who asks: JupyterHub, or tokens of a service that runs alone.
- `site` reads and acts, in threads; it knows nothing of HTTP.
- `web` is HTTP: handlers, headers, server-sent events.
"""
