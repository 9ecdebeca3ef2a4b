"""What files would disclose: keys, paths of this machine, homes; and whether they are whole.

Every text is looked at as it is read by others: Parquet columns of all types with their names and
metadata, JSON strings without their escapes, what a safetensors file says of itself. Archives are
not looked into, and are told for that.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
# fmt: off
ARCHIVES = (
    ".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".npz", ".pt", ".pth", ".ckpt",
)
# fmt: on
UNFINISHED = re.compile(r"(^\.|\.tmp$|\.part$|\.incomplete$|\.lock$|~$)")
# keys, and homes of people
SOMEBODYS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}|ghp_[A-Za-z0-9]{36}|github_pat_\w+|AKIA[0-9A-Z]{16}"
    rb"|/(?:home|Users)/[^/\s\"']+/|[A-Z]:\\{1,2}Users\\{1,2}"
)
PATH = re.compile(r"/\w|[A-Za-z]:\\")  # what a configuration's string begins with if it is a path
# where configurations say what they were loaded from
FOLDERS = ("_name_or_path", "name_or_path", "tokenizer_file")
BLOCK = 2**24  # bytes
OVERLAP = 1024  # bytes of a block that are looked at again with the next


def disclosures_in(path: Path, secrets: Mapping[str, bytes], images: bool = False) -> Iterator[str]:
    """What speaks against giving a file away, in words that repeat nothing of it.

    ``secrets`` are what may not occur, by what they are.
    """
    if UNFINISHED.search(path.name):
        yield "its name is that of a file that is being written, or hidden"
    if path.suffix.lower() in IMAGES and not images:
        yield "an image, and images were not asked for"
    if path.suffix.lower() in ARCHIVES:
        yield "an archive, which is not looked into"
    held = set()
    try:
        for part, plain in _contents(path):
            held |= {what for what, value in secrets.items() if value in part}
            if plain and SOMEBODYS.search(part):
                held.add("what looks like a key, or a person's home folder")
        if is_config(path) and any(
            PATH.match(text) for text in _strings(_parsed(path.read_bytes()))
        ):
            held.add("what looks like a path")
    except ValueError as error:
        yield f"not whole ({error})"
        return
    yield from (f"holds {what}" for what in sorted(held))


def is_config(path: Path) -> bool:
    """Whether a file is a model's or tokenizer's configuration."""
    return path.suffix == ".json" and "config" in path.name


def without_folders(told: object) -> object:
    """A configuration without the names of what it was loaded from, at any depth."""
    if isinstance(told, dict):
        return {key: without_folders(value) for key, value in told.items() if key not in FOLDERS}
    return [without_folders(value) for value in told] if isinstance(told, list) else told


def _contents(path: Path) -> Iterator[tuple[bytes, bool]]:
    """What a file says, uncompressed, in parts; and whether a part is text.

    Raises ``ValueError`` where the file is cut off or damaged.
    """
    if path.suffix == ".parquet":
        yield from ((part, True) for part in _parquet_texts(path))
        return
    if path.suffix == ".safetensors":
        yield _safetensors_header(path), True
    elif path.suffix == ".json":
        yield _joined(_strings(_parsed(path.read_bytes()))), True
    elif path.suffix == ".jsonl":
        yield from ((part, True) for part in _line_texts(path))
    with open(path, "rb") as file:
        part = b""
        while block := file.read(BLOCK):
            part = part[-OVERLAP:] + block
            yield part, path.suffix.lower() not in (".safetensors", *IMAGES)


def _parsed(text: bytes) -> object:
    """JSON, objects as lists of their pairs, so that a key that is there twice hides nothing."""
    try:
        return json.loads(text, object_pairs_hook=list)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _strings(told: object) -> Iterator[str]:
    """Every key and string of a JSON value."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list | tuple):
            waiting += one


def _joined(texts: Iterator[str]) -> bytes:
    return "\n".join(texts).encode("utf-8", "backslashreplace")


def _line_texts(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield _joined(_strings(_parsed(line)))
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise ValueError(f"line {number} is no JSON") from error
                raise ValueError("its last line has no end, and is no JSON") from error
            if not line.endswith(b"\n"):
                raise ValueError("its last line has no end")


def _safetensors_header(path: Path) -> bytes:
    """Names and metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:  # checks that every tensor is within the file
            names = file.keys()
            pairs = [*(file.metadata() or {}).items(), *((name, "") for name in names)]
            return _joined(text for pair in pairs for text in pair)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _parquet_texts(path: Path) -> Iterator[bytes]:
    """All texts of a Parquet file, a batch at a time, and its columns' names and all metadata."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield _schema_texts(file.schema_arrow, file.metadata.metadata or {})
            for batch in file.iter_batches(batch_size=100_000):
                for column in batch.columns:
                    yield from _texts(column)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _schema_texts(schema: pa.Schema, metadata: Mapping[bytes, bytes]) -> bytes:
    """Names of columns and fields, and what is written beside them and the file."""
    texts = [
        text for key, value in metadata.items() if key != b"ARROW:schema" for text in (key, value)
    ]
    fields = list(schema)
    while fields:
        field = fields.pop()
        texts += [
            field.name.encode(),
            *(text for pair in (field.metadata or {}).items() for text in pair),
        ]
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        fields += [kind.field(place) for place in range(kind.num_fields)]
    return b"\n".join(texts)


def _texts(array: pa.Array) -> Iterator[bytes]:
    """The texts and bytes of an array, whatever they are wrapped in."""
    kind, is_ = array.type, pa.types
    if isinstance(array, pa.ExtensionArray):
        yield from _texts(array.storage)
    elif is_.is_dictionary(kind):
        yield from _texts(array.dictionary)
    elif is_.is_run_end_encoded(kind):
        yield from _texts(array.values)
    elif is_.is_map(kind):
        yield from (text for part in (array.keys, array.items) for text in _texts(part))
    elif is_.is_struct(kind):
        yield from (text for field in array.flatten() for text in _texts(field))
    elif is_.is_nested(kind):  # lists of every kind
        yield from _texts(array.flatten())
    elif not (is_.is_primitive(kind) or is_.is_null(kind) or is_.is_decimal(kind)):
        # what is left has characters or bytes
        values = set(array.to_pylist()) - {None}
        yield b"\n".join(
            v if isinstance(v, bytes) else str(v).encode("utf-8", "backslashreplace")
            for v in values
        )
