"""A secret is in no log line, no error and no event. Looked for is every credential the sandbox gave, and every token seen on the wire."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from plugins.api import ApiError, WebhookRejected
from plugins.conformance.builders import a_change, a_note
from plugins.conformance.check import NotApplicable, check, require
from plugins.conformance.checks.verification import NOT_PROOF, keys, proofs
from plugins.conformance.proxy import ProxyFault
from plugins.conformance.stand import IMPATIENT, Stand
from plugins.http.client import ApiClient
from plugins.http.retry import NEVER

NOWHERE = "http://127.0.0.1:9"


class _Kept(logging.Handler):
    """Keeps every record's whole text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + repr(record.args))


@contextmanager
def logged() -> Iterator[list[str]]:
    """Everything any logger says within the block, at level DEBUG."""
    kept, root = _Kept(), logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        yield kept.lines
    finally:
        root.removeHandler(kept)
        root.setLevel(level)


def known_secrets(stand: Stand) -> set[str]:
    """The credentials given and those seen on the wire, Basic's user and password together too."""
    seen = {request.proof.rpartition(" ")[2] for request in stand.proxy.seen}
    return {secret for secret in stand.secrets_in_use() | seen if len(secret) >= 8}


def told_in(text: str, secrets: set[str]) -> bool:
    return any(secret in text or secret in unquote(text) for secret in secrets)


def whole(exc: BaseException | None) -> str:
    """An error's text with those of its causes."""
    parts = []
    while exc is not None:
        parts.append(f"{exc!r} {exc} {exc.__dict__}")
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return " ".join(parts)


async def eventful(stand: Stand) -> list[BaseException]:
    """A day in a plugin's life, good and bad; answers the errors."""

    def impatient(base_url: str | None = None) -> ApiClient:
        return stand.client(base_url, IMPATIENT, NEVER)

    plugin, errors = stand.plugin(client=impatient()), list[BaseException]()
    ref = await stand.created(plugin)
    await plugin.update_ticket(ref.ticket_id, a_change(subject="x"))
    await plugin.add_note(ref.ticket_id, a_note())
    await plugin.health_check()
    known = stand.sandbox.credentials["auth"]
    auth = {name: value + "x" if isinstance(value, str) and not value.startswith("http") else value for name, value in known.items()}
    for fault, other in (
        (ProxyFault(kind="status", status=401, times=9), plugin),
        (ProxyFault(kind="status", status=500, times=9), plugin),
        (ProxyFault(kind="reset", times=9), plugin),
        (ProxyFault(kind="page", times=9), plugin),
        (None, stand.plugin(client=impatient(), auth=auth)),
        (None, stand.plugin(client=impatient(NOWHERE), base_url=NOWHERE)),
    ):
        if fault is not None:
            stand.proxy.arm(fault)
        for call in (other.get_ticket(ref.ticket_id), other.create_ticket(stand.a_ticket()), other.find_by_external_id("aia-0")):
            try:
                await call
            except ApiError as exc:
                errors.append(exc)
        stand.proxy.calm()
    return errors


@check("redaction.logs", "A log is read by many and kept for long: whatever a plugin does, no credential is in a line of it.")
async def logs(stand: Stand) -> None:
    with logged() as lines:
        await eventful(stand)
        delivery = await stand.delivery()
        stand.reader().validate_webhook(delivery)
        stand.reader().extract_metadata(delivery)
    secrets = known_secrets(stand)
    require(secrets, "plugin.toml marks no setting as secret, so nobody can tell what must not be shown")
    for line in lines:
        require(not told_in(line, secrets), f"a log line of {line.split()[0]} tells a credential")


@check("redaction.errors", "An error's text becomes a dead letter and a mail: it holds no credential, its causes neither.")
async def errors(stand: Stand) -> None:
    found = await eventful(stand)
    secrets = known_secrets(stand)
    require(found, "no call failed, though every one was made to")
    for exc in found:
        require(not told_in(whole(exc), secrets), f"a {type(exc).__name__} tells a credential")


@check("redaction.refusals", "Why a delivery is refused is told to whoever sent it: neither our secret nor what would have been right.")
async def refusals(stand: Stand) -> None:
    delivery = await stand.delivery()
    plugin = stand.reader()
    for part in proofs(plugin, delivery):
        try:
            plugin.validate_webhook(part.instead("0" * len(part.value)))
        except WebhookRejected as exc:
            right = stand.webhook_secrets() | ({part.value.rpartition("=")[2]} - {""})
            require(not told_in(whole(exc), right), "a refusal tells a secret, or what the header should have been")


@check(
    "redaction.settings_marked", "A setting that holds a secret is marked as one, so that it is shown as **** wherever settings are shown."
)
async def settings_marked(stand: Stand) -> None:
    marked = {path for path, setting in stand.subject.manifest.settings.items() if setting.secret}
    words = ("secret", "password", "token", "key")
    for path, setting in stand.subject.manifest.settings.items():
        name = path.rpartition(".")[2]
        exposed = any(name == word or name.endswith(f"_{word}") for word in words) and not setting.secret
        require(not exposed, f"plugin.toml: the setting {path} is not marked secret = true")
    require(marked, "plugin.toml marks no setting as secret")


@check("redaction.events", "What is kept of a delivery is kept for years: neither the webhook's secret nor the header that carries it.")
async def events(stand: Stand) -> None:
    delivery, plugin = await stand.delivery(), stand.reader()
    secrets = stand.webhook_secrets()
    for name in stand.subject.kind.kept_headers:
        require(name == name.lower(), f"kept_headers: {name} is not in lower case, so it is never found")
        require(not told_in(delivery.headers.get(name, ""), secrets), f"kept_headers keeps {name}, which holds the secret itself")
    metadata, identity = plugin.extract_metadata(delivery), plugin.identify(delivery)
    require(not told_in(repr(metadata) + repr(identity), secrets), "the metadata of a delivery holds the webhook's secret")


@check(
    "redaction.addresses",
    "Addresses are logged by every proxy on the way: credentials travel in headers, or in the body of a token request.",
)
async def addresses(stand: Stand) -> None:
    await eventful(stand)
    secrets = {text for secret in known_secrets(stand) for text in (secret, quote(secret, safe=""))}
    for request in stand.proxy.seen:
        require(
            not told_in(f"{request.path}?{request.query}", secrets),
            f"{request.method} {request.path.split('/')[1]}…: a credential is in the address",
        )


@check(
    "redaction.kept_out_of_names",
    "The key's name in an event tells two keys apart and nothing else: it is no part of the key, nor its plain hash.",
)
async def kept_out_of_names(stand: Stand) -> None:
    import hashlib

    delivery = await stand.delivery()
    hidden = stand.webhook_secrets()
    if not hidden:
        raise NotApplicable("plugin.toml marks no webhook setting as secret")
    verified = stand.reader(secrets=keys(stand, [None])).validate_webhook(delivery)
    for secret in hidden:
        for name in ("md5", "sha1", "sha256", "sha512"):
            digest = hashlib.new(name, secret.encode(), usedforsecurity=False).hexdigest()
            require(not digest.startswith(verified.key_id), f"Verified.key_id is the beginning of the secret's {name}")
    shown = {value for header, value in delivery.headers.items() if header not in NOT_PROOF and len(value) >= 8}
    require(not told_in(str(verified), shown), "Verified holds what the header held")
