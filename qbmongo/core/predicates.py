"""What one operator asks of one element: functions from an element to True, False or None.

An element is a value or traversal.MISSING. A predicate raises
TypeError on a value of a type that is not known here; whoever calls it takes that as None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson.code import Code
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.regex import Regex

from .patterns import compile_search
from .traversal import MISSING
from .truth import Truth, any_of
from .values import canonical_ids, compare, number, regex_parts, type_order

Predicate = Callable[[Any], Truth]

_NUMBER, _STRING, _DOCUMENT, _ARRAY = 10, 15, 20, 25
_HOLDS_STRINGS = frozenset((_STRING, _DOCUMENT, _ARRAY))

_TYPE_CODES = {
    "double": 1,
    "string": 2,
    "object": 3,
    "array": 4,
    "binData": 5,
    "undefined": 6,
    "objectId": 7,
    "bool": 8,
    "date": 9,
    "null": 10,
    "regex": 11,
    "dbPointer": 12,
    "javascript": 13,
    "symbol": 14,
    "javascriptWithScope": 15,
    "int": 16,
    "timestamp": 17,
    "long": 18,
    "decimal": 19,
    "minKey": -1,
    "maxKey": 127,
}
_CODES = frozenset(_TYPE_CODES.values())
_NUMERIC_CODES = frozenset((1, 16, 18, 19))
_CODE_OF_ORDER = {
    -1: -1,
    5: 10,
    _STRING: 2,
    _DOCUMENT: 3,
    _ARRAY: 4,
    30: 5,
    35: 7,
    40: 8,
    45: 9,
    47: 17,
    50: 11,
    60: 13,
    65: 15,
    127: 127,
}


class InvalidFilter(Exception):
    """The server would refuse this filter, or cannot be relied on to accept it."""


def is_regex(value: Any) -> bool:
    """Whether a value is encoded as a BSON regular expression."""
    return isinstance(value, Regex | re.Pattern)


def is_dbref(document: Mapping[str, Any]) -> bool:
    """Whether the server takes an operand as a DBRef and so as a value, in spite of its `$`."""
    return "$ref" in document and "$id" in document


def exists(element: Any) -> Truth:
    """Whether there is an element, null included."""
    return element is not MISSING


def one_of(operands: Sequence[Any], regexes: Sequence[Predicate], *, simple: bool) -> Predicate:
    """Equality with any of the operands, or a match of any of the regexes ($eq, $in).

    Args:
        operands: values; None stands for a missing field as well.
        regexes: further predicates.
        simple: strings compare by simple binary comparison.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/in/
    """
    exact: set[Any] = set()
    possible: set[Any] = set()
    orders: set[int] = set()
    unsure = False
    for operand in operands:
        if isinstance(operand, Mapping) and any(name.startswith("$") for name in operand):
            unsure = unsure or not is_dbref(operand)
        forms = canonical_ids(operand)
        if forms is None or _has_scope(operand):
            unsure = True
            continue
        (exact if len(forms) == 1 else possible).update(forms)
        orders.add(type_order(operand))
    collated = frozenset() if simple else _HOLDS_STRINGS & orders
    null = any(operand is None for operand in operands)
    otherwise = None if unsure else False

    def equals(element: Any) -> Truth:
        if element is MISSING:
            return True if null else otherwise
        order = type_order(element)
        if order in collated:
            return None
        if order not in orders:
            return otherwise
        forms = canonical_ids(element)
        if forms is None:
            return None
        if len(forms) == 1 and forms <= exact:
            return True
        return otherwise if forms.isdisjoint(exact) and forms.isdisjoint(possible) else None

    if not regexes:
        return equals
    return lambda element: any_of(test(element) for test in (equals, *regexes))


def ordered(operator: str, operand: Any, *, simple: bool) -> Predicate:
    """A comparison by `$gt`, `$gte`, `$lt` or `$lte`, within the operand's type bracket.

    NaN compares with nothing but NaN. What MinKey and MaxKey compare with is not documented.

    Raises:
        InvalidFilter: the operand is a regular expression.

    Source: https://www.mongodb.com/docs/manual/reference/method/db.collection.find/#type-bracketing
    """
    if is_regex(operand):
        raise InvalidFilter("a regex has no order in a filter")
    try:
        order = type_order(operand)
    except TypeError:
        return _cannot_tell
    if isinstance(operand, MinKey | MaxKey) or _has_scope(operand):
        return _cannot_tell
    above, or_equal = operator in ("$gt", "$gte"), operator in ("$gte", "$lte")
    collated = not simple and order in _HOLDS_STRINGS

    def compares(element: Any) -> Truth:
        if element is MISSING:
            return operand is None and or_equal
        if type_order(element) != order:
            return False
        if collated:
            return None
        if order == _NUMBER and (number(element) is None or number(operand) is None):
            return or_equal and number(element) is number(operand)
        difference = compare(element, operand)
        return (difference > 0) == above if difference else or_equal

    return compares


def regex(value: Any, *, simple: bool) -> Predicate:
    """A match of a regular expression given as a value."""
    pattern, options = regex_parts(value)
    return _search(pattern.decode(), options, simple)


def regex_operator(operators: Mapping[str, Any], *, simple: bool) -> Predicate:
    """A match of `$regex` with its `$options`.

    Raises:
        InvalidFilter: the operands are of the wrong type, or options are given twice.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/regex/
    """
    pattern = operators["$regex"]
    options = operators.get("$options", "")
    if not isinstance(options, str):
        raise InvalidFilter("$options must be a string")
    if is_regex(pattern):
        encoded, own_options = regex_parts(pattern)
        if own_options and "$options" in operators:
            raise InvalidFilter("options in both $regex and $options")
        return _search(encoded.decode(), own_options or options, simple)
    if not isinstance(pattern, str):
        raise InvalidFilter("$regex must be a string or a regex")
    return _search(pattern, options, simple)


def has_size(operand: Any) -> Predicate:
    """Whether the element is an array of this length.

    Raises:
        InvalidFilter: not a whole number from 0 to 2**31 - 1.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/size/
    """
    size = _whole(operand)
    if size is None or size < 0:
        raise InvalidFilter("$size takes a whole number that is not negative")

    def test(element: Any) -> Truth:
        if isinstance(element, list | tuple):
            return len(element) == size
        if element is not MISSING:
            type_order(element)
        return False

    return test


def has_type(operand: Any) -> Predicate:
    """Whether the element is of one of these BSON types.

    Args:
        operand: a type's number or alias, or an array of them.

    Raises:
        InvalidFilter: there is no such type.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/type/
    """
    wanted = operand if isinstance(operand, list | tuple) else [operand]
    codes: set[int] = set()
    for name in wanted:
        if name == "number":
            codes |= _NUMERIC_CODES
            continue
        code = _TYPE_CODES.get(name) if isinstance(name, str) else _whole(name)
        if code is None or code not in _CODES:
            raise InvalidFilter("no such type")
        codes.add(code)
    if not codes:
        raise InvalidFilter("$type takes at least one type")
    return lambda element: element is not MISSING and _type_code(element) in codes


def has_remainder(operand: Any) -> Predicate:
    """Whether the element, cut to a whole number, leaves this remainder; its sign is the element's.

    Args:
        operand: [divisor, remainder].

    Raises:
        InvalidFilter: not two whole numbers of 32 bits, or the divisor is 0.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/mod/
    """
    if not isinstance(operand, list | tuple) or len(operand) != 2:
        raise InvalidFilter("$mod takes a divisor and a remainder")
    divisor, remainder = map(_whole, operand)
    if not divisor or remainder is None:
        raise InvalidFilter("$mod takes two whole numbers, the first not 0")

    def test(element: Any) -> Truth:
        if element is MISSING or type_order(element) != _NUMBER:
            return False
        value = number(element)
        # Servers before 5.1 take NaN and what is too large as 0.
        if value is None or (isinstance(value, float) and math.isinf(value)):
            return None
        whole = int(value)
        if not -(2**63) <= whole < 2**63:
            return None
        left = abs(whole) % abs(divisor)
        return (left if whole >= 0 else -left) == remainder

    return test


def _cannot_tell(_: Any) -> Truth:
    return None


def _search(pattern: str, options: str, simple: bool) -> Predicate:
    search = compile_search(pattern, options) if simple else None

    def test(element: Any) -> Truth:
        if element is MISSING:
            return False
        if is_regex(element):
            return None
        if type_order(element) != _STRING:
            return False
        return None if search is None else search(str.__str__(element))

    return test


def _has_scope(value: Any) -> bool:
    return isinstance(value, Code) and value.scope is not None


def _whole(value: Any) -> int | None:
    """The 32-bit whole number that an int or float is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if _fits_int32(value) and value == int(value) else None


def _fits_int32(value: float) -> bool:
    return -(2**31) <= value < 2**31


def _type_code(value: Any) -> int:
    order = type_order(value)
    if order != _NUMBER:
        return _CODE_OF_ORDER[order]
    if isinstance(value, float):
        return 1
    if isinstance(value, Decimal128):
        return 19
    return 16 if _fits_int32(value) and not isinstance(value, Int64) else 18
