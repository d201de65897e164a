"""The fast reader of TicketProcessed is the Codec, only faster."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MAGIC, Codec, CodecError, UnknownFingerprint, current, schema_version
from schemas.events import Call, TicketProcessed
from schemas.hotpath_processed import PROCESSED_HEADER, decode_processed

CODEC = Codec()
text = st.text(max_size=90)
some = st.none() | text
longs = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 300)
ints = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(0, 3)
times = st.integers(1_500_000_000_000_000, 2_500_000_000_000_000) | longs

calls = st.builds(
    Call,
    step=text,
    method=text,
    tool=text,
    plugin=text,
    plugin_version=text,
    variant=text,
    outcome=st.sampled_from(["unknown", "ok", "error"]),
    error_class=some,
    latency_us=longs,
    attempt=ints,
    api_calls=ints,
    cost_micros=longs,
    started_at=times,
)
events = st.builds(
    TicketProcessed,
    event_id=st.uuids().map(str) | text,
    injection_id=some,
    tenant=text,
    tool=text,
    tool_type=text,
    ticket_id=some,
    outcome=st.sampled_from(["unknown", "processed", "failed"]),
    target=some,
    target_ticket_id=some,
    rule=some,
    rule_set_version=longs,
    ticket_type=text,
    priority=text,
    received_at=times,
    processed_at=times,
    received_offset=longs,
    routed_offset=longs,
    calls=st.lists(calls, max_size=4),
)


@given(events)
def test_what_the_codec_writes_is_read_the_same(event: TicketProcessed) -> None:
    """Field for field, for any values a record can hold."""
    assert decode_processed(CODEC.encode(event), CODEC) == event


@given(events, st.data())
def test_broken_bytes_are_judged_as_the_codec_judges_them(event: TicketProcessed, data: st.DataObject) -> None:
    """Cut anywhere, or with one byte changed: the same event or the same refusal."""
    whole = CODEC.encode(event)
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        broken = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    assert outcome_of(lambda: decode_processed(broken, CODEC)) == outcome_of(lambda: CODEC.decode_as(TicketProcessed, broken))


def outcome_of(read: object) -> object:
    try:
        return read()
    except CodecError as exc:
        return type(exc), str(exc)


def test_a_newer_writers_record_is_read_by_its_schema() -> None:
    """The header decides: another fingerprint is the Codec's affair, known or not."""
    newer = json.loads(current("TicketProcessed").json)
    newer["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "Not known to this build."})
    version = schema_version(json.dumps(newer))
    event = TicketProcessed(
        event_id="e",
        tenant="t",
        tool="d",
        tool_type="z",
        outcome="processed",
        received_at=1,
        processed_at=2,
        received_offset=3,
        routed_offset=4,
    )
    data = MAGIC + version.fingerprint + CODEC.encode(event)[len(PROCESSED_HEADER) :] + b"\x08glad"
    fresh = Codec()
    with pytest.raises(UnknownFingerprint):
        decode_processed(data, fresh)
    fresh.learn(version.json)
    assert decode_processed(data, fresh) == event
