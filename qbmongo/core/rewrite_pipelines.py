"""Rules on pipelines."""

from __future__ import annotations

from .rewrite_rule import Rule

__all__ = ["PIPELINE_RULES"]

PIPELINE_RULES: tuple[Rule, ...] = ()
