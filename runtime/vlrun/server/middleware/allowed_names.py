"""Names that requests may carry: hosts of this service (Host), and web pages that may call it (Origin).

Both headers are compared as a whole, so a name that browsers never send is refused when the service starts.
"""

from __future__ import annotations

import ipaddress
import re

from vlrun.errors import OptionError

HOST = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""A Host header in lower case."""
OPAQUE_ORIGIN = "null"
"""The origin of pages from files and of sandboxed frames, which every web page can make."""

ORIGIN_EXAMPLE = "https://kiosk.example"

_SCHEME_AND_HOST = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)")
_DEFAULT_PORT = re.compile(r":(?:80|443)$")
_SCHEME_PORT = {"http": ":80", "https": ":443"}
_HAS_PORT = re.compile(r":[0-9]+$")


def check_host(text: str) -> str:
    """The value of ``--allow-host`` in lower case. Raises OptionError, which says how to write it."""
    name = text.strip().lower()
    if _is_host(name):
        return name
    bare = re.sub(r"^[^/]*://", "", name).split("/")[0]
    candidates = (bare, f"[{name}]" if _is_ipv6(name) else "")
    raise _error("--allow-host", text, next(filter(_is_host, candidates), ""), "kiosk.example")


def check_origin(text: str) -> str:
    """The value of ``--allow-origin`` as browsers send it. Raises OptionError, which says how to write it."""
    opaque = text.strip().lower() == OPAQUE_ORIGIN
    return OPAQUE_ORIGIN if opaque else _check_origin("--allow-origin", text)


def check_frame_ancestor(text: str) -> str:
    """The value of ``--frame-ancestor``. Raises OptionError, which says how to write it."""
    return _check_origin("--frame-ancestor", text)


def _check_origin(option: str, text: str) -> str:
    origin = text.strip().lower()
    meant = ""
    if (match := _SCHEME_AND_HOST.match(origin)) and _is_host(match[2]):
        meant = match[0].removesuffix(_SCHEME_PORT.get(match[1], ""))  # browsers leave out a scheme's own port
        if meant == origin:
            return origin
    elif _is_host(host := origin.split("/")[0]):
        meant = f"http://{host} or https://{host}"
    raise _error(option, text, meant, ORIGIN_EXAMPLE)


def _is_host(name: str) -> bool:
    port = _HAS_PORT.search(name)
    return HOST.fullmatch(name) is not None and (port is None or 0 < int(port[0][1:]) < 2**16)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _error(option: str, text: str, meant: str, example: str) -> OptionError:
    if "*" in text:
        return OptionError(f"{option} takes no wildcard: repeat it for each name, such as {example}")
    hint = f"did you mean {meant}?" if meant else f"write it like {example}"
    return OptionError(f"{option} cannot be '{text}', which no client sends: {hint}")


def allowed_hosts(server: tuple[str, int | None] | None, hosts: frozenset[str]) -> frozenset[str]:
    """Exact values of Host that are allowed, in lower case: ``hosts`` and the service's own address.

    ``server``: the address and port that the client connected to, or the path of a socket and None. Of a loopback
    address, ``localhost`` is allowed too.
    """
    address, port = server or ("", None)
    names = {host.lower() for host in hosts} | ({"localhost"} if port is None else _own_names(address))
    exact = {name if port is None or _HAS_PORT.search(name) else f"{name}:{port}" for name in names}
    return frozenset(exact | {_DEFAULT_PORT.sub("", name) for name in exact})


def _own_names(address: str) -> set[str]:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return set()
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip  # a socket for both families
    literal = f"[{ip}]" if ip.version == 6 else str(ip)
    return {literal, "localhost"} if ip.is_loopback else {literal}
