"""From a delivery to the record of its topic: authentic first, then its ids, its key and its bytes. No I/O.

Nothing is parsed before the signature holds. What a plugin cannot read stays an event all the same: without a ticket id it gets a
hash key, without a delivery id it is told apart by its body.
"""

from __future__ import annotations

import logging
from time import perf_counter_ns
from urllib.parse import parse_qsl, urlencode

from plugins.api import Delivery, DeliveryIdentity, TicketingToolPlugin, Verified, WebhookRejected
from plugins.webhook import SECRET_WORDS
from schemas.events import DedupScope, WebhookReceived
from schemas.hotpath import encode_received
from schemas.ids import body_dedup_key, delivery_dedup_key, delivery_key, new_event_id, ticket_key
from streams.ingestion.spool import Record
from streams.topics import RECEIVED

log = logging.getLogger("ai_agents.ingestion")

MAX_ID_CHARS = 256
MAX_HANDSHAKE_BYTES = 4096
TRACE_HEADER = "traceparent"

_DELIVERY, _BODY = DedupScope.DELIVERY.value, DedupScope.BODY.value


class CannotVerify(Exception):
    """The tool's settings or its plugin are at fault, so nobody can say whether the delivery is authentic."""


def received(plugin: TicketingToolPlugin, delivery: Delivery) -> tuple[str, Record]:
    """The verified delivery's event id, and its record. Raises WebhookRejected when it is not authentic, CannotVerify."""
    tenant, tool, body, headers = delivery.tenant, delivery.tool, delivery.body, delivery.headers
    started = perf_counter_ns()
    verified = _verified(plugin, delivery)
    validation_us = (perf_counter_ns() - started) // 1000
    ticket_id, identity = _ids(plugin, delivery)
    key = delivery_key(tenant, tool, body) if ticket_id is None else ticket_key(tenant, tool, ticket_id)
    if identity is None:
        scope, delivery_id, dedup_key = _BODY, None, body_dedup_key(key, body)
    else:
        scope, delivery_id = _DELIVERY, identity.delivery_id
        dedup_key = delivery_dedup_key(tenant, tool, delivery_id, None if identity.signed else body)
    event_id = new_event_id()
    event = WebhookReceived(
        event_id=event_id,
        dedup_key=dedup_key,
        dedup_scope=scope,
        delivery_id=delivery_id,
        tenant=tenant,
        tool=tool,
        tool_type=plugin.tool_type,
        ticket_id=ticket_id,
        content_type=delivery.content_type,
        headers={name: headers[name] for name in (*plugin.kept_headers, TRACE_HEADER) if name in headers},
        query=without_secrets(delivery.query),
        received_at=delivery.received_at,
        verified_by=str(verified),
        validation_us=validation_us,
        body=body,
    )
    return event_id, Record(RECEIVED.name, key.encode(), encode_received(event), delivery.received_at // 1000)


def _verified(plugin: TicketingToolPlugin, delivery: Delivery) -> Verified:
    try:
        if plugin.allowed_from is not None:
            plugin.allowed_from.validate(delivery)
        return plugin.validate_webhook(delivery)
    except WebhookRejected:
        raise
    except Exception as exc:
        raise CannotVerify(f"{type(exc).__name__}: {exc}") from exc


def answers_handshakes(plugin: TicketingToolPlugin) -> bool:
    """Whether this tool tries the webhook's address at all."""
    return type(plugin).handshake is not TicketingToolPlugin.handshake


def handshake(plugin: TicketingToolPlugin, delivery: Delivery) -> bytes | None:
    """The plugin's answer to a handshake, bounded; None for what is none. Raises WebhookRejected for a GET from elsewhere."""
    if delivery.method != "POST" and plugin.allowed_from is not None:
        plugin.allowed_from.validate(delivery)
    try:
        answer = plugin.handshake(delivery)
    except WebhookRejected:
        raise
    except Exception:  # a plugin is someone else's code; the door answers others meanwhile
        log.exception("tenant %s tool %s: the plugin raised over a handshake; it is none", delivery.tenant, delivery.tool)
        return None
    return answer if answer is not None and len(answer) <= MAX_HANDSHAKE_BYTES else None


def _ids(plugin: TicketingToolPlugin, delivery: Delivery) -> tuple[str | None, DeliveryIdentity | None]:
    """The ticket's id and the delivery's; None for what the plugin cannot tell, or tells in a form no key can hold."""
    try:
        ticket_id, identity = plugin.ticket_key(delivery), plugin.identify(delivery)
    except Exception:  # as above; what is verified is kept, under a hash of its body
        log.exception("tenant %s tool %s: the plugin raised over a delivery's ids; it goes on without", delivery.tenant, delivery.tool)
        return None, None
    if ticket_id is not None and not _fits(ticket_id):
        ticket_id = None
    if identity is not None and not _fits(identity.delivery_id):
        identity = None
    return ticket_id, identity


def _fits(text: str) -> bool:
    """Not empty, of a sane length, and text that UTF-8 can hold (JSON may carry half a surrogate pair)."""
    if not 0 < len(text) <= MAX_ID_CHARS:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def without_secrets(query: str) -> str:
    """The query string with the values of secret-looking parameters cut out; unchanged when there are none."""
    if not query or not any(word in query.lower() for word in SECRET_WORDS):
        return query
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    return urlencode([(k, "***" if any(word in k.lower() for word in SECRET_WORDS) else v) for k, v in pairs], encoding="latin-1")
