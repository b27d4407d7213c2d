"""A client, a replica set and everybody else, stepped by hand: see `explorer`."""
