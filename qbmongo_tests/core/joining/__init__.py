"""Writers, a client's coalescing and a replica set, stepped by hand: see `explorer`."""
