"""A folder of pictures and nothing else: photographs as they come from a camera or a telephone.

Sub-folders are entered and links followed. A picture is called as its path below the folder, so
that a name may occur twice, with spaces and in any script. It comes without regions: a detector
finds them (``verbalization.detection``).

Many are stored lying, with a tag that tells viewers to turn them (EXIF). Boxes are those of the
picture as it is shown, and of those all programs that read pixels see something else. So a run has
copies of such pictures that are upright (``upright_copy``).
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image, ImageOps

from lskd_nb.records import atomic_path
from lskd_nb.regions import NO_IMAGE, LocatedImage
from lskd_nb.sources import BadRecord, Rejected, image_size

SOURCE = "folder"
ORIENTATION = 0x0112  # the tag
LYING = 5  # from this value on width and height change places
# what cameras write and Pillow does not read
# fmt: off
FOREIGN = frozenset((
    ".heic", ".heif", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
    ".psd", ".svg",
))
# fmt: on


def read_image_folder(
    folder: str | Path, limit: int | None = None
) -> tuple[list[LocatedImage], list[Rejected]]:
    """The pictures below a folder (the first ``limit``), sorted by path, each once and without
    regions, and what was left out: files that are damaged, of a kind that can't be read, or another
    name of a picture that there is already.

    Files that are no pictures by their name, and hidden ones, are passed over. Raises
    ``FileNotFoundError`` where there is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise FileNotFoundError(f"{folder} is {what}; expected a folder of pictures")
    images: list[LocatedImage] = []
    rejects: list[Rejected] = []
    names: dict[tuple[int, int], str] = {}  # device and inode: links to one file are one picture
    for path in sorted(files_below(folder, rejects), key=lambda p: p.parts):
        if limit is not None and len(images) == limit:
            break
        name = path.as_posix()
        if not is_picture(path):
            continue
        try:
            if name.encode("utf-8", "replace").decode() != name:
                raise BadRecord("bad path", f"{name!r} is no UTF-8: rename it")
            if path.suffix.lower() in FOREIGN:
                raise BadRecord("unknown kind of picture", f"{name}: convert it to JPEG or PNG")
            state = os.stat(folder / path)
            first = names.setdefault((state.st_dev, state.st_ino), name)
            if first != name:
                raise BadRecord("repeated image", f"{name} is another name of {first}")
            size = shown_size(folder / path)
            images.append(LocatedImage(name, name, *size, (), SOURCE, "train"))
        except (BadRecord, OSError) as error:
            bad = error if isinstance(error, BadRecord) else BadRecord("missing image", str(error))
            rejects.append(bad.of(name))
    return images, rejects


def shown_size(file: Path) -> tuple[int, int]:
    """Width and height of a picture as viewers show it.

    Raises ``BadRecord`` where it is missing or can't be read to its end.
    """
    size = image_size(file)
    try:
        with Image.open(file) as image:
            if image.format == "TIFF":  # Pillow turns these itself, when it loads them
                image.load()
                return image.size
            return size[::-1] if _turn(image) >= LYING else size
    except NO_IMAGE as error:
        raise BadRecord("corrupt image", f"{file}: {error}") from error


def is_lying(file: Path, size: tuple[int, int]) -> bool:
    """Whether a picture that has been read is stored otherwise than viewers show it, and ``size``
    (width, height) is what they show.
    """
    with Image.open(file) as image:
        turn = _turn(image)
        return turn > 1 if turn < LYING else size == image.size[::-1]


def _turn(image: Image.Image) -> int:
    """How viewers turn a picture by its tag, 2 to 8; 1: not at all."""
    told = image.getexif().get(ORIENTATION, 1)
    return told if told in range(2, 9) else 1


def upright_copy(file: Path, copy: Path) -> None:
    """Write a picture as viewers show it, in its own format and without the tag; not again where
    a copy of this very file is there: it has the file's time. Cameras give one name many times.
    """
    if copy.exists() and copy.stat().st_mtime_ns == file.stat().st_mtime_ns:
        return
    with Image.open(file) as image, atomic_path(copy) as temporary:
        kept = {"quality": 95, "subsampling": 0} if image.format == "JPEG" else {}
        ImageOps.exif_transpose(image).save(temporary, image.format, **kept)
        state = file.stat()
        os.utime(temporary, ns=(state.st_atime_ns, state.st_mtime_ns))


def files_below(folder: Path, rejects: list[Rejected] | None = None) -> Iterator[Path]:
    """Paths of the files below a folder, relative to it; links are followed, and no folder is
    entered twice. Hidden files and folders are none. Folders that can't be entered are told to
    ``rejects``.
    """
    walked: set[str] = set()

    def unreadable(error: OSError) -> None:
        if rejects is not None:
            rejects.append(Rejected(str(error.filename), "unreadable folder", str(error)))

    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(place)
        if real in walked:
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if name[0] not in ".@")
        yield from (Path(place, name).relative_to(folder) for name in files if name[0] != ".")


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name, of a kind that can be read or not."""
    return path.suffix.lower() in _readable() | FOREIGN


@cache
def _readable() -> frozenset[str]:
    """Endings of files that Pillow reads as pictures."""
    Image.init()
    kinds = {ending for ending, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    return frozenset(kinds - {".pdf", ".eps", ".ps", ".mpg", ".mpeg"})
