"""The watcher's plan, stepped by hand over a server in memory; the clock moves when told to."""

from __future__ import annotations

import math
from typing import Any

import pytest
from bson.timestamp import Timestamp

from qbmongo.coherence.records import Failure, Limits, Primary, Request, Sleep
from qbmongo.coherence.stream import change_event
from qbmongo_tests.coherence.model import World, election


def watching(*databases: str, limits: Limits | None = None) -> World:
    """A world in which these databases are trusted."""
    world = World(limits)
    world.watch(*databases)
    world.settle()
    return world


def run_until(world: World, name: str, turns: int = 50) -> None:
    """Run until this command is in flight."""
    for _ in range(turns):
        action = world.ask()
        if isinstance(action, Request) and next(iter(action.command)) == name:
            return
        if isinstance(action, Request):
            world.execute()
            world.answer()
        else:
            world.server.now_s = max(world.server.now_s, min(action.until_s, 1e9))
    raise AssertionError(f"no {name} was sent")


def refuse(world: World, name: str, failure: Failure) -> None:
    """Answer the next such command with a failure."""
    run_until(world, name)
    world.in_flight = None
    world.plan.failed(world.server.now_s, failure)


def sent(world: World, name: str) -> list[Request]:
    return [request for request in world.server.seen if name in request.command]


def names(world: World) -> list[str]:
    return [next(iter(request.command)) for request in world.server.seen]


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


class TestRefusals:
    def test_database_without_privilege_says_so_and_leaves_the_others_alone(self) -> None:
        world = World()
        world.server.forbidden.add("secret")
        world.watch("open", "secret")
        world.settle()
        assert world.state("secret") == "forbidden"
        assert "no privilege to watch" in world.checker.unavailable_reasons["secret"]
        assert world.state("open") == "trusted"

    def test_forbidden_database_is_tried_again_rarely(self) -> None:
        world = World()
        world.server.forbidden.add("d")
        world.watch("d")
        world.settle()
        start_s = world.server.now_s
        action = world.ask()
        assert isinstance(action, Sleep)
        assert action.until_s == pytest.approx(start_s + 600.0, abs=1.0)
        world.server.forbidden.clear()
        world.server.now_s = action.until_s
        world.run(8)
        assert world.state("d") == "trusted"
        assert world.checker.unavailable_reasons == {}

    def test_privilege_taken_away_ends_trust(self) -> None:
        world = watching("d")
        world.server.forbidden.add("d")
        world.run(5)
        assert world.state("d") == "forbidden"
        assert world.checker.losses[-1][0] == "d"

    @pytest.mark.parametrize(
        ("attribute", "words"), [("is_standalone", "replica set"), ("is_sharded", "sharded")]
    )
    def test_server_that_has_no_streams_for_us_is_one_reason_for_every_database(
        self, attribute: str, words: str
    ) -> None:
        world = World()
        setattr(world.server, attribute, True)
        world.watch("a", "b")
        world.run(3)
        assert set(world.checker.unavailable_reasons) == {"a", "b"}
        assert len(set(world.checker.unavailable_reasons.values())) == 1
        world.watch("c")
        assert words in world.checker.unavailable_reasons["c"]
        assert names(world) == ["hello"]
        assert world.plan.is_caught_up(world.plan.catch_up())

    def test_only_on_replica_sets_is_for_every_database(self) -> None:
        world = World()
        world.watch("a", "b")
        refuse(world, "aggregate", Failure("command", "only on replica sets", 40573))
        assert set(world.checker.unavailable_reasons) == {"a", "b"}
        assert isinstance(world.ask(), Sleep)

    def test_unsupported_server_is_looked_at_again_after_a_while(self) -> None:
        world = World()
        world.server.is_standalone = True
        world.watch("d")
        world.run(1)
        world.server.is_standalone = False
        world.server.tick(700.0)
        world.run(6)
        assert world.state("d") == "trusted"

    def test_too_old_a_server_is_not_watched(self) -> None:
        world = World()
        world.watch("d")
        world.ask()
        world.execute()
        assert world.outcome is not None
        assert world.outcome.reply is not None
        world.outcome.reply["maxWireVersion"] = 16
        world.answer()
        assert "6.0" in world.checker.unavailable_reasons["d"]

    def test_stream_that_cannot_be_opened_is_unavailable_with_the_servers_words(self) -> None:
        world = World()
        world.watch("d")
        refuse(world, "aggregate", Failure("command", "unknown option", 40415))
        assert "unknown option" in world.checker.unavailable_reasons["d"]

    def test_refused_connection_is_tried_again_slowly(self) -> None:
        world = World()
        world.watch("d")
        world.ask()
        world.in_flight = None
        world.plan.failed(world.server.now_s, Failure("command", "Authentication failed", 18))
        action = world.ask()
        assert isinstance(action, Sleep)
        assert action.until_s - world.server.now_s > 25.0
        assert world.plan.snapshot(world.server.now_s).reason == "Authentication failed"

    def test_too_many_events_end_the_watch_for_a_while(self) -> None:
        world = watching("calm", "busy", limits=Limits(max_events_per_s=50))
        for _ in range(60):
            world.server.write("busy")
        world.run(5)
        assert world.state("busy") == "too_many_events"
        assert "50 events a second" in world.checker.unavailable_reasons["busy"]
        assert world.checker.losses[-1][0] == "busy"
        assert world.state("calm") == "trusted"
        world.server.tick(31.0)
        world.settle()
        assert world.state("busy") == "trusted"
        assert len(world.server.cursors) == 2

    def test_as_many_events_as_allowed_are_told(self) -> None:
        world = watching("d", limits=Limits(max_events_per_s=50))
        for _ in range(4):
            for _ in range(40):
                world.server.write("d")
            world.server.tick(1.0)
            world.settle()
        assert world.state("d") == "trusted"
        assert len(world.checker.told) == 160


class TestPace:
    def test_databases_share_the_wait_for_events(self) -> None:
        one, four = watching("a"), watching("a", "b", "c", "d")
        for world, await_ms in ((one, 100), (four, 25)):
            while "getMore" not in (request := world.server.seen[-1]).command or (
                request.command["maxTimeMS"] == 1
            ):
                world.turn()
            assert request.command["maxTimeMS"] == await_ms

    def test_databases_take_turns(self) -> None:
        world = watching("a", "b", "c")
        before = len(world.server.seen)
        world.run(9)
        turns = [r.database for r in world.server.seen[before:] if "getMore" in r.command]
        assert all(turns[i] != turns[i + 1] for i in range(len(turns) - 1))
        assert set(turns) == {"a", "b", "c"}

    def test_get_more_never_waits_past_the_next_probe(self) -> None:
        world = watching("d", limits=Limits(lease_s=0.2))
        start_s = world.server.now_s
        while world.server.now_s < start_s + 1.0:
            if world.turn() == "getMore":
                assert world.server.seen[-1].command["maxTimeMS"] <= 50

    def test_wait_of_one_database_ends_when_anothers_batch_is_due(self) -> None:
        world = watching("a", "b", limits=Limits(pace_s=0.02))
        world.server.write("a")
        while not world.checker.told:
            world.turn()
        world.run(1)
        request = world.server.seen[-1]
        assert request.database == "b"
        assert request.command["maxTimeMS"] < 20

    def test_after_events_the_next_get_more_waits_for_a_batch(self) -> None:
        world = watching("d", limits=Limits(pace_s=0.01))
        world.run(1)
        world.server.write("d")
        world.run(1)
        told_s = world.server.now_s
        action = world.ask()
        assert isinstance(action, Sleep)
        assert action.until_s == pytest.approx(told_s + 0.01)

    def test_every_wait_is_finite(self) -> None:
        world = watching("d")
        world.run(50)
        for request in world.server.seen:
            assert request.timeout_s == 4.0
            if "getMore" in request.command or "find" in request.command:
                assert 1 <= request.command["maxTimeMS"] <= 1000

    def test_nothing_watched_means_nothing_sent(self) -> None:
        world = World()
        assert world.ask() == Sleep(math.inf)

    def test_sleep_is_never_into_the_past(self) -> None:
        world = World()
        world.server.forbidden.add("d")
        world.watch("d")
        world.settle()
        for _ in range(5):
            action = world.plan.step(world.server.now_s)
            assert isinstance(action, Sleep)
            assert action.until_s > world.server.now_s
            world.server.tick(10.0)


class TestUse:
    def idle(self) -> World:
        world = watching("d")
        world.checker.is_used = False
        world.server.tick(11.0)
        world.run(5)
        return world

    def test_unused_cache_is_not_probed_and_polled_less(self) -> None:
        world = self.idle()
        before = len(world.server.seen)
        start_s = world.server.now_s
        while world.server.now_s < start_s + 10.0:
            world.turn()
        later = names(world)[before:]
        assert "find" not in later
        assert len(later) < 25

    def test_watch_of_an_unused_database_probes_at_once(self) -> None:
        world = self.idle()
        world.watch("d")
        assert world.turn() == "hello"

    def test_catching_up_unused_goes_on_until_a_probe_succeeds(self) -> None:
        world = self.idle()
        ticket = world.plan.catch_up()
        for _ in range(3):
            run_until(world, "find")
            world.in_flight = None
            world.plan.failed(world.server.now_s, Failure("command", "no majority", 50))
        for _ in range(20):
            world.turn()
        assert world.plan.is_caught_up(ticket)

    @pytest.mark.parametrize("how", ["in_use", "catch_up"])
    def test_use_brings_the_lease_back(self, how: str) -> None:
        world = self.idle()
        leases = len(world.checker.leases)
        if how == "in_use":
            world.checker.is_used = True
            world.server.tick(0.5)
        else:
            world.plan.catch_up()
        world.run(4)
        assert len(world.checker.leases) == leases + 1

    def test_database_not_used_for_long_is_forgotten_and_its_cursor_killed(self) -> None:
        world = self.idle()
        world.server.tick(600.0)
        world.run(5)
        assert world.checker.losses[-1] == ("d", "not used")
        assert world.plan.databases == {}
        world.watch("e")
        world.run(8)
        assert len(world.server.cursors) == 1

    def test_database_watched_again_begins_with_a_loss(self) -> None:
        world = World()
        world.watch("d")
        assert world.checker.losses == [("d", "opening")]


class TestCatchingUp:
    def test_probe_that_began_before_the_call_does_not_count(self) -> None:
        world = watching("d")
        world.plan.catch_up()
        run_until(world, "find")
        ticket = world.plan.catch_up()
        world.execute()
        world.answer()
        world.run(1)
        assert not world.plan.is_caught_up(ticket)
        world.run(4)
        assert world.plan.is_caught_up(ticket)

    def test_every_watched_database_is_waited_for(self) -> None:
        world = watching("a")
        world.watch("b")
        ticket = world.plan.catch_up()
        while not world.plan.is_caught_up(ticket):
            world.turn()
        assert {lease[0] for lease in world.checker.leases} == {"a", "b"}

    def test_failed_probe_is_repeated(self) -> None:
        world = watching("d")
        ticket = world.plan.catch_up()
        run_until(world, "find")
        world.lose()
        for _ in range(20):
            world.turn()
        assert world.plan.is_caught_up(ticket)

    def test_with_nothing_watched_it_is_caught_up(self) -> None:
        world = World()
        assert world.plan.is_caught_up(world.plan.catch_up())


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
        assert (watch.state, watch.lease_remaining_s) == ("trusted", pytest.approx(1.5))
        assert world.plan.snapshot(start_s + 3.0).databases[0].lease_remaining_s == 0.0
