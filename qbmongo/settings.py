"""Settings: one frozen record per part, None = the part is off.

Settings come from code, from a named preset, or from QBMONGO_* environment variables. They are
checked when made; what cannot be is refused with the field's name, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from .errors import SettingsError

__all__ = [
    "PARTS",
    "REWRITE_RULES",
    "BatchSettings",
    "CacheSettings",
    "CoalesceSettings",
    "PartSettings",
    "ProfileSettings",
    "RewriteSettings",
    "Settings",
    "check_namespace",
]

#: Names of the rules of rewriting, in their order (core/rewrite.py).
REWRITE_RULES = (
    "in-duplicates",
    "implied-exists",
    "join-before-count",
    "sort-before-count",
    "facet-common-match",
    "sort-before-fields",
    "page-before-unwind",
)


def _number(
    part: str,
    name: str,
    value: Any,
    *,
    low: float,
    high: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> None:
    allowed = f"{'a whole number' if whole else 'a number'} from {low:g}"
    allowed += f" to {high:g}" if high != math.inf else " up"
    if optional:
        if value is None:
            return
        allowed += ", or None"
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    number: Any = value
    is_allowed = isinstance(value, kinds) and not isinstance(value, bool) and low <= number <= high
    if is_allowed and not whole:
        try:
            float(value)  # which it becomes with the first duration
        except OverflowError:
            is_allowed = False
    if not is_allowed:
        raise SettingsError(f"{part}.{name} is {value!r}; allowed is {allowed}")


def _boolean(part: str, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{part}.{name} is {value!r}; allowed is True or False")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """The profile: statistics of every query shape.

    slow_ms: calls that take at least this long are sampled and logged.
    keep_values: keep the filter's values in slow samples (they may be private).
    max_shapes: shapes kept for a client; the rest is counted together.
    samples: slow samples kept for a shape.
    place_every: one call in so many has its place in the program looked up.
    log_every_s: at most one slow-query line for a shape in so many seconds.
    """

    slow_ms: float = 100.0
    keep_values: bool = False
    max_shapes: int = 1000
    samples: int = 8
    place_every: int = 100
    log_every_s: float = 10.0

    client_wide: ClassVar[frozenset[str]] = frozenset({"max_shapes", "samples", "place_every"})

    def __post_init__(self) -> None:
        _number("profile", "slow_ms", self.slow_ms, low=0)
        _boolean("profile", "keep_values", self.keep_values)
        _number("profile", "max_shapes", self.max_shapes, low=1, high=1_000_000, whole=True)
        _number("profile", "samples", self.samples, low=0, high=1000, whole=True)
        _number("profile", "place_every", self.place_every, low=1, whole=True)
        _number("profile", "log_every_s", self.log_every_s, low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """The cache of reads.

    max_bytes: everything the cache holds (keys, values, indexes), for all clients of the process.
    max_result_bytes: larger answers are not kept.
    ttl_s: entries live so long; also keeps the cache on where no change stream can be trusted.
    max_age_s: no entry is ever older, whatever the change stream says.
    lease_s: a hit is served only within so many seconds of proof that the change stream is current.
    unknown_s: with ttl_s and no stream: what a write of unknown outcome may touch is not cached
        for so long.
    max_events_per_s: above it the change stream is given up for a while, and the cache is off.
    hits_per_turn: hits answered in one turn of an event loop before it is let go on.
    verify_fraction: share of hits that are read again in the background and compared.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_result_bytes: int = 1024 * 1024
    ttl_s: float | None = None
    max_age_s: float = 600.0
    lease_s: float = 2.0
    unknown_s: float = 60.0
    max_events_per_s: float = 5000.0
    hits_per_turn: int = 64
    verify_fraction: float = 0.0

    client_wide: ClassVar[frozenset[str]] = frozenset(
        {"max_bytes", "lease_s", "unknown_s", "max_events_per_s", "hits_per_turn"}
    )

    def __post_init__(self) -> None:
        _number("cache", "max_bytes", self.max_bytes, low=4096, whole=True)
        _number("cache", "max_result_bytes", self.max_result_bytes, low=64, whole=True)
        _number("cache", "ttl_s", self.ttl_s, low=0.001, optional=True)
        _number("cache", "max_age_s", self.max_age_s, low=0.001)
        _number("cache", "lease_s", self.lease_s, low=0.05, high=60)
        _number("cache", "unknown_s", self.unknown_s, low=0)
        _number("cache", "max_events_per_s", self.max_events_per_s, low=1)
        _number("cache", "hits_per_turn", self.hits_per_turn, low=1, high=100_000, whole=True)
        _number("cache", "verify_fraction", self.verify_fraction, low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoalesceSettings:
    """Writes of one document that travel together.

    max_in_flight: commands on the wire for one collection, write concern and kind of command before
        further writes gather.
    max_batch_ops: operations sent in one command.
    max_batch_bytes: bytes of operations sent in one command; a fourth of it for one operation.
    max_pending_bytes: operations held for the whole client, gathered or on the wire in batches;
        past it calls go straight to the driver, where they wait for a connection.
    linger_s: how long an operation waits for others although it could be sent.
    max_joined_ms: an operation is held up by others for so long at most before it is sent beside
        them; shapes known to be slower than the quickest by more than this are not joined.
    """

    max_in_flight: int = 2
    max_batch_ops: int = 500
    max_batch_bytes: int = 4 * 1024 * 1024
    max_pending_bytes: int = 64 * 1024 * 1024
    linger_s: float = 0.0
    max_joined_ms: float = 50.0

    client_wide: ClassVar[frozenset[str]] = frozenset({"max_pending_bytes"})

    def __post_init__(self) -> None:
        _number("coalesce", "max_in_flight", self.max_in_flight, low=1, high=1000, whole=True)
        _number("coalesce", "max_batch_ops", self.max_batch_ops, low=2, high=100_000, whole=True)
        _number(
            "coalesce",
            "max_batch_bytes",
            self.max_batch_bytes,
            low=4096,
            high=32 * 1024 * 1024,
            whole=True,
        )
        _number("coalesce", "max_pending_bytes", self.max_pending_bytes, low=0, whole=True)
        _number("coalesce", "linger_s", self.linger_s, low=0, high=10)
        _number("coalesce", "max_joined_ms", self.max_joined_ms, low=1, high=60_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """Point reads that travel together.

    max_in_flight: reads on the wire for one collection, read concern, projection, codec and key
        before further ones gather.
    max_batch_ids: values asked for in one command.
    max_joined_ms: a read is held up by others for so long at most before it is sent beside them.
    """

    max_in_flight: int = 2
    max_batch_ids: int = 500
    max_joined_ms: float = 50.0

    client_wide: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        _number("batch", "max_in_flight", self.max_in_flight, low=1, high=1000, whole=True)
        _number("batch", "max_batch_ids", self.max_batch_ids, low=2, high=100_000, whole=True)
        _number("batch", "max_joined_ms", self.max_joined_ms, low=1, high=60_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteSettings:
    """Reads sent in another form with the same answer.

    off: names of rules that are not used (docs/rewrites.md).
    """

    off: tuple[str, ...] = ()

    client_wide: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        off: Any = self.off
        if not isinstance(off, tuple) or not all(name in REWRITE_RULES for name in off):
            raise SettingsError(
                f"rewrite.off is {off!r}; allowed is a tuple of names of rules,"
                f" {', '.join(REWRITE_RULES)}"
            )


PartSettings: TypeAlias = (
    ProfileSettings | CacheSettings | CoalesceSettings | BatchSettings | RewriteSettings
)

PARTS: dict[str, type[PartSettings]] = {
    "profile": ProfileSettings,
    "cache": CacheSettings,
    "coalesce": CoalesceSettings,
    "batch": BatchSettings,
    "rewrite": RewriteSettings,
}


def check_namespace(owner: str, namespace: Any) -> None:
    """Raises SettingsError for what cannot be the name of a database or a collection.

    Source: https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
    """
    if not isinstance(namespace, str) or not all(namespace.split(".")):
        raise SettingsError(f"{owner}: a namespace is 'database' or 'database.collection'")


def _check_part(owner: str, name: str, value: Any) -> None:
    if name not in PARTS:
        raise SettingsError(f"{owner}: no part is called {name!r}; parts are {', '.join(PARTS)}")
    if value is not None and not isinstance(value, PARTS[name]):
        raise SettingsError(
            f"{owner}.{name} is {value!r}; allowed is {PARTS[name].__name__}(...) or None (off)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one client. A part that is None is off.

    overrides: per database ("shop") or collection ("shop.orders") a mapping of part name to record
    or None; the collection's wins over the database's, which wins over the client's.
    """

    profile: ProfileSettings | None = ProfileSettings()
    cache: CacheSettings | None = CacheSettings()
    coalesce: CoalesceSettings | None = CoalesceSettings()
    batch: BatchSettings | None = BatchSettings()
    rewrite: RewriteSettings | None = RewriteSettings()
    overrides: Mapping[str, Mapping[str, PartSettings | None]] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        for name in PARTS:
            _check_part("Settings", name, getattr(self, name))
        if not isinstance(self.overrides, Mapping):
            raise SettingsError(
                f"Settings.overrides is {self.overrides!r};"
                " allowed is a mapping of namespace to parts"
            )
        frozen = {}
        for namespace, parts in self.overrides.items():
            frozen[namespace] = self._checked_override(namespace, parts)
        object.__setattr__(self, "overrides", frozen)

    def _checked_override(self, namespace: Any, parts: Any) -> dict[str, Any]:
        owner = f"Settings.overrides[{namespace!r}]"
        check_namespace(owner, namespace)
        if not isinstance(parts, Mapping):
            raise SettingsError(
                f"{owner} is {parts!r}; allowed is a mapping of part to record or None"
            )
        for name, value in parts.items():
            _check_part(owner, name, value)
            base = getattr(self, name)
            if value is None:
                continue
            if base is None:
                raise SettingsError(
                    f"{owner}.{name}: the part is off for the client; turn it on there"
                )
            for wide in value.client_wide:
                if getattr(value, wide) != getattr(base, wide):
                    raise SettingsError(
                        f"{owner}.{name}.{wide} is {getattr(value, wide)!r}; it belongs to the"
                        f" whole client, allowed is its value there, {getattr(base, wide)!r}"
                    )
        return dict(parts)

    def overridden(self, namespace: str, parts: Mapping[str, Any]) -> Settings:
        """These settings with parts of one database or collection replaced.

        Raises SettingsError naming the part and what is allowed.
        """
        merged = {**self.overrides.get(namespace, {}), **parts}
        return dataclasses.replace(self, overrides={**self.overrides, namespace: merged})

    def for_namespace(self, namespace: str) -> Settings:
        """What holds for a database ("shop") or a collection ("shop.orders")."""
        database = namespace.partition(".")[0]
        parts: dict[str, Any] = {}
        for level in dict.fromkeys((database, namespace)):
            parts.update(self.overrides.get(level, {}))
        return dataclasses.replace(self, **parts, overrides={}) if parts else self

    @classmethod
    def preset(cls, name: str) -> Settings:
        """Named settings: "default", or "off" (the plain driver).

        Raises SettingsError for another name.
        """
        if name == "default":
            return cls()
        if name == "off":
            return cls(profile=None, cache=None, coalesce=None, batch=None, rewrite=None)
        raise SettingsError(f"preset is {name!r}; allowed is one of 'default', 'off'")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from QBMONGO_* variables.

        QBMONGO_PRESET names the preset to start from; QBMONGO_CACHE=off, QBMONGO_COALESCE=off and
        so on switch parts off; QBMONGO_CACHE_MAX_BYTES, QBMONGO_PROFILE_SLOW_MS and so on set one
        field ("none" for None, commas between names). Raises SettingsError naming the variable; an
        unknown QBMONGO_* variable of a part is an error too, so that a typing mistake is not
        silently without effect.
        """
        env = os.environ if environment is None else environment
        try:
            settings = cls.preset(env.get("QBMONGO_PRESET") or "default")
        except SettingsError as error:
            raise SettingsError(f"from the environment (QBMONGO_PRESET): {error}") from None
        parts: dict[str, Any] = {}
        for name, record in PARTS.items():
            prefix = f"QBMONGO_{name.upper()}"
            switch = env.get(prefix, "").lower()
            if switch not in ("", "on", "off"):
                raise SettingsError(f"{prefix} is {env[prefix]!r}; allowed is 'on' or 'off'")
            fields = {f.name.upper(): f for f in dataclasses.fields(record)}
            values = {}
            for variable in sorted(v for v in env if v.startswith(prefix + "_")):
                known = fields.get(variable[len(prefix) + 1 :])
                if known is None:
                    raise SettingsError(
                        f"{variable} is not a setting; {name} has"
                        f" {', '.join(prefix + '_' + f for f in fields)}"
                    )
                values[known.name] = _parsed(variable, env[variable], str(known.type))
            if switch == "off":
                parts[name] = None
            elif switch == "on" or values:
                try:
                    parts[name] = dataclasses.replace(getattr(settings, name) or record(), **values)
                except SettingsError as error:
                    raise SettingsError(f"from the environment ({prefix}_*): {error}") from None
        return dataclasses.replace(settings, **parts)


def _parsed(variable: str, text: str, kind: str) -> Any:
    """The value of an environment variable, by the field's declared type."""
    if kind == "bool":
        if text.lower() in ("1", "true", "on", "yes"):
            return True
        if text.lower() in ("0", "false", "off", "no"):
            return False
        raise SettingsError(f"{variable} is {text!r}; allowed is true or false")
    if kind.startswith("tuple"):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    if "None" in kind and text.lower() == "none":
        return None
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        wanted = "a whole number" if kind == "int" else "a number"
        if "None" in kind:
            wanted += " or none"
        raise SettingsError(f"{variable} is {text!r}; allowed is {wanted}") from None
