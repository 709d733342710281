"""The control process: aioquic (only here), sessions, users, SOCKS5 handshakes and the status socket."""

from __future__ import annotations

from vantun.late_import import import_late

# aioquic imports it, and calls it only to compare a certificate with a name, as most clients do once, and no server.
import_late("service_identity")
# The same: to compare a certificate with those of the system or of `tls.ca`.
import_late("OpenSSL.crypto")
# It asks for the system's certificates by it, as clients do that trust them.
import_late("certifi")
