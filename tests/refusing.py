"""Runs the command `polymodal` in a process that can connect to itself only: every other address
that it looks up or connects to is refused, and written into a file, a line each.

    python tests/refusing.py FILE ARGUMENTS...
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

HERE = ("127.0.0.1", "localhost", "0.0.0.0", "::1", "", None)


def refuse_others(file: Path) -> None:
    """Replaces the functions of `socket` that reach other machines."""
    connects = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}

    def refuse(place: Any) -> None:
        if place not in HERE:
            with file.open("a") as lines:
                lines.write(f"{place}\n")
            raise ConnectionRefusedError(f"{place} is refused.")

    def guarded(name: str) -> Any:
        def act(self: socket.socket, *arguments: Any) -> Any:
            address = arguments[-1]
            if isinstance(address, tuple):
                refuse(address[0])
            return connects[name](self, *arguments)

        return act

    for name in connects:
        setattr(socket.socket, name, guarded(name))
    for name in ("getaddrinfo", "gethostbyname"):
        setattr(socket, name, _looking_up(getattr(socket, name), refuse))


def _looking_up(look_up: Any, refuse: Any) -> Any:
    def act(host: Any, *arguments: Any, **options: Any) -> Any:
        refuse(host.decode() if isinstance(host, bytes) else host)
        return look_up(host, *arguments, **options)

    return act


if __name__ == "__main__":
    refuse_others(Path(sys.argv[1]))
    if sys.argv[2] == "connect":  # a deliberate one, which must be counted
        socket.create_connection((sys.argv[3], 80), timeout=1)
    from polymodal.cli.main import main

    sys.argv = ["polymodal", *sys.argv[2:]]
    main()
