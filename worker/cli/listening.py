"""Whether a server can listen at an address, before it is started: what answers there could be taken for our server."""

import errno
import socket
import time

from worker.errors import HostUnusable, PortTaken

WAIT_S = 5.0  # a process that was killed may hold its port this long
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)


def check(host: str, port: int, *, option: str) -> None:
    """Wait until the port is free on each address of *host*; a process that is ending may still hold it for a moment.

    Raises:
        PortTaken: it is still in use after WAIT_S seconds, or this user may not use it.
        HostUnusable: the host is not known, or is none of this machine.
    """
    deadline = time.monotonic() + WAIT_S
    while reason := _obstacle(host, port):
        if reason.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise PortTaken(host=host, port=port, reason=reason.strerror, option=option) from reason
        time.sleep(0.2)


def _obstacle(host: str, port: int) -> OSError | None:
    """Return why the port cannot be used; None: it can."""
    foreign: OSError | None = None
    free = False
    for family, address in _addresses(host, port):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
                free = True
        except OSError as error:
            if error.errno not in NO_SUCH_ADDRESS:
                return error
            foreign = error
    if not free:
        raise HostUnusable(host=host, reason=foreign.strerror if foreign else "it has no address") from foreign
    return None


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    if not host:
        raise HostUnusable(host=host, reason="it is empty")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise HostUnusable(host=host, reason=reason) from error
    return [(family, address) for family, _, _, _, address in found]
