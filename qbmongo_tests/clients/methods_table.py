"""Every public name of the drivers' classes, and what we do about it.

A new version of a driver that brings a name not listed here fails test_methods_table.py until
somebody has decided what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Handling(Enum):
    """What we do about a name."""

    UNTOUCHED = "the driver's own"
    OURS = "leads to our classes, or manages what we opened"
    OBSERVED = "recorded in the profile; its effects drop what it may change"
    CACHED = "observed, and answered from memory where a kept answer may be given"
    LATER = "observed; to be sent together with others in a later version"


@dataclass(frozen=True)
class Name:
    """One public name of a class; drivers: those that have it; since: the first PyMongo with it."""

    handling: Handling
    drivers: frozenset[str]
    since: tuple[int, int] | None = None


ALL = "sync async motor"
PYMONGO = "sync async"

# kind of object -> (drivers, what we do, names)
_ROWS: Mapping[str, tuple[tuple[str, Handling, str], ...]] = {
    "client": (
        (ALL, Handling.OURS, "close get_database get_default_database"),
        (ALL, Handling.OBSERVED, "bulk_write"),
        (
            ALL,
            Handling.UNTOUCHED,
            """HOST PORT address arbiters codec_options drop_database is_mongos is_primary
            list_database_names list_databases nodes options primary read_concern read_preference
            secondaries server_info start_session topology_description watch write_concern""",
        ),
        (PYMONGO, Handling.UNTOUCHED, "append_metadata eq_props next"),
        ("async", Handling.UNTOUCHED, "aconnect"),
        ("async", Handling.OURS, "aclose"),
        ("motor", Handling.OURS, "wrap"),
        ("motor", Handling.UNTOUCHED, "get_io_loop io_loop"),
    ),
    "database": (
        (ALL, Handling.OURS, "create_collection get_collection with_options"),
        (
            ALL,
            Handling.UNTOUCHED,
            """aggregate client codec_options command cursor_command dereference drop_collection
            list_collection_names list_collections name read_concern read_preference
            validate_collection watch write_concern""",
        ),
        (PYMONGO, Handling.UNTOUCHED, "next"),
        ("motor", Handling.OURS, "wrap"),
        ("motor", Handling.UNTOUCHED, "get_io_loop"),
    ),
    "collection": (
        (ALL, Handling.OURS, "with_options"),
        (ALL, Handling.CACHED, "aggregate count_documents distinct find find_one"),
        (ALL, Handling.LATER, "delete_one insert_one replace_one update_one"),
        (
            ALL,
            Handling.OBSERVED,
            """bulk_write delete_many estimated_document_count find_one_and_delete
            find_one_and_replace find_one_and_update insert_many update_many""",
        ),
        (
            ALL,
            Handling.UNTOUCHED,
            """aggregate_raw_batches codec_options create_index create_indexes create_search_index
            create_search_indexes drop drop_index drop_indexes drop_search_index find_raw_batches
            full_name index_information list_indexes list_search_indexes name options read_concern
            read_preference rename update_search_index watch write_concern""",
        ),
        (PYMONGO, Handling.UNTOUCHED, "database next"),
        ("motor", Handling.OURS, "wrap"),
        ("motor", Handling.UNTOUCHED, "get_io_loop"),
    ),
    "cursor": (
        (ALL, Handling.CACHED, "to_list"),
        (ALL, Handling.OURS, "clone close rewind"),
        (ALL, Handling.CACHED, "distinct"),
        (
            ALL,
            Handling.UNTOUCHED,
            """add_option address alive allow_disk_use batch_size collation comment cursor_id
            explain hint limit max max_await_time_ms max_scan max_time_ms min next
            remove_option session skip sort where""",
        ),
        (PYMONGO, Handling.UNTOUCHED, "collection retrieved"),
        ("motor", Handling.UNTOUCHED, "each fetch_next get_io_loop next_object"),
    ),
    "raw_cursor": (
        (
            ALL,
            Handling.UNTOUCHED,
            """add_option address alive allow_disk_use batch_size clone close collation comment
            cursor_id distinct explain hint limit max max_await_time_ms max_scan max_time_ms min
            next remove_option rewind session skip sort to_list where""",
        ),
        (PYMONGO, Handling.UNTOUCHED, "collection retrieved"),
        ("motor", Handling.UNTOUCHED, "each fetch_next get_io_loop next_object"),
    ),
    "command_cursor": (
        (ALL, Handling.OURS, "close"),
        (
            ALL,
            Handling.UNTOUCHED,
            "address alive batch_size cursor_id next session to_list try_next",
        ),
        ("motor", Handling.UNTOUCHED, "each fetch_next get_io_loop next_object"),
    ),
    "raw_command_cursor": (
        (
            ALL,
            Handling.UNTOUCHED,
            "address alive batch_size close cursor_id next session to_list try_next",
        ),
        ("motor", Handling.UNTOUCHED, "each fetch_next get_io_loop next_object"),
    ),
    "session": (
        (
            ALL,
            Handling.UNTOUCHED,
            """abort_transaction advance_cluster_time advance_operation_time client cluster_time
            commit_transaction end_session has_ended in_transaction operation_time options
            session_id start_transaction with_transaction""",
        ),
        (PYMONGO, Handling.UNTOUCHED, "bind"),
        ("motor", Handling.UNTOUCHED, "get_io_loop"),
    ),
    "change_stream": (
        (ALL, Handling.UNTOUCHED, "alive close next resume_token try_next"),
        ("motor", Handling.UNTOUCHED, "get_io_loop"),
    ),
}

# Names that came after the lowest supported PyMongo.
_SINCE: Mapping[tuple[str, str], tuple[int, int]] = {
    ("client", "append_metadata"): (4, 14),
    ("session", "bind"): (4, 17),
}


def _table() -> dict[str, dict[str, Name]]:
    table: dict[str, dict[str, Name]] = {}
    for kind, rows in _ROWS.items():
        names = table.setdefault(kind, {})
        for drivers, handling, listed in rows:
            for name in listed.split():
                if name in names:
                    raise ValueError(f"{kind}.{name} is listed twice")
                since = _SINCE.get((kind, name))
                names[name] = Name(handling, frozenset(drivers.split()), since)
    return table


TABLE: Mapping[str, Mapping[str, Name]] = _table()
