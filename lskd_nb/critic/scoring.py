"""The critic over a whole corpus: triples by image, in one process or many (``shards``)."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lskd_nb.critic.model import Critic, as_drawn, critic_example, load_critic, score
from lskd_nb.records import REGIONS, SCORES, hash_of, write_parquet
from lskd_nb.regions import located_images
from lskd_nb.shards import LOCAL, Engine, Work, in_shards
from lskd_nb.students.views import FrozenFeatures
from lskd_nb.training.loop import IDENTITY, METRICS

# of a critic's folder: on these no score depends
LOGS = (IDENTITY, METRICS)
PART = 20_000  # triples


def score_triples(
    triples: pa.Table,
    regions: str | Path,
    critic: str | Path,
    image_root: str | Path,
    out: str | Path,
    view_store: str | Path | None = None,
    engine: Engine = LOCAL,
    part: int = PART,
) -> pa.Table:
    """Scores of all triples, written to ``out`` (records.SCORES) in the order of the triples.

    ``regions`` (Parquet) has their images, of which a part reads only its own. Each view is encoded
    once, and its features are not kept, unless ``view_store`` names a folder for them: in this
    process only, and of use only where trainings look at the same views. Raises ``ValueError`` for
    a triple whose image has no regions there, and for a score that is no number.
    """
    lying = shards_of(triples, regions, critic, image_root, out, part)
    store = str(view_store) if view_store and engine.name == "local" else None
    load = partial(_judging, str(critic), str(Path(regions).resolve()), str(image_root), store)
    by_image = triples.take(lying.order)
    found, _ = in_shards(by_image, lying.folder, part, load, SCORES, engine=engine)
    return write_parquet(found.take(pc.sort_indices(lying.order)), out, SCORES)


@dataclass(frozen=True)
class ScoreShards:
    """The folder where a corpus's scores lie in parts, and the places of its triples in the order
    that they have there, which is by image.
    """

    folder: Path
    order: pa.Array


def shards_of(
    triples: pa.Table,
    regions: str | Path,
    critic: str | Path,
    image_root: str | Path,
    out: str | Path,
    part: int = PART,
) -> ScoreShards:
    """Where ``score_triples`` keeps its parts: another folder for other triples, regions, images or
    another critic.
    """
    weights = sorted(f for f in Path(critic).iterdir() if f.is_file() and f.name not in LOGS)
    texts, between = hashlib.sha256(), ""
    for name in ("triple_id", "answer"):
        for batch in triples.select([name]).to_batches(max_chunksize=part):
            if batch.num_rows:
                texts.update((between + "\0".join(batch[name].to_pylist())).encode())
                between = "\0"
    told = json.dumps(
        [hash_of(weights), hash_of([Path(regions)]), str(image_root), part, texts.hexdigest()]
    )
    folder = Path(out).with_suffix(".parts") / hashlib.sha256(told.encode()).hexdigest()[:12]
    return ScoreShards(folder, pc.sort_indices(triples["image_id"]))


def no_scores(triples: pa.Table, out: str | Path) -> pa.Table:
    """What stands for scores where no critic gives any: a row of nulls for each triple."""
    names = [{"triple_id": name} for name in triples["triple_id"].to_pylist()]
    return write_parquet(names, out, SCORES)


def _judging(critic: str, regions: str, image_root: str, view_store: str | None) -> Work:
    loaded = load_critic(critic)
    if _has_gpu():
        loaded.cuda()
    return partial(_judge, loaded, regions, FrozenFeatures(loaded.blip2, image_root, view_store))


def _judge(
    critic: Critic, regions: str, views: FrozenFeatures, triples: pa.Table
) -> tuple[list[dict], list[dict]]:
    rows = triples.to_pylist()
    needed = sorted({r["image_id"] for r in rows})
    images = {
        i.image_id: i
        for i in located_images(
            pq.read_table(regions, schema=REGIONS, filters=[("image_id", "in", needed)])
        )
    }
    if missing := [r["triple_id"] for r in rows if r["image_id"] not in images]:
        raise ValueError(
            f"{regions} has no image for {len(missing)} triples, {missing[0]!r} the first"
        )
    told = [
        critic_example(images[r["image_id"]].path, images[r["image_id"]].regions, r) for r in rows
    ]
    if views.folder is not None:
        views.prepare(as_drawn(t, critic.drawing).view for t in told)
    found = score(critic, told, views)
    return [
        dict(triple_id=r["triple_id"], **{k: float(v[n]) for k, v in found.items()})
        for n, r in enumerate(rows)
    ], []


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
