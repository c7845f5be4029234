"""A loopback identity provider for the first run: GitHub's and Google's protocol, with a consent page.

It lets the real login code run before anybody has registered an OAuth client. Other users of
the machine can reach loopback too, so the consent page asks for the sign-in code that
`workbench up` shows to the person who started it (as Jupyter does with its token).

It refuses to start when the hub listens on anything but loopback or a real client id is set.

Protocol: RFC 6749 (authorization code, refresh), RFC 7636 (PKCE, S256 only), RFC 7009
(revocation), RFC 9207 (`iss`), OpenID Connect Core and Discovery 1.0; the paths and fields are
GitHub's (docs.github.com, "Authorizing OAuth apps" and the REST API) and Google's
(developers.google.com, "OpenID Connect") as the hub calls them.

Run by the supervisor: `python -m hub.demo_identity`.
"""
