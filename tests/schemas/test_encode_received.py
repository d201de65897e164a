"""The hand-made encodings are the codec's, byte for byte: a difference would be found by a reader, far away and late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.events import DedupScope, WebhookReceived
from schemas.hotpath import encode_received

CODEC = Codec()
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
longs = st.integers(-(1 << 63), (1 << 63) - 1)


@given(
    st.builds(
        WebhookReceived,
        event_id=text,
        dedup_key=st.binary(max_size=20),
        dedup_scope=st.sampled_from([scope.value for scope in DedupScope]),
        delivery_id=st.none() | text,
        tenant=text,
        tool=text,
        tool_type=text,
        ticket_id=st.none() | text,
        content_type=text,
        headers=st.dictionaries(text, text, max_size=4),
        query=text,
        received_at=longs,
        verified_by=text,
        validation_us=longs,
        injection_id=st.none() | text,
        body=st.binary(max_size=300) | st.just(b"x" * 70_000),
    )
)
def test_a_received_webhook_is_encoded_as_the_codec_does(event: WebhookReceived) -> None:
    """Every field in its place and order, lengths of any size, text of any script."""
    assert encode_received(event) == CODEC.encode(event)
