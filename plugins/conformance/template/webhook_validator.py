"""How Example Desk proves a webhook: an HMAC of the time and the body. Other schemes are in plugins/webhook.py."""

from __future__ import annotations

from plugins.webhook import TimestampedHmac

VALIDATOR = TimestampedHmac(
    header="X-Example-Desk-Signature",
    timestamp_header="X-Example-Desk-Timestamp",
    separator=b".",
    tolerance=86_400.0,  # as long as the tool goes on retrying with its first signature
)
