"""The images that a corpus is about: of one set of files or of several (LSKD, section 3.1).

``sources`` names them: Visual Genome's and VCR's files as the paper has them, COCO's or LVIS's, any
file of COCO JSON, or a folder of pictures alone. Of one source, paths begin in its own folder of
pictures. Of several, they begin in a folder of links in the run, so that a path means the same in
every later file: ``VG_100K/1.jpg``, ``vcr1images/…``, ``coco/…``, ``folder/…``; and so they do
where photographs are stored lying, of which upright copies join them: ``upright/…``.

Regions are the sets' own boxes. Of Visual Genome's many objects the reader chooses
(``sources.visual_genome``); of the others those are kept that most is asked about: people first,
then other things, the largest first, numbered anew in the file's order. Pictures of a folder have
none: a detector finds them (``detection.detect_missing``).
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lskd_nb.regions import VG_FOLDERS, LocatedImage, Region, is_person
from lskd_nb.sources import Rejected, count_reasons, in_words
from lskd_nb.sources import visual_genome as vg
from lskd_nb.sources.coco import pictures_of, read_coco
from lskd_nb.sources.image_folder import is_lying, read_image_folder, upright_copy
from lskd_nb.sources.lvis import read_lvis
from lskd_nb.sources.vcr import read_vcr_images

SETS = ("visual_genome", "vcr", "coco", "lvis", "folder")
OWN_PATHS = ("coco", "lvis", "folder")  # whose images are called as their paths
SHOWN = ("coco", "folder")  # whose boxes are of pictures as they are shown
WITHOUT_BOXES = "it comes without a box: name a detector (01.detector), or a file of boxes"
TEXTS = ("region_descriptions", "question_answers")  # what people wrote, of Visual Genome's files


@dataclass(frozen=True)
class Source:
    """One of ``sources``: its file or folder of annotations, and the folder of its pictures."""

    name: str
    annotations: Path
    pictures: Path

    def links(self) -> dict[str, Path]:
        """What stands for its pictures in a folder that holds those of several sources."""
        if self.name == "visual_genome":
            return {name: self.pictures / name for name in VG_FOLDERS}
        if self.name == "vcr":
            return {"vcr1images": self.pictures / "vcr1images"}
        return {self.name: self.pictures}


@dataclass(frozen=True)
class Found:
    """Images below ``root``, and what was left out. Those without regions wait for a detector."""

    images: list[LocatedImage]
    rejects: list[Rejected]
    root: Path


def sources_of(sources: Mapping[str, object], root: str | Path) -> list[Source]:
    """``sources`` with their paths below ``root``, in their order.

    Each is a path, of the set's folder, of a JSON file (coco, lvis) or of the pictures (folder); or
    {annotations: path, images: folder} where the pictures lie elsewhere. Raises ``ValueError`` for
    another name or form.

    >>> told = {"visual_genome": "vg", "coco": {"annotations": "boxes.json", "images": "photos"}}
    >>> [(s.name, str(s.annotations), str(s.pictures)) for s in sources_of(told, "data")]
    [('visual_genome', 'data/vg', 'data/vg'), ('coco', 'data/boxes.json', 'data/photos')]
    """
    found = []
    for name, told in sources.items():
        if name not in SETS:
            raise ValueError(f"sources has {name!r}; expected some of {', '.join(SETS)}")
        form = told if isinstance(told, Mapping) else {"annotations": told}
        if name == "folder" and isinstance(told, Mapping):
            form = {"annotations": told.get("images")} | dict(told)
        texts = all(isinstance(value, str) and value for value in form.values())
        if not texts or "annotations" not in form or form.keys() - {"annotations", "images"}:
            raise ValueError(
                f"sources.{name} is {told!r}; expected a path, or"
                " {annotations: path, images: folder}"
            )
        paths = {part: Path(root) / Path(value).expanduser() for part, value in form.items()}
        annotations, pictures = paths["annotations"], paths.get("images")
        if name in ("coco", "lvis"):
            pictures = pictures_of(annotations, pictures)
        found.append(Source(name, annotations, pictures or annotations))
    return found


def read_images(
    sources: Sequence[Source],
    links: str | Path,
    max_regions: int = 10,
    limit: int | None = None,
    detected: bool = False,
) -> Found:
    """Located images of all sources, in their order, and what was left out.

    Of VCR the images of *train* join. ``limit`` reads so many images of each source. A picture that
    two sources name is the first one's, without a word where the second is a folder. Where a
    detector will look (``detected``), images without a box stay, without regions. ``links`` is a
    folder that is made where there are several sources, or pictures to be turned. Raises
    ``ValueError`` where no image at all can be used, with what is missing.
    """
    read = [(source, *_read(source, max_regions, limit)) for source in sources]
    lying = {(s.name, i.path) for s, found, _ in read for i in found if _is_lying(s, i)}
    several = len(sources) > 1
    home = _linked(sources, Path(links)) if several or lying else sources[0].pictures
    images: dict[str, LocatedImage] = {}
    rejects: list[Rejected] = []
    for source, found, bad in read:
        rejects += bad
        for image in found:
            if source.name in OWN_PATHS:
                below = f"{_folder_of(source, sources)}/{image.path}"
                path = below if several or lying else image.path
                if (source.name, image.path) in lying:
                    path = f"upright/{below}"
                    upright_copy(source.pictures / image.path, home / path)
                image = replace(image, image_id=below if several else image.path, path=path)
            if image.image_id in images:
                first = images[image.image_id].source
                if source.name != "folder":
                    told = f"{source.name} has it, and so has {first}"
                    rejects.append(Rejected(image.image_id, "repeated image", told))
            elif not image.regions and not detected:
                rejects.append(Rejected(image.image_id, "no regions", WITHOUT_BOXES))
            else:
                images[image.image_id] = image
    named = " and ".join(str(s.annotations) for s in sources)
    where = f"{named}, pictures below {home}"
    return Found(require_images(list(images.values()), rejects, where), rejects, home)


def _is_lying(source: Source, image: LocatedImage) -> bool:
    """Whether an image is stored otherwise than it is shown, and its boxes are of what is shown."""
    size = (image.width, image.height)
    return source.name in SHOWN and is_lying(source.pictures / image.path, size)


def _read(
    source: Source, max_regions: int, limit: int | None
) -> tuple[list[LocatedImage], list[Rejected]]:
    if source.name == "visual_genome":
        return vg.read_visual_genome(source.annotations, source.pictures, max_regions, limit=limit)
    if source.name == "vcr":
        found, rejects = read_vcr_images(source.annotations, "train", source.pictures, limit)
    elif source.name == "coco":
        found, rejects = read_coco(source.annotations, source.pictures, limit)
    elif source.name == "lvis":
        read, rejects, _ = read_lvis(source.annotations, source.pictures, limit=limit)
        found = [_in_words(one.image) for one in read]
    else:
        found, rejects = read_image_folder(source.annotations, limit)
    return [replace(i, regions=most_asked_about(i.regions, max_regions)) for i in found], rejects


def _in_words(image: LocatedImage) -> LocatedImage:
    """LVIS's names as words: "tank (storage vessel)" for "tank_(storage_vessel)"."""
    words = (replace(r, label=in_words(r.label)) for r in image.regions)
    return replace(image, regions=tuple(words))


def _folder_of(source: Source, sources: Sequence[Source]) -> str:
    """The link to a source's pictures: that of the first one that has the same."""
    real = source.pictures.resolve()
    alike = (s for s in sources if s.name not in ("visual_genome", "vcr"))
    return next(s.name for s in alike if s.pictures.resolve() == real)


def _linked(sources: Sequence[Source], links: Path) -> Path:
    """``links`` with a link to each source's pictures, relative ones where a project moves as a
    whole.
    """
    links.mkdir(parents=True, exist_ok=True)
    for source in sources:
        for name, target in source.links().items():
            if not target.exists():
                continue
            told, link = os.path.relpath(target.resolve(), links.resolve()), links / name
            if not link.is_symlink() or os.readlink(link) != told:
                temporary = links / f".{name}.{os.getpid()}"
                temporary.symlink_to(told)
                os.replace(temporary, link)
    return links


def human_texts(
    sources: Sequence[Source], images: Sequence[LocatedImage], wanted: bool
) -> tuple[list[vg.HumanText], list[Rejected]]:
    """What people wrote about these images, as Visual Genome has it; from what files are there, or
    from all of them where they are ``wanted``.

    Raises ``FileNotFoundError`` naming one that is wanted and is not there.
    """
    texts: list[vg.HumanText] = []
    rejects: list[Rejected] = []
    ours = [image for image in images if image.source == vg.SOURCE]
    for source in sources:
        if source.name == "visual_genome":
            there = [f for f in TEXTS if wanted or (source.annotations / f"{f}.json").exists()]
            found, bad = vg.read_human_texts(source.annotations, ours, there)
            texts, rejects = texts + found, rejects + bad
    return texts, rejects


def most_asked_about(regions: Sequence[Region], number: int) -> tuple[Region, ...]:
    """People first, then the rest, the largest first; in their order, numbered 0, 1, …

    >>> sizes = (("dog", 90), ("person", 20), ("cup", 5), ("person", 40))
    >>> regions = [Region(n, (0, 0, side, side), name) for n, (name, side) in enumerate(sizes)]
    >>> [(r.id, r.label, r.box[2]) for r in most_asked_about(regions, 3)]
    [(0, 'dog', 90), (1, 'person', 20), (2, 'person', 40)]
    """

    def place(region: Region) -> tuple[bool, float]:
        x0, y0, x1, y1 = region.box
        return not is_person(region.label), -(x1 - x0) * (y1 - y0)

    chosen = {r.id for r in sorted(regions, key=place)[:number]}
    kept = [r for r in regions if r.id in chosen]
    return tuple(replace(r, id=new) for new, r in enumerate(kept))


def require_images(
    images: list[LocatedImage], rejects: Sequence[Rejected], where: str
) -> list[LocatedImage]:
    """``images``. Raises ``ValueError`` where there is none: where they were looked for, how many
    records were left out for which reasons, and the first of the most frequent.
    """
    if images:
        return images
    if not rejects:
        raise ValueError(f"no image: there is no record in {where}")
    reasons = count_reasons(rejects)
    first = next(r for r in rejects if r.reason == next(iter(reasons)))
    told = ", ".join(f"{number:,} × {reason}" for reason, number in reasons.items())
    raise ValueError(
        f"no image can be used: {len(rejects):,} records left out of {where}: {told}. The first of"
        f" them: {first.record}: {first.detail}"
    )


def count_sources(images: Sequence[LocatedImage]) -> dict[str, int]:
    """How many images of each set."""
    return dict(Counter(image.source for image in images))
