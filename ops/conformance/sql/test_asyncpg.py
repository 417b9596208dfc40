"""asyncpg: binary everywhere, cursors in parts, timeouts that cancel, a pool that resets."""

import asyncio

import asyncpg
import pytest


def connect(target):
    return asyncpg.connect(host="127.0.0.1", port=target.pg_port, user=target.access, password=target.secret,
                           database="ashlar")


def test_rows_and_cursors(target, numbers):
    async def run():
        connection = await connect(target)
        found = await connection.fetch(f"SELECT n, s, f FROM '{numbers}' WHERE n = $1", 7)
        assert [tuple(row) for row in found] == [(7, "row 7", 3.5)]
        async with connection.transaction():
            cursor = connection.cursor(f"SELECT n FROM '{numbers}' ORDER BY n", prefetch=7)
            assert [row["n"] async for row in cursor] == list(range(1000))
        await connection.close()
    asyncio.run(run())


def test_a_timeout_cancels(target):
    async def run():
        connection = await connect(target)
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
                                   timeout=0.5)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    asyncio.run(run())


def test_a_pool_resets_its_connections(target):
    async def run():
        async with asyncpg.create_pool(host="127.0.0.1", port=target.pg_port, user=target.access,
                                       password=target.secret, database="ashlar", min_size=1, max_size=1) as pool:
            for _ in range(3):
                async with pool.acquire() as connection:
                    assert await connection.fetchval("SHOW application_name") == ""
                    await connection.execute("SET application_name = 'used'")
    asyncio.run(run())
