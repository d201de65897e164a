"""The hot path's own Avro: records read and written by hand where fastavro would cost several microseconds each. Pure.

Everything here equals what `Codec` does, byte for byte and field for field; tests hold the two together. `decode_received` reads
only what this build's writer makes and hands every other record to the Codec, the broken ones too. Splicing works because Avro
has neither padding nor back references: a field's bytes can be copied from one record into another as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from schemas.codec import HEADER_BYTES, MAGIC, Codec, Undecodable, current
from schemas.events import Decision, DedupScope, TicketRouted, WebhookReceived
from schemas.ticket import Priority, TicketChange, TicketType

RECEIVED_HEADER = MAGIC + current(WebhookReceived.__name__).fingerprint
ROUTED_HEADER = MAGIC + current(TicketRouted.__name__).fingerprint

# --- numbers and strings -------------------------------------------------------------------------------------------------

_LOW = tuple(bytes((z & 0x7F | 0x80, z >> 7 | 0x80)) for z in range(1 << 14))
_SHORT = tuple(bytes((z,)) for z in range(1 << 7)) + tuple(bytes((z & 0x7F | 0x80, z >> 7)) for z in range(1 << 7, 1 << 14))


_WIDE = 1 << 62
"""Numbers beyond have an encoding too long to be a writer's; what becomes of them is the Codec's affair."""


def encode_long(value: int) -> bytes:
    """An Avro long: zigzag, then 7 bits a byte, low bits first."""
    z = value << 1 if value >= 0 else ~(value << 1)
    if z < 1 << 14:
        return _SHORT[z]
    if z < 1 << 28:
        return _LOW[z & 0x3FFF] + _SHORT[z >> 14]
    return _LOW[z & 0x3FFF] + _LOW[z >> 14 & 0x3FFF] + _high(z >> 28)


@lru_cache(maxsize=4096)
def _high(z: int) -> bytes:
    """The upper groups of a large number; those of a time in microseconds change every two minutes only."""
    out = bytearray()
    while z > 0x7F:
        out.append(z & 0x7F | 0x80)
        z >>= 7
    out.append(z)
    return bytes(out)


def decode_long(data: bytes, at: int) -> tuple[int, int]:
    """(value, next position) of the Avro long at a position; IndexError past the end."""
    byte = data[at]
    at += 1
    z = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        byte = data[at]
        at += 1
        z |= (byte & 0x7F) << shift
        shift += 7
    return z >> 1 ^ -(z & 1), at


def _bytes(value: bytes) -> bytes:
    return encode_long(len(value)) + value


def _string(value: str) -> bytes:
    raw = value.encode()
    length = len(raw)
    return (_SHORT[length << 1] if length < 1 << 13 else encode_long(length)) + raw


def _optional(value: str | None) -> bytes:
    return b"\x00" if value is None else b"\x02" + _string(value)


# --- WebhookReceived: written --------------------------------------------------------------------------------------------

_SCOPE_OF = {scope.value: encode_long(index) for index, scope in enumerate(DedupScope)}


def encode_received(event: WebhookReceived) -> bytes:
    """A WebhookReceived in single-object encoding, as `Codec.encode` writes it."""
    headers = b""
    if event.headers:
        headers = encode_long(len(event.headers)) + b"".join([_string(k) + _string(v) for k, v in event.headers.items()])
    return b"".join(
        (
            RECEIVED_HEADER,
            _string(event.event_id),
            encode_long(len(event.dedup_key)),
            event.dedup_key,
            _SCOPE_OF[event.dedup_scope],
            _optional(event.delivery_id),
            _string(event.tenant),
            _string(event.tool),
            _string(event.tool_type),
            _optional(event.ticket_id),
            _string(event.content_type),
            headers,
            b"\x00",  # the end of the headers' map
            _string(event.query),
            encode_long(event.received_at),
            _string(event.verified_by),
            encode_long(event.validation_us),
            _optional(event.injection_id),
            encode_long(len(event.body)),
            event.body,
        )
    )


# --- WebhookReceived: read -----------------------------------------------------------------------------------------------


class ReceivedRecord(msgspec.Struct, gc=False):
    """A decoded WebhookReceived, its id's 16 bytes, and the fields' bytes that a TicketRouted takes over as they are."""

    event: WebhookReceived
    event_id: bytes
    id_part: bytes
    injection_part: bytes
    names_part: bytes
    received_at_part: bytes


def decode_received(data: bytes | None, codec: Codec) -> ReceivedRecord:
    """The received record in these bytes. Raises Undecodable or UnknownFingerprint, as the Codec does.

    An event_id that is no UUID is Undecodable too: nothing could be told apart by it.
    """
    if data is not None and data[:HEADER_BYTES] == RECEIVED_HEADER:
        try:
            if (record := _decode_fast(data)) is not None:
                return record
        except (IndexError, ValueError):
            pass  # whatever is odd about it, the Codec says it in its own words below
    event = codec.decode_as(WebhookReceived, data)
    return ReceivedRecord(
        event,
        _uuid_bytes(event.event_id),
        _string(event.event_id),
        _optional(event.injection_id),
        _string(event.tenant) + _string(event.tool) + _string(event.tool_type) + _optional(event.ticket_id),
        encode_long(event.received_at),
    )


def _uuid_bytes(event_id: str) -> bytes:
    try:
        raw = bytes.fromhex(event_id.replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise Undecodable("the event_id is not a UUID")
    return raw


@lru_cache(maxsize=4096)
def _three_strings(part: bytes) -> tuple[str, str, str]:
    """Tenant, tool and tool type: few different ones, so their bytes stand for them."""
    one = 1 + (part[0] >> 1)
    two = one + 1 + (part[one] >> 1)
    return part[1:one].decode(), part[one + 1 : two].decode(), part[two + 1 :].decode()


@lru_cache(maxsize=4096)
def _high_value(part: bytes) -> int:
    """The upper 28 bits of a long of exactly eight bytes, from its last four; ValueError when it has another length."""
    if part[0] < 0x80 or part[1] < 0x80 or part[2] < 0x80 or part[3] > 0x7F:
        raise ValueError
    return (part[0] & 0x7F) << 28 | (part[1] & 0x7F) << 35 | (part[2] & 0x7F) << 42 | part[3] << 49


def _decode_fast(data: bytes) -> ReceivedRecord | None:
    """Reads the usual form: a 36-character id, 16 bytes of dedup key, short strings; None for any other."""
    if data[10] != 72 or data[47] != 32 or (scope := data[64]) & 0xFD or len(data) < 80:
        return None
    id_part = data[10:47]
    event_id = id_part[1:].decode("ascii")

    at = 65
    delivery_id = ticket_id = injection_id = None
    if (kind := data[at]) == 2:
        size = data[at + 1]
        if size & 0x81:
            return None
        end = at + 2 + (size >> 1)
        delivery_id = data[at + 2 : end].decode()
        at = end
    elif kind:
        return None
    else:
        at += 1

    names_at = at
    one, two = data[at], data[at + 1 + (data[at] >> 1)]
    end = at + 2 + (one >> 1) + (two >> 1)
    three = data[end]
    if (one | two | three) & 0x81:
        return None
    end += 1 + (three >> 1)
    tenant, tool, tool_type = _three_strings(data[at:end])
    at = end
    if (kind := data[at]) == 2:
        size = data[at + 1]
        if size & 0x81:
            return None
        end = at + 2 + (size >> 1)
        ticket_id = data[at + 2 : end].decode()
        at = end
    elif kind:
        return None
    else:
        at += 1
    names_part = data[names_at:at]

    size = data[at]
    if size & 0x81:
        return None
    end = at + 1 + (size >> 1)
    content_type = data[at + 1 : end].decode()
    at = end

    headers: dict[str, str] = {}
    count = data[at]
    at += 1
    if count:
        if count & 0x81:
            return None
        for _ in range(count >> 1):
            size = data[at]
            if size & 0x81:
                return None
            end = at + 1 + (size >> 1)
            name = data[at + 1 : end].decode()
            size = data[end]
            if size & 1:
                return None
            if size < 0x80:
                at = end + 1
            elif (more := data[end + 1]) < 0x80:
                size, at = size & 0x7F | more << 7, end + 2
            else:
                return None
            end = at + (size >> 1)
            headers[name] = data[at:end].decode()
            at = end
        if data[at]:
            return None
        at += 1

    size = data[at]
    if size & 1:
        return None
    if size < 0x80:
        at += 1
    elif (more := data[at + 1]) < 0x80:
        size, at = size & 0x7F | more << 7, at + 2
    else:
        return None
    end = at + (size >> 1)
    query = data[at:end].decode()
    at = end

    received_at_part = data[at : at + 8]
    b0, b1, b2, b3 = received_at_part[:4]
    if b0 < 0x80 or b1 < 0x80 or b2 < 0x80 or b3 < 0x80 or b0 & 1:
        return None
    z = b0 & 0x7F | (b1 & 0x7F) << 7 | (b2 & 0x7F) << 14 | (b3 & 0x7F) << 21 | _high_value(received_at_part[4:])
    at += 8

    size = data[at]
    if size & 0x81:
        return None
    end = at + 1 + (size >> 1)
    verified_by = data[at + 1 : end].decode()

    validation_us, at = decode_long(data, end)

    injection_at = at
    if (kind := data[at]) == 2:
        size = data[at + 1]
        if size & 0x81:
            return None
        end = at + 2 + (size >> 1)
        injection_id = data[at + 2 : end].decode()
        at = end
    elif kind:
        return None
    else:
        at += 1
    injection_part = data[injection_at:at]

    size, at = decode_long(data, at)
    uuid = bytes.fromhex(event_id.replace("-", ""))
    if size < 0 or at + size != len(data) or len(uuid) != 16 or not -_WIDE < validation_us < _WIDE:
        return None
    return ReceivedRecord(
        WebhookReceived(
            event_id=event_id,
            dedup_key=data[48:64],
            dedup_scope="body" if scope else "delivery",
            delivery_id=delivery_id,
            tenant=tenant,
            tool=tool,
            tool_type=tool_type,
            ticket_id=ticket_id,
            content_type=content_type,
            headers=headers,
            query=query,
            received_at=z >> 1,
            verified_by=verified_by,
            validation_us=validation_us,
            injection_id=injection_id,
            body=data[at:],
        ),
        uuid,
        id_part,
        injection_part,
        names_part,
        received_at_part,
    )


# --- TicketRouted: written around the received record --------------------------------------------------------------------

_WORDS: dict[tuple[str, str, str], bytes] = {
    (t, p, c): encode_long(i) + encode_long(j) + encode_long(k)
    for i, t in enumerate(TicketType)
    for j, p in enumerate(Priority)
    for k, c in enumerate(TicketChange)
}


def encode_decisions(decisions: Sequence[Decision]) -> bytes:
    """The decisions' part of a TicketRouted, at least one; the same for every event the same rules decide, so worth keeping."""
    first, *also = map(_decision, decisions)
    return b"".join((first, encode_long(len(also)), *also, b"\x00")) if also else first + b"\x00"


def _decision(decision: Decision) -> bytes:

    def array(items: list[str]) -> bytes:
        return encode_long(len(items)) + b"".join(map(_string, items)) + b"\x00" if items else b"\x00"

    return b"".join(
        (
            _string(decision.target),
            array(decision.failover),
            array(decision.actions),
            _optional(decision.rule),
            encode_long(decision.rule_set_version),
        )
    )


def encode_routed(
    received: ReceivedRecord,
    data: bytes,
    offset: int,
    words: tuple[str, str, str],
    decision_part: bytes,
    hop: int,
    extraction_us: int,
    possible_repeat: bool,
) -> bytes:
    """A TicketRouted around the bytes `data` of a received record. `words` are type, priority and change; KeyError on an unknown one."""
    return b"".join(
        (
            ROUTED_HEADER,
            received.id_part,
            received.injection_part,
            received.names_part,
            _WORDS[words],
            decision_part,
            _SHORT[hop << 1],
            encode_long(extraction_us),
            b"\x01" if possible_repeat else b"\x00",
            received.received_at_part,
            encode_long(offset),
            encode_long(len(data)),
            data,
        )
    )
