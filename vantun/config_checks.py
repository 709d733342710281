"""What keys of a configuration file say together: checks over more than one key, each a list of problems."""

from __future__ import annotations

from vantun.config_said import Said, needs
from vantun.config_uri import ServerLink
from vantun.errors import Problem


def check_link(said: Said, link: ServerLink) -> list[Problem]:
    """Check that nothing stands both in the link and in the file."""
    in_link = {
        "auth": link.auth,
        "tls.sni": link.sni,
        "tls.pinSHA256": link.pin_sha256,
        "tls.insecure": link.insecure,
    }
    problems = [
        needs(said, name, "stands in the link of `server` too; keep one of the two")
        for name, value in in_link.items()
        if value and said.has(name)
    ]
    if said.get("server", None) is not None and not link.auth and not said.has("auth"):
        problems.append(Problem("auth is missing: the server lets nobody in without it. Example: auth: alice:s3cret"))
    insecure = said.get("tls.insecure", link.insecure)
    if insecure and (said.has("tls.ca") or said.has("tls.pinSHA256") or link.pin_sha256):
        line = said.values.under("tls.insecure") or said.values.under("server")
        problems.append(Problem("tls.insecure: true makes tls.ca and tls.pinSHA256 useless; keep one", line))
    return problems
