"""Downloads over HTTP that are tried again, and resume where they stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

TRIES = 5  # in all
PAUSE = 1.0  # seconds after the first failure, doubled after each further one
STALL = 30.0  # seconds without a byte that end a try
CHUNK = 2**16
PASSING = (408, 425, 429)  # answers to a request that may be other ones later, beside 500 and above


def download(url: str, part: Path) -> None:
    """Downloads `url` to the file `part`. What `part` already holds is not asked for again, if the
    server can send a range (RFC 9110, section 14).

    A failure that may pass (a server's error, a stall, a connection that ends early) is tried again
    after a pause, from where it stopped.

    Raises OSError, whose text says why, when the last try has failed; `part` keeps what came.
    """
    import requests

    for left in reversed(range(TRIES)):
        try:
            return _try(url, part)
        except requests.RequestException as error:
            if not (left and _may_pass(error)):
                raise OSError(_reason(error)) from error
        time.sleep(PAUSE * 2 ** (TRIES - 1 - left))


def _try(url: str, part: Path) -> None:
    """One request for what `part` lacks."""
    import requests

    size = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    with requests.get(url, headers=headers, stream=True, timeout=STALL) as answer:
        if answer.status_code == 416:  # no bytes lie behind those of `part`
            return _end_of(answer, part, size)
        answer.raise_for_status()
        mode = "ab" if answer.status_code == 206 else "wb"
        with part.open(mode) as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)


def _end_of(answer: Any, part: Path, size: int) -> None:
    """Returns if `part` has the size of the file; else removes it, and asks for another try."""
    import requests

    if answer.headers.get("Content-Range") == f"bytes */{size}":
        return
    part.unlink()
    raise requests.ConnectionError("the file has changed")


def _may_pass(error: Any) -> bool:
    """Whether a request that failed may succeed later: not if the server knows no such file."""
    if error.response is None:
        return True
    status = error.response.status_code
    return status >= 500 or status in PASSING


def _reason(error: Any) -> str:
    """Why a request failed, in words."""
    import requests

    if error.response is not None:
        return f"the server answers {error.response.status_code}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"nothing came for {STALL:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended before the file did"
    return "there is no connection to the server"
