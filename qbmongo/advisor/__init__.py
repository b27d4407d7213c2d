"""Workload, indexes and statistics -> verified recommendations -> a report.

Everything but collecting and verifying is pure: profiles, documents and explain results go in,
records come out.
"""
