"""Settings: checked when made, from code, presets and the environment; what holds where."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from qbmongo import (
    CacheSettings,
    ProfileSettings,
    QbError,
    RewriteSettings,
    Settings,
    SettingsError,
)
from qbmongo.settings import REWRITE_RULES

RULES = f"a tuple of names of rules, {', '.join(REWRITE_RULES)}"
WRONG: list[tuple[type[Any], str, Any, str]] = [
    (ProfileSettings, "slow_ms", -1, "a number from 0 up"),
    (ProfileSettings, "slow_ms", "fast", "a number from 0 up"),
    (ProfileSettings, "slow_ms", math.nan, "a number from 0 up"),
    (ProfileSettings, "slow_ms", True, "a number from 0 up"),
    (ProfileSettings, "slow_ms", 10**400, "a number from 0 up"),
    (ProfileSettings, "log_every_s", 10**400, "a number from 0 up"),
    (ProfileSettings, "keep_values", 1, "True or False"),
    (ProfileSettings, "max_shapes", 0, "a whole number from 1 to 1e+06"),
    (ProfileSettings, "max_shapes", 10.0, "a whole number from 1 to 1e+06"),
    (ProfileSettings, "samples", 1001, "a whole number from 0 to 1000"),
    (ProfileSettings, "place_every", 0, "a whole number from 1 up"),
    (ProfileSettings, "log_every_s", None, "a number from 0 up"),
    (CacheSettings, "max_bytes", 100, "a whole number from 4096 up"),
    (CacheSettings, "max_result_bytes", 0, "a whole number from 64 up"),
    (CacheSettings, "ttl_s", 0, "a number from 0.001 up, or None"),
    (CacheSettings, "max_age_s", 0, "a number from 0.001 up"),
    (CacheSettings, "lease_s", 0.01, "a number from 0.05 to 60"),
    (CacheSettings, "lease_s", 61, "a number from 0.05 to 60"),
    (CacheSettings, "unknown_s", -1, "a number from 0 up"),
    (CacheSettings, "max_events_per_s", 0, "a number from 1 up"),
    (CacheSettings, "hits_per_turn", 0, "a whole number from 1 to 100000"),
    (CacheSettings, "verify_fraction", 1.5, "a number from 0 to 1"),
    (RewriteSettings, "off", ("in-duplicate",), RULES),
    (RewriteSettings, "off", ["in-duplicates"], RULES),
    (RewriteSettings, "off", "in-duplicates", RULES),
    (RewriteSettings, "off", (5,), RULES),
]


@pytest.mark.parametrize(("record", "field", "value", "allowed"), WRONG)
def test_a_wrong_value_is_refused_with_field_value_and_what_is_allowed(
    record: type[Any], field: str, value: Any, allowed: str
) -> None:
    part = record.__name__.removesuffix("Settings").lower()
    with pytest.raises(SettingsError) as caught:
        record(**{field: value})
    assert str(caught.value) == f"{part}.{field} is {value!r}; allowed is {allowed}"
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, QbError)


@pytest.mark.parametrize("record", [ProfileSettings, CacheSettings, RewriteSettings, Settings])
def test_records_are_frozen_and_take_names_only(record: type[Any]) -> None:
    made = record()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, None)
    with pytest.raises(TypeError):
        record(1)


def test_every_field_is_checked() -> None:
    """A new field without a check would take anything."""
    for record in (ProfileSettings, CacheSettings, RewriteSettings):
        for field in dataclasses.fields(record):
            with pytest.raises(SettingsError, match=rf"\.{field.name} is "):
                record(**{field.name: object()})


def test_a_part_of_another_type_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"Settings\.cache is 5; allowed is CacheSettings\(\.\.\.\) or None"
    ):
        Settings(cache=5)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"Settings\.profile is CacheSettings"):
        Settings(profile=CacheSettings())  # type: ignore[arg-type]


def test_presets_are_known_by_name() -> None:
    assert Settings.preset("default") == Settings()
    off = Settings.preset("off")
    assert off.profile is None
    assert off.cache is None
    assert off.rewrite is None
    with pytest.raises(SettingsError, match="preset is 'fast'; allowed is one of 'default', 'off'"):
        Settings.preset("fast")


# Overrides


def test_a_collections_settings_win_over_its_databases_and_those_over_the_clients() -> None:
    settings = Settings(
        overrides={
            "shop": {"cache": None},
            "shop.orders": {"cache": CacheSettings(ttl_s=1.0)},
            "shop.archive": {"profile": None},
        }
    )
    assert settings.for_namespace("other.c").cache == CacheSettings()
    assert settings.for_namespace("shop").cache is None
    assert settings.for_namespace("shop.items").cache is None
    orders = settings.for_namespace("shop.orders").cache
    assert orders is not None
    assert orders.ttl_s == 1.0
    assert settings.for_namespace("shop.archive").profile is None
    assert settings.for_namespace("shop.archive").cache is None
    # A name that only begins alike, and a collection with dots in its name.
    assert settings.for_namespace("shop2.orders").cache is not None
    assert settings.for_namespace("shop.orders.sub").cache is None


def test_overridden_replaces_parts_of_one_place_and_keeps_the_rest() -> None:
    first = Settings().overridden("a.b", {"cache": None})
    second = first.overridden("a.b", {"profile": ProfileSettings(slow_ms=5)})
    there = second.for_namespace("a.b")
    assert there.cache is None
    assert there.profile is not None
    assert there.profile.slow_ms == 5
    assert first.for_namespace("a.b").profile == ProfileSettings()


WRONG_OVERRIDES: list[tuple[Any, str]] = [
    (5, r"Settings\.overrides is 5; allowed is a mapping"),
    ({"": {}}, r"a namespace is 'database' or 'database\.collection'"),
    ({".c": {}}, r"a namespace is 'database' or 'database\.collection'"),
    ({"a.": {}}, r"a namespace is 'database' or 'database\.collection'"),
    ({"a..b": {}}, r"a namespace is 'database' or 'database\.collection'"),
    ({5: {}}, r"overrides\[5\]: a namespace is"),
    ({"a": None}, r"overrides\['a'\] is None; allowed is a mapping of part"),
    (
        {"a": {"cach": None}},
        r"overrides\['a'\]: no part is called 'cach'; parts are profile, cache",
    ),
    ({"a": {"cache": 5}}, r"overrides\['a'\]\.cache is 5; allowed is CacheSettings"),
    (
        {"a": {"cache": CacheSettings(max_bytes=8192)}},
        r"overrides\['a'\]\.cache\.max_bytes is 8192; it belongs to the whole client",
    ),
    (
        {"a.b": {"profile": ProfileSettings(samples=3)}},
        r"overrides\['a\.b'\]\.profile\.samples is 3; it belongs to the whole client",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG_OVERRIDES)
def test_wrong_overrides_are_refused(overrides: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings(overrides=overrides)


def test_a_part_that_is_off_for_the_client_cannot_be_on_for_a_collection() -> None:
    with pytest.raises(SettingsError, match="the part is off for the client; turn it on there"):
        Settings(cache=None, overrides={"a": {"cache": CacheSettings()}})


def test_later_changes_of_a_given_mapping_change_nothing() -> None:
    given: dict[str, Any] = {"a": {"cache": None}}
    settings = Settings(overrides=given)
    given["a"]["cache"] = CacheSettings()
    given["b"] = {"cache": None}
    assert settings.for_namespace("a").cache is None
    assert settings.for_namespace("b").cache is not None


# The environment


def test_an_empty_environment_gives_the_default() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"QBMONGO_PRESET": "", "QBMONGO_CACHE": ""}) == Settings()


def test_fields_come_from_their_variables() -> None:
    settings = Settings.from_environment(
        {
            "QBMONGO_CACHE_MAX_BYTES": "1048576",
            "QBMONGO_CACHE_TTL_S": "2.5",
            "QBMONGO_CACHE_VERIFY_FRACTION": "0.25",
            "QBMONGO_PROFILE_SLOW_MS": "20",
            "QBMONGO_PROFILE_KEEP_VALUES": "yes",
            "UNRELATED": "x",
        }
    )
    assert settings.cache == CacheSettings(max_bytes=1048576, ttl_s=2.5, verify_fraction=0.25)
    assert settings.profile == ProfileSettings(slow_ms=20, keep_values=True)


def test_parts_are_switched_by_their_own_variable() -> None:
    assert Settings.from_environment({"QBMONGO_CACHE": "off"}).cache is None
    assert Settings.from_environment({"QBMONGO_PROFILE": "OFF"}).profile is None
    assert Settings.from_environment({"QBMONGO_REWRITE": "off"}).rewrite is None
    on = Settings.from_environment({"QBMONGO_PRESET": "off", "QBMONGO_CACHE": "on"})
    assert on.cache == CacheSettings()
    assert on.profile is None
    field = {"QBMONGO_PRESET": "off", "QBMONGO_CACHE_TTL_S": "1"}
    assert Settings.from_environment(field).cache == CacheSettings(ttl_s=1.0)
    both = {"QBMONGO_CACHE": "off", "QBMONGO_CACHE_TTL_S": "1"}
    assert Settings.from_environment(both).cache is None


def test_none_is_written_as_a_word() -> None:
    assert Settings.from_environment({"QBMONGO_CACHE_TTL_S": "None"}).cache == CacheSettings()


WRONG_ENVIRONMENTS: list[tuple[dict[str, str], str]] = [
    ({"QBMONGO_PRESET": "turbo"}, r"QBMONGO_PRESET.*preset is 'turbo'; allowed is one of"),
    ({"QBMONGO_CACHE": "perhaps"}, "QBMONGO_CACHE is 'perhaps'; allowed is 'on' or 'off'"),
    ({"QBMONGO_CACHE_MAX_BYTE": "1"}, "QBMONGO_CACHE_MAX_BYTE is not a setting; cache has"),
    ({"QBMONGO_CACHE_MAX_BYTES": "lots"}, "QBMONGO_CACHE_MAX_BYTES is 'lots'; allowed is a whole"),
    ({"QBMONGO_CACHE_MAX_BYTES": "1.5"}, "QBMONGO_CACHE_MAX_BYTES is '1.5'; allowed is a whole"),
    ({"QBMONGO_CACHE_TTL_S": "soon"}, "QBMONGO_CACHE_TTL_S is 'soon'; allowed is a number or none"),
    ({"QBMONGO_CACHE_LEASE_S": "0"}, r"QBMONGO_CACHE_\*.*cache\.lease_s is 0\.0; allowed is"),
    ({"QBMONGO_PROFILE_KEEP_VALUES": "2"}, "QBMONGO_PROFILE_KEEP_VALUES is '2'; allowed is true"),
]


def test_names_in_a_variable_are_separated_by_commas() -> None:
    field = {"QBMONGO_REWRITE_OFF": "in-duplicates, sort-before-count,"}
    off = ("in-duplicates", "sort-before-count")
    assert Settings.from_environment(field).rewrite == RewriteSettings(off=off)
    assert Settings.from_environment({"QBMONGO_REWRITE_OFF": ""}).rewrite == RewriteSettings()
    with pytest.raises(SettingsError, match=r"QBMONGO_REWRITE_\*.*'sort'.*in-duplicates"):
        Settings.from_environment({"QBMONGO_REWRITE_OFF": "sort"})


@pytest.mark.parametrize(("environment", "message"), WRONG_ENVIRONMENTS)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment(environment)


def test_a_client_without_settings_takes_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qbmongo import OptimizedMongoClient

    monkeypatch.setenv("QBMONGO_CACHE", "off")
    monkeypatch.setenv("QBMONGO_PROFILE_SLOW_MS", "7")
    with OptimizedMongoClient("mongodb://localhost:1", connect=False) as client:
        assert client.qb.settings == Settings(cache=None, profile=ProfileSettings(slow_ms=7))
    given = Settings.preset("off")
    with OptimizedMongoClient("mongodb://localhost:1", connect=False, qb=given) as client:
        assert client.qb.settings == given


def test_a_wrong_environment_fails_the_client_with_the_variables_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qbmongo import OptimizedMongoClient

    monkeypatch.setenv("QBMONGO_CACHE_TTL_S", "soon")
    with pytest.raises(SettingsError, match="QBMONGO_CACHE_TTL_S"):
        OptimizedMongoClient("mongodb://localhost:1", connect=False)
