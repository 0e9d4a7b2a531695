"""The part of asyncpg that NDIF's check of keys calls, without a database behind it.

Which keys there are, and which of them are trusted, stands in NDIF_CPU_KEYS: `{"key": ["trusted"], "other": []}`.
"""

import json
import os
from contextlib import asynccontextmanager
from uuid import UUID


class Pool:
    """What `create_pool` gives: one connection that knows one question."""

    @asynccontextmanager
    async def acquire(self):
        yield self

    async def fetch(self, query: str, key: UUID) -> list[dict]:
        tags = json.loads(os.environ["NDIF_CPU_KEYS"]).get(str(key))
        if tags is None:
            return []
        owner = {"user_id": "test", "email": None}
        return [owner | {"user_tag": tag} for tag in tags or [None]]

    async def close(self) -> None:
        pass


async def create_pool(**_: object) -> Pool:
    return Pool()
