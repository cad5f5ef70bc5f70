"""Ways to Northbound: names resolved, sockets opened, TLS with the files as they are now, and what goes wrong.

`ovs` opens sockets, too, but it takes IP addresses only, spins while a TLS handshake waits for the server, and makes a
number of what OpenSSL says.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ovs import jsonrpc, socket_util
from ovs.stream import SSLStream, Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

Resolve: TypeAlias = "Callable[[str], Awaitable[Sequence[str]]]"
Tell: TypeAlias = "Callable[[str, str], None]"

NOT_LEADER: Final = "is not the leader of its cluster"  # what two of three members say: nobody need hear of it


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for ssl: remotes: our key and certificate, and who may have signed the server's."""

    key: Path
    certificate: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """What the files say now; raises OSError if they are missing or do not fit.

        OVN's certificates carry no host names: who has one of that authority is believed, as everywhere in OVN.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def version(self) -> tuple[tuple[int, int, int], ...]:
        """Another one whenever the files are others, also behind a symbolic link; empty if one is missing."""
        try:
            found = [path.stat() for path in (self.key, self.certificate, self.authority)]
        except OSError:
            return ()
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


async def resolve(host: str) -> list[str]:
    """Every address of a name, from the system's resolver; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Dial:
    """How to reach the remotes, and what keeps us from it; `tell` hears of each trouble once, and when it is over."""

    def __init__(self, remote: str, tls: Tls | None, tell: Tell | None, resolver: Resolve) -> None:
        self.remotes = [one.strip() for one in remote.split(",")]
        self._tls, self._tell, self._resolve = tls, tell, resolver
        self._taken: object = ()
        self._known: dict[str, tuple[str, ...]] = {}
        self._troubles: dict[str, str] = {}
        self.detail = ""  # why the present connection is about to fail, where an errno would not say it

    # ---- what went wrong

    @property
    def troubles(self) -> str:
        """What is wrong with each remote, as one line; empty while the connection stands."""
        return "; ".join(f"{remote} {text}" for remote, text in sorted(self._troubles.items()))

    def lost(self, remote: str, error: int) -> None:
        """A connection, or a try at one, has ended; `error` as ovs has it."""
        ended = "closed the connection" if error == jsonrpc.EOF else os.strerror(error) if error else "does not answer"
        text, self.detail = self.detail or ended, ""
        self.note(remote, text)

    def note(self, remote: str, text: str) -> None:
        """Remember this trouble, and tell it if it is a new one."""
        if self._troubles.get(remote) != text:
            self._troubles[remote] = text
            if self._tell is not None and text != NOT_LEADER:
                self._tell(remote, text)

    def stands(self, remote: str) -> None:
        """Everything was read from this remote: whatever was wrong is over."""
        self._troubles.clear()
        self.detail = ""
        if self._tell is not None:
            self._tell(remote, "")

    # ---- names

    @property
    def named(self) -> bool:
        """True if there is anything to look up."""
        return any(_name(remote) for remote in self.remotes)

    async def look_up(self) -> list[str]:
        """The remotes with addresses in place of names, one for each address; a name unknown now keeps those it had."""
        found: dict[str, None] = {}
        for remote in self.remotes:
            name = _name(remote)
            if not name:
                found[remote] = None
                continue
            try:
                addresses = await self._resolve(name)
                self._known[name] = tuple(dict.fromkeys(addresses))
                self._troubles.pop(remote, None)
            except (OSError, UnicodeError) as why:
                self.note(remote, f"cannot be resolved: {getattr(why, 'strerror', None) or why}")
            kind, port = remote.partition(":")[0], remote.rpartition(":")[2]
            found |= dict.fromkeys(f"{kind}:{_bracketed(one)}:{port}" for one in self._known.get(name, ()))
        return list(found)

    # ---- sockets

    def open(self, remote: str) -> tuple[int, Any]:
        """Begin to connect: (0, stream), or (errno, None); never waits."""
        if _name(remote):
            self.detail = "has no address yet"
            return errno.EHOSTUNREACH, None
        if not remote.startswith("ssl:"):
            error, stream = Stream.open(remote)
            return error, None if error else stream  # ovs gives back one that has failed at once, too
        try:
            return self._open_tls(remote)
        except OSError as why:
            self.detail = f"cannot be spoken to with these certificates: {_said(why)}"
            return errno.EPROTO, None

    def renewed(self) -> bool:
        """True once the files are others than the connection was made with, and fit together."""
        if self._tls is None or self._tls.version() in {self._taken, ()}:
            return False
        try:
            self._tls.context()
        except OSError:  # half of them written: the next look sees the rest
            return False
        return True

    def _open_tls(self, remote: str) -> tuple[int, Any]:
        if self._tls is None:
            raise OSError(errno.ENOENT, "none are given")
        self._taken = self._tls.version()
        context = self._tls.context()
        host, port = socket_util.inet_parse_active(remote.partition(":")[2], 0)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM)
        wrapped = context.wrap_socket(plain, do_handshake_on_connect=False)
        error = socket_util.inet_connect_active(wrapped, (host, port), family, Stream.DSCP_DEFAULT)
        if error:
            return int(error), None
        wrapped.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return 0, _TlsStream(wrapped, remote, self)


class _TlsStream(SSLStream):  # type: ignore[misc]
    """ovs' own, but it waits for what the handshake waits for, and keeps what OpenSSL says."""

    def __init__(self, wrapped: ssl.SSLSocket, remote: str, dial: Dial) -> None:
        super().__init__(wrapped, remote, errno.EAGAIN)
        self._dial = dial
        self._shaken = False
        self._wants: int | None = None

    def connect(self) -> int:
        """0 when the handshake is over, EAGAIN while it is not, else why it failed."""
        if self._shaken:
            return 0
        error = Stream.connect(self)
        if error:
            return int(error)
        self._wants = None
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._wants = self.W_RECV
        except ssl.SSLWantWriteError:
            self._wants = self.W_SEND
        except OSError as why:
            return self._failed(why)
        self._shaken = self._wants is None
        return 0 if self._shaken else errno.EAGAIN

    def wait(self, poller: Any, wait: int) -> None:
        """Wake when the socket can do this, or what the handshake needs first."""
        super().wait(poller, wait if self._wants is None else self._wants)

    def recv(self, n: int) -> tuple[int, bytes]:
        """Read up to n bytes: (0, bytes), or (errno, nothing)."""
        try:
            error, data = self._recv(n)
        except ssl.SSLWantReadError:
            return errno.EAGAIN, b""
        except ssl.SSLZeroReturnError:
            return 0, b""
        except OSError as why:
            return self._failed(why), b""
        return error, data or b""

    def _failed(self, why: OSError) -> int:
        if isinstance(why, ssl.SSLError) and not isinstance(why, ssl.SSLSyscallError):
            self._dial.detail = f"does not agree on TLS: {_said(why)}"
            return errno.EPROTO
        return why.errno or errno.EPROTO


def _name(remote: str) -> str:
    """The host of a remote if it is a name, else nothing."""
    kind, _, where = remote.partition(":")
    if kind == "unix":
        return ""
    host = where.rpartition(":")[0].strip("[]")
    try:
        ip_address(host)
    except ValueError:
        return host
    return ""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _said(why: OSError) -> str:
    """What OpenSSL or the system says, without its line numbers."""
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"the certificate cannot be verified: {why.verify_message}"
    if isinstance(why, ssl.SSLError) and why.reason:
        return why.reason.replace("_", " ").lower()
    return f"{why.filename}: {why.strerror}" if why.filename else str(why.strerror or why)
