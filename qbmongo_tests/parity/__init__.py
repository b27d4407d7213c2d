"""The parity harness: the plain driver and ours, given the same operations, must act the same."""
