"""A server on this machine for a block: a process of its own, on a free port, which ends with it.

``running`` starts ``python -m module --port-file FILE --parent ID`` and yields its base_url; the
module writes its port to that file once it serves, and ends when that process has, also where that
was while it started.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(
    module: str, name: str, options: Sequence[str] = (), patience: float = 120
) -> Iterator[str]:
    """Run ``python -m module --port-file …``, which serves; yields its base_url, ends it with the
    block.

    Raises ``RuntimeError`` where it does not start in ``patience`` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        port_file, said = Path(folder) / "port", Path(folder) / "said"
        command = [sys.executable, "-m", module, "--port-file", str(port_file)]
        command += ["--parent", str(os.getpid()), *options]
        with said.open("w") as log:  # a pipe that nobody reads would fill
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            deadline = time.monotonic() + patience
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    words = said.read_text(errors="replace").strip()
                    raise RuntimeError(f"{name} did not start: {words[-1000:]}")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            process.terminate()
            process.wait()
