"""Servers to browse, and what is looked for on a page: for tests in a real browser."""

import io
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from lskd_nb.run_folder import find_root

ROOT = find_root()
CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 900_000  # milliseconds after which something hangs


@contextmanager
def served(command: list[str], page: str, log: Path, **environment: str) -> Iterator[str]:
    """Run a server on a free port of this machine until the block ends; yields its address once
    ``page`` is there.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(log, "w") as out:
        server = subprocess.Popen(
            [*command, f"--port={port}"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            cwd=ROOT,
        )
    try:
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=30).close()
                break
            except OSError:
                assert server.poll() is None, f"the server ended:\n{log.read_text()[-2000:]}"
                time.sleep(0.2)
        else:
            raise AssertionError(f"the server did not answer:\n{log.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(PATIENCE / 1000)


def frame(page, label: str):
    """The widget of that name, in view."""
    found = page.get_by_role("group", name=label, exact=True)
    found.wait_for(timeout=PATIENCE)
    found.scroll_into_view_if_needed()
    return found


def shows(where, text: str | re.Pattern) -> None:
    """Wait until a part of the page shows a text."""
    where.get_by_text(text).first.wait_for(timeout=PATIENCE)


def picture(where, name: str) -> Image.Image:
    """A screenshot, kept where LSKD_SCREENSHOTS says."""
    shot = where.screenshot()
    if folder := os.environ.get("LSKD_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(shot)
    return Image.open(io.BytesIO(shot)).convert("RGB")
