"""Contamination: benchmark items whose image, or question and answer, a corpus has shown already.

An image is known by its name (the data set's own id, also where Visual7W or Sherlock give a Visual
Genome image a name of their own) and by its picture: perceptual hashes (ImageHash, 256 bits) that
differ in a few bits are of the same photograph, resized or encoded anew. Crops, mirrored pictures
and other photographs of the same scene are not found. A text is known by its wording
(``dedup``), exactly or nearly. The same question and answer about the same picture is the leak
that matters most and is counted by itself.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from lskd_nb.corpus.dedup import (
    JACCARD,
    NORMALISED,
    QUESTION_AND_ANSWER,
    MinHashBands,
    NearDuplicateIndex,
    distinct_texts,
    share_of,
)
from lskd_nb.records import PARQUET, database
from lskd_nb.regions import image_file
from lskd_nb.sources import MultipleChoice, Rejected, count_reasons

# of 256; measured on drawn scenes: at most 8 between two encodings of one, at least 58 between two
# scenes
BITS = 20
HASH_SIZE = 16
AT_ONCE = 100_000  # wordings of the corpus that are looked for together
# how data sets name an image: whose it is, and the pattern of its path that holds the id
_NAMES = (
    ("visual_genome", re.compile(r"(?:VG_100K(?:_2)?/|v7w_)0*(\d+)\.\w+$")),
    ("coco", re.compile(r"(?:COCO_\w+?_|(?:train|val|test)20\d\d/)0*(\d+)\.\w+$")),
)


def image_name(path: str) -> str:
    """What an image is called whichever set names it: "visual_genome 1" for VG_100K/1.jpg and
    v7w_1.jpg; else the file's name.

    A name that is only a number says little: its folder stays before it.
    """
    for owner, pattern in _NAMES:
        if found := pattern.search(path):
            return f"{owner} {found[1]}"
    plain = PurePosixPath(path)
    return (
        f"{plain.parent.name}/{plain.stem}".lower() if plain.stem.isdigit() else plain.name.lower()
    )


def picture_hash(path: str | Path) -> np.ndarray:
    """The perceptual hash of an image file, (4,) uint64.

    Raises ``OSError`` or ``ValueError`` where it can't be read.
    """
    import imagehash
    from PIL import Image

    with Image.open(path) as image:
        image.draft("L", (8 * HASH_SIZE, 8 * HASH_SIZE))  # JPEGs are decoded no larger than needed
        bits = imagehash.phash(image, hash_size=HASH_SIZE).hash
    return np.packbits(bits.ravel()).view(np.uint64)


def picture_hashes(
    root: str | Path, paths: Sequence[str]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Hashes (N, 4) uint64 and the paths they are of, below ``root``; and the paths that can't
    be read, or hold more pixels than Pillow opens.
    """
    from PIL import Image

    def hashed(path: str) -> np.ndarray | None:
        try:
            return picture_hash(image_file(root, path))
        except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = list(pool.map(hashed, paths))
    read = [p for p, h in zip(paths, hashes, strict=True) if h is not None]
    return (
        np.array([h for h in hashes if h is not None], np.uint64).reshape(-1, 4),
        read,
        [p for p, h in zip(paths, hashes, strict=True) if h is None],
    )


def near_duplicate_pictures(
    ours: np.ndarray, theirs: np.ndarray, bits: int = BITS
) -> list[tuple[int, int, int]]:
    """(place in ``ours``, place in ``theirs``, differing bits) of every pair of hashes that
    differ in at most ``bits``.
    """
    found: list[tuple[int, int, int]] = []
    for start in range(0, len(ours) if len(theirs) else 0, 256):
        distance = np.bitwise_count(ours[start : start + 256, None] ^ theirs[None]).sum(
            -1, dtype=np.uint16
        )
        rows, columns = np.nonzero(distance <= bits)
        found += zip(
            (rows + start).tolist(), columns.tolist(), distance[rows, columns].tolist(), strict=True
        )
    return found


def measure_contamination(
    corpus: str | Path,
    image_root: str | Path,
    benchmarks: Mapping[str, tuple[Sequence[MultipleChoice], str | Path]],
    bits: int = BITS,
    threshold: float = JACCARD,
    examples: int = 5,
) -> dict[str, dict]:
    """What of each benchmark is in a corpus (Parquet, records.CORPUS), JSON-able: counts, shares of
    its items and examples of both sides.

    ``benchmarks`` gives each set's items and the folder of its images. ``image``: items whose image
    the corpus has. ``text``: items whose question and right answer it has (``exact``), or nearly
    has (``near``, not counting the exact ones); items without a right answer are not compared.
    ``both``: the same wording about the same picture.
    """
    with database() as db:
        images = [
            i
            for (i,) in db.execute(
                f"SELECT DISTINCT image FROM {PARQUET} ORDER BY image", [str(corpus)]
            ).fetchall()
        ]
    ours = picture_hashes(image_root, images)
    answered = {name: _answered(items) for name, (items, _) in benchmarks.items()}
    texts = _text_reports(
        answered, distinct_texts(corpus, QUESTION_AND_ANSWER), threshold, examples
    )
    found = {}
    for name, (items, folder) in benchmarks.items():
        pairs, unreadable = _image_pairs(
            images, ours[:2], {i.image.path for i in items}, folder, bits
        )
        found[name] = dict(
            items=len(items),
            image=_image_report(items, pairs, unreadable, examples)
            | {"unreadable_in_corpus": len(ours[2])},
            text=texts[name] | {"without_answer": len(items) - len(answered[name])},
            both=_both(corpus, answered[name], pairs),
        )
    return found


def benchmark_sets(
    homes: Mapping[str, str | Path],
    images: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    left_out: dict[str, str] | None = None,
) -> dict[str, tuple[list[MultipleChoice], Path]]:
    """The evaluation sets in ``homes`` (name to folder), as ``measure_contamination`` takes them.

    ``images`` names folders of images that lie elsewhere: Sherlock's and VisualCOMET's are VCR's
    unless it says otherwise. A set whose folder is not there is left out, as is one of which
    nothing can be read; ``left_out``, where given, learns why, and then a set whose files are
    missing or damaged is left out too. ``limit`` shortens each. VisualCOMET's and Sherlock's items
    have no single right answer.
    """
    stills = homes.get("vcr", "")
    images = dict(homes) | {"sherlock": stills, "visualcomet": stills} | dict(images or {})
    told = {} if left_out is None else left_out
    found = {}
    for name, home in homes.items():
        if not Path(home).is_dir():
            told[name] = f"{home} is not there"
            continue
        try:
            items, rejected = _read_set(name, Path(home), Path(images[name]), limit)
        except (FileNotFoundError, ValueError) as error:
            if left_out is None:
                raise
            told[name] = str(error)
            continue
        if items:
            found[name] = items, Path(images[name])
        else:
            reasons = ", ".join(f"{why}: {n:,}" for why, n in count_reasons(rejected).items())
            told[name] = f"nothing in {home} can be read. {reasons or 'It has no rows'}"
    return found


def _read_set(
    name: str, home: Path, pictures: Path, limit: int | None
) -> tuple[list[MultipleChoice], list[Rejected]]:
    from lskd_nb.sources import aokvqa, sherlock, snli_ve, vcr, visual7w, visualcomet

    if name == "vcr":
        questions, rejected = vcr.read_vcr(home, "val", limit)
        return [vcr.q_a(q) for q in questions], rejected
    if name == "sherlock":
        comparisons, rejected, _ = sherlock.read_comparison(home, "val", pictures)
        return [c.item for c in comparisons[:limit]], rejected
    if name == "visualcomet":
        units, rejected, _ = visualcomet.read_visualcomet(home, "val", pictures, limit=limit)
        return [
            MultipleChoice(u.unit_id, u.image, u.event, u.gold, None, "visualcomet", u.relation)
            for u in units
        ], rejected
    if name == "aokvqa":
        asked, rejected = aokvqa.read_aokvqa(home, "val", limit=limit)
        return [q.item for q in asked], rejected
    if name == "snli_ve":
        return snli_ve.read_snli_ve(home, "dev", limit=limit)
    if name == "visual7w":
        return visual7w.read_visual7w(home, "val", limit=limit)
    raise ValueError(f"{name!r} is none of the six sets")


# ------------------------------------------------------------------------------------------- images


def _image_pairs(
    images: Sequence[str],
    ours: tuple[np.ndarray, list[str]],
    paths: Iterable[str],
    folder: str | Path,
    bits: int,
) -> tuple[list[dict], list[str]]:
    """Benchmark images with the corpus's image that is the same, by name or by picture; and
    those that can't be read.
    """
    paths = sorted(paths)
    named: dict[str, list[str]] = {}
    for image in images:
        named.setdefault(image_name(image), []).append(image)
    pairs = {
        (path, image): dict(benchmark=path, corpus=image, same_name=True, bits=None)
        for path in paths
        for image in named.get(image_name(path), ())
    }
    hashes, read, unreadable = picture_hashes(folder, paths)
    for place, other, distance in near_duplicate_pictures(hashes, ours[0], bits):
        key = (read[place], ours[1][other])
        pairs[key] = pairs.get(key, dict(benchmark=key[0], corpus=key[1], same_name=False)) | dict(
            bits=distance
        )
    return list(pairs.values()), unreadable


def _image_report(
    items: Sequence[MultipleChoice],
    pairs: Sequence[Mapping],
    unreadable: Sequence[str],
    examples: int,
) -> dict:
    named = {p["benchmark"] for p in pairs if p["same_name"]}
    seen = {p["benchmark"] for p in pairs if p["bits"] is not None}
    leaked = sum(i.image.path in named | seen for i in items)
    return dict(
        images=len({i.image.path for i in items}),
        same_name=len(named),
        same_picture=len(seen),
        either=len(named | seen),
        items=leaked,
        share=share_of(leaked, len(items)),
        unreadable=len(unreadable),
        examples=[dict(p) for p in pairs[:examples]],
    )


# -------------------------------------------------------------------------------------------- texts


def _answered(items: Iterable[MultipleChoice]) -> list[tuple[str, str, str]]:
    """Item, image and wording of question and right answer, of those that have one."""
    rows = [
        dict(item=i.item_id, image=i.image.path, text=f"{i.question} {i.choices[i.label]}")
        for i in items
        if i.label is not None
    ]
    table = pa.Table.from_pylist(
        rows, pa.schema([("item", pa.string()), ("image", pa.string()), ("text", pa.string())])
    )
    with database() as db:
        db.register("items", table)
        return db.execute(
            f"SELECT item, image, {NORMALISED.format(text='text')} FROM items"
        ).fetchall()


def _text_reports(
    answered: Mapping[str, Sequence[tuple[str, str, str]]],
    wordings: Sequence[tuple[str, int, str]],
    threshold: float,
    examples: int,
) -> dict[str, dict]:
    """For each set, which of its items have their question and answer in the corpus."""
    of: dict[tuple[str, str], list[str]] = {}  # items by set and wording
    for name, rows in answered.items():
        for item, _, wording in rows:
            of.setdefault((name, wording), []).append(item)
    said = {wording: triple for wording, _, triple in wordings}
    exact = [
        dict(set=name, item=items[0], triple=said[w], wording=w, items=len(items))
        for (name, w), items in of.items()
        if w in said
    ]
    near = _near_matches(
        {key: items for key, items in of.items() if key[1] not in said}, wordings, threshold
    )
    reports = {}
    for name, rows in answered.items():
        mine = [
            [
                {k: v for k, v in match.items() if k != "set"}
                for match in matches
                if match["set"] == name
            ]
            for matches in (exact, near)
        ]
        count = [sum(match["items"] for match in matches) for matches in mine]
        reports[name] = dict(
            compared=len(rows),
            exact=count[0],
            exact_share=share_of(count[0], len(rows)),
            near=count[1],
            near_share=share_of(count[1], len(rows)),
            threshold=threshold,
            examples=mine[0][:examples],
            near_examples=mine[1][:examples],
        )
    return reports


def _near_matches(
    of: Mapping[tuple[str, str], Sequence[str]],
    wordings: Sequence[tuple[str, int, str]],
    threshold: float,
) -> list[dict]:
    """Each of the sets' wordings with the first of the corpus's that is near; one that is found
    is looked for no more.
    """
    bands, index, matches = MinHashBands(threshold), NearDuplicateIndex(threshold), []
    theirs = bands.buckets([wording for _, wording in of])
    for key, buckets in zip(of, theirs, strict=True):
        index.add(key, key[1], buckets)
    for start in range(0, len(wordings), AT_ONCE):
        if len(matches) == len(of):
            break
        part = wordings[start : start + AT_ONCE]
        ours = bands.buckets([said for said, _, _ in part])
        met = np.stack([np.isin(ours[:, n], theirs[:, n]) for n in range(bands.number)], 1)
        for place in np.flatnonzero(met.any(1)).tolist():
            said, _, triple = part[place]
            for key, similarity in index.near(said, np.ma.array(ours[place], mask=~met[place])):
                matches.append(
                    dict(
                        set=key[0],
                        item=of[key][0],
                        triple=triple,
                        wording=key[1],
                        corpus_wording=said,
                        jaccard=round(similarity, 3),
                        items=len(of[key]),
                    )
                )
                index.remove(key)
    return matches


def _both(
    corpus: str | Path, answered: Sequence[tuple[str, str, str]], pairs: Sequence[Mapping]
) -> dict:
    """Items that have a triple of the same wording about the same picture."""
    items = pa.table(
        {
            name: pa.array([row[n] for row in answered], pa.string())
            for n, name in enumerate(("item", "image", "wording"))
        }
    )
    same = pa.table(
        {name: pa.array([p[name] for p in pairs], pa.string()) for name in ("benchmark", "corpus")}
    )
    query = f"""
        WITH said AS (
            SELECT triple_id, image, {NORMALISED.format(text=QUESTION_AND_ANSWER)} AS wording
            FROM {PARQUET}
        )
        SELECT items.item, min(said.triple_id)
        FROM items
            JOIN same ON same.benchmark = items.image
            JOIN said ON said.image = same.corpus AND said.wording = items.wording
        GROUP BY items.item ORDER BY items.item
    """
    with database() as db:
        db.register("items", items)
        db.register("same", same)
        rows = db.execute(query, [str(corpus)]).fetchall()
    return dict(
        items=len(rows),
        share=share_of(len(rows), len(answered)),
        examples=[dict(item=i, triple=t) for i, t in rows[:5]],
    )
