"""Which databases the watcher's plan watches, how often it asks, and what it leaves alone."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from qbmongo.coherence.records import Failure, Limits, Sleep
from qbmongo_tests.coherence.model import (
    World,
    names,
    refuse,
    run_until,
    sent,
    watching,
)


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


class TestFacts:
    INDEXES: ClassVar[list[Any]] = [{"name": "_id_", "key": {"_id": 1}}]

    def test_wanted_facts_are_read_and_waited_for(self) -> None:
        world = watching("d")
        world.server.collections = [{"name": "c", "type": "collection", "options": {}}]
        world.checker.wanted = ["d.c"]
        world.settle()
        assert world.checker.known_facts == {"d.c": (world.server.collections, self.INDEXES)}

    def test_collection_that_does_not_exist_and_a_view_have_no_indexes(self) -> None:
        world = watching("d")
        view = {"name": "v", "type": "view", "options": {}}
        world.server.collections = [view]
        world.checker.wanted = ["d.c", "d.v"]
        world.settle()
        assert world.checker.known_facts == {"d.c": ([], []), "d.v": ([view], [])}
        assert sent(world, "listIndexes") == []

    def test_collection_dropped_between_both_reads_has_no_indexes(self) -> None:
        world = watching("d")
        world.server.collections = [{"name": "c", "type": "collection", "options": {}}]
        world.checker.wanted = ["d.c"]
        run_until(world, "listIndexes")
        world.server.collections = []
        world.execute()
        world.answer()
        assert world.checker.known_facts["d.c"][1] == []

    def test_forbidden_facts_are_not_asked_for_again(self) -> None:
        world = watching("d")
        world.checker.wanted = ["d.c"]
        refuse(world, "listCollections", Failure("command", "not authorized", 13))
        assert world.checker.failed_facts == [("d.c", "forbidden")]
        world.settle()
        assert world.state("d") == "trusted"

    @pytest.mark.parametrize(
        "failure",
        [Failure("network", "connection closed"), Failure("command", "interrupted", 262)],
    )
    def test_facts_that_could_not_be_read_are_read_again_after_a_while(
        self, failure: Failure
    ) -> None:
        world = watching("d")
        world.checker.wanted = ["d.c"]
        refuse(world, "listCollections", failure)
        failed_s = world.server.now_s
        assert world.checker.failed_facts == [("d.c", None)]
        run_until(world, "listCollections")
        assert world.server.now_s >= failed_s + 0.5
        world.execute()
        world.answer()
        world.settle()
        assert "d.c" in world.checker.known_facts

    def test_another_primary_voids_facts_half_read(self) -> None:
        world = watching("d")
        world.server.collections = [{"name": "c", "type": "collection", "options": {}}]
        world.checker.wanted = ["d.c"]
        run_until(world, "listIndexes")
        world.execute()
        world.server.elect("b", keep_cursors=False)
        assert world.outcome is not None
        world.outcome.primary = world.server.primary
        world.answer()
        assert world.checker.failed_facts == [("d.c", None)]
        assert world.checker.known_facts == {}

    def test_without_streams_facts_are_read_all_the_same(self) -> None:
        world = World()
        world.server.is_standalone = True
        world.watch("d")
        world.run(1)
        world.checker.wanted = ["d.c"]
        refuse(world, "listCollections", Failure("command", "interrupted", 262))
        action = world.ask()
        assert isinstance(action, Sleep)
        assert action.until_s < world.server.now_s + 1.0
        world.server.now_s = action.until_s
        world.turn()
        assert world.checker.known_facts == {"d.c": ([], [])}


class TestVerification:
    def test_hits_are_read_again_without_keeping_events_waiting(self) -> None:
        world = watching("d")
        items = [SimpleNamespace(command={"count": "c"}) for _ in range(20)]
        world.checker.to_verify = list(items)
        before = len(world.server.seen)
        start_s = world.server.now_s
        while len(world.checker.verified_items) < 10:
            world.turn()
        write = world.server.write("d")
        world.run(2)
        assert ("d", write.number) in world.checker.told
        while len(world.checker.verified_items) < 20:
            world.turn()
        assert world.checker.verified_items == items[::-1]
        assert names(world)[before : before + 4] == ["count", "getMore", "count", "getMore"]
        assert world.server.now_s < start_s + 0.3

    def test_read_that_fails_is_left_and_the_next_one_taken(self) -> None:
        world = watching("d")
        first, second = (SimpleNamespace(command={"count": "c"}) for _ in range(2))
        world.checker.to_verify = [second, first]
        refuse(world, "count", Failure("command", "no such thing", 59))
        world.settle()
        world.run(4)
        assert world.checker.verified_items == [second]
        assert world.state("d") == "trusted"
