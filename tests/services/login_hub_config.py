"""JupyterHub reads this file in tests: the real configuration, with Google where the test's provider is."""

import os
from pathlib import Path

from hub.configuration import configure

c = get_config()  # noqa: F821 - JupyterHub defines it
configure(c)

provider = os.environ["TEST_PROVIDER_URL"]
# GitHub and the OpenID Connect issuer are led there by settings; Google's address is no setting.
c.Google.issuer = provider
c.Google.authorize_url = f"{provider}/o/oauth2/v2/auth"
c.Google.google_api_url = provider

token = Path(os.environ["TEST_API_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
c.JupyterHub.services.append({"name": "tests", "api_token": token, "admin": True})
