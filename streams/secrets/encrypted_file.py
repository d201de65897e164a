"""The default secret store: one encrypted file in the data directory.

`secrets.json` holds each value sealed with AES-256-GCM under a nonce of its own, the secret's name as associated data, so that a
value moved under another name does not open. The key comes from AI_AGENTS_SECRET_KEY (32 bytes, base64 or hex) or from
`secrets.key`, made on first use with mode 0600. Writers take turns by a lock file and replace the file at once; readers look at
its time stamp. Last-used times are kept in `secrets.used.json`, to the minute, and never block a reader.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streams.secrets.store import LIVE_VALUES, SecretInfo, SecretStoreError, check_name, check_value

log = logging.getLogger(__name__)

KEY_VARIABLE = "AI_AGENTS_SECRET_KEY"
KEY_BYTES = 32
NONCE_BYTES = 12
LOOK_EVERY = 1.0
RECORD_USE_EVERY = 60.0


class _Sealed(msgspec.Struct, frozen=True):
    """One value: when it was set (epoch microseconds), its nonce and its ciphertext."""

    set_at: int
    nonce: bytes
    box: bytes


class _File(msgspec.Struct, frozen=True):
    format: int
    secrets: dict[str, list[_Sealed]]


class EncryptedFileSecrets:
    """Opens `secrets.json` on first use. `live` costs a dictionary look-up; a change by another process is seen within LOOK_EVERY."""

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._dir = data_dir
        self._path = data_dir / "secrets.json"
        self._used_path = data_dir / "secrets.used.json"
        self._environment = environment
        self._monotonic = monotonic
        self._now = now
        self._cipher: AESGCM | None = None
        self._looked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._live: dict[str, tuple[bytes, ...]] = {}
        self._used: dict[str, float] = {}
        self._use_recorded = float("-inf")

    # reading ---------------------------------------------------------------------------------------------------------
    def live(self, name: str) -> Sequence[bytes]:
        tick = self._monotonic()
        if tick - self._looked >= LOOK_EVERY:
            self._reload(tick)
        values = self._live.get(name, ())
        if values:
            self._used[name] = tick
            if tick - self._use_recorded >= RECORD_USE_EVERY:
                self._use_recorded = tick
                self.record_use()
        return values

    def has(self, name: str) -> bool:
        self._reload(self._monotonic())
        return name in self._live

    def _reload(self, tick: float) -> None:
        """Opens the file again when it is another one. A file that cannot be opened leaves the values known so far in use."""
        self._looked = tick
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._live = None, {}
            return
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return
        try:
            self._live = {name: tuple(self._open(name, s) for s in sealed) for name, sealed in self._read().secrets.items()}
        except SecretStoreError as exc:
            if not self._live:
                raise
            log.error("secrets cannot be read again; the values known so far stay in use: %s", exc)
        self._stamp = stamp

    def _read(self) -> _File:
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File(1, {})
        except (OSError, msgspec.DecodeError) as exc:
            raise SecretStoreError(f"{self._path} cannot be read: {type(exc).__name__}") from exc
        if file.format != 1:
            raise SecretStoreError(f"{self._path} was written by a newer version of ai-agents (format {file.format})")
        return file

    def _open(self, name: str, sealed: _Sealed) -> bytes:
        try:
            return self._key().decrypt(sealed.nonce, sealed.box, name.encode())
        except InvalidTag:
            where = KEY_VARIABLE if KEY_VARIABLE in self._environment else str(self._dir / "secrets.key")
            raise SecretStoreError(
                f"{self._path}: {name} does not open with the key of {where}; restore the key, or set the secret anew"
            ) from None

    def names(self) -> Sequence[SecretInfo]:
        used = self._recorded_use()
        return [
            SecretInfo(name, len(sealed), "encrypted file", set_at=sealed[0].set_at, used_at=used.get(name))
            for name, sealed in sorted(self._read().secrets.items())
        ]

    # writing ---------------------------------------------------------------------------------------------------------
    def put(self, name: str, value: bytes, keep_old: bool) -> None:
        check_name(name)
        check_value(value)
        with self._locked():
            secrets = self._read().secrets
            nonce = os.urandom(NONCE_BYTES)
            newest = _Sealed(self._now(), nonce, self._key().encrypt(nonce, value, name.encode()))
            before = secrets.get(name, [])[: LIVE_VALUES - 1] if keep_old else []
            self._write(self._path, _File(1, {**secrets, name: [newest, *before]}))
        self._looked = float("-inf")

    def remove(self, name: str) -> bool:
        with self._locked():
            secrets = self._read().secrets
            if name not in secrets:
                return False
            self._write(self._path, _File(1, {n: sealed for n, sealed in secrets.items() if n != name}))
        self._looked = float("-inf")
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._dir / "secrets.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, path: Path, content: object, *, durable: bool = True) -> None:
        """Replaces a file at once, mode 0600; durable: also across a power loss."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(content))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            _sync_directory(self._dir)

    # last use --------------------------------------------------------------------------------------------------------
    def record_use(self) -> None:
        """Writes down what this process used since the last time; gives way, and keeps it for later, when another one is writing."""
        if not self._used:
            return
        tick, now = self._monotonic(), self._now()
        used = {name: now - int((tick - at) * 1e6) for name, at in self._used.items()}
        try:
            with (self._dir / "secrets.used.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._write(self._used_path, {**self._recorded_use(), **used}, durable=False)
        except OSError:  # busy, or a read-only directory: the times are a help to people, never worth an error on the way of a request
            return
        self._used = {}

    def _recorded_use(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._used_path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            return {}

    # key -------------------------------------------------------------------------------------------------------------
    def _key(self) -> AESGCM:
        if self._cipher is None:
            given = self._environment.get(KEY_VARIABLE)
            self._cipher = AESGCM(_parse_key(given, KEY_VARIABLE) if given else self._key_from_file())
        return self._cipher

    def _key_from_file(self) -> bytes:
        path = self._dir / "secrets.key"
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return self._new_key(path)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SecretStoreError(f"{path} can be read by others; run: chmod 600 {path}")
            return _parse_key(file.read(256).decode("ascii", "replace"), str(path))

    def _new_key(self, path: Path) -> bytes:
        """Makes the key file; of two processes doing so at once, both use the first one's."""
        if self._path.exists():
            raise SecretStoreError(f"{path} is missing, and {self._path} does not open without it; restore it or set {KEY_VARIABLE}")
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f"secrets.key.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            with suppress(FileExistsError):  # then the other process's key is read below
                os.link(temporary, path)
        finally:
            temporary.unlink()
        _sync_directory(self._dir)
        return _parse_key(path.read_text(encoding="ascii"), str(path))


def _parse_key(text: str, where: str) -> bytes:
    text = text.strip()
    for decode in (
        bytes.fromhex,
        lambda t: base64.b64decode(t, altchars=b"-_", validate=True),
        lambda t: base64.b64decode(t, validate=True),
    ):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise SecretStoreError(f"{where} is not a key: 32 bytes in base64 or hex; make one with: openssl rand -base64 32")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
