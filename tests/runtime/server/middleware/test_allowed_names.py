"""Allowed hosts and origins: those of the service itself, and those of its options, if clients can send them."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vlrun.cli.serve import serve
from vlrun.errors import OptionError
from vlrun.server.middleware.allowed_names import HOST, allowed_hosts, check_host, check_origin


@pytest.mark.parametrize(
    ("server", "hosts", "allowed"),
    [
        (("192.0.2.7", 80), set(), {"192.0.2.7:80", "192.0.2.7"}),
        (("192.0.2.7", 8321), {"a", "b:80"}, {"192.0.2.7:8321", "a:8321", "b:80", "b"}),
        (("::1", 8321), set(), {"[::1]:8321", "localhost:8321"}),
        (("::ffff:127.0.0.1", 8321), set(), {"127.0.0.1:8321", "localhost:8321"}),
        (("fe80::1%eth0", 8321), {"[fe80::2]"}, {"[fe80::1]:8321", "[fe80::2]:8321"}),
        (("/run/vlrun.sock", None), {"Vlm.example"}, {"localhost", "vlm.example"}),
        (("testserver", 80), set(), set()),
        (None, {"a"}, {"a", "localhost"}),
    ],
)
def test_allowed_hosts_follow_the_local_address(
    server: tuple[str, int | None] | None, hosts: set[str], allowed: set[str]
) -> None:
    assert allowed_hosts(server, frozenset(hosts)) == allowed


ORIGINS = """https://kiosk.example http://kiosk.example:8080 https://kiosk.example:80 http://[::1]:3000 http://10.0.0.2
    chrome-extension://abcdefghijklmnop tauri://localhost capacitor://localhost app://obsidian.md null""".split()


@pytest.mark.parametrize("origin", ORIGINS)
def test_origins_that_browsers_send_are_accepted(origin: str) -> None:
    """Also those of extensions and apps with a web view."""
    assert check_origin(origin) == check_origin(f" {origin.upper()}\n") == origin


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        ("*", "takes no wildcard"),
        ("https://*.example", "takes no wildcard"),
        ("https://kiosk.example/*", "takes no wildcard"),
        ("https://kiosk.example/", "did you mean https://kiosk.example?"),
        ("https://kiosk.example:8080/app?x#y", "did you mean https://kiosk.example:8080?"),
        ("https://kiosk.example:443", "did you mean https://kiosk.example?"),
        ("http://localhost:80/", "did you mean http://localhost?"),
        ("kiosk.example", "did you mean http://kiosk.example or https://kiosk.example?"),
        ("localhost:3000", "did you mean http://localhost:3000 or https://localhost:3000?"),
        ("//kiosk.example", "write it like https://kiosk.example"),
        ("https:kiosk.example", "write it like https://kiosk.example"),
        ("https://kiosk.example:99999", "write it like https://kiosk.example"),
        ("https://küche.example", "write it like https://kiosk.example"),
        ("file:///srv/page.html", "write it like https://kiosk.example"),
        ("https://", "write it like https://kiosk.example"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str, hint: str) -> None:
    """It allowed nothing, and nobody was told: the page just did not work."""
    with pytest.raises(OptionError) as caught:
        check_origin(origin)
    assert hint in caught.value.message
    assert "--allow-origin" in caught.value.message


@pytest.mark.parametrize(
    "host", "kiosk.example kiosk kiosk_1:443 host.docker.internal 10.0.0.2:8321 [::1] [fe80::1]:80".split()
)
def test_hosts_that_clients_send_are_accepted(host: str) -> None:
    assert check_host(host) == check_host(f" {host.upper()} ") == host


@pytest.mark.parametrize(
    ("host", "hint"),
    [
        ("*", "takes no wildcard"),
        ("*.example", "takes no wildcard"),
        ("http://kiosk.example", "did you mean kiosk.example?"),
        ("https://kiosk.example:8443/v1", "did you mean kiosk.example:8443?"),
        ("kiosk.example/", "did you mean kiosk.example?"),
        ("::1", "did you mean [::1]?"),
        ("kiosk.example:0", "write it like kiosk.example"),
        ("kiosk.example:65536", "write it like kiosk.example"),
        ("küche.example", "write it like kiosk.example"),
        ("a b", "write it like kiosk.example"),
        ("user@kiosk.example", "write it like kiosk.example"),
    ],
)
def test_a_host_that_no_client_sends_is_refused(host: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_host(host)
    assert hint in caught.value.message
    assert "--allow-host" in caught.value.message


@given(st.text(st.sampled_from("aZ0.-_:/[]*@ ")))
def test_what_is_accepted_can_be_sent(text: str) -> None:
    """A Host header that the middleware reads, or an origin with such a host."""
    for check, prefix in ((check_host, ""), (check_origin, "http://")):
        try:
            name = check(prefix + text)
        except OptionError:
            continue
        assert HOST.fullmatch(name.removeprefix(prefix)) or name == "null"


@pytest.mark.parametrize("options", [["--allow-origin", "https://kiosk.example/"], ["--allow-host", "*"]])
def test_the_service_does_not_start_with_a_wrong_name(options: list[str]) -> None:
    result = CliRunner().invoke(serve, options)
    assert isinstance(result.exception, OptionError)
