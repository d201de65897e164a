"""Names to ids: asked once, asked again when a name is new, and never more often than that."""

from __future__ import annotations

import asyncio

import pytest

from plugins.api import ValidationRefused
from plugins.name_cache import NameCache


class Tool:
    """Answers its list, and counts how often it was asked."""

    def __init__(self, **names: int) -> None:
        self.names, self.asked, self.now = names, 0, 0.0

    async def load(self) -> dict[str, int]:
        self.asked += 1
        await asyncio.sleep(0)
        return dict(self.names)

    def cache(self) -> NameCache[int]:
        return NameCache("field", self.load, seconds=900, pause=30, monotonic=lambda: self.now)


async def test_many_who_wait_share_one_read() -> None:
    """A batch of a hundred updates must not read the field list a hundred times."""
    tool = Tool(Site=7)
    cache = tool.cache()
    assert await asyncio.gather(*(cache.get(name) for name in ("site", " SITE ", "Site"))) == [7, 7, 7]
    assert tool.asked == 1


async def test_a_name_that_is_not_there_is_looked_for_again_but_not_at_once() -> None:
    """An admin may just have made it; a typo in a rule must not become a flood."""
    tool = Tool(Site=7)
    cache = tool.cache()
    with pytest.raises(ValidationRefused, match="no field called 'Floor'"):
        await cache.get("Floor")
    tool.names["Floor"] = 8
    assert await cache.find("Floor") is None
    tool.now = 31
    assert await cache.get("Floor") == 8
    assert tool.asked == 2


async def test_what_is_known_grows_old() -> None:
    """Ids change when an admin deletes a field and makes it anew."""
    tool = Tool(Site=7)
    cache = tool.cache()
    assert await cache.get("Site") == 7
    tool.names["Site"], tool.now = 9, 899
    assert await cache.get("Site") == 7
    tool.now = 901
    assert await cache.get("Site") == 9
