"""``vantun demo``: a server, a client, two lossy paths between them, and a load whose digests are checked."""
