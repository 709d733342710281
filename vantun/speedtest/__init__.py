"""``vantun speedtest``: what the tunnel itself carries, measured between a client and its server."""
