"""A user's server, as JupyterHub starts it: `python -m hub.spawning.singleuser`.

It is `jupyterhub-singleuser` without one import. jsonschema loads rfc3987_syntax, which compiles a
grammar for 1.4 s, to check strings of the formats `iri` and `iri-reference`; no schema that JupyterLab
or Jupyter Server checks has such a string. URIs are checked with rfc3986_validator as before.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment] # an import of it is an ImportError
    from jupyterhub.singleuser import main

    main()
