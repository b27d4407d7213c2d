"""Which reads may be cached: those that give the same answer as long as known namespaces stay.

Allow-lists throughout: an operator, stage or option that is not named here may depend on anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bson.decimal128 import Decimal128

from ..records import ReadOp
from .paths import FIELD_OPERATORS
from .pipelines import foreign_namespaces
from .snapshots import SCALARS, readable

__all__ = ["cacheable"]

_KINDS = frozenset({"aggregate", "count_documents", "distinct", "find", "find_one"})
_SYSTEM_DATABASES = frozenset({"admin", "config", "local"})

_OPTIONS = frozenset(
    {
        "allowDiskUse",
        "batchSize",
        "collation",
        "comment",
        "cursor",
        "hint",
        "let",
        "max",
        "maxTimeMS",
        "min",
        "noCursorTimeout",
        # Only levels that collection objects may be cached with come here.
        "readConcern",
    }
)
_OPTION_REASONS = {
    "allowPartialResults": "partial_results",
    "awaitData": "tailable",
    "returnKey": "return_key",
    "showRecordId": "record_id",
    "tailable": "tailable",
}

_FILTER_REASONS = {
    "$geoNear": "geo",
    "$maxDistance": "geo",
    "$minDistance": "geo",
    "$near": "geo",
    "$nearSphere": "geo",
    "$sampleRate": "sample",
    "$text": "text",
    "$where": "where",
}

_STAGES = frozenset(
    {
        "$addFields",
        "$bucket",
        "$bucketAuto",
        "$count",
        "$densify",
        "$facet",
        "$fill",
        "$graphLookup",
        "$group",
        "$limit",
        "$lookup",
        "$match",
        "$project",
        "$redact",
        "$replaceRoot",
        "$replaceWith",
        "$set",
        "$setWindowFields",
        "$skip",
        "$sort",
        "$sortByCount",
        "$unionWith",
        "$unset",
        "$unwind",
    }
)
_STAGE_REASONS = {
    "$changeStream": "change_stream",
    "$changeStreamSplitLargeEvent": "change_stream",
    "$collStats": "statistics",
    "$geoNear": "geo",
    "$indexStats": "statistics",
    "$merge": "out",
    "$out": "out",
    "$planCacheStats": "statistics",
    "$sample": "sample",
    "$search": "text",
    "$searchMeta": "text",
    "$vectorSearch": "text",
}

_VARIABLE_REASONS = {
    "CLUSTER_TIME": "now",
    "NOW": "now",
    "SEARCH_META": "text",
    "USER_ROLES": "user_roles",
}
_EXPRESSION_REASONS = {
    "$accumulator": "function",
    "$currentDate": "now",
    "$function": "function",
    "$meta": "meta",
    "$rand": "rand",
    "$sampleRate": "sample",
}

# Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/
_EXPRESSION_NAMES = """
abs acos acosh add addToSet allElementsTrue and anyElementTrue arrayElemAt arrayToObject asin
asinh atan atan2 atanh avg binarySize bitAnd bitNot bitOr bitXor bottom bottomN bsonSize ceil
cmp concat concatArrays cond convert cos cosh count covariancePop covarianceSamp dateAdd
dateDiff dateFromParts dateFromString dateSubtract dateToParts dateToString dateTrunc dayOfMonth
dayOfWeek dayOfYear degreesToRadians denseRank derivative divide documentNumber eq exp
expMovingAvg filter first firstN floor getField gt gte hour ifNull in indexOfArray indexOfBytes
indexOfCP integral isArray isNumber isoDayOfWeek isoWeek isoWeekYear last lastN let linearFill
literal ln locf log log10 lt lte ltrim map max maxN median mergeObjects millisecond min minN
minute mod month multiply ne not objectToArray or percentile pow push radiansToDegrees range
rank reduce regexFind regexFindAll regexMatch replaceAll replaceOne reverseArray round rtrim
second setDifference setEquals setField setIntersection setIsSubset setUnion shift sin sinh size
slice sortArray split sqrt stdDevPop stdDevSamp strLenBytes strLenCP strcasecmp substr
substrBytes substrCP subtract sum switch tan tanh toBool toDate toDecimal toDouble toInt toLong
toLower toObjectId toString toUpper top topN trim trunc tsIncrement tsSecond type unsetField
week year zip
"""
_EXPRESSIONS = frozenset("$" + name for name in _EXPRESSION_NAMES.split())


class _Refused(Exception):
    """Why a read may not be cached."""


def cacheable(op: ReadOp) -> str | None:
    """Why a read may not be cached.

    Args:
        op: a read.

    Returns:
        None if it may be; otherwise a reason's name: "change_stream", "function", "geo", "kind",
        "meta", "nan", "now", "option", "out", "partial_results", "rand", "record_id", "return_key",
        "sample", "statistics", "system_namespace", "tailable", "text", "unknown_operator",
        "unknown_source", "unknown_stage", "unknown_type", "user_roles", "where".

    Source: DESIGN section 4, "Keys are exact".
    """
    database, _, collection = op.namespace.partition(".")
    if (
        not collection
        or collection.startswith(("system.", "$cmd"))
        or database in _SYSTEM_DATABASES
    ):
        return "system_namespace"
    if op.kind not in _KINDS:
        return "kind"
    try:
        if op.options is not None:
            _check_options(op)
        _check_filter(op.filter)
        if op.projection is not None:
            _check_projection(op.projection)
        if op.sort is not None:
            _check_sort(op.sort)
        if op.pipeline is not None:
            _check_pipeline(op.pipeline, database)
    except _Refused as refused:
        return str(refused)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return "unknown_type"
    return None


def _check_options(op: ReadOp) -> None:
    for name, value in (op.options or {}).items():
        if name not in _OPTIONS:
            raise _Refused(_OPTION_REASONS.get(name, "option"))
        if name == "let":
            _check_expression(value)
        else:
            _check_value(value)


def _check_value(value: Any) -> None:
    """Refuse NaN (it equals itself in some comparisons only) and types that are not certain."""
    kind = type(value)
    if kind is float:
        if math.isnan(value):
            raise _Refused("nan")
    elif kind is Decimal128:
        if value.to_decimal().is_nan():
            raise _Refused("nan")
    elif kind not in SCALARS:
        value = readable(value)
        if isinstance(value, Mapping):
            for item in value.values():
                _check_value(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                _check_value(item)
        else:
            raise _Refused("unknown_type")


def _check_filter(filter: Any) -> None:
    filter = readable(filter)
    if not isinstance(filter, Mapping):
        raise _Refused("unknown_type")
    for name, value in filter.items():
        if not name.startswith("$"):
            _check_condition(value)
        elif name in ("$and", "$or", "$nor"):
            for clause in value:
                _check_filter(clause)
        elif name == "$expr":
            _check_expression(value)
        elif name == "$jsonSchema":
            _check_value(value)
        elif name != "$comment":
            raise _Refused(_FILTER_REASONS.get(name, "unknown_operator"))


def _check_condition(condition: Any) -> None:
    """A condition on a field: a value, or a document of operators."""
    if type(condition) not in SCALARS:
        condition = readable(condition)
        if isinstance(condition, Mapping) and next(iter(condition), "").startswith("$"):
            _check_operators(condition)
            return
    _check_value(condition)


def _check_operators(condition: Mapping[str, Any]) -> None:
    for operator, operand in condition.items():
        if operator == "$elemMatch":
            _check_elements(readable(operand))
        elif operator == "$not":
            _check_condition(operand)
        elif operator in FIELD_OPERATORS or operator in ("$ref", "$id", "$db"):
            _check_listed(operand)
        else:
            raise _Refused(_FILTER_REASONS.get(operator, "unknown_operator"))


def _check_listed(operand: Any) -> None:
    """An operand; `$all` may list `$elemMatch` conditions."""
    if isinstance(operand, (list, tuple)):
        for item in operand:
            item = readable(item)
            if isinstance(item, Mapping) and "$elemMatch" in item:
                _check_operators(item)
            else:
                _check_value(item)
    else:
        _check_value(operand)


def _check_elements(operand: Any) -> None:
    """`$elemMatch` holds a filter on documents or operators on values."""
    first = next(iter(operand), "")
    if first.startswith("$") and first not in ("$and", "$or", "$nor", "$expr"):
        _check_operators(operand)
    else:
        _check_filter(operand)


def _check_projection(projection: Any) -> None:
    for value in readable(projection).values():
        value = readable(value)
        if isinstance(value, Mapping) and "$elemMatch" in value:
            _check_elements(readable(value["$elemMatch"]))
        else:
            _check_expression(value)


def _check_sort(sort: Mapping[str, Any]) -> None:
    for direction in sort.values():
        direction = readable(direction)
        if isinstance(direction, Mapping):
            raise _Refused("meta" if "$meta" in direction else "unknown_operator")
        _check_value(direction)


def _check_expression(expression: Any) -> None:
    """An aggregation expression: operators are known, variables do not change by themselves."""
    if isinstance(expression, str):
        if expression.startswith("$$"):
            reason = _VARIABLE_REASONS.get(expression[2:].partition(".")[0])
            if reason is not None:
                raise _Refused(reason)
        return
    expression = readable(expression)
    if isinstance(expression, Mapping):
        for name, operand in expression.items():
            if name.startswith("$") and name not in _EXPRESSIONS:
                raise _Refused(_EXPRESSION_REASONS.get(name, "unknown_operator"))
            if name == "$literal":
                _check_value(operand)
            else:
                _check_expression(operand)
    elif isinstance(expression, (list, tuple)):
        for item in expression:
            _check_expression(item)
    else:
        _check_value(expression)


def _check_pipeline(pipeline: Any, database: str) -> None:
    _check_stages(pipeline)
    foreign = foreign_namespaces(pipeline, database)
    if foreign is None:
        raise _Refused("unknown_source")
    if any(name.partition(".")[2].startswith("system.") for name in foreign):
        raise _Refused("system_namespace")


def _check_stages(pipeline: Any) -> None:
    if not isinstance(pipeline, (list, tuple)):
        raise _Refused("unknown_type")
    for stage in pipeline:
        for name, specification in readable(stage).items():
            if name not in _STAGES:
                raise _Refused(_STAGE_REASONS.get(name, "unknown_stage"))
            specification = readable(specification)
            if name == "$match":
                _check_filter(specification)
            elif name == "$sort":
                _check_sort(specification)
            elif name == "$facet":
                for inner in specification.values():
                    _check_stages(inner)
            elif name in _SOURCES and isinstance(specification, Mapping):
                _check_source(specification)
            else:
                _check_expression(specification)


_SOURCES = frozenset({"$graphLookup", "$lookup", "$unionWith"})


def _check_source(specification: Mapping[str, Any]) -> None:
    """A stage that reads another collection, perhaps through a pipeline or a filter of its own."""
    for name, value in specification.items():
        if name == "pipeline":
            _check_stages(value)
        elif name == "restrictSearchWithMatch":
            _check_filter(value)
        else:
            _check_expression(value)
