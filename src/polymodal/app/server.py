"""Serving the page, on this machine, without a word to any other.

gradio's own reports home, its fonts from the network and its share links are off; the browser may
load from this server only; the process connects to no other machine; files are served from a
temporary folder that is removed at the end.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polymodal.app.inputs import MAX_MB
from polymodal.app.page import make_page
from polymodal.app.service import Service

HOST = "127.0.0.1"
PORTS = range(7860, 7960)  # of which the first free one is taken, as by gradio
NEEDED = "The app needs gradio; install it with: pip install 'polymodal[app]'."
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_SHARE": "False",
}
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data:"
    " blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace")


def check_installed() -> None:
    """Raises ValueError in one sentence without gradio."""
    if find_spec("gradio") is None:
        raise ValueError(NEEDED)


def check_port(host: str, port: int | None) -> None:
    """Raises ValueError in one sentence for an address or a port that cannot be listened on; None
    stands for any of `PORTS`.
    """
    reason: OSError | None = None
    for each in PORTS if port is None else [port]:
        reason = _refused(host, each)
        if reason is None:
            return
        if reason.errno != errno.EADDRINUSE:
            break
    assert reason is not None
    if reason.errno != errno.EADDRINUSE:
        where = f"{host}, port {each}" if reason.errno == errno.EACCES else host
        why = str(reason.strerror).partition(" (while")[0].lower()
        raise ValueError(
            f"The app cannot listen on {where} ({why}); give another --port or --host."
        )
    if port is None:
        raise ValueError(
            f"The ports {PORTS[0]} to {PORTS[-1]} of {host} are all taken; name a free one, for"
            f" example --port {PORTS[-1] + 1}."
        )
    raise ValueError(
        f"Port {port} of {host} is taken by another program, perhaps another app; name another"
        f" one, or leave --port out for the first free one from {PORTS[0]}."
    )


def _refused(host: str, port: int) -> OSError | None:
    """Why the system lets nobody listen on a port; None: one can."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error
    return None


def serve(service: Service, host: str, port: int | None, ready: Callable[[str], None]) -> None:
    """Serves the page until the process is interrupted.

    Args:
        host: the address it listens on.
        port: None: the first free one of `PORTS`.
        ready: is called with the page's address.

    Raises ValueError in one sentence without gradio, and for an address or a port that cannot be
    listened on.
    """
    check_installed()
    check_port(host, port)
    with tempfile.TemporaryDirectory(prefix="polymodal-app-") as folder:
        os.environ.update(ENVIRONMENT | {"GRADIO_TEMP_DIR": folder})
        stay_here()
        with _running(service, Path(folder), host, port) as address:
            ready(address)
            threading.Event().wait()


@contextmanager
def _running(service: Service, folder: Path, host: str, port: int | None) -> Iterator[str]:
    """The page's address, while it is served."""
    page = make_page(service, folder)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            theme=_theme(),
            css=(files("polymodal.app") / "page.css").read_text(),
            max_file_size=int(MAX_MB * 1e6),
            app_kwargs=_app_options(host),
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            footer_links=[],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            allowed_paths=[],
        )
    except OSError as error:  # another program was quicker
        raise ValueError(
            f"The app cannot listen on {host} ({error}); give another --port or --host."
        ) from None
    try:
        yield address
    finally:
        page.close(verbose=False)


def _theme() -> Any:
    """Colours of the report, and fonts that the reader's machine has."""
    import gradio as gr

    blue = gr.themes.Color(
        "#eef6fb", "#d6eaf5", "#aed6ec", "#7fbfe1", "#3d9bd0", "#0072b2", "#00659e", "#005785",
        "#00466b", "#003754", "#00293f",
    )  # fmt: skip
    return gr.themes.Default(
        primary_hue=blue,
        secondary_hue=blue,
        neutral_hue="gray",
        font=FONT,
        font_mono=MONO,
    ).set(
        button_primary_background_fill="#0072b2",
        button_primary_background_fill_hover="#00659e",
        button_primary_background_fill_dark="#0072b2",
        button_primary_background_fill_hover_dark="#3d9bd0",
    )


def _app_options(host: str) -> dict[str, Any]:
    """Of FastAPI: no pages on the API, and headers by which the browser loads nothing from
    elsewhere; on the local address, no other host name is answered.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    local = [HOST, "localhost"] if host in (HOST, "localhost") else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=local), Middleware(_Headers)]
    pages = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    return pages | {"middleware": middleware}


class _Headers:
    """Adds the policy to every answer, and refuses what pages of other places send (ASGI)."""

    ADDED = (
        (b"content-security-policy", POLICY.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
    )

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.ADDED]
            await send(message)

        if scope["type"] == "http" and is_foreign(scope["headers"]):
            await sending({"type": "http.response.start", "status": 403, "headers": []})
            await sending({"type": "http.response.body", "body": b"Only the app's own page asks."})
            return
        await self.app(scope, receive, sending)


def is_foreign(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the page that sent a request is from another place than this server.

    >>> host = (b"host", b"127.0.0.1:7860")
    >>> is_foreign([host]), is_foreign([host, (b"origin", b"http://127.0.0.1:7860")])
    (False, False)
    >>> is_foreign([host, (b"origin", b"http://evil.example")])
    True
    """
    named = dict(headers)
    origin = named.get(b"origin")
    return origin is not None and origin.rpartition(b"//")[2] != named.get(b"host")


def stay_here() -> None:
    """From now on this process looks up no other machine's name and connects to none; it raises
    PermissionError. It cannot be undone.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    place: Any = None
    if event == "socket.connect":
        place = arguments[1][0] if isinstance(arguments[1], tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments[0]
    if place is not None and not is_here(place):
        raise PermissionError(f"The app connects to no other machine, and {place} is one.")


def is_here(place: str | bytes) -> bool:
    """Whether an address or a name is that of this machine, or one on which it listens.

    >>> is_here("127.0.0.1"), is_here("0.0.0.0"), is_here("localhost"), is_here("example.org")
    (True, True, True, False)
    """
    name = place.decode() if isinstance(place, bytes) else place
    if name in ("localhost", ""):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
