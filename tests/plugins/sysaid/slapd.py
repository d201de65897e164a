"""A real OpenLDAP server for tests: a child process with a configuration, a certificate and people of its own, on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BASE = "dc=corp,dc=example"
BIND_USER, BIND_PASSWORD = f"cn=reader,{BASE}", "read only, twice"
MANY = 1203
"""More people than a page, a size limit or an answer of ours holds."""
START_SECONDS = 20.0
SCHEMA = """
attributetype ( 1.3.6.1.4.1.4203.666.1.901 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.1.902 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.1.903 NAME 'objectGUID' SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.1.904 NAME 'userAccountControl' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.1.905 NAME 'department' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.4203.666.1.906 NAME 'adUser' SUP top AUXILIARY
  MAY ( sAMAccountName $ userPrincipalName $ objectGUID $ userAccountControl $ department ) )
"""
"""Active Directory's names for a person, as far as we read them."""


def slapd_path() -> str | None:
    """The server, which distributions keep out of a user's PATH."""
    return shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/usr/local/sbin:/usr/lib/openldap:/usr/local/libexec")


def schema_folder() -> Path | None:
    return next((p for p in map(Path, ("/etc/ldap/schema", "/etc/openldap/schema")) if (p / "inetorgperson.schema").is_file()), None)


class Slapd:
    """A context manager; `url` is plain, `secure_url` over TLS with a certificate that `ca_file` signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self.port, self.tls_port = free_port(), free_port()
        self.url, self.secure_url = f"ldap://127.0.0.1:{self.port}", f"ldaps://127.0.0.1:{self.tls_port}"
        self.ca_file = str(folder / "certificate.pem")

    def __enter__(self) -> Slapd:
        program = slapd_path()
        assert program is not None
        config = self._folder / "slapd.conf"
        (self._folder / "data").mkdir()
        make_certificate(self._folder)
        config.write_text(self._config())
        (self._folder / "people.ldif").write_text(people())
        add = [program, "-T", "add", "-q", "-f", str(config), "-l", str(self._folder / "people.ldif")]
        subprocess.run(add, check=True, capture_output=True, timeout=60)
        self._child = subprocess.Popen(
            [program, "-f", str(config), "-h", f"{self.url} {self.secure_url}", "-d", "0"], stderr=subprocess.DEVNULL
        )
        ends = time.monotonic() + START_SECONDS
        while not (_listens(self.port) and _listens(self.tls_port)):
            assert self._child.poll() is None and time.monotonic() < ends, "slapd did not start"
            time.sleep(0.02)  # it says nothing when it is ready
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if self._child is not None:
            self._child.terminate()
            self._child.wait(10)

    def _config(self) -> str:
        schemas = schema_folder()
        assert schemas is not None
        (self._folder / "ad.schema").write_text(SCHEMA)
        included = [schemas / f"{name}.schema" for name in ("core", "cosine", "inetorgperson")]
        return "\n".join(
            [
                *(f"include {path}" for path in (*included, self._folder / "ad.schema")),
                f"pidfile {self._folder / 'slapd.pid'}",
                f"TLSCertificateFile {self._folder / 'certificate.pem'}",
                f"TLSCertificateKeyFile {self._folder / 'key.pem'}",
                "sizelimit 500",
                "database ldif",
                f'suffix "{BASE}"',
                f'rootdn "cn=admin,{BASE}"',
                f"directory {self._folder / 'data'}",
                "access to attrs=userPassword by anonymous auth by * none",
                f'access to dn.subtree="ou=people,{BASE}" by dn.exact="{BIND_USER}" read by * none',
                "access to * by users read by * none",
            ]
        )


def people() -> str:
    """A handful with faces, and many without: names with everything a filter could trip over."""
    entries = [
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: corp\no: Corp",
        f"dn: {BIND_USER}\nobjectClass: person\ncn: reader\nsn: reader\nuserPassword: {BIND_PASSWORD}",
        f"dn: cn=blind,{BASE}\nobjectClass: person\ncn: blind\nsn: blind\nuserPassword: sees nobody",
        f"dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people",
        person("cora", "Cora Customer", mail="cora@customer.example", department="Yard", more="title: Crane driver\nmobile: +49 151 0"),
        person(
            "ada", "Ada Agent", mail="ada@desk.example", department="Service", more="telephoneNumber: +49 30 1\nuserAccountControl: 514"
        ),
        person("star", "Stella (Star) Ray", mail="star@desk.example", department="Lab"),
        person("jos", "Jos\u00e9 \u00c1lvarez", mail="jose@desk.example", department="Lab"),
        *(person(f"many{n:04d}", f"Many {n:04d}") for n in range(MANY)),
    ]
    return "\n\n".join(entries) + "\n"


def person(account: str, name: str, *, mail: str = "", department: str = "", more: str = "") -> str:
    import base64

    lines = [
        f"dn: uid={account},ou=people,{BASE}",
        "objectClass: inetOrgPerson",
        "objectClass: adUser",
        f"uid: {account}",
        f"sAMAccountName: {account}",
        f"userPrincipalName: {account}@corp.example",
        f"cn:: {base64.b64encode(name.encode()).decode()}",
        f"displayName:: {base64.b64encode(name.encode()).decode()}",
        f"sn:: {base64.b64encode(name.split()[-1].encode()).decode()}",
        f"objectGUID:: {base64.b64encode(account.encode().ljust(16, b'.')[:16]).decode()}",
        *([f"mail: {mail}"] if mail else []),
        *([f"department: {department}", f"departmentNumber: {department}"] if department else []),
        *([more] if more else []),
    ]
    return "\n".join(lines)


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for 127.0.0.1, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(secret)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
