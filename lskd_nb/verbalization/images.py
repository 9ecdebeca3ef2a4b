"""The images that a corpus is about: Visual Genome's, and VCR's beside them (LSKD, section 3.1).

Both sets come as located images below one root, so that a path means the same in every later file.
Regions are the sets' own boxes. Of Visual Genome's many objects the reader chooses
(``sources.visual_genome``); of VCR's detections those are kept that most is asked about: people
first, then other things, the largest first, numbered anew in the file's order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lskd_nb.regions import LocatedImage, Region, is_person
from lskd_nb.sources import Rejected, count_reasons
from lskd_nb.sources.vcr import read_vcr_images
from lskd_nb.sources.visual_genome import read_visual_genome


def read_images(
    visual_genome: str | Path,
    vcr: str | Path | None = None,
    image_root: str | Path | None = None,
    max_regions: int = 10,
    limit: int | None = None,
) -> tuple[list[LocatedImage], list[Rejected]]:
    """Located images of both sets, Visual Genome's first, and what was left out.

    ``vcr`` is VCR's folder, of which the images of *train* join. ``image_root`` has VG_100K,
    VG_100K_2 and vcr1images, by links if need be (default: ``visual_genome``, which will do where
    there is no VCR). ``limit`` reads so many images of each set. Raises ``ValueError`` where VCR is
    given without a root that has both, and where no image at all can be used, with what is missing.
    """
    if vcr and not image_root:
        raise ValueError(
            f"vcr is {str(vcr)!r} and image_root is empty: name a folder that holds VG_100K,"
            " VG_100K_2 and vcr1images (links will do), as both sets' paths begin there"
        )
    root = Path(image_root or visual_genome)
    images, rejects = read_visual_genome(visual_genome, root, max_regions, limit=limit)
    if vcr:
        stills, bad = read_vcr_images(vcr, "train", root, limit)
        known = {image.image_id for image in images}
        rejects += bad
        for image in stills:
            if image.image_id in known:
                rejects.append(Rejected(image.image_id, "repeated image", "in both sets"))
            elif not image.regions:
                rejects.append(Rejected(image.image_id, "no regions", "nothing was detected"))
            else:
                images.append(replace(image, regions=most_asked_about(image.regions, max_regions)))
    sets = f"{visual_genome}" + (f" and {vcr}" if vcr else "")
    return require_images(images, rejects, f"{sets}, pictures below {root}"), rejects


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
