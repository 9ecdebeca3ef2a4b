"""The critic over a whole corpus: triples by image, in one process or many (``shards``)."""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lskd_nb.critic.model import Critic, as_drawn, critic_example, load_critic, score
from lskd_nb.records import REGIONS, SCORES, hash_of, write_parquet
from lskd_nb.regions import located_images
from lskd_nb.shards import LOCAL, Engine, Work, in_shards
from lskd_nb.students.views import FrozenFeatures
from lskd_nb.training.loop import IDENTITY, METRICS

# of a critic's folder: on these no score depends
LOGS = (IDENTITY, METRICS)


def score_triples(
    triples: pa.Table,
    regions: str | Path,
    critic: str | Path,
    image_root: str | Path,
    out: str | Path,
    view_store: str | Path | None = None,
    engine: Engine = LOCAL,
    part: int = 20_000,
) -> pa.Table:
    """Scores of all triples, written to ``out`` (records.SCORES) in the order of the triples.

    ``regions`` (Parquet) has their images, of which a part reads only its own. Each view is encoded
    once, and its features are not kept, unless ``view_store`` names a folder for them: in this
    process only, and of use only where trainings look at the same views. Raises ``ValueError`` for
    a triple whose image has no regions there, and for a score that is no number.
    """
    out = Path(out)
    order = np.argsort(triples["image_id"].to_numpy(zero_copy_only=False), kind="stable")
    weights = sorted(f for f in Path(critic).iterdir() if f.is_file() and f.name not in LOGS)
    told = json.dumps(
        [
            hash_of(weights),
            hash_of([Path(regions)]),
            str(image_root),
            part,
            hashlib.sha256(
                "\0".join(triples["triple_id"].to_pylist() + triples["answer"].to_pylist()).encode()
            ).hexdigest(),
        ]
    )
    folder = out.with_suffix(".parts") / hashlib.sha256(told.encode()).hexdigest()[:12]
    store = str(view_store) if view_store and engine.name == "local" else None
    load = partial(_judging, str(critic), str(Path(regions).resolve()), str(image_root), store)
    found, _ = in_shards(triples.take(order), folder, part, load, SCORES, engine=engine)
    return write_parquet(found.take(np.argsort(order)), out, SCORES)


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
