"""Shape key -> JSON form -> one line of text.

The JSON form is what a profile file holds and what index candidates are computed from;
docs/profile.md gives its schema. Everything here runs once per shape and report, never per call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .shape_filters import INVALID
from .shapes import ShapeKey

Form = dict[str, Any]

#: The form under which shapes beyond `max_shapes` are counted.
OTHER_FORM: Form = {"namespace": "*", "operation": "other", "filter": None}


def shape_form(key: ShapeKey) -> Form:
    """The JSON form of a shape: dicts, lists, strings, numbers and None only.

    Equal keys give equal forms, whatever the order of their sets.
    """
    namespace, operation, filter, rest = key
    form: Form = {
        "namespace": namespace,
        "operation": operation,
        "filter": None if filter is None else _filter_form(filter),
    }
    for part, value in rest or ():
        form[part] = _PARTS[part](value)
    return form


def shape_id(form: Mapping[str, Any]) -> str:
    """A short name of a form, the same in every process."""
    text = json.dumps(form, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _sorted_forms(forms: list[Any]) -> list[Any]:
    return sorted(forms, key=lambda form: json.dumps(form, sort_keys=True))


def _filter_form(key: tuple[Any, ...]) -> list[Form]:
    nodes: list[Form] = []
    for path, predicate in zip(key[::2], key[1::2], strict=True):
        if path[:1] == "$" and not _has_operators(path, predicate):
            nodes.append({"op": path, **_argument_form(predicate)})
        elif isinstance(predicate, str):
            nodes.append({"path": path, "op": "$eq", "type": predicate})
        else:
            nodes.extend({"path": path, **node} for node in _operator_forms(predicate))
    return nodes


def _has_operators(path: str, predicate: Any) -> bool:
    """Whether operators are given to what is no name, which stands under an operator's mark."""
    return path == INVALID and type(predicate) is tuple and type(predicate[0]) is tuple


def _operator_forms(operators: tuple[tuple[str, Any], ...]) -> list[Form]:
    return [{"op": name, **_argument_form(argument)} for name, argument in operators]


def _argument_form(argument: Any) -> Form:
    if isinstance(argument, str):
        return {"type": argument}
    kind = argument[0]
    if kind == "list":
        return {"size": argument[1], "types": sorted(argument[2])}
    if kind == "filter":
        return {"filter": _filter_form(argument[1])}
    if kind == "operators":
        return {"operators": _operator_forms(argument[1])}
    if kind == "expression":
        return {"uses": sorted(argument[1])}
    return {"branches": _sorted_forms([_filter_form(branch) for branch in argument[1]])}


def _pairs_form(pairs: tuple[tuple[str, Any], ...]) -> list[list[Any]]:
    return [[path, value] for path, value in pairs]


def _hint_form(hint: Any) -> Any:
    return hint if isinstance(hint, str) else _pairs_form(hint)


def _pipeline_form(pipeline: tuple[int, tuple[Any, ...]]) -> Form:
    head, stages = pipeline
    return {"head": head, "stages": [_stage_form(stage) for stage in stages]}


def _stage_form(stage: tuple[Any, ...]) -> Form:
    form: Form = {"stage": stage[0]}
    for part, value in stage[1:]:
        form[part] = _STAGE_PARTS[part](value)
    return form


def _requests_form(requests: frozenset[tuple[str, Any]]) -> list[Any]:
    return _sorted_forms(
        [
            {"kind": kind, "filter": None if filter is None else _filter_form(filter)}
            for kind, filter in requests
        ]
    )


def _as_is(value: Any) -> Any:
    return value


def _flag(value: Any) -> bool:
    return bool(value)


_PARTS: dict[str, Callable[[Any], Any]] = {
    "sort": _pairs_form,
    "projection": _pairs_form,
    "skip": _flag,
    "limit": _flag,
    "key": _as_is,
    "collation": dict,
    "hint": _hint_form,
    "min": list,
    "max": list,
    "upsert": _flag,
    "update": lambda value: {operator: list(fields) for operator, fields in value},
    "requests": _requests_form,
    "pipeline": _pipeline_form,
}

_STAGE_PARTS: dict[str, Callable[[Any], Any]] = {
    "filter": _filter_form,
    "sort": _pairs_form,
    "projection": _pairs_form,
    "fields": list,
    "path": _as_is,
    "by": list,
    "key": _as_is,
    "from": _as_is,
    "into": _as_is,
    "type": _as_is,
    "local_field": _as_is,
    "foreign_field": _as_is,
    "pipeline": _pipeline_form,
    "pipelines": lambda value: _sorted_forms([_pipeline_form(branch) for branch in value]),
}


def shape_text(form: Mapping[str, Any]) -> str:
    """One line that a person reads: `find shop.orders {status: string} sort {at: -1}`."""
    head = f"{form['operation']} {printable(form['namespace'])}"
    return f"{head} {shape_details(form)}".rstrip()


def printable(text: str) -> str:
    """A text on one line: what would end the line, or steer a terminal, is shown escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shape_details(form: Mapping[str, Any]) -> str:
    """The line of `shape_text` without operation and namespace."""
    parts: list[str] = []
    if form.get("filter") is not None:
        parts.append(_filter_text(form["filter"]))
    if "requests" in form:
        requests = [
            r["kind"] if r["filter"] is None else f"{r['kind']} {_filter_text(r['filter'])}"
            for r in form["requests"]
        ]
        parts.append(f"[{', '.join(requests)}]")
    if "pipeline" in form:
        parts.append(_pipeline_text(form["pipeline"]))
    if "key" in form:
        parts.append(f"key {form['key']}")
    if "update" in form:
        fields = (f"{op}: {'/'.join(names)}" for op, names in form["update"].items())
        parts.append(f"update {{{', '.join(fields)}}}")
    for part in ("sort", "projection", "hint"):
        if part in form:
            value = form[part]
            parts.append(f"{part} {value if isinstance(value, str) else _pairs_text(value)}")
    if "collation" in form:
        settings = (f"{name}: {value}" for name, value in form["collation"].items())
        parts.append(f"collation {{{', '.join(settings)}}}")
    parts.extend(f"{part} [{', '.join(form[part])}]" for part in ("min", "max") if part in form)
    parts.extend(part for part in ("skip", "limit", "upsert") if form.get(part))
    return printable(" ".join(parts))


def _filter_text(nodes: Sequence[Mapping[str, Any]]) -> str:
    return f"{{{', '.join(_node_text(node) for node in nodes)}}}"


def _node_text(node: Mapping[str, Any]) -> str:
    argument = _argument_text(node)
    if "path" not in node:
        return f"{node['op']}: {argument}"
    if node["op"] == "$eq":
        return f"{node['path']}: {argument}"
    return f"{node['path']}: {{{node['op']}: {argument}}}"


def _argument_text(node: Mapping[str, Any]) -> str:
    if "types" in node:
        return f"[{node['size']} {'|'.join(node['types'])}]".replace(" ]", "]")
    if "filter" in node:
        return _filter_text(node["filter"])
    if "operators" in node:
        operators = (f"{inner['op']}: {_argument_text(inner)}" for inner in node["operators"])
        return f"{{{', '.join(operators)}}}"
    if "branches" in node:
        return f"[{' | '.join(_filter_text(branch) for branch in node['branches'])}]"
    if "uses" in node:
        return f"({' '.join(node['uses'])})"
    return str(node["type"])


def _pairs_text(pairs: Sequence[Sequence[Any]]) -> str:
    return f"{{{', '.join(f'{path}: {value}' for path, value in pairs)}}}"


def _pipeline_text(pipeline: Mapping[str, Any]) -> str:
    return f"[{', '.join(_stage_text(stage) for stage in pipeline['stages'])}]"


def _stage_text(stage: Mapping[str, Any]) -> str:
    parts: list[str] = [str(stage["stage"])]
    for part, value in stage.items():
        if part == "filter":
            parts.append(_filter_text(value))
        elif part in ("sort", "projection"):
            parts.append(_pairs_text(value))
        elif part in ("fields", "by"):
            parts.append(f"({' '.join(value)})")
        elif part == "pipeline":
            parts.append(_pipeline_text(value))
        elif part == "pipelines":
            parts.append(" | ".join(_pipeline_text(branch) for branch in value))
        elif part == "foreign_field":
            parts.append(f"{stage.get('local_field')} = {value}")
        elif part not in ("stage", "local_field"):
            parts.append(str(value))
    return " ".join(parts)
