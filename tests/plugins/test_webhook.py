"""Who may bring us a delivery: the validators, over the vendors' own test vectors and over what attackers send."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api import AddressRefused, Delivery, DeliveryTooOld, PluginConfigError, SignatureMismatch, SignatureMissing, WebhookRejected
from plugins.webhook import (
    AllowedAddresses,
    BasicAuth,
    HmacHeader,
    SharedSecretHeader,
    SharedSecretQuery,
    TimestampedHmac,
    WebhookValidator,
    allowed_addresses,
    key_id_of,
)

NOW = 1_772_444_405_000_000
HUB = HmacHeader(header="X-Hub-Signature", prefix="sha256=")
DESK = TimestampedHmac(header="X-Desk-Signature", timestamp_header="X-Desk-Time", separator=b".", prefix="sha256=", prefix_optional=True)


def a_delivery(body: bytes = b"{}", received_at: int = NOW, **headers: str) -> Delivery:
    return Delivery(
        tenant="acme", tool="desk", body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}, received_at=received_at
    )


def test_the_websub_vector_of_jiras_manual_is_accepted() -> None:
    """The vendor's published example is the one fixed point both sides share."""
    signature = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
    verified = HUB.validate(a_delivery(b"Hello World!", x_hub_signature=signature), [b"It's a Secret to Everybody"])
    assert verified.scheme == "hmac"
    assert verified.key_id == key_id_of(b"It's a Secret to Everybody")


def test_the_zendesk_vector_is_accepted_at_its_time_and_refused_when_old() -> None:
    """The signature covers timestamp and body without anything between them, the secret used as text."""
    validator = TimestampedHmac(header="x-zs", timestamp_header="x-zt", encoding="base64")
    signed_at = int(datetime(2021, 3, 25, 5, 9, 27, tzinfo=UTC).timestamp() * 1e6)
    headers = {"x_zs": "S/RDdU2ERmj7LHDDoWJ2onPYH+t7/f2+LTM4dL7UiLM=", "x_zt": "2021-03-25T05:09:27Z"}
    body, secrets = b'{"event":"ticket.updated","id":123}', [b"dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="]
    assert validator.validate(a_delivery(body, signed_at + 299_000_000, **headers), secrets).scheme == "hmac-timestamp"
    assert validator.validate(a_delivery(body, signed_at - 299_000_000, **headers), secrets)
    with pytest.raises(DeliveryTooOld):
        validator.validate(a_delivery(body, signed_at + 301_000_000, **headers), secrets)
    with pytest.raises(DeliveryTooOld):
        validator.validate(a_delivery(body, signed_at - 301_000_000, **headers), secrets)


def signed(body: bytes, secret: bytes, timestamp: str) -> dict[str, str]:
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"x_desk_signature": f"sha256={digest}", "x_desk_time": timestamp}


@pytest.mark.parametrize("timestamp", ["1772444405", "1772444405123", "2026-03-02T09:40:05Z", "2026-03-02T10:40:05.123456789+0100"])
def test_a_timestamp_may_be_epoch_or_rfc3339(timestamp: str) -> None:
    """Tools write the same moment in four ways; the signed text is the header's, as sent."""
    assert DESK.validate(a_delivery(b"{}", **signed(b"{}", b"k", timestamp)), [b"k"])


def test_an_old_delivery_passes_where_any_age_is_allowed_but_one_from_the_future_does_not() -> None:
    """A tool may repeat an old delivery under its first timestamp; a far future one would stay valid for ever."""
    validator = TimestampedHmac(header="X-Desk-Signature", timestamp_header="X-Desk-Time", separator=b".", prefix="sha256=", tolerance=None)
    assert validator.validate(a_delivery(b"{}", **signed(b"{}", b"k", "1472444405")), [b"k"])
    with pytest.raises(DeliveryTooOld):
        validator.validate(a_delivery(b"{}", **signed(b"{}", b"k", "1872444405")), [b"k"])


def test_the_age_is_judged_only_after_the_signature() -> None:
    """Else an outsider could probe our clock and window with unsigned requests."""
    headers = {**signed(b"{}", b"k", "1472444405"), "x_desk_signature": "sha256=00"}
    with pytest.raises(SignatureMismatch):
        DESK.validate(a_delivery(b"{}", **headers), [b"k"])


def test_a_signed_timestamp_that_is_no_time_is_refused() -> None:
    """What cannot be placed in time cannot be inside the window."""
    with pytest.raises(DeliveryTooOld):
        DESK.validate(a_delivery(b"{}", **signed(b"{}", b"k", "yesterday")), [b"k"])


@pytest.mark.parametrize("which", [0, 1])
def test_both_live_secrets_pass_during_a_rotation_and_say_which(which: int) -> None:
    """The tool and we change at different moments; nothing may be refused in between."""
    live = [b"new", b"old"]
    digest = hmac.new(live[which], b"{}", hashlib.sha256).hexdigest()
    assert HUB.validate(a_delivery(b"{}", x_hub_signature=f"sha256={digest}"), live).key_id == key_id_of(live[which])


def test_a_body_changed_in_one_byte_is_refused() -> None:
    """The point of a signature."""
    digest = hmac.new(b"k", b'{"a":1}', hashlib.sha256).hexdigest()
    with pytest.raises(SignatureMismatch):
        HUB.validate(a_delivery(b'{"a":2}', x_hub_signature=f"sha256={digest}"), [b"k"])


def test_a_body_that_means_the_same_but_is_written_otherwise_is_refused() -> None:
    """The bytes are signed, not their meaning: two parsers may read one text differently. And what is no JSON can be signed too."""
    digest = hmac.new(b"k", b'{"a": 1}', hashlib.sha256).hexdigest()
    assert HUB.validate(a_delivery(b'{"a": 1}', x_hub_signature=f"sha256={digest}"), [b"k"])
    for same in (b'{"a":1}', b'{"a": 1, "a": 1}', b'{"a": 1} ', b'{"\\u0061": 1}'):
        with pytest.raises(SignatureMismatch):
            HUB.validate(a_delivery(same, x_hub_signature=f"sha256={digest}"), [b"k"])


@pytest.mark.parametrize(
    "validator", [HUB, DESK, SharedSecretHeader(header="X-Hub-Signature"), BasicAuth(user="ann"), HmacHeader(header="x", encoding="base64")]
)
def test_no_header_is_another_refusal_than_a_wrong_one(validator: WebhookValidator) -> None:
    """The two have different remedies: the secret was never set up, or it is another one."""
    with pytest.raises(SignatureMissing):
        validator.validate(a_delivery(), [b"k"])


@pytest.mark.parametrize("secrets", [[], [b""]])
@pytest.mark.parametrize(
    ("validator", "headers"),
    [
        (HUB, {"x_hub_signature": "sha256=" + hmac.new(b"", b"{}", hashlib.sha256).hexdigest()}),
        (SharedSecretHeader(header="x-key"), {"x_key": " "}),
    ],
)
def test_an_unset_secret_opens_no_door(validator: WebhookValidator, headers: dict[str, str], secrets: list[bytes]) -> None:
    """Anybody can sign with an empty key."""
    with pytest.raises(PluginConfigError):
        validator.validate(a_delivery(b"{}", **headers), secrets)


def test_a_hex_digest_may_be_in_upper_case_and_without_an_optional_prefix() -> None:
    """Scripts on the tool's side write either."""
    headers = signed(b"{}", b"k", "1772444405")
    headers["x_desk_signature"] = headers["x_desk_signature"].removeprefix("sha256=").upper()
    assert DESK.validate(a_delivery(b"{}", **headers), [b"k"])


def test_a_missing_prefix_is_refused_where_it_is_asked_for() -> None:
    """`sha1=` of some old sender must not be read as sha256."""
    with pytest.raises(SignatureMismatch):
        HUB.validate(a_delivery(b"{}", x_hub_signature="sha1=abc"), [b"k"])


@pytest.mark.parametrize("header", ["Basic", "Basic %%%", "Bearer abc", "Basic " + base64.b64encode(b"nocolon").decode()])
def test_broken_basic_credentials_are_refused(header: str) -> None:
    """Each is a value a scanner sends."""
    with pytest.raises(SignatureMismatch):
        BasicAuth(user="ann").validate(a_delivery(authorization=header), [b"pw"])


def test_basic_needs_the_right_user_and_the_right_password() -> None:
    """Either alone is a guess."""

    def header(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    assert BasicAuth(user="ann").validate(a_delivery(authorization=header("ann", "p:w")), [b"p:w"]).scheme == "basic"
    for user, password in (("bob", "p:w"), ("ann", "x")):
        with pytest.raises(SignatureMismatch):
            BasicAuth(user="ann").validate(a_delivery(authorization=header(user, password)), [b"p:w"])


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("key=s3cret", None),
        ("from=desk&key=s3cret", None),
        ("key=old%20one", None),
        ("key=wrong", SignatureMismatch),
        ("key=&key=s3cret", None),
        ("Key=s3cret", SignatureMissing),
        ("", SignatureMissing),
        ("key", SignatureMissing),
        ("x=1&" * 5000 + "key=s3cret", SignatureMissing),
    ],
)
def test_a_secret_in_the_address_is_compared_like_any_other(query: str, refusal: type[WebhookRejected] | None) -> None:
    """Some tools let an admin write nothing but an address."""
    delivery = Delivery(tenant="acme", tool="desk", body=b"{}", headers={}, query=query)
    if refusal is None:
        assert SharedSecretQuery(parameter="key").validate(delivery, [b"s3cret", b"old one"]).scheme == "query-secret"
    else:
        with pytest.raises(refusal):
            SharedSecretQuery(parameter="key").validate(delivery, [b"s3cret", b"old one"])


def test_a_secret_in_the_address_may_hold_a_plus_and_its_parameter_must_look_like_one() -> None:
    """Secrets in base64 are pasted as they are; a parameter the door does not know as a secret would be kept in events."""
    delivery = Delivery(tenant="acme", tool="desk", body=b"{}", headers={}, query="token=a+b%2Fc%3D")
    assert SharedSecretQuery(parameter="token").validate(delivery, [b"a+b/c="]).scheme == "query-secret"
    with pytest.raises(PluginConfigError, match="named like one"):
        SharedSecretQuery(parameter="id")


def came_from(peer: str, forwarded: str | None = None) -> Delivery:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return Delivery(tenant="acme", tool="desk", body=b"{}", headers=headers, peer=peer)


@pytest.mark.parametrize(
    ("delivery", "passes"),
    [
        (came_from("198.51.100.7"), True),
        (came_from("::ffff:198.51.100.7"), True),  # a dual-stack socket's word for it
        (came_from("2001:db8::1"), True),
        (came_from("fe80::1%eth0"), False),
        (came_from("198.51.101.7"), False),
        (came_from("2001:db8::2"), False),
        (came_from(""), False),
        (came_from("no address"), False),
        (came_from("203.0.113.9", "198.51.100.7"), False),  # not our proxy: anyone can write that header
        (came_from("10.0.0.1", "198.51.100.7"), True),
        (came_from("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2"), True),
        (came_from("10.0.0.1", "198.51.100.7, 203.0.113.9"), False),  # what stands before the first stranger is the stranger's word
        (came_from("10.0.0.1", "198.51.100.7, garbage"), False),
        (came_from("10.0.0.1"), False),
    ],
)
def test_a_delivery_counts_as_coming_from_the_last_address_nobody_of_ours_named(delivery: Delivery, passes: bool) -> None:
    """A list of addresses that a header can talk round protects nothing."""
    allowed = AllowedAddresses(["198.51.100.0/24", "2001:db8::1"], ["10.0.0.0/8"])
    if passes:
        assert allowed.validate(delivery).scheme == "addresses"
    else:
        with pytest.raises(AddressRefused):
            allowed.validate(delivery)


@pytest.mark.parametrize(
    "webhook",
    [
        {"addresses": []},
        {"addresses": "198.51.100.0/24"},
        {"addresses": ["198.51.100.7/24"]},
        {"addresses": ["desk.example"]},
        {"proxies": ["10.0.0.0/8"]},
    ],
)
def test_addresses_that_are_none_are_a_settings_error(webhook: dict[str, object]) -> None:
    """A list that allows nobody, or everybody, by a slip is found when it is applied."""
    with pytest.raises(PluginConfigError, match=r"webhook\.addresses"):
        allowed_addresses(webhook)
    assert allowed_addresses({"secret": "x"}) is None


@given(header=st.text(min_size=1), time=st.text(min_size=1), body=st.binary())
def test_any_header_is_refused_never_an_exception_of_another_kind(header: str, time: str, body: bytes) -> None:
    """A hostile header need not be ASCII, nor even encodable; the door must answer 401 and stay up."""
    delivery = a_delivery(body, x_hub_signature=header, authorization=header, x_desk_signature=header, x_desk_time=time)
    for validator in (
        HUB,
        DESK,
        SharedSecretHeader(header="x-hub-signature"),
        BasicAuth(user="ann"),
        HmacHeader(header="x-hub-signature", encoding="base64"),
    ):
        with pytest.raises(WebhookRejected):
            validator.validate(delivery, [b"a secret of some length"])


def test_a_key_id_tells_keys_apart_and_is_short() -> None:
    """It goes into events and logs, so it must not help to guess the key."""
    assert key_id_of(b"a") != key_id_of(b"b")
    assert len(key_id_of(b"a" * 100)) == 8


def test_an_error_never_names_the_secret_or_what_was_presented() -> None:
    """Errors are logged."""
    with pytest.raises(SignatureMismatch) as refused:
        SharedSecretHeader(header="x-key").validate(a_delivery(x_key="presented-value"), [b"configured-value"])
    assert "presented-value" not in str(refused.value)
    assert "configured-value" not in str(refused.value)
