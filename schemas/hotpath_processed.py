"""Reads a TicketProcessed by hand, where fastavro costs twice as much: materialize decodes nothing else as often. Pure.

As in `schemas.hotpath`, it equals `Codec.decode_as` field for field; it reads only what this build's writer usually makes (short
strings, one block of calls) and hands every other record to the Codec, the broken ones too. What calls have in common, their
names, is few different byte strings, so each is read once.
"""

from __future__ import annotations

from functools import lru_cache

from schemas.codec import HEADER_BYTES, MAGIC, Codec, current
from schemas.events import Call, CallOutcome, ProcessOutcome, TicketProcessed

PROCESSED_HEADER = MAGIC + current(TicketProcessed.__name__).fingerprint
_CALL_OUTCOMES = {index << 1: outcome.value for index, outcome in enumerate(CallOutcome)}
_PROCESS_OUTCOMES = {index << 1: outcome.value for index, outcome in enumerate(ProcessOutcome)}
_LONG_STRING = 0x81
"""Set in a length's first byte when it is of 64 bytes or more, or negative."""


def decode_processed(data: bytes | None, codec: Codec) -> TicketProcessed:
    """The TicketProcessed in these bytes. Raises Undecodable or UnknownFingerprint, as the Codec does."""
    if data is not None and data[:HEADER_BYTES] == PROCESSED_HEADER:
        try:
            return _decode(data)
        except (_Unusual, IndexError, KeyError, ValueError):
            pass  # whatever is odd about it, the Codec reads it, or says why not
    return codec.decode_as(TicketProcessed, data)


class _Unusual(Exception):
    """Not what the fast reader reads."""


def _decode(data: bytes) -> TicketProcessed:
    if data[10] != 72:
        raise _Unusual
    event_id = data[11:47].decode()
    injection_id, at = _optional(data, 47)
    start = at
    one = data[at]
    at += 1 + (one >> 1)
    two = data[at]
    at += 1 + (two >> 1)
    three = data[at]
    at += 1 + (three >> 1)
    if (one | two | three) & _LONG_STRING:
        raise _Unusual
    tenant, tool, tool_type = _strings(data[start:at])
    ticket_id, at = _optional(data, at)
    outcome = _PROCESS_OUTCOMES[data[at]]
    target, at = _optional(data, at + 1)
    target_ticket_id, at = _optional(data, at)
    rule, at = _optional(data, at)
    rule_set_version, at = _long(data, at)
    start = at
    one = data[at]
    at += 1 + (one >> 1)
    two = data[at]
    at += 1 + (two >> 1)
    if (one | two) & _LONG_STRING:
        raise _Unusual
    ticket_type, priority = _strings(data[start:at])
    received_at, at = _time(data, at)
    processed_at, at = _time(data, at)
    received_offset, at = _long(data, at)
    routed_offset, at = _long(data, at)

    calls: list[Call] = []
    count = data[at]
    at += 1
    if count:
        if count & _LONG_STRING:
            raise _Unusual
        for _ in range(count >> 1):
            call, at = _call(data, at)
            calls.append(call)
        if data[at]:
            raise _Unusual
        at += 1
    if at != len(data):
        raise _Unusual
    return TicketProcessed(
        event_id=event_id,
        injection_id=injection_id,
        tenant=tenant,
        tool=tool,
        tool_type=tool_type,
        ticket_id=ticket_id,
        outcome=outcome,
        target=target,
        target_ticket_id=target_ticket_id,
        rule=rule,
        rule_set_version=rule_set_version,
        ticket_type=ticket_type,
        priority=priority,
        received_at=received_at,
        processed_at=processed_at,
        received_offset=received_offset,
        routed_offset=routed_offset,
        calls=calls,
    )


def _call(data: bytes, at: int) -> tuple[Call, int]:
    start = at
    one = data[at]
    at += 1 + (one >> 1)
    two = data[at]
    at += 1 + (two >> 1)
    three = data[at]
    at += 1 + (three >> 1)
    four = data[at]
    at += 1 + (four >> 1)
    five = data[at]
    at += 1 + (five >> 1)
    six = data[at]
    at += 1 + (six >> 1)
    if (one | two | three | four | five | six) & _LONG_STRING:
        raise _Unusual
    step, method, tool, plugin, plugin_version, variant = _strings(data[start:at])
    outcome = _CALL_OUTCOMES[data[at]]
    at += 1
    if data[at]:
        error_class, at = _optional(data, at)
    else:
        error_class = None
        at += 1
    latency_us, at = _long(data, at)
    if (attempt := data[at]) & _LONG_STRING or (api_calls := data[at + 1]) & _LONG_STRING:
        attempt, at = _long(data, at)
        api_calls, at = _long(data, at)
    else:
        attempt >>= 1
        api_calls >>= 1
        at += 2
    cost_micros, at = _long(data, at)
    started_at, at = _time(data, at)
    call = Call(
        step=step,
        method=method,
        tool=tool,
        plugin=plugin,
        plugin_version=plugin_version,
        variant=variant,
        outcome=outcome,
        error_class=error_class,
        latency_us=latency_us,
        attempt=attempt,
        api_calls=api_calls,
        cost_micros=cost_micros,
        started_at=started_at,
    )
    return call, at


@lru_cache(maxsize=8192)
def _strings(part: bytes) -> tuple[str, ...]:
    """Consecutive short strings."""
    found = []
    at = 0
    while at < len(part):
        end = at + 1 + (part[at] >> 1)
        found.append(part[at + 1 : end].decode())
        at = end
    return tuple(found)


def _optional(data: bytes, at: int) -> tuple[str | None, int]:
    kind = data[at]
    if kind == 0:
        return None, at + 1
    size = data[at + 1]
    if kind != 2 or size & _LONG_STRING:
        raise _Unusual
    end = at + 2 + (size >> 1)
    return data[at + 2 : end].decode(), end


def _long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte >> 1 ^ -(byte & 1), at + 1
    z, shift = byte & 0x7F, 7
    while byte > 0x7F:
        at += 1
        byte = data[at]
        z |= (byte & 0x7F) << shift
        shift += 7
    if shift > 63:
        raise _Unusual
    return z >> 1 ^ -(z & 1), at + 1


def _time(data: bytes, at: int) -> tuple[int, int]:
    """A time in microseconds: eight bytes from 1988 to 3100, of which the upper four rarely change."""
    one, two, three, four = data[at : at + 4]
    if one & 1 or one < 0x80 or two < 0x80 or three < 0x80 or four < 0x80:
        return _long(data, at)
    upper = _upper(data[at + 4 : at + 8])
    if upper < 0:
        return _long(data, at)
    return (one & 0x7F | (two & 0x7F) << 7 | (three & 0x7F) << 14 | (four & 0x7F) << 21 | upper) >> 1, at + 8


@lru_cache(maxsize=4096)
def _upper(part: bytes) -> int:
    """Bits 28 to 55 of a long that ends with these four bytes; -1 when it does not."""
    one, two, three, four = part
    if one < 0x80 or two < 0x80 or three < 0x80 or four > 0x7F:
        return -1
    return (one & 0x7F) << 28 | (two & 0x7F) << 35 | (three & 0x7F) << 42 | four << 49
