"""What every secret store answers, which ones this process reads, and how a plugin's references are resolved.

A secret is named `tenant/name`. It may have two live values during a rotation: the newest first, then the one before it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plugins.api import PluginConfigError
from streams.settings import Settings

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}/[a-z0-9][a-z0-9_-]{0,62}$")
REFERENCE = re.compile(r"^\$\{secret:([a-z0-9][a-z0-9_-]{0,62})\}$")
MAX_VALUE_BYTES = 64 << 10
LIVE_VALUES = 2


class SecretStoreError(RuntimeError):
    """The store cannot be read or written; the text says what to mend and holds no value."""


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be told about a secret. Times in epoch microseconds; None where the store does not know them."""

    name: str
    live: int
    source: str
    set_at: int | None = None
    used_at: int | None = None


class SecretStore(Protocol):
    """Named values. Reading is cheap enough for every request; a value changed elsewhere is seen within seconds."""

    def live(self, name: str) -> Sequence[bytes]:
        """Every value that may be used now, newest first; empty when the name is not set."""
        ...

    def has(self, name: str) -> bool:
        """Whether the name is set and can be read; asking is not a use of it."""
        ...

    def put(self, name: str, value: bytes, keep_old: bool) -> None:
        """Sets a value; with `keep_old` the newest one so far stays live beside it. Raises SecretStoreError where it cannot."""
        ...

    def names(self) -> Sequence[SecretInfo]:
        """Every secret, by name; never a value."""
        ...

    def remove(self, name: str) -> bool:
        """Forgets a secret at once; False when it was not set."""
        ...


class LayeredStore:
    """Several stores as one: the first that has a name answers for it; writes go to the last."""

    def __init__(self, stores: Sequence[SecretStore]) -> None:
        self._stores = tuple(stores)

    def live(self, name: str) -> Sequence[bytes]:
        for store in self._stores:
            if values := store.live(name):
                return values
        return ()

    def has(self, name: str) -> bool:
        return any(store.has(name) for store in self._stores)

    def put(self, name: str, value: bytes, keep_old: bool) -> None:
        self._stores[-1].put(name, value, keep_old)

    def names(self) -> Sequence[SecretInfo]:
        found: dict[str, SecretInfo] = {}
        for store in self._stores:
            for info in store.names():
                found.setdefault(info.name, info)
        return [found[name] for name in sorted(found)]

    def remove(self, name: str) -> bool:
        return self._stores[-1].remove(name)


def open_store(settings: Settings) -> SecretStore:
    """The stores of this process: the environment first, then the directory named by AI_AGENTS_SECRETS_DIR, else the encrypted file."""
    from streams.secrets.directory import DirectorySecrets
    from streams.secrets.encrypted_file import EncryptedFileSecrets
    from streams.secrets.environment import EnvironmentSecrets

    mounted = os.environ.get("AI_AGENTS_SECRETS_DIR")
    return LayeredStore(
        [EnvironmentSecrets(os.environ), DirectorySecrets(Path(mounted)) if mounted else EncryptedFileSecrets(settings.data_dir)]
    )


def resolver(store: SecretStore, tenant: str) -> Callable[[str], Sequence[bytes]]:
    """Resolves "${secret:name}" within the tenant to its live values, newest first, and any other text to itself.

    Raises PluginConfigError when the secret is not set, so that nothing is ever checked against an empty list.
    """

    def resolve(reference: str) -> Sequence[bytes]:
        found = REFERENCE.fullmatch(reference)
        if found is None:
            return (reference.encode(),)
        name = f"{tenant}/{found[1]}"
        if values := store.live(name):
            return values
        raise PluginConfigError(f"secret {name} is not set; run: ai-agents secret set {name}")

    return resolve


def check_name(name: str) -> None:
    """Raises SecretStoreError unless the text is a secret's name."""
    if not NAME.fullmatch(name):
        raise SecretStoreError(f"{name!r} is not TENANT/NAME in lower-case letters, digits, - and _")


def check_value(value: bytes) -> None:
    """Raises SecretStoreError unless a store may hold the value."""
    if not value:
        raise SecretStoreError("a secret must not be empty")
    if len(value) > MAX_VALUE_BYTES:
        raise SecretStoreError(f"a secret must not be larger than {MAX_VALUE_BYTES >> 10} KiB")
