"""Which deliveries are Jira's, and by which id they are told apart."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
import pytest

from plugins.api import Delivery, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing, WebhookRejected
from plugins.jira.plugin import JiraPlugin
from plugins.jira.webhook_validator import query_hash

# the vendor's published test vector
SECRET = "It's a Secret to Everybody"
VECTOR = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"


def plugin(webhook: Mapping[str, Any] | None = None, live: Sequence[bytes] | None = None) -> JiraPlugin:
    def secrets(reference: str) -> Sequence[bytes]:
        return [reference.encode()] if live is None else live

    def no_http() -> Any:
        raise AssertionError("a pure method asked for the network")

    settings = {"webhook": {"secret": SECRET} if webhook is None else webhook}
    return JiraPlugin(PluginContext(tenant="acme", tool="jira", settings=settings, secrets=secrets, http=no_http))


def delivery(body: bytes = b"Hello World!", **headers: str) -> Delivery:
    return Delivery(tenant="acme", tool="jira", body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_vendors_test_vector_is_accepted() -> None:
    """Key, message and digest as Atlassian publishes them: the one proof that does not rest on our own code."""
    verified = plugin().validate_webhook(delivery(x_hub_signature=VECTOR))
    assert verified.scheme == "x-hub-signature-sha256"
    assert SECRET not in str(verified)


@pytest.mark.parametrize("method", ["sha256", "sha384", "sha512"])
def test_the_method_is_read_from_the_header(method: str) -> None:
    """The vendor says it may change; a stronger one must not lock the door."""
    signature = f"{method}={hmac.new(SECRET.encode(), b'Hello World!', method).hexdigest()}"
    assert plugin().validate_webhook(delivery(x_hub_signature=signature)).scheme.endswith(method)


@pytest.mark.parametrize(
    "signature",
    [
        "sha1=" + hmac.new(SECRET.encode(), b"Hello World!", hashlib.sha1).hexdigest(),
        "md5=" + hmac.new(SECRET.encode(), b"Hello World!", hashlib.md5).hexdigest(),
        VECTOR.removeprefix("sha256="),
        "sha256=",
        "sha256",
        "=",
        "none=",
        VECTOR[:-1] + "0",
        VECTOR + VECTOR,
        "sha512=" + VECTOR.removeprefix("sha256="),
        "sha256=é",
    ],
)
def test_a_weak_or_wrong_signature_is_refused(signature: str) -> None:
    """A sender may not choose a method that can be forged."""
    with pytest.raises(SignatureMismatch):
        plugin().validate_webhook(delivery(x_hub_signature=signature))


def test_an_unsigned_delivery_is_refused_where_a_secret_is_set() -> None:
    """Unsigned admin webhooks are common; taking one would make the secret worthless."""
    with pytest.raises(SignatureMissing):
        plugin().validate_webhook(delivery())


def test_a_changed_body_is_refused() -> None:
    """One byte is enough."""
    with pytest.raises(SignatureMismatch):
        plugin().validate_webhook(delivery(b"Hello World?", x_hub_signature=VECTOR))


def test_both_secrets_count_during_a_rotation() -> None:
    """The secret is changed in Jira and here at different moments; nothing may be refused between."""
    for live in ([b"new", SECRET.encode()], [SECRET.encode(), b"old"]):
        assert plugin(live=live).validate_webhook(delivery(x_hub_signature=VECTOR))


def test_no_secret_accepts_nothing() -> None:
    """A forgotten setting must not open the door."""
    for webhook in ({}, {"secret": ""}):
        with pytest.raises(PluginConfigError):
            plugin(webhook).validate_webhook(delivery(x_hub_signature=VECTOR))
    with pytest.raises(PluginConfigError):
        plugin(live=[]).validate_webhook(delivery(x_hub_signature=VECTOR))


def test_old_data_center_sites_authenticate_another_way() -> None:
    """Data Center 9 and older cannot sign: a password in the webhook's address is what they have."""
    basic = plugin({"scheme": "basic", "user": "jira", "secret": "pw"})
    assert basic.validate_webhook(delivery(authorization="Basic " + b64encode(b"jira:pw").decode())).scheme == "basic"
    with pytest.raises(SignatureMismatch):
        basic.validate_webhook(delivery(authorization="Basic " + b64encode(b"jira:pv").decode()))
    shared = plugin({"scheme": "shared_secret", "header": "X-Proxy-Secret", "secret": "pw"})
    assert shared.validate_webhook(delivery(x_proxy_secret="pw")).scheme == "shared-secret"
    with pytest.raises(PluginConfigError, match="scheme"):
        plugin({"scheme": "none", "secret": "pw"})


def test_a_redelivery_is_known_by_its_identifier() -> None:
    """Jira keeps the identifier over its retries; it is a header, so the signature does not vouch for it."""
    identity = plugin().identify(delivery(x_atlassian_webhook_identifier="7d3f", x_atlassian_webhook_retry="2"))
    assert identity is not None
    assert (identity.delivery_id, identity.signed) == ("7d3f", False)
    assert plugin().identify(delivery()) is None


@pytest.mark.parametrize("setting", ["priority_names", "issue_types", "status_names"])
def test_a_name_for_a_word_that_is_none_is_a_config_error(setting: str) -> None:
    """`P1: Highest` would be ignored in silence; the canonical word is `urgent`."""
    with pytest.raises(PluginConfigError, match=setting):
        JiraPlugin(
            PluginContext(tenant="acme", tool="jira", settings={setting: {"P1": "x"}}, secrets=lambda _: [], http=lambda: pytest.fail())
        )


def test_our_own_account_is_known_by_its_account_id() -> None:
    """Each of our writes comes back as a webhook; its actor tells it."""
    own = JiraPlugin(
        PluginContext(tenant="acme", tool="jira", settings={"actor": "712020:0b07"}, secrets=lambda _: [], http=lambda: pytest.fail())
    )
    body = b'{"webhookEvent": "jira:issue_updated", "user": {"accountId": "%s", "emailAddress": "x@y.example"}, "issue": {"id": "1"}}'
    assert own.is_own_actor(own.extract_metadata(delivery(body % b"712020:0b07")))
    assert not own.is_own_actor(own.extract_metadata(delivery(body % b"712020:4f1e")))


# webhooks of apps ----------------------------------------------------------------------------------------------------

APP_SECRET = b"the secret Atlassian made for this app"
NOW = 1_772_433_900


def a_token(key: bytes = APP_SECRET, **changed: Any) -> str:
    claims = {"iss": "client-7", "iat": NOW - 5, "exp": NOW + 180, **changed}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm="HS256")


def by_app(token: str, kind: str = "Bearer", query: str = "", method: str = "POST") -> Delivery:
    headers = {"authorization": f"{kind} {token}"}
    return Delivery(tenant="acme", tool="jira", body=b"{}", headers=headers, query=query, method=method, received_at=NOW * 1_000_000)


def test_an_oauth_apps_webhook_is_verified_by_the_client_secret() -> None:
    """Such webhooks are never signed: the token is all there is, and its claims beyond its end are not documented."""
    ours = plugin({"scheme": "oauth_jwt", "secret": "s"}, [b"a newer secret of this very same app", APP_SECRET])
    assert ours.validate_webhook(by_app(a_token())).scheme == "oauth-jwt"
    for bad in (a_token(b"somebody else's secret, quite as long"), a_token(exp=NOW - 61), a_token(exp=None), "x.y.z"):
        with pytest.raises(WebhookRejected):
            ours.validate_webhook(by_app(bad))
    with pytest.raises(SignatureMismatch):
        ours.validate_webhook(by_app(a_token(), kind="JWT"))


def test_a_connect_apps_webhook_is_bound_to_its_address() -> None:
    """A token of a page inside Jira, or for another path, opens nothing here."""
    ours = plugin({"scheme": "connect_jwt", "secret": "s", "client": "client-7"}, [APP_SECRET])
    good = query_hash("POST", "/webhooks/acme/jira", "a=1")
    assert ours.validate_webhook(by_app(a_token(qsh=good), "JWT", "a=1")).scheme == "connect-jwt"
    for qsh, query in ((good, "a=2"), (good, ""), ("context-qsh", "a=1"), (None, "a=1")):
        with pytest.raises(SignatureMismatch, match="qsh"):
            ours.validate_webhook(by_app(a_token(qsh=qsh), "JWT", query))
    with pytest.raises(SignatureMismatch, match="iss"):
        ours.validate_webhook(by_app(a_token(qsh=good, iss="client-8"), "JWT", "a=1"))
    with pytest.raises(PluginConfigError, match=r"webhook\.client"):
        plugin({"scheme": "connect_jwt", "secret": "s"})


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("POST", "/webhooks/jira", "", "df497fbf798f8202322f33eb286d79a3ecc2053d57121b0b28386ee98b6397af"),
        ("get", "/rest/api/3/issue/A-1", "expand=a%20b", "1725de7d735dc6242288f04c814a122403de9cc5990f60c8ab1ba107561c67a0"),
        ("GET", "/rest/api/3/issue/A-1/", "expand=a+b&jwt=x.y.z", "1725de7d735dc6242288f04c814a122403de9cc5990f60c8ab1ba107561c67a0"),
    ],
)
def test_the_hash_of_an_address_is_atlassians(method: str, path: str, query: str, expected: str) -> None:
    """Path without its last slash, query in one spelling, the token itself left out."""
    assert query_hash(method, path, query) == expected


def test_the_order_of_a_query_does_not_matter() -> None:
    """Proxies reorder; repeated names are joined, in order of their values."""
    assert query_hash("GET", "", "b=2&a=1&a=0") == query_hash("GET", "/", "a=0&a=1&b=2")


def test_a_secret_in_the_address_is_taken_where_nothing_else_can_be_sent() -> None:
    """Data Center 9 has an address and nothing more."""
    ours = plugin({"scheme": "query", "secret": "s3cret"})
    assert ours.validate_webhook(by_app("", query="key=s3cret")).scheme == "query-secret"
    with pytest.raises(WebhookRejected):
        ours.validate_webhook(by_app("", query="key=other"))
