"""People in the directory SysAid imports from: Active Directory or another LDAP server, read only, over TLS.

ldap3 blocks, so each look-up is a short connection of its own in a thread; the loop never waits for it, and a bound keeps a slow
directory from taking every thread. What people type goes into the filter escaped (RFC 4515).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from plugins.api import ApiError, CallTimedOut, ConnectFailed, CredentialsRefused, FatalApiError, Person, PluginConfigError, ServerError

MOST = 50
PAGE = 50
AT_ONCE = 4
SHORTEST = 2
"""Characters below which a prefix would match half a directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """How one kind of directory names what we read; `names` are searched by their beginning."""

    people: str
    key: str
    account: str
    names: tuple[str, ...]
    department: str

    @property
    def attributes(self) -> tuple[str, ...]:
        kept = ("mail", "displayName", "cn", "title", "telephoneNumber", "mobile", "manager")
        return tuple(dict.fromkeys((*kept, self.account, self.department, *(n for n in self.names if n not in kept))))


SCHEMAS: Mapping[str, Schema] = {
    "active_directory": Schema(
        people="(&(objectCategory=person)(objectClass=user))",
        key="objectGUID",
        account="sAMAccountName",
        names=("mail", "sAMAccountName", "userPrincipalName", "displayName", "sn"),
        department="department",
    ),
    "ldap": Schema(
        people="(objectClass=inetOrgPerson)",
        key="entryUUID",
        account="uid",
        names=("mail", "uid", "displayName", "cn", "sn"),
        department="departmentNumber",
    ),
}
DISABLED = 0x2
"""The bit of Active Directory's userAccountControl."""
WRONG_PASSWORD: Mapping[str, str] = {
    "52e": "the bind password is wrong",
    "525": "there is no such bind account",
    "532": "the bind account's password has expired",
    "533": "the bind account is disabled",
    "775": "the bind account is locked",
}
"""By the `data` code Active Directory adds to result 49."""


class Directory:
    """One tenant's directory, from its settings: url, bind_user, bind_password, base, kind, people, start_tls, ca_file, plain, timeout."""

    def __init__(self, settings: Mapping[str, Any], secret: Callable[[str], str]) -> None:
        self._secret = secret
        url = urlsplit(str(settings.get("url") or ""))
        if url.scheme not in ("ldap", "ldaps") or not url.hostname:
            raise PluginConfigError("directory.url must be ldaps://HOST[:PORT] or ldap://HOST[:PORT]")
        self._host, self._tls = url.hostname, url.scheme == "ldaps"
        self._port = url.port or (636 if self._tls else 389)
        self._plain = settings.get("plain") is True
        self._start_tls = not self._tls and settings.get("start_tls", not self._plain) is not False
        if not self._tls and not self._start_tls and not self._plain:
            raise PluginConfigError("directory: without TLS the bind password travels in the clear; use ldaps:// or start_tls")
        self._base, self._user, self._password = (str(settings.get(name) or "") for name in ("base", "bind_user", "bind_password"))
        if not self._base or not self._user or not self._password:
            raise PluginConfigError("directory needs base, bind_user and bind_password")
        kind = settings.get("kind", "active_directory")
        if kind not in SCHEMAS:
            raise PluginConfigError(f"directory.kind must be one of: {', '.join(SCHEMAS)}")
        self._schema = SCHEMAS[kind]
        self._people = str(settings.get("people") or self._schema.people)
        self._ca_file = settings.get("ca_file")
        try:
            self._seconds = float(settings.get("timeout", 5.0))
        except (TypeError, ValueError):
            raise PluginConfigError("directory.timeout must be a number of seconds") from None

    @cached_property
    def _turn(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(AT_ONCE)

    async def find(self, text: str) -> list[Person]:
        """People whose address, account or name is, or begins with, `text`; at most 50, none for less than two characters."""
        wanted = text.strip().rpartition("\\")[2]  # DOMAIN\account, as SysAid names people
        if len(wanted) < SHORTEST or len(wanted) > 256:
            return []
        return await self._in_a_thread(self.filter_for(wanted), MOST)

    async def one(self, account_or_mail: str) -> Person | None:
        """The one person with exactly this address or account; None when there is none, or more than one."""
        wanted = account_or_mail.strip().rpartition("\\")[2]
        found = await self._in_a_thread(self.filter_for(wanted, exact=True), 2) if wanted else []
        return found[0] if len(found) == 1 else None

    def filter_for(self, text: str, *, exact: bool = False) -> str:
        """The search filter (RFC 4515) for what somebody typed: it can change no other part of the filter."""
        from ldap3.utils.conv import escape_filter_chars

        value = escape_filter_chars(text) + ("" if exact else "*")
        names = [n for n in self._schema.names if n in ("mail", self._schema.account, "userPrincipalName")] if exact else self._schema.names
        return f"(&{self._people}(|{''.join(f'({name}={value})' for name in names)}))"

    async def _in_a_thread(self, ldap_filter: str, most: int) -> list[Person]:
        async with self._turn:
            try:
                async with asyncio.timeout(4 * self._seconds):  # connect, TLS, bind and search each have their own limit
                    return await asyncio.to_thread(self._search, ldap_filter, most)
            except TimeoutError:
                raise CallTimedOut(f"the directory at {self._host} did not answer in time") from None

    def _search(self, ldap_filter: str, most: int) -> list[Person]:
        import ldap3
        from ldap3.core.exceptions import LDAPException, LDAPInvalidFilterError, LDAPSocketOpenError, LDAPStartTLSError

        try:
            connection = self._connected()
            try:
                rows = connection.extend.standard.paged_search(
                    self._base,
                    ldap_filter,
                    ldap3.SUBTREE,
                    attributes=[*self._schema.attributes, *self._only_there()],
                    time_limit=max(1, int(self._seconds)),
                    paged_size=min(PAGE, most),
                    generator=True,
                )
                entries = (row for row in rows if row.get("type") == "searchResEntry")  # referrals are not followed
                return [self._person(entry) for entry in islice(entries, most)]
            finally:
                connection.unbind()
        except (LDAPSocketOpenError, LDAPStartTLSError, OSError) as exc:
            raise ConnectFailed(f"no connection to the directory at {self._host}:{self._port} ({type(exc).__name__})") from None
        except LDAPInvalidFilterError:
            raise PluginConfigError("directory.people is not an LDAP filter") from None
        except LDAPException as exc:
            raise self._named(exc) from None

    def _only_there(self) -> tuple[str, ...]:
        key = (self._schema.key,)
        return (*key, "userAccountControl") if self._schema.key == "objectGUID" else key

    def _connected(self) -> Any:
        import ssl

        import ldap3

        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=self._ca_file, version=ssl.PROTOCOL_TLS_CLIENT)
        server = ldap3.Server(
            self._host,
            port=self._port,
            use_ssl=self._tls,
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=self._seconds,
            allowed_referral_hosts=[],
        )
        connection = ldap3.Connection(
            server,
            user=self._user,
            password=self._secret(self._password),
            authentication=ldap3.SIMPLE,
            auto_referrals=False,
            read_only=True,
            check_names=False,
            raise_exceptions=True,
            receive_timeout=max(1, int(self._seconds)),
        )
        try:
            connection.open()
            if self._start_tls:
                connection.start_tls()
            connection.bind()
        except BaseException:
            connection.unbind()
            raise
        return connection

    def _person(self, entry: Mapping[str, Any]) -> Person:
        raw = entry.get("raw_attributes") or {}

        def first(name: str) -> str:
            values = raw.get(name) or ()
            return values[0].decode("utf-8", "replace") if values else ""

        key = (raw.get(self._schema.key) or (b"",))[0]
        if self._schema.key == "objectGUID" and len(key) == 16:
            from uuid import UUID

            person_id = str(UUID(bytes_le=key))
        else:
            person_id = key.decode("utf-8", "replace") or str(entry.get("dn"))
        account, control = first(self._schema.account), first("userAccountControl")
        attributes = {
            "account": account,
            "department": first(self._schema.department),
            "title": first("title"),
            "phone": first("telephoneNumber"),
            "mobile": first("mobile"),
            "manager": first("manager"),
            "disabled": "true" if control.isdigit() and int(control) & DISABLED else "",
        }
        return Person(
            person_id=person_id,
            name=first("displayName") or first("cn") or account,
            email=first("mail") or None,
            attributes={name: value for name, value in attributes.items() if value},
        )

    def _named(self, exc: Exception) -> ApiError:
        """By result code: what to do about it; the server's own text stays out, as it may quote the filter."""
        code, told = getattr(exc, "result", None), str(getattr(exc, "message", "") or "")
        where = f"the directory at {self._host}"
        if code == 49:
            why = next((why for data, why in WRONG_PASSWORD.items() if f"data {data}" in told), "the bind account or its password is wrong")
            return CredentialsRefused(f"{where} refuses us: {why}")
        if code in (8, 13):
            return CredentialsRefused(f"{where} wants TLS or signing; use ldaps:// or start_tls")
        if code == 50:
            return CredentialsRefused(f"{where} lets our bind account read no people")
        if code == 32:
            return FatalApiError(f"{where} has no entry at directory.base")
        if code in (3, 85):
            return CallTimedOut(f"{where} did not find the people in time")
        if code in (51, 52):
            return ServerError(f"{where} is busy or unavailable")
        kind = type(exc).__name__
        return ServerError(f"{where} failed ({kind})") if code is None else FatalApiError(f"{where} refused the search ({kind})")
