"""The watcher's plan, stepped by hand over a server in memory; the clock moves when told to."""

from __future__ import annotations

from typing import Any

import pytest
from bson.timestamp import Timestamp

from qbmongo.coherence.records import Failure, Limits, Primary
from qbmongo.coherence.stream import change_event
from qbmongo_tests.coherence.model import (
    World,
    election,
    names,
    refuse,
    run_until,
    sent,
    watching,
)


class TestProbe:
    def test_trust_begins_with_hello_majority_read_and_get_more_after_the_opening(self) -> None:
        world = watching("d")
        assert names(world) == ["hello", "aggregate", "hello", "find", "getMore"]
        assert len(world.checker.leases) == 1

    def test_lease_runs_from_before_the_hello_was_sent(self) -> None:
        world = World()
        world.watch("d")
        world.run(2)
        before_s = world.server.now_s
        world.settle()
        database, primary, start_s = world.checker.leases[0]
        assert (database, primary) == ("d", world.server.primary)
        assert start_s == before_s

    def test_majority_read_waits_for_the_operation_time_of_hello(self) -> None:
        world = watching("d")
        find = sent(world, "find")[0]
        assert find.command["readConcern"] == {
            "level": "majority",
            "afterClusterTime": Timestamp(world.server.time, 1),
        }
        assert find.command["maxTimeMS"] == 1000

    def test_get_more_with_no_event_after_the_operation_time_proves_nothing(self) -> None:
        world = watching("d", limits=Limits(batch_events=2))
        for _ in range(4):
            world.server.write("d")
        ticket = world.plan.catch_up()
        leases = len(world.checker.leases)
        for _ in range(2):
            run_until(world, "getMore")
            world.execute()
            world.answer()
        assert len(world.checker.leases) == leases
        assert not world.plan.is_caught_up(ticket)
        world.settle()
        assert len(world.checker.leases) > leases

    def test_cursor_that_the_server_closes_proves_nothing(self) -> None:
        world = watching("d")
        ticket = world.plan.catch_up()
        run_until(world, "find")
        world.execute()
        world.answer()
        run_until(world, "getMore")
        world.execute()
        assert world.outcome is not None
        assert world.outcome.reply is not None
        world.outcome.reply["cursor"]["id"] = 0
        leases = len(world.checker.leases)
        world.answer()
        assert len(world.checker.leases) == leases
        while not world.plan.is_caught_up(ticket):
            world.turn()
        assert len(sent(world, "aggregate")) == 2

    def test_get_more_with_a_later_event_proves_the_time_before(self) -> None:
        world = watching("d", limits=Limits(batch_events=1))
        world.plan.catch_up()
        run_until(world, "find")
        world.execute()
        world.answer()
        world.server.write("d")
        leases = len(world.checker.leases)
        world.run(1)
        assert len(world.checker.leases) == leases + 1

    def test_events_are_told_before_the_lease_that_rests_on_them(self) -> None:
        world = watching("d")
        write = world.server.write("d")
        world.settle()
        assert ("d", write.number) in world.checker.told

    def test_no_lease_while_the_majority_stalls_and_one_when_it_moves(self) -> None:
        world = watching("d")
        world.server.is_stalled = True
        world.server.write("d")
        leases = len(world.checker.leases)
        world.run(60)
        assert len(world.checker.leases) == leases
        stats = world.plan.snapshot(world.server.now_s)
        assert stats.reason.startswith("no majority read")
        assert stats.databases[0].lease_remaining_s == 0.0
        world.server.is_stalled = False
        world.settle()
        assert len(world.checker.leases) > leases
        assert world.plan.snapshot(world.server.now_s).reason == ""

    def test_one_hello_and_one_majority_read_serve_every_database(self) -> None:
        world = watching("a", "b", "c")
        before = len(world.server.seen)
        world.settle()
        probe = names(world)[before:]
        assert probe.count("hello") == probe.count("find") == 1
        assert {lease[0] for lease in world.checker.leases[-3:]} == {"a", "b", "c"}

    def test_probe_under_way_does_not_serve_a_stream_opened_after_its_hello(self) -> None:
        world = watching("a")
        world.plan.catch_up()
        run_until(world, "hello")
        world.watch("b")
        world.execute()
        world.answer()
        run_until(world, "aggregate")
        world.execute()
        opened_s = world.server.now_s
        world.answer()
        world.settle()
        starts = [start_s for database, _, start_s in world.checker.leases if database == "b"]
        assert starts
        assert min(starts) >= opened_s

    def test_probes_repeat_every_quarter_of_the_lease(self) -> None:
        world = watching("d", limits=Limits(lease_s=4.0))
        start_s = world.server.now_s
        before = len(sent(world, "find"))
        while world.server.now_s < start_s + 8.0:
            world.turn()
        assert 7 <= len(sent(world, "find")) - before <= 9

    def test_failure_between_majority_read_and_get_more_voids_the_probe(self) -> None:
        world = watching("a", "b")
        ticket = world.plan.catch_up()
        run_until(world, "find")
        world.execute()
        world.answer()
        run_until(world, "getMore")
        world.lose()
        probed = len(sent(world, "find"))
        while not world.plan.is_caught_up(ticket):
            world.turn()
        assert len(sent(world, "find")) > probed


class TestResuming:
    def test_lost_reply_resumes_after_the_last_token_with_nothing_missed_or_lost(self) -> None:
        world = watching("d")
        losses = len(world.checker.losses)
        write = world.server.write("d")
        run_until(world, "getMore")
        world.execute()
        world.lose()
        world.settle()
        assert ("d", write.number) in world.checker.told
        assert world.checker.losses[losses:] == []
        assert world.plan.snapshot(world.server.now_s).databases[0].resumes == 1

    def test_cursor_of_a_lost_get_more_is_killed_and_never_used_again(self) -> None:
        world = watching("d")
        run_until(world, "getMore")
        request = world.in_flight
        assert request is not None
        world.lose()
        world.settle()
        killed = sent(world, "killCursors")
        assert [kill.command["cursors"] for kill in killed] == [[request.command["getMore"]]]
        assert len(world.server.cursors) == 1

    def test_other_databases_keep_their_cursors_when_the_connection_breaks(self) -> None:
        world = watching("a", "b")
        opened = len(sent(world, "aggregate"))
        run_until(world, "getMore")
        world.lose()
        world.settle()
        assert len(sent(world, "aggregate")) == opened + 1

    def test_after_a_broken_connection_the_server_is_asked_first_who_it_is(self) -> None:
        world = watching("d")
        run_until(world, "getMore")
        world.lose()
        before = len(world.server.seen)
        world.run(3)
        assert names(world)[before] == "hello"

    def test_cursor_not_found_resumes(self) -> None:
        world = watching("d")
        losses = len(world.checker.losses)
        world.server.cursors.clear()
        write = world.server.write("d")
        world.settle()
        assert ("d", write.number) in world.checker.told
        assert world.checker.losses[losses:] == []

    def test_resume_takes_the_post_batch_token_when_no_event_came(self) -> None:
        world = watching("d")
        for _ in range(7):
            world.server.write("other")
        world.settle()
        world.server.cursors.clear()
        world.settle()
        options = sent(world, "aggregate")[-1].command["pipeline"][0]["$changeStream"]
        assert options["resumeAfter"] == {"token": world.server.time}

    def test_history_lost_is_a_gap_and_opens_at_the_present(self) -> None:
        world = watching("d")
        world.server.write("d")
        world.server.cursors.clear()
        world.server.history_lost_before = 1000
        world.settle()
        assert world.checker.losses[-1] == ("d", "resume point may no longer be in the oplog")
        options = sent(world, "aggregate")[-1].command["pipeline"][0]["$changeStream"]
        assert "resumeAfter" not in options
        assert world.state("d") == "trusted"

    def test_drop_of_the_database_is_told_then_a_gap_and_it_is_watched_again(self) -> None:
        world = watching("d")
        drop = world.server.write("d", "dropDatabase")
        world.settle()
        assert ("d", drop.number) in world.checker.told
        assert world.checker.losses[-1] == ("d", "database dropped or renamed")
        write = world.server.write("d")
        world.settle()
        assert ("d", write.number) in world.checker.told

    def test_error_of_a_kind_not_known_is_a_gap(self) -> None:
        world = watching("d")
        refuse(world, "getMore", Failure("command", "fatal", 280))
        assert world.checker.losses[-1] == ("d", "fatal")
        world.settle()
        assert world.state("d") == "trusted"

    def test_reply_that_cannot_be_decoded_is_a_gap(self) -> None:
        world = watching("d")
        refuse(world, "getMore", Failure("undecodable", "invalid UTF-8"))
        assert world.checker.losses[-1] == ("d", "invalid UTF-8")

    def test_label_of_the_server_makes_an_error_resumable(self) -> None:
        world = watching("d")
        losses = len(world.checker.losses)
        run_until(world, "getMore")
        world.in_flight = None
        labels = frozenset({"ResumableChangeStreamError"})
        world.plan.failed(world.server.now_s, Failure("command", "again", 4711, labels))
        world.settle()
        assert world.checker.losses[losses:] == []

    @pytest.mark.parametrize("name", ["aggregate", "getMore"])
    def test_repeated_resumable_errors_are_tried_ever_more_slowly(self, name: str) -> None:
        world = watching("d")
        world.server.cursors.clear()
        waits = []
        for _ in range(6):
            refuse(world, name, Failure("command", "interrupted", 262))
            waits.append(max(0.0, world.plan.databases["d"].due_s - world.server.now_s))
        assert waits[0] <= 0.05
        assert waits == sorted(waits)
        assert waits[-1] >= 1.0
        world.settle()
        assert world.state("d") == "trusted"
        refuse(world, "getMore", Failure("command", "interrupted", 262))
        assert world.plan.databases["d"].due_s <= world.server.now_s


class TestPrimary:
    def test_hello_in_another_term_loses_everything_and_opens_anew(self) -> None:
        world = watching("a", "b")
        world.server.elect("a", keep_cursors=True)
        world.settle()
        assert world.checker.losses[-1] == (None, "primary changed")
        for database in ("a", "b"):
            options = [
                request.command["pipeline"][0]["$changeStream"]
                for request in sent(world, "aggregate")
                if request.database == database
            ]
            assert "resumeAfter" not in options[-1]
        assert world.checker.leases[-1][1] == world.server.primary

    def test_cursors_of_another_primary_are_not_killed_on_this_one(self) -> None:
        world = watching("a", "b")
        world.server.elect("b", keep_cursors=False)
        world.settle()
        assert sent(world, "killCursors") == []

    def test_reply_from_another_address_loses_everything(self) -> None:
        world = watching("d")
        run_until(world, "getMore")
        world.execute()
        world.server.elect("b", keep_cursors=False)
        assert world.outcome is not None
        world.outcome.primary = world.server.primary
        world.answer()
        assert world.checker.losses[-1] == (None, "primary changed")

    def test_later_election_known_to_the_driver_loses_everything(self) -> None:
        world = watching("d")
        run_until(world, "getMore")
        world.execute()
        assert world.outcome is not None
        world.outcome.primary = Primary(("a", 27017), election(9))
        world.answer()
        assert world.checker.losses[-1] == (None, "primary changed")

    def test_driver_that_lags_behind_hello_loses_nothing(self) -> None:
        world = watching("d")
        world.driver_knows = world.server.primary
        world.server.elect("a", keep_cursors=False)
        world.settle()
        losses = len(world.checker.losses)
        world.settle()
        assert len(world.checker.losses) == losses

    def test_server_that_is_no_primary_gets_no_further_command_and_is_asked_ever_more_rarely(
        self,
    ) -> None:
        world = watching("d")
        world.server.is_primary = False
        start_s = world.server.now_s
        before = len(world.server.seen)
        while world.server.now_s < start_s + 20.0:
            world.turn()
        later = names(world)[before:]
        assert set(later[later.index("hello") :]) == {"hello"}
        assert later.count("hello") < 25
        assert world.plan.snapshot(world.server.now_s).state == "unreachable"
        world.server.is_primary = True
        world.settle()
        assert world.state("d") == "trusted"

    def test_not_primary_error_asks_who_is(self) -> None:
        world = watching("d")
        refuse(world, "getMore", Failure("command", "not primary", 10107))
        before = len(world.server.seen)
        world.run(2)
        assert names(world)[before] == "hello"


class TestEvents:
    def test_values_do_not_travel(self) -> None:
        world = watching("d")
        projection = sent(world, "aggregate")[0].command["pipeline"][1]["$project"]
        assert "fullDocument" not in projection
        assert projection["updated"]["$map"]["in"] == "$$field.k"
        assert projection["_id"] == 1

    def test_event_has_the_form_of_the_manual_with_names_alone(self) -> None:
        raw = {
            "_id": {"token": 1},
            "operationType": "update",
            "clusterTime": Timestamp(1, 1),
            "ns": {"db": "d", "coll": "c"},
            "documentKey": {"_id": 1},
            "updated": ["a.b"],
            "removed": ["c"],
            "truncated": ["d"],
        }
        assert change_event(raw)["updateDescription"] == {
            "updatedFields": {"a.b": None},
            "removedFields": ["c"],
            "truncatedArrays": [{"field": "d"}],
        }

    @pytest.mark.parametrize("missing", ["updated", "removed"])
    def test_update_whose_names_are_not_all_known_describes_nothing(self, missing: str) -> None:
        raw: dict[str, Any] = {"operationType": "update", "updated": ["a"], "removed": ["b"]}
        raw[missing] = None
        assert "updateDescription" not in change_event(raw)

    def test_lag_is_measured_by_the_servers_clock(self) -> None:
        world = watching("d")
        world.server.write("d")
        world.server.tick(0.25)
        world.settle()
        lag_s = world.plan.snapshot(world.server.now_s).databases[0].lag_s
        assert lag_s == pytest.approx(0.25, abs=0.03)


class TestEnd:
    def test_farewell_kills_what_is_open(self) -> None:
        world = watching("a", "b")
        for request in world.plan.farewell():
            world.server.execute(request)
        assert world.server.cursors == {}

    def test_fault_voids_all_trust(self) -> None:
        world = watching("d")
        world.plan.ended("fault", "boom")
        assert world.checker.losses[-1] == (None, "fault")
        assert world.plan.snapshot(world.server.now_s).state == "fault"

    def test_statistics_show_the_lease_that_is_left(self) -> None:
        world = watching("d")
        start_s = world.checker.leases[-1][2]
        watch = world.plan.snapshot(start_s + 0.5).databases[0]
        assert watch.state == "trusted"
        assert watch.lease_remaining_s == pytest.approx(1.5)
        assert world.plan.snapshot(start_s + 3.0).databases[0].lease_remaining_s == 0.0
