"""The app's server as `make app` starts it: which requests it answers, and what it says beside every answer."""

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from starlette.datastructures import Headers

from playground.ui.shared.server import HEADERS, OTHER_NAME, OTHER_ORIGIN, refusal
from tests.browser_support import AppServer, serve_app
from tests.conftest import ROOT

ROUTES = (
    "/",
    "/compare",
    "/static/js/x.js",
    "/favicon.png",
    "/media/x.csv",
    "/_stcore/health",
    "/_stcore/host-config",
    "/_stcore/metrics",
    "/_stcore/agent/openapi.json",
    "/_stcore/bidi-components/x",
    "/component/x/index.html",
)
OWN = ("localhost", "127.0.0.1", "[::1]", "LOCALHOST")
FOREIGN = (
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example@localhost",
    "localhost/.evil.example",
    "0.0.0.0",
    "192.168.0.7",
    "[::2]",
    "2130706433",
    "",
)


def port_of(server: AppServer) -> int:
    return int(server.url.rpartition(":")[2])


def answer(server: AppServer, lines: list[str], address: str = "127.0.0.1") -> tuple[int, dict[str, str], str]:
    """Status, headers and the beginning of the body that a request gets, written word for word."""
    with socket.create_connection((address, port_of(server)), timeout=20) as stream:
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        received = b""
        while part := stream.recv(65536):
            received += part
            if b"\r\n\r\n" in received and received.startswith(b"HTTP/1.1 101"):
                break
    head, _, body = received.decode("latin-1").partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    fields = (line.partition(":") for line in rest)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}, body


def get(
    server: AppServer, path: str, host: str | None, *more: str, method: str = "GET"
) -> tuple[int, dict[str, str], str]:
    own = [] if host is None else [f"Host: {host}"]
    return answer(server, [f"{method} {path} HTTP/1.1", *own, "Connection: close", *more])


def upgrade(server: AppServer, host: str, *more: str, address: str = "127.0.0.1") -> int:
    """The status of a websocket's handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: streamlit",
        *more,
    ]
    return answer(server, lines, address)[0]


# --- as it ships ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_it_goes_by_the_names_of_this_machine_on_every_port(app_server: AppServer, name: str) -> None:
    for port in (f":{port_of(app_server)}", ":9000", ""):  # the port that a person forwards is another
        host = f"{name}{port}"
        assert get(app_server, "/_stcore/health", host)[0] == 200
        assert upgrade(app_server, host, f"Origin: http://{host}") == 101
    assert upgrade(app_server, host) == 101


@pytest.mark.parametrize("name", FOREIGN)
def test_another_name_is_refused(app_server: AppServer, name: str) -> None:
    host = f"{name}:{port_of(app_server)}"
    assert upgrade(app_server, host, f"Origin: http://{host}") == 403
    assert upgrade(app_server, host) == 403
    status, _, body = get(app_server, "/", host, f"Origin: http://{host}")
    assert status == 403 and "--server.allowedHosts" in body and "evil" not in body


@pytest.mark.parametrize("path", ROUTES)
def test_another_name_is_refused_on_every_route(app_server: AppServer, path: str) -> None:
    assert get(app_server, path, f"evil.example:{port_of(app_server)}")[0] == 403
    for method in ("POST", "PUT", "OPTIONS", "DELETE", "HEAD"):
        assert get(app_server, path, "evil.example", "Content-Length: 0", method=method)[0] == 403


def test_a_host_that_is_missing_or_given_twice_is_refused(app_server: AppServer) -> None:
    assert get(app_server, "/", None)[0] in (400, 403)
    assert answer(app_server, ["GET / HTTP/1.0"])[0] in (400, 403)
    assert get(app_server, "/", "localhost", "Host: evil.example")[0] in (400, 403)
    assert get(app_server, "http://localhost/", "evil.example")[0] == 403


def test_origins_other_than_its_own_are_refused(app_server: AppServer) -> None:
    port = port_of(app_server)
    host = f"localhost:{port}"
    others = (
        f"http://localhost:{port + 1}",
        "http://localhost",
        f"http://127.0.0.1:{port}",
        "http://evil.example",
        f"http://evil.example:{port}",
        "null",
        f"http://{host}.evil.example",
        f"http://evil.example/{host}",
        "file://",
        host,
        "",
    )
    for origin in others:
        assert upgrade(app_server, host, f"Origin: {origin}") == 403, origin
        assert get(app_server, "/", host, f"Origin: {origin}")[0] == 403, origin
    assert upgrade(app_server, host, f"Origin: http://{host}", "Origin: http://evil.example") in (400, 403)


def test_uploads_from_other_pages_are_refused(app_server: AppServer) -> None:
    port = port_of(app_server)
    path = "/_stcore/upload_file/session/file"
    other = f"Origin: http://localhost:{port + 1}"
    assert get(app_server, path, f"localhost:{port}", other, "Content-Length: 0", method="PUT")[0] == 403
    own = f"Origin: http://localhost:{port}"
    assert get(app_server, path, f"localhost:{port}", own, "Content-Length: 0", method="PUT")[0] != 200


@pytest.mark.parametrize(
    "path", ["/", "/compare", "/_stcore/health", "/static/none.js", "/media/none", "/none/none.png"]
)
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_forbids_frames_and_other_servers(app_server: AppServer, path: str, host: str) -> None:
    _, headers, _ = get(app_server, path, host)
    assert HEADERS.items() <= {name: headers.get(name.lower()) for name in HEADERS}.items()
    assert headers["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_it_listens_on_this_machine_only(app_server: AppServer) -> None:
    (process,) = [item for item in psutil.Process().children() if str(port_of(app_server)) in item.cmdline()]
    listening = {item.laddr.ip for item in process.net_connections() if item.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::1"} and listening


# --- as a person may start it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """For the whole network on purpose, under a name, with a page of another server that may talk to it."""
    names = [part for name in ("localhost", "lab.example") for part in ("--server.allowedHosts", name)]
    options = ["--server.address", "0.0.0.0", *names, "--server.corsAllowedOrigins", "https://friend.example"]
    with serve_app(ROOT, tmp_path_factory.mktemp("shared"), options=options) as server:
        yield server


def test_shared_on_purpose_it_goes_by_the_names_it_is_given(shared: AppServer) -> None:
    port = port_of(shared)
    for name in ("lab.example", "localhost"):
        host = f"{name}:{port}"
        assert upgrade(shared, host, f"Origin: http://{host}") == 101
        assert upgrade(shared, host, "Origin: https://friend.example") == 101
        assert upgrade(shared, host, "Origin: http://evil.example") == 403
        assert upgrade(shared, host, f"Origin: http://{name}:{port + 1}") == 403
    for name in ("evil.example", "127.0.0.1", "0.0.0.0"):
        assert upgrade(shared, f"{name}:{port}", f"Origin: http://{name}:{port}") == 403


def test_shared_without_names_it_still_goes_by_those_of_this_machine(tmp_path: Path) -> None:
    with serve_app(ROOT, tmp_path, options=["--server.address", "0.0.0.0"]) as server:
        port = port_of(server)
        for name in OWN[:3]:
            assert upgrade(server, f"{name}:{port}", f"Origin: http://{name}:{port}") == 101
        assert upgrade(server, f"192.168.0.7:{port}", f"Origin: http://192.168.0.7:{port}") == 403


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_on_the_other_address_of_this_machine(tmp_path: Path) -> None:
    with serve_app(ROOT, tmp_path, options=["--server.address", "::1"], address="[::1]") as server:
        port = port_of(server)
        assert upgrade(server, f"[::1]:{port}", f"Origin: http://[::1]:{port}", address="::1") == 101
        assert upgrade(server, f"evil.example:{port}", f"Origin: http://evil.example:{port}", address="::1") == 403


@pytest.mark.skipif(sys.platform != "linux", reason="other systems open a browser in another way")
@pytest.mark.parametrize("display", [True, False])
def test_a_browser_is_opened_where_there_is_a_display(tmp_path: Path, display: bool) -> None:
    opener, opened = tmp_path / "xdg-open", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\necho "$@" > "{opened}"\n')
    opener.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment |= {"DISPLAY": ":99" if display else "", "WAYLAND_DISPLAY": ""}
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if b"URL: http" in line)
            assert said.decode().strip() == f"URL: http://localhost:{port}"
            for _ in range(100):
                if opened.exists() and opened.read_text():
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.05 if display else 0.02)
        finally:
            process.terminate()
    assert opened.exists() == display and (not display or opened.read_text().strip() == f"http://localhost:{port}")


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("host", "anything")], None),  # without settings, as a test runs, Streamlit's own list is empty
        ([], OTHER_NAME),
        ([("host", "a"), ("host", "a")], OTHER_NAME),
        ([("host", "[::1].evil")], OTHER_NAME),
        ([("host", "localhost#")], OTHER_NAME),
        ([("host", "localhost:80:90")], OTHER_NAME),
        ([("host", "a@b")], OTHER_NAME),
        ([("host", "[::1]:8501")], None),
        ([("host", "a:1"), ("origin", "http://a:1")], None),
        ([("host", "a:1"), ("origin", "https://a:1")], None),
        ([("host", "a:1"), ("origin", "http://a:2")], OTHER_ORIGIN),
        ([("host", "a:1"), ("origin", "null")], OTHER_ORIGIN),
        ([("host", "a:1"), ("origin", "http://a:1"), ("origin", "http://a:1")], OTHER_ORIGIN),
        ([("host", "a:1"), ("origin", "http://[")], OTHER_ORIGIN),
    ],
)
def test_refusal(fields: list[tuple[str, str]], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.ui.shared.server.is_host_allowed", lambda _: True)
    assert refusal(Headers(raw=[(name.encode(), value.encode()) for name, value in fields])) == expected
