"""The hand-made readings and splices are the Codec's, field for field and byte for byte, for whole records and for torn ones."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.codec import MAGIC, Codec, Undecodable, UnknownFingerprint, current, schema_version
from schemas.events import BatchSeen, Decision, DedupScope, SeenOutcome, SeenRecord, TicketRouted, WebhookReceived
from schemas.hotpath import decode_long, decode_received, encode_decisions, encode_long, encode_routed
from schemas.hotpath_seen import (
    decode_batch_seen,
    encode_batch_seen,
    encode_seen_record,
    find_seen_by_event,
    find_seen_by_key,
    newest_received_at,
)
from schemas.ticket import Priority, TicketChange, TicketType

CODEC = Codec()
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text("ab", min_size=60, max_size=200)
longs = st.integers(-(1 << 63), (1 << 63) - 1)
times = st.integers(1_600_000_000_000_000, 2_000_000_000_000_000) | longs
ids = st.uuids().map(str)
ids16 = st.binary(min_size=16, max_size=16)

received_events = st.builds(
    WebhookReceived,
    event_id=ids,
    dedup_key=ids16 | st.binary(max_size=20),
    dedup_scope=st.sampled_from([scope.value for scope in DedupScope]),
    delivery_id=st.none() | text,
    tenant=text,
    tool=text,
    tool_type=text,
    ticket_id=st.none() | text,
    content_type=text,
    headers=st.dictionaries(text, text, max_size=3),
    query=text,
    received_at=times,
    verified_by=text,
    validation_us=st.integers(0, 100_000) | longs,
    injection_id=st.none() | text,
    body=st.binary(max_size=300) | st.just(b"x" * 70_000),
)
decisions = st.builds(
    Decision,
    target=text,
    failover=st.lists(text, max_size=2),
    actions=st.lists(text, max_size=2),
    rule=st.none() | text,
    rule_set_version=st.integers(0, 1 << 40),
)


@given(longs)
@example(0)
@example((1 << 63) - 1)
@example(-(1 << 63))
def test_a_number_comes_back_as_it_was(value: int) -> None:
    """Avro's zigzag, with the boundaries where a table ends."""
    encoded = encode_long(value)
    assert decode_long(encoded, 0) == (value, len(encoded))


@given(received_events)
def test_a_received_record_is_read_as_the_codec_reads_it(event: WebhookReceived) -> None:
    """Every field; the usual short form and every other."""
    data = CODEC.encode(event)
    record = decode_received(data, CODEC)
    assert record.event == event
    assert record.event_id == uuid.UUID(event.event_id).bytes


@given(received_events, st.data())
def test_torn_and_altered_bytes_are_read_as_the_codec_reads_them(event: WebhookReceived, data: st.DataObject) -> None:
    """A reader that is quicker must not be more trusting: what the Codec refuses is refused, what it reads comes out alike."""
    whole = CODEC.encode(event)
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = data.draw(
        st.sampled_from(
            [whole[:at], whole + b"\x00", whole[:at] + bytes((whole[at] ^ data.draw(st.integers(1, 255)),)) + whole[at + 1 :], whole[at:]]
        )
    )
    try:
        expected = CODEC.decode_as(WebhookReceived, altered)
    except UnknownFingerprint:
        with pytest.raises(UnknownFingerprint):
            decode_received(altered, CODEC)
    except Undecodable:
        with pytest.raises(Undecodable):
            decode_received(altered, CODEC)
    else:
        try:
            assert decode_received(altered, CODEC).event == expected
        except Undecodable:
            assert not _is_uuid(expected.event_id)


def _is_uuid(event_id: str) -> bool:
    try:
        return len(bytes.fromhex(event_id.replace("-", ""))) == 16
    except ValueError:
        return False


def test_a_record_without_a_uuid_is_undecodable() -> None:
    """Its id is what tells it from others everywhere downstream."""
    event = msgspec.structs.replace(_one_received(), event_id="no-uuid")
    with pytest.raises(Undecodable, match="UUID"):
        decode_received(CODEC.encode(event), CODEC)


def test_another_kind_of_event_is_undecodable() -> None:
    """A TicketRouted on the received topic is a mistake, not a webhook."""
    with pytest.raises(Undecodable):
        decode_received(CODEC.encode(BatchSeen(first_offset=0, next_offset=1)), CODEC)


def test_a_foreign_writers_record_is_read_once_its_schema_is_known() -> None:
    """A newer door may write a field more; it is read by Avro's rules, and its bytes are carried on as they are."""
    codec = Codec()
    schema = json.loads(current("WebhookReceived").json)
    schema["fields"].append({"name": "weather", "type": "string", "default": ""})
    version = schema_version(json.dumps(schema))
    event = _one_received()
    foreign = MAGIC + version.fingerprint + CODEC.encode(event)[10:] + b"\x06sun"
    with pytest.raises(UnknownFingerprint):
        decode_received(foreign, codec)

    codec.learn(version.json)
    record = decode_received(foreign, codec)

    assert record.event == event
    routed = codec.decode_as(TicketRouted, _spliced(record, foreign))
    assert routed.received == foreign
    assert routed.tenant == event.tenant


def _one_received() -> WebhookReceived:
    return WebhookReceived(
        event_id="01890a5d-ac96-774b-bcce-b302099a8057",
        dedup_key=bytes(16),
        dedup_scope="delivery",
        delivery_id="d1",
        tenant="acme",
        tool="desk",
        tool_type="zendesk",
        ticket_id="7",
        received_at=1_790_000_000_000_000,
        verified_by="hmac:ab",
        body=b"{}",
    )


def _spliced(record: object, data: bytes) -> bytes:
    part = encode_decisions((Decision(target="jira"),))
    return encode_routed(record, data, 3, ("unknown", "unknown", "unknown"), part, 0, 0, False)


@given(
    received_events,
    decisions,
    st.lists(decisions, max_size=3),
    st.integers(0, 1 << 50),
    st.sampled_from(list(TicketType)),
    st.sampled_from(list(Priority)),
    st.sampled_from(list(TicketChange)),
    st.integers(0, 5),
    st.integers(0, 1 << 31),
    st.booleans(),
)
def test_a_spliced_routed_record_is_the_codecs_own(
    event: WebhookReceived,
    decision: Decision,
    also: list[Decision],
    offset: int,
    kind: TicketType,
    priority: Priority,
    change: TicketChange,
    hop: int,
    extraction_us: int,
    possible_repeat: bool,
) -> None:
    """Bytes copied from the received record must fall where the schema has them."""
    data = CODEC.encode(event)
    record = decode_received(data, CODEC)
    spliced = encode_routed(
        record, data, offset, (kind, priority, change), encode_decisions((decision, *also)), hop, extraction_us, possible_repeat
    )
    assert spliced == CODEC.encode(
        TicketRouted(
            event_id=event.event_id,
            injection_id=event.injection_id,
            tenant=event.tenant,
            tool=event.tool,
            tool_type=event.tool_type,
            ticket_id=event.ticket_id,
            ticket_type=kind,
            priority=priority,
            change=change,
            decision=decision,
            also=also,
            hop=hop,
            extraction_us=extraction_us,
            possible_repeat=possible_repeat,
            received_at=event.received_at,
            received_offset=offset,
            received=data,
        )
    )


seen_records = st.builds(
    SeenRecord,
    offset=st.integers(0, 1 << 50),
    event_id=ids16 | st.just(b""),
    dedup_key=ids16 | st.just(b""),
    scope=st.sampled_from([scope.value for scope in DedupScope]),
    received_at=times,
    outcome=st.sampled_from([outcome.value for outcome in SeenOutcome]),
    original=st.none() | ids16,
)
batches = st.builds(
    lambda first, length, records: BatchSeen(first_offset=first, next_offset=first + length, records=records),
    st.integers(0, 1 << 50),
    st.integers(0, 5000),
    st.lists(seen_records, max_size=6),
)


def _parts(batch: BatchSeen) -> list[bytes]:
    return [
        encode_seen_record(r.offset, r.event_id, r.dedup_key, r.scope, encode_long(r.received_at), r.outcome, r.original)
        for r in batch.records
    ]


@given(batches)
def test_a_batch_seen_is_written_as_the_codec_writes_it(batch: BatchSeen) -> None:
    """It is read by the Codec elsewhere: audit, materialize, `topics tail`."""
    assert encode_batch_seen(batch.first_offset, batch.next_offset, _parts(batch)) == CODEC.encode(batch)


@given(batches)
def test_a_batch_seen_is_read_as_the_codec_reads_it(batch: BatchSeen) -> None:
    """Every record, in order, with ids that may be absent."""
    first, after, parts = decode_batch_seen(CODEC.encode(batch), CODEC)
    assert (first, after) == (batch.first_offset, batch.next_offset)
    assert [
        SeenRecord(
            offset=p.offset,
            event_id=p.event_id or b"",
            dedup_key=p.dedup_key or b"",
            scope="body" if p.scope_byte == b"\x02" else "delivery",
            received_at=p.received_at,
            outcome=p.outcome,
            original=p.original,
        )
        for p in parts
    ] == batch.records


@given(batches, st.data())
def test_a_torn_batch_seen_is_refused(batch: BatchSeen, data: st.DataObject) -> None:
    """Half a record of what was seen would be an event forgotten."""
    whole = CODEC.encode(batch)
    with pytest.raises(Undecodable):
        decode_batch_seen(whole[: data.draw(st.integers(0, len(whole) - 1))], CODEC)
    with pytest.raises(Undecodable):
        decode_batch_seen(whole + b"\x00", CODEC)


@given(st.lists(seen_records.filter(lambda r: r.event_id and r.dedup_key), min_size=1, max_size=6), st.data())
def test_a_record_is_found_in_a_batch_without_reading_the_others(records: list[SeenRecord], data: st.DataObject) -> None:
    """A hit of the index is confirmed so, on every bit of the key."""
    encoded = CODEC.encode(BatchSeen(first_offset=0, next_offset=9, records=records))
    wanted = data.draw(st.sampled_from(records))

    assert wanted.event_id in {p.event_id for p in find_seen_by_event(encoded, wanted.event_id)}
    assert wanted.outcome in {p.outcome for p in find_seen_by_key(encoded, wanted.dedup_key)}
    assert wanted.received_at in {p.received_at for p in find_seen_by_key(encoded, wanted.dedup_key[:8])}


@given(batches)
def test_the_newest_time_is_found_on_the_encoded_form(batch: BatchSeen) -> None:
    """Retention of the cache hangs on it."""
    times_of = [r.received_at for r in batch.records if r.event_id and 0 <= r.received_at < 1 << 62]
    if all(0 <= r.received_at < 1 << 62 for r in batch.records):
        assert newest_received_at(decode_batch_seen(CODEC.encode(batch), CODEC)[2]) == max(times_of, default=0)
