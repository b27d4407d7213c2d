"""Rewrites, proven on a server: what was written and what is sent have the same answer."""
