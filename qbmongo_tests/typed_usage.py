"""Typed use of the public names. It is never run: it only has to pass the type checker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.results import InsertOneResult

from qbmongo import (
    BatchSettings,
    CacheSettings,
    CoalesceSettings,
    OptimizedAsyncMongoClient,
    OptimizedClient,
    OptimizedMongoClient,
    ProfileSettings,
    QbError,
    QbTimeoutError,
    RewriteSettings,
    Settings,
    SettingsError,
)
from qbmongo.advisor.report import Report
from qbmongo.clients.rewrite_explained import RewriteExplanation
from qbmongo.clients.stats import BatchStats, CacheStats, CoalesceStats, RewriteStats, Stats
from qbmongo.local_server import LocalServer, ServerKind, ServerProgram, find_server
from qbmongo.profiles import ProfileSnapshot

Document = dict[str, Any]


def use(*values: object) -> None:
    """So that a value with a type of its own is not unused."""


def start_a_server() -> tuple[str, ServerKind]:
    program: ServerProgram | None = find_server("secantusd-rs")
    with LocalServer(program, auth=True) as server:
        return server.uri, server.kind


def settings() -> Settings:
    low: Settings = Settings.preset("off")
    cache: CacheSettings | None = low.cache
    given = Settings(
        profile=ProfileSettings(slow_ms=50, keep_values=True),
        cache=CacheSettings(ttl_s=1.5, max_bytes=1 << 20),
        rewrite=RewriteSettings(off=("in-duplicates",)),
        overrides={"shop": {"cache": None}, "shop.orders": {"profile": ProfileSettings()}},
    )
    try:
        return given if cache is None else Settings.from_environment({"QBMONGO_CACHE": "off"})
    except SettingsError as error:
        as_value_error: ValueError = error
        raise QbError(str(as_value_error)) from None


def takes_a_drivers_client(client: MongoClient[Document]) -> Collection[Document]:
    database: Database[Document] = client["shop"]
    return database["orders"]


def synchronous() -> Document | None:
    client: OptimizedMongoClient[Document] = OptimizedMongoClient("mongodb://h", qb=settings())
    as_the_drivers: MongoClient[Document] = client
    subscripted = OptimizedMongoClient[Document]("mongodb://h", 27017, tz_aware=True)
    collection: Collection[Document] = takes_a_drivers_client(as_the_drivers)
    also: Collection[Document] = subscripted.shop.orders.archive
    dotted: Collection[Document] = client["shop"]["orders"]["archive"]
    with client, client.start_session() as session:
        result: InsertOneResult = collection.insert_one({"a": 1}, session=session)
        for document in also.find({"_id": result.inserted_id}).sort("a").limit(1):
            found: Document = document
            dotted.insert_one(found)
        stats: Stats = client.qb.stats()
        cache: CacheStats | None = stats.cache
        coalesce: CoalesceStats | None = stats.coalesce
        use(coalesce)
        batch: BatchStats | None = stats.batch
        use(batch)
        if cache is not None:
            ratio: float = cache.hit_ratio
            reasons: Mapping[str, int] = cache.bypassed
            use(ratio, reasons)
        rewrites: RewriteStats | None = stats.rewrite
        if rewrites is not None:
            fired: Mapping[str, int] = rewrites.rules
            use(fired)
        explained: RewriteExplanation = client.qb.explain_rewrite(collection, [{"$count": "n"}])
        use(explained.sent, [step.source for step in explained.steps])
        with client.qb.uncached():
            count: int = collection.count_documents({})
        client.qb.options("shop.orders", cache=None, profile=ProfileSettings(slow_ms=count))
        client.qb.options("shop.carts", coalesce=CoalesceSettings(max_in_flight=4))
        client.qb.options("shop.carts", batch=BatchSettings(max_batch_ids=100))
        client.qb.flush()
        client.qb.clear()
        profile: ProfileSnapshot = client.qb.profile()
        report: Report = client.qb.advise(["shop"], sample_size=100, time_limit_s=60.0)
        use(report.to_dict(), report.worst())
        profile.save("profile.json")
        try:
            client.qb.caught_up(timeout_s=2.0)
        except QbTimeoutError as error:
            as_timeout: TimeoutError = error
            use(as_timeout)
    return collection.find_one({"a": 1})


async def asynchronous() -> Document | None:
    client: OptimizedAsyncMongoClient[Document] = OptimizedAsyncMongoClient("mongodb://h")
    as_the_drivers: AsyncMongoClient[Document] = client
    database: AsyncDatabase[Document] = client["shop"]
    collection: AsyncCollection[Document] = as_the_drivers["shop"]["orders"]
    sub: AsyncCollection[Document] = database.orders["archive"]
    async with client:
        documents: list[Document] = await sub.find({}).to_list()
        await client.qb.caught_up()
        report: Report = await client.qb.advise()
        use(report.findings)
        stats: Stats = client.qb.stats()
        use(documents, stats.faults)
    return await collection.find_one({"a": 1})


async def with_motor() -> None:
    client = OptimizedClient("mongodb://h", qb=Settings())
    as_the_drivers: AsyncIOMotorClient[Document] = client
    collection = client["shop"]["orders"]
    await collection.insert_one({"a": 1})
    await as_the_drivers.shop.orders.find_one({"a": 1})
    await client.qb.caught_up(1.0)
    report: Report = await client.qb.advise(verify=False)
    snapshot: ProfileSnapshot = client.qb.profile()
    use(snapshot.calls, report.recommendations)
    client.close()
