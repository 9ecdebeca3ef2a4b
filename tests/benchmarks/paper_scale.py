"""The tables of a run of the paper's size, made up: 169,000 images of 10 regions and 45 lines of
verbalization each, 5 million raw triples, 20,000 labelled ones.

Texts are as long as those of a language model, ids are spread as in Visual Genome and VCR, a few in
a hundred triples say again what another says, or nearly. What they mean is nothing: no model reads
them. Any other size keeps these proportions.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from million import FILLERS, LINKS, OPENINGS, TAILS, VOCABULARIES

from lskd_nb.records import (
    LABELS,
    REGION,
    REGIONS,
    ROW_GROUP,
    SCORES,
    TRIPLES,
    VERBALIZATIONS,
    write_parquet,
)
from lskd_nb.regions import LocatedImage
from lskd_nb.sources import MultipleChoice
from lskd_nb.verbalization.retrieval import read_vocabulary

OFFERED = 10  # regions of an image, the second half of a text's points three further on
AGAIN, NEARLY = 0.03, 0.05  # of the triples
SOURCES = tuple(f"{f}{o}" for f in ("id", "description", "words") for o in ("", "_any", "_people"))
ASKED = 3  # triples of a request
LINES = (  # kind, verbalizer, model: 45 for each image
    *[("global", "clip-place", "openai/clip-vit-large-patch14-336")],
    *[("global", "clip-object", "openai/clip-vit-large-patch14-336")] * 10,
    *[("global", "clip-concept", "openai/clip-vit-large-patch14-336")] * 5,
    *[("global", "captioner", "Salesforce/blip2-flan-t5-xl")] * 4,
    *[("local", "region-captioner", "Salesforce/blip2-flan-t5-xl")] * 20,
    *[("dynamic", "vqa", "Salesforce/blip2-flan-t5-xxl")] * 5,
)
AT_ONCE = 500_000  # rows


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    images: int = 169_000
    triples: int = 5_000_000
    labels: int = 20_000

    def part(self, share: float) -> "Size":
        """A smaller run of the same proportions."""
        return Size(*(max(round(n * share), 20) for n in (self.images, self.triples, self.labels)))


PAPER = Size()


def write_run(folder: Path, size: Size = PAPER, seed: int = 0) -> None:
    """What notebooks 01 and 02, annotators and a critic would leave in a run's folder."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = image_ids(size.images)
    (folder / "image_root.txt").write_text(str(folder / "images"))
    write_parquet(regions(names, rng), folder / "regions.parquet", REGIONS)
    _write(folder / "verbalizations.parquet", VERBALIZATIONS, verbalizations(names, rng))
    _write(folder / "triples.parquet", TRIPLES, triples(names, size.triples, rng))
    ids = pq.read_table(folder / "triples.parquet", columns=["triple_id"])["triple_id"]
    scores = {
        name: pa.array(rng.beta(0.8, 1.1, len(ids)), pa.float32()) for name in SCORES.names[1:]
    }
    write_parquet(pa.table({"triple_id": ids, **scores}), folder / "judged.parquet", SCORES)
    write_parquet(labels(ids, size.labels, rng), folder / "labels_by_people.parquet", LABELS)
    for image in names[:4]:  # no others are shown by the cells
        path = folder / "images" / path_of(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480)).save(path)


def image_ids(number: int) -> list[str]:
    """As they are: two thirds of Visual Genome, the others VCR's film stills."""
    first = round(number * 0.64)
    return [
        str(2_300_000 + 3 * n) if n < first else f"lsmdc_{3000 + n % 200}_FILM/{n:06d}@{n % 40}"
        for n in range(number)
    ]


def path_of(image_id: str) -> str:
    if image_id.isdigit():
        return f"VG_100K{'_2' if int(image_id) % 2 else ''}/{image_id}.jpg"
    return f"vcr1images/{image_id}.jpg"


@cache
def _words() -> list[str]:
    return [w for n in ("place", "object") for w in read_vocabulary(VOCABULARIES / f"{n}.txt")]


@cache
def texts(shape: str, number: int = 30_000) -> tuple[pa.Array, np.ndarray]:
    """Texts of a shape, each once for each region that it may point at; whether a text of this
    number mentions the second region as well.
    """
    rng, nouns = np.random.default_rng(len(shape)), _words()
    plain = sorted({word for text in (*nouns, *OPENINGS, *FILLERS, *LINKS, *TAILS)
                    for word in text.split()})  # fmt: skip
    order = rng.permutation(len(plain))
    common = 1 / (10 + np.arange(len(plain)))  # few words make up most of a text
    drawn = iter(rng.choice(order, size=40 * number, p=common / common.sum()).tolist())

    def some(most: int) -> str:
        return " ".join(plain[next(drawn)] for _ in range(rng.integers(2, most)))

    def one(of: Sequence[str]) -> str:
        return of[rng.integers(len(of))]

    found = []
    for _ in range(number):
        second = " near [{b}]" if rng.random() < 0.3 else ""
        if shape == "question":
            found.append(f"{one(OPENINGS)} [{{a}}] {some(5)} the {one(nouns)}{second}?")
        elif shape == "answer":
            found.append(f"[{{a}}] {some(6)} a {one(nouns)} {some(4)}{second}.")
        else:
            found.append(
                f"The {one(nouns)} on [{{a}}] {one(LINKS)} the {one(nouns)}, {some(11)} the"
                f" {one(nouns)}{second}, {some(11)}."
            )
    both = np.array(["{b}" in text for text in found])
    spelled = [t.format(a=a, b=(a + 3) % OFFERED) for t in found for a in range(OFFERED)]
    return pa.array(spelled), both


def regions(names: list[str], rng: np.random.Generator) -> pa.Table:
    number = len(names) * OFFERED
    corner = rng.uniform(0, 300, (number, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 180, (number, 2))], 1)
    labels = pa.array(["man", "woman", "person", *_words()[:200]])
    struct = pa.StructArray.from_arrays(
        [
            pa.array(np.tile(np.arange(OFFERED, dtype=np.int32), len(names))),
            pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel(), pa.float32()), 4),
            labels.take(pa.array(rng.integers(60, size=number))),
            pa.nulls(number, pa.float32()),
        ],
        fields=list(REGION),
    )
    offsets = pa.array(np.arange(0, number + 1, OFFERED, dtype=np.int32))
    return pa.table(
        {
            "image_id": names,
            "image": [path_of(n) for n in names],
            "width": pa.array(np.full(len(names), 640, np.int32)),
            "height": pa.array(np.full(len(names), 480, np.int32)),
            "source": ["visual_genome" if n.isdigit() else "vcr" for n in names],
            "split": ["train"] * len(names),
            "regions": pa.ListArray.from_arrays(offsets, struct),
        },
        schema=REGIONS,
    )


def verbalizations(names: list[str], rng: np.random.Generator) -> Iterator[pa.Table]:
    """Words of a vocabulary where a model retrieves them; else lines of which few are alike."""
    kinds = [pa.array([line[n] for line in LINES]) for n in range(3)]
    local, dynamic, retrieved = (
        np.array([line[n].startswith(start) for line in LINES])
        for n, start in ((0, "local"), (0, "dynamic"), (1, "clip-"))
    )
    region = np.where(local, np.cumsum(local) % OFFERED, 0)
    per, nouns, asked = len(LINES), pa.array(_words()), texts("question")[0]
    starts = pa.array([str(text)[4:-1] for text in texts("answer")[0][::OFFERED]])
    for start in range(0, len(names), AT_ONCE // per):
        part = pa.array(names[start : start + AT_ONCE // per])
        each = np.tile(np.arange(per), len(part))
        number = len(each)

        def some(of: pa.Array, where: np.ndarray, number: int = number) -> pa.Array:
            return of.take(pa.array(rng.integers(len(of), size=number), mask=~where))

        line = pc.binary_join_element_wise(
            some(starts, ~retrieved[each]), some(nouns, ~retrieved[each]), " "
        )
        yield pa.table(
            {
                "image_id": part.take(pa.array(np.repeat(np.arange(len(part)), per))),
                "kind": kinds[0].take(pa.array(each)),
                "verbalizer": kinds[1].take(pa.array(each)),
                "region": pa.array(region[each].astype(np.int32), mask=~local[each]),
                "question": some(asked, dynamic[each]),
                "text": pc.coalesce(line, some(nouns, retrieved[each])),
                "score": pa.array(rng.random(number, np.float32)),
                "model": kinds[2].take(pa.array(each)),
                "version": pa.array(["75551e6e625e"] * number),
            },
            schema=VERBALIZATIONS,
        )


def triples(names: list[str], number: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    """In the order of the images, as a teacher is asked."""
    shapes = ("question", "answer", "rationale")
    pools = {shape: texts(shape) for shape in shapes}
    per = -(-number // len(names))  # of an image
    ids, sources = pa.array(names), pa.array(SOURCES)
    prompts = pa.array([f"{s}-{hashlib.sha256(s.encode()).hexdigest()[:8]}" for s in SOURCES])
    families = pa.array([s.partition("_")[0] for s in SOURCES])
    offered = np.arange(OFFERED, dtype=np.int32)
    for start in range(0, number, AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, number))
        drawn = {s: rng.integers(len(pools[s][1]), size=len(rows)) for s in shapes}
        before = rng.integers(np.maximum(np.arange(len(rows)), 1))
        fate = rng.random(len(rows))
        for shape in shapes:
            copied = fate < (AGAIN if shape == "answer" else AGAIN + NEARLY)
            drawn[shape][copied] = drawn[shape][before[copied]]
        first = rng.integers(OFFERED, size=len(rows))
        two = np.any([pools[s][1][drawn[s]] for s in shapes], 0)
        at = np.concatenate([[0], np.cumsum(1 + two)]).astype(np.int32)
        mentioned = np.empty(at[-1], np.int32)
        mentioned[at[:-1]] = first
        mentioned[at[:-1][two] + 1] = (first[two] + 3) % OFFERED
        image, place = ids.take(pa.array(rows // per)), rows % per
        source, request = pa.array(place // ASKED % len(SOURCES)), rows // ASKED
        name = [
            f"{i}-{s}-{n}"
            for i, s, n in zip(
                image.to_pylist(),
                sources.take(source).to_pylist(),
                (place % ASKED + place // (ASKED * len(SOURCES)) * ASKED).tolist(),
                strict=True,
            )
        ]
        hashed = [
            f"{n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for n in request.tolist()
        ]
        told = {s: pools[s][0].take(pa.array(drawn[s] * OFFERED + first)) for s in shapes}
        whole = np.arange(0, (len(rows) + 1) * OFFERED, OFFERED, dtype=np.int32)
        yield pa.table(
            {
                "triple_id": name,
                "image_id": image,
                "family": families.take(source),
                **told,
                "regions": pa.ListArray.from_arrays(pa.array(at), pa.array(mentioned)),
                "regions_offered": pa.ListArray.from_arrays(
                    pa.array(whole), pa.array(np.tile(offered, len(rows)))
                ),
                "model": pa.array(["gpt-4.1-mini"] * len(rows)),
                "prompt": prompts.take(source),
                "request": hashed,
            },
            schema=TRIPLES,
        )


def labels(ids: pa.ChunkedArray, number: int, rng: np.random.Generator) -> pa.Table:
    """By two people, who share a tenth; the first are of the first image, as cells show them."""
    places = np.sort(rng.choice(len(ids), size=min(number, len(ids)), replace=False))
    places[0] = 0
    shared = places[: number // 10]
    triple = pa.concat_arrays([ids.take(pa.array(p)).combine_chunks() for p in (places, shared)])
    accept = rng.random(len(triple)) < 0.45
    accept[0] = False
    scores = {n: pa.array(rng.random(len(triple)), pa.float32()) for n in LABELS.names[3:]}
    by = ["ada"] * len(places) + ["ben"] * len(shared)
    return pa.table({"triple_id": triple, "annotator": by, "accept": accept, **scores})


def benchmark(number: int, seed: int = 1) -> list[MultipleChoice]:
    """Items of four answers about images of their own; one in twenty asks what a corpus asks."""
    rng = np.random.default_rng(seed)
    asked, said = (texts(shape)[0] for shape in ("question", "answer"))
    questions = asked.take(pa.array(rng.integers(len(asked), size=number))).to_pylist()
    answers = said.take(pa.array(rng.integers(len(said), size=4 * number))).to_pylist()
    found = []
    for n, question in enumerate(questions):
        image = LocatedImage(f"v-{n}", f"vcr1images/val/{n:06d}@0.jpg", 640, 480, (), "vcr", "val")
        choices = tuple(answers[4 * n : 4 * n + 4])
        own = question if n % 20 == 0 else f"{question} Item {n} of {number}, as asked here."
        found.append(MultipleChoice(f"val-{n}", image, own, choices, n % 4, "vcr.q_a", "why"))
    return found


def _write(path: Path, schema: pa.Schema, parts: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(part, row_group_size=ROW_GROUP)
