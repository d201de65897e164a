"""Assets as the tool has them: shown, listed, moved. assets.py says what a legal move is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.api import ConfigurationItem, FatalApiError, NotFound, ValidationRefused
from plugins.mapping import tenant_words, to_id
from plugins.sysaid.assets import STATES, AssetState, checked_move, item_of
from plugins.sysaid.payload import fold

if TYPE_CHECKING:
    from plugins.sysaid.api_client import SysAidClient

MOST = 500


class AssetDesk:
    """One tenant's assets, by the settings `assets.state_field`, `assets.state_list` and `words.asset_state`."""

    def __init__(self, settings: Mapping[str, Any], api: SysAidClient) -> None:
        own = settings.get("assets") or {}
        self._state_key, self._state_list = str(own.get("state_field") or "status"), str(own.get("state_list") or "asset_status")
        self._states = STATES.with_words(tenant_words(settings, "asset_state", AssetState))
        self._api = api

    async def shown(self, asset_id: str) -> ConfigurationItem | None:
        """One asset with its relations; None when it is not there."""
        try:
            asset = await self._api.asset(asset_id)
        except NotFound:
            return None
        ci_id = to_id(fold(asset)[0].get("ci_id"))
        try:
            relations = await self._api.ci_relations(ci_id) if ci_id is not None else []
        except FatalApiError:  # relations are an extra that versions and permissions leave out; the asset is what was asked for
            relations = []
        return item_of(asset, self._state_key, relations)

    async def listed(self, text: str) -> Sequence[ConfigurationItem]:
        found: list[ConfigurationItem] = []
        async for row in self._api.assets(text.strip()):
            found.append(item_of(row, self._state_key))
            if len(found) >= MOST:
                break
        return found

    async def move(self, asset_id: str, state: str) -> ConfigurationItem:
        """Moves an asset, and reads it again: what SysAid drops it drops without a word."""
        try:
            wanted = AssetState(state)
        except ValueError:
            raise ValidationRefused(f"{state[:40]!r} is not one of: {', '.join(AssetState)}") from None
        item = item_of(await self._api.asset(asset_id), self._state_key)
        current = self._states(item.status)
        checked_move(current, wanted)
        if current is wanted:
            return item
        try:
            await self._api.update_asset(asset_id, {self._state_key: await self._code(wanted)})
        except FatalApiError as exc:
            if exc.status in (404, 405):  # the asset was just read: it is the call that is not there
                raise FatalApiError("this SysAid's API writes no assets; use api: developers", status=exc.status) from None
            raise
        moved = item_of(await self._api.asset(asset_id), self._state_key)
        if self._states(moved.status) is not wanted:
            raise ValidationRefused(f"SysAid left asset {asset_id} as it was; check assets.state_field and our account's permission")
        return moved

    async def _code(self, wanted: AssetState) -> str:
        """The code of the first caption in the account's list that means this state."""
        for code, caption in (await self._api.words(self._state_list)).items():
            if self._states(caption) is wanted:
                return code
        raise ValidationRefused(f"no state of this account means {wanted}; map one in words.asset_state")
