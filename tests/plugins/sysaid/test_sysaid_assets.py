"""An asset's life as a table, and assets as people read them."""

from __future__ import annotations

import pytest

from plugins.api import ValidationRefused
from plugins.sysaid.assets import LEGAL_MOVES, MAX_RELATIONS, STATES, AssetState, checked_move, item_of

LIFE = [AssetState.ORDERED, AssetState.IN_STOCK, AssetState.IN_USE, AssetState.IN_REPAIR, AssetState.IN_USE, AssetState.RETIRED]


def test_an_asset_lives_from_the_order_to_the_scrapyard() -> None:
    """The usual way is legal step by step."""
    for current, following in zip(LIFE, [*LIFE[1:], AssetState.DISPOSED], strict=True):
        checked_move(current, following)


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        (AssetState.DISPOSED, AssetState.IN_USE),
        (AssetState.IN_USE, AssetState.DISPOSED),
        (AssetState.IN_USE, AssetState.ORDERED),
        (AssetState.ORDERED, AssetState.DISPOSED),
        (AssetState.IN_STOCK, AssetState.UNKNOWN),
    ],
)
def test_a_move_without_sense_is_refused_and_the_others_named(current: AssetState, wanted: AssetState) -> None:
    """What was scrapped cannot come back; who asks is told what is possible."""
    with pytest.raises(ValidationRefused, match=f"{current} cannot become {wanted}"):
        checked_move(current, wanted)


def test_the_table_is_whole() -> None:
    """Each state has its moves, none leads to unknown, staying is always legal, and every way ends."""
    assert set(LEGAL_MOVES) == set(AssetState)
    for state, moves in LEGAL_MOVES.items():
        assert AssetState.UNKNOWN not in moves and state not in moves
        checked_move(state, state)
    reached, waiting = set[AssetState](), [AssetState.ORDERED]
    while waiting:
        state = waiting.pop()
        waiting += [s for s in LEGAL_MOVES[state] if s not in reached]
        reached.add(state)
    assert reached == set(AssetState) - {AssetState.UNKNOWN}


@pytest.mark.parametrize(
    ("caption", "state"),
    [
        ("On order", AssetState.ORDERED),
        ("IN STOCK", AssetState.IN_STOCK),
        ("Active", AssetState.IN_USE),
        ("stolen", AssetState.LOST),
        ("Scrapped", AssetState.DISPOSED),
        ("Blue", AssetState.UNKNOWN),
    ],
)
def test_usual_captions_are_known(caption: str, state: AssetState) -> None:
    """Each account writes its own list."""
    assert STATES(caption) is state


def test_an_asset_is_shown_under_its_accounts_captions() -> None:
    """Both spellings of a caption's key occur; empty fields are left out, and relations are bounded."""
    asset = {
        "id": "0A-3E",
        "name": "GATE-PC-04",
        "info": [
            {"key": "model", "keyCaption": "Model", "value": "t3.large", "valueCaption": "t3.large"},
            {"key": "cpu_model", "key_caption": "CPU model", "value": 8175, "value_caption": "Platinum"},
            {"key": "description", "keyCaption": "Description", "value": "", "valueCaption": ""},
            {"key": "status", "value": 3, "valueCaption": "In use"},
            "broken",
        ],
    }
    relations = [{"dest": n, "destName": f"service {n}", "ciRelationType": 1, "relationName": "supports"} for n in range(30)]
    item = item_of(asset, "status", relations)
    assert (item.item_id, item.name, item.status) == ("0A-3E", "GATE-PC-04", "In use")
    assert item.attributes == {"Model": "t3.large", "CPU model": "Platinum"}
    assert len(item.relations) == MAX_RELATIONS and item.relations[0].kind == "supports" and item.relations[2].item_id == "2"
