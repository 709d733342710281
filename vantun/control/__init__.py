"""The control process: aioquic (only here), sessions, users, SOCKS5 handshakes and the status socket."""
