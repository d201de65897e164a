"""FULL_TRANSITIVE: every released schema reads every other's records, so that a topic may hold what any release wrote.

How a schema changes: copy <record>.avsc's next form to <record>.vN.avsc when it is released, add fields with a default only, remove
only fields that have one, rename nothing, append enum symbols.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import current, released, schema_version
from schemas.events import EVENT_TYPES
from tests.schemas.avro_values import values

FILES = {p.name: p.read_text() for p in (resources.files("schemas") / "avro").iterdir() if p.name.endswith(".avsc")}
RECORDS = sorted(kind.__name__ for kind in EVENT_TYPES)


def versions(record: str) -> list[dict[str, Any]]:
    """Every form of a record, released ones oldest first, then the current one."""
    found = [(name, json.loads(text)) for name, text in FILES.items() if json.loads(text)["name"] == record]
    return [schema for _, schema in sorted(found, key=lambda item: (".v" not in item[0], _number(item[0])))]


def _number(name: str) -> int:
    found = re.search(r"\.v(\d+)\.avsc$", name)
    return int(found[1]) if found else 0


def problems(older: Any, newer: Any, path: str = "") -> list[str]:
    """Why records of one of these could not be read with the other; both ways."""
    if isinstance(older, list) and isinstance(newer, list):
        return [] if older == newer else [f"{path}: a union changed"]
    if not isinstance(older, dict) or not isinstance(newer, dict):
        return [] if older == newer else [f"{path}: {older} became {newer}"]
    if older["type"] != newer["type"] or older.get("name") != newer.get("name"):
        return [f"{path}: {older.get('name', older['type'])} became {newer.get('name', newer['type'])}"]
    if older["type"] == "enum":
        lost = set(older["symbols"]) - set(newer["symbols"])
        return [f"{path}: lost {lost}"] * bool(lost) + [f"{path}: no default"] * ("default" not in newer or "default" not in older)
    if older["type"] != "record":
        return [p for key in ("type", "items", "values") if key in older for p in problems(older[key], newer[key], path)]
    before, after = ({f["name"]: f for f in schema["fields"]} for schema in (older, newer))
    found = [f"{path}.{n}: is new and has no default" for n in after.keys() - before.keys() if "default" not in after[n]]
    found += [f"{path}.{n}: was removed and had no default" for n in before.keys() - after.keys() if "default" not in before[n]]
    return found + [p for n in before.keys() & after.keys() for p in problems(before[n]["type"], after[n]["type"], f"{path}.{n}")]


@pytest.mark.parametrize("record", RECORDS)
def test_every_form_of_a_record_reads_every_other(record: str) -> None:
    forms = versions(record)
    assert len(forms) >= 2, "a record on a topic has at least one released schema beside the current one"
    for newer in range(1, len(forms)):
        for older in range(newer):
            assert problems(forms[older], forms[newer]) == []


@given(st.data())
@settings(max_examples=200)
def test_bytes_of_any_release_are_read_by_any_other(data: st.DataObject) -> None:
    """The rules above say so; these are the bytes, through the reader that runs."""
    forms = versions(data.draw(st.sampled_from(RECORDS)))
    writer, reader = data.draw(st.sampled_from(forms)), data.draw(st.sampled_from(forms))
    value = data.draw(values(writer))
    out = BytesIO()
    schemaless_writer(out, parse_schema(_plain(writer)), value)
    size = out.tell()
    out.seek(0)
    read = schemaless_reader(out, parse_schema(_plain(writer)), parse_schema(_plain(reader)))
    assert out.tell() == size
    assert {name: read[name] for name in read if name in value} == {name: value[name] for name in value if name in read}


def _plain(node: Any) -> Any:
    """Times as integers, as the codec reads them."""
    if isinstance(node, dict):
        return {key: _plain(item) for key, item in node.items() if key != "logicalType"}
    return [_plain(item) for item in node] if isinstance(node, list) else node


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s["fields"].append({"name": "n", "type": "string"}), [".n: is new and has no default"]),
        (lambda s: s["fields"].append({"name": "n", "type": ["null", "string"], "default": None}), []),
        (lambda s: s["fields"].pop(0), [".tenant: was removed and had no default"]),
        (lambda s: s["fields"][0].update(type="bytes"), [".tenant: string became bytes"]),
        (lambda s: s["fields"][0].update(name="tenants", default=""), [".tenant: was removed and had no default"]),
    ],
)
def test_the_check_itself_finds_what_breaks_readers(change: Any, expected: list[str]) -> None:
    schema = json.loads(current("TenantConfigured").json)
    changed = json.loads(current("TenantConfigured").json)
    change(changed)
    assert problems(schema, changed) == expected


def test_a_lost_enum_symbol_is_found() -> None:
    schema, changed = (json.loads(current("ProcessingFailed").json) for _ in range(2))
    next(f for f in changed["fields"] if f["name"] == "reason")["type"]["symbols"].remove("not_json")
    assert problems(schema, changed) == [".reason: lost {'not_json'}"]


def test_the_received_record_stays_last_in_the_routed_one() -> None:
    """`route` splices the received bytes onto the end instead of encoding them again."""
    for form in versions("TicketRouted"):
        assert form["fields"][-1]["name"] == "received"
        assert form["fields"][-1]["type"] == "bytes"


def test_every_shipped_schema_is_published_and_known_by_its_fingerprint() -> None:
    assert {v.fingerprint for v in released()} == {schema_version(text).fingerprint for text in FILES.values()}
    assert {v.record for v in released()} == set(RECORDS)
