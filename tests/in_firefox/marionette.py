"""Firefox over Marionette: a profile of its own, one connection, commands of WebDriver.

Mozilla's marionette_driver needs telnetlib, which Python 3.13 no longer has.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds that a start or a script may take


class Firefox:
    """A running headless Firefox; profile: an empty folder. Raises RuntimeError with its words."""

    def __init__(self, path: str, profile: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
        self._process = subprocess.Popen(
            [path, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._door, self._count = self._connected(port), 0
        self._heard()  # its greeting
        self._ask("NewSession")
        self._ask("SetTimeouts", script=PATIENCE * 1000)

    def open(self, address: str) -> None:
        """Load a page, to its end."""
        self._ask("Navigate", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the script returns, or the promise that it returns."""
        whole = (
            "const [given, done] = arguments, script = async function () {%s};"
            "script(...given).then(done, (error) => done({ failed: String(error) }));"
        )
        return self._ask("ExecuteAsyncScript", script=whole % script, args=[arguments])["value"]

    def close(self) -> None:
        self._door.close()
        self._process.terminate()
        self._process.wait()

    def _connected(self, port: int) -> socket.socket:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), PATIENCE)
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("Firefox did not start") from None
                time.sleep(0.1)

    def _ask(self, command: str, **parameters: Any) -> Any:
        self._count += 1
        told = json.dumps([0, self._count, f"WebDriver:{command}", parameters]).encode()
        self._door.sendall(b"%d:%s" % (len(told), told))
        _, _, error, result = self._heard()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return result

    def _heard(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._bytes(1)
        return json.loads(self._bytes(int(length[:-1])))

    def _bytes(self, n: int) -> bytes:
        found = b""
        while len(found) < n:
            part = self._door.recv(n - len(found))
            if not part:
                raise RuntimeError("Firefox has gone")
            found += part
        return found
