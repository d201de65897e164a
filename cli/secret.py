"""`ai-agents secret`: set, list and remove what tenants' settings refer to. Values come in by standard input and never out."""

from __future__ import annotations

import os
import sys
import time

import click

from cli.output import NOT_FOUND, USAGE, CommandError, output_option, rows, say
from streams.settings import Settings


@click.group()
def secret() -> None:
    """Secrets the tenants' settings refer to as ${secret:NAME}.

    Example: ai-agents secret set acme/jira_token < token.txt
    """


@secret.command("set")
@click.argument("name", metavar="TENANT/NAME")
@click.argument("value", nargs=-1, metavar="", type=click.UNPROCESSED)
@click.option("--keep-old", is_flag=True, help="Keep the value set before live as well, until the next set: for a rotation.")
@click.option("--dry-run", is_flag=True, help="Check the name and the value; store nothing.")
@click.pass_obj
def set_secret(settings: Settings, name: str, value: tuple[str, ...], keep_old: bool, dry_run: bool) -> None:
    """Store a secret, read from standard input, or asked for without echo at a terminal.

    One line end at the end of the input is not part of the value. Running processes use the new value within seconds.

    Example: printf %s "$TOKEN" | ai-agents secret set acme/jira_token
    """
    if value:
        raise CommandError("a value on the command line can be read by others on this machine; give it on standard input", USAGE)
    from streams.secrets.environment import variable
    from streams.secrets.store import SecretStoreError, check_name, check_value, open_store

    try:
        check_name(name)
        given = _value(name)
        check_value(given)
        if dry_run:
            say(f"dry run: {name} would be set")
            return
        store = open_store(settings)
        had_one = store.has(name)
        store.put(name, given, keep_old)
    except SecretStoreError as exc:
        raise CommandError(str(exc)) from exc
    say(f"{name} is set" + ("; the value before it stays live" if keep_old and had_one else ""))
    if variable(name) in os.environ:
        say(f"warning: a value from the environment goes first for {name}; this one is not used")


def _value(name: str) -> bytes:
    if sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True, confirmation_prompt=True, err=True)).encode()
    from streams.secrets.store import MAX_VALUE_BYTES

    return sys.stdin.buffer.read(MAX_VALUE_BYTES + 3).removesuffix(b"\n").removesuffix(b"\r")


@secret.command("list")
@output_option
@click.pass_obj
def list_secrets(settings: Settings, output: str) -> None:
    """List the secrets by name, with their age and last use; never a value.

    `live` is 2 during a rotation. `used` is known to the minute.

    Example: ai-agents secret list -o json
    """
    from streams.secrets.store import SecretStoreError, open_store

    try:
        found = open_store(settings).names()
    except SecretStoreError as exc:
        raise CommandError(str(exc)) from exc
    now = time.time_ns() // 1000
    shown = [
        {"name": i.name, "live": i.live, "source": i.source, "age": _age(i.set_at, now), "used": _age(i.used_at, now, " ago")}
        for i in found
    ]
    rows(shown, output, ["name", "live", "source", "age", "used"])


def _age(at: int | None, now: int, suffix: str = "") -> str | None:
    if at is None:
        return None
    seconds = max(0, (now - at) // 1_000_000)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}{suffix}"
    return f"{seconds} s{suffix}"


@secret.command("remove")
@click.argument("name", metavar="TENANT/NAME")
@click.option("--dry-run", is_flag=True, help="Say whether it is set; remove nothing.")
@click.pass_obj
def remove_secret(settings: Settings, name: str, dry_run: bool) -> None:
    """Forget a secret at once, both live values of it.

    Example: ai-agents secret remove acme/jira_token
    """
    from streams.secrets.store import SecretStoreError, open_store

    store = open_store(settings)
    try:
        known = any(info.name == name for info in store.names()) if dry_run else store.remove(name)
    except SecretStoreError as exc:
        raise CommandError(str(exc)) from exc
    if not known:
        raise CommandError(f"no secret {name}; see: ai-agents secret list", NOT_FOUND)
    say(f"dry run: {name} would be removed" if dry_run else f"{name} is removed")
