"""The critic over a corpus: what is drawn, what is kept of features, and what a score may be."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from lskd_nb.critic import scoring
from lskd_nb.critic.model import Critic, Drawing, as_drawn, critic_example, load_critic, score
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import REGIONS, TRIPLES, write_parquet
from lskd_nb.regions import LocatedImage, Region, regions_table
from lskd_nb.students.views import FrozenFeatures

BOXES = tuple(Region(i, (3.0 * i, 2.0, 3.0 * i + 15, 20.0)) for i in range(7))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A critic that draws three regions, and eight triples about two images."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    images = []
    for n in range(2):
        Image.fromarray(rng.integers(0, 255, (24, 40, 3), dtype=np.uint8)).save(
            folder / f"m{n}.png"
        )
        images.append(LocatedImage(f"m{n}", f"m{n}.png", 40, 24, BOXES, "s", "train"))
    write_parquet(regions_table(images), folder / "regions.parquet", REGIONS)
    student = fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    critic = Critic(student, 8, Drawing(3))
    torch.nn.init.normal_(critic.accept_head.weight)
    critic.save(folder / "critic")
    rows = [
        dict(
            triple_id=f"t{n}",
            image_id=f"m{n % 2}",
            family="id" if n else "words",
            question=f"Why is [{n % 7}] here?" if n else "Why is the man here?",
            answer="To wait." if n else "To rest.",
            rationale=f"[{(n + 3) % 7}] waits too." if n else "He sits.",
            regions=[],
            regions_offered=[r.id for r in BOXES],
            model="m",
            prompt="p",
            request="r",
        )
        for n in range(8)
    ]
    return folder, images, pa.Table.from_pylist(rows, TRIPLES)


def scored(run, out, **more) -> pa.Table:
    folder, _, triples = run
    return scoring.score_triples(
        triples, folder / "regions.parquet", folder / "critic", folder, out / "s.parquet", **more
    )


def test_each_triple_is_scored_as_the_critic_draws_it(run, tmp_path):
    folder, images, triples = run
    critic = load_critic(folder / "critic")
    views = FrozenFeatures(critic.blip2, folder)
    found = scored(run, tmp_path)["score"].to_numpy()
    for n, row in enumerate(triples.to_pylist()):
        told = critic_example(images[n % 2].path, BOXES, row)
        drawn = as_drawn(told, Drawing(3))
        assert len(drawn.view.regions) == (3 if n else 0)
        critic.drawing = Drawing()  # it is drawn already
        (alone,) = score(critic, [drawn], views)["score"]
        critic.drawing = Drawing(3)
        assert found[n] == pytest.approx(alone, abs=5e-3)
    assert found.std() > 1e-3


def test_features_are_kept_where_that_is_asked_for_and_nowhere_else(run, tmp_path):
    plain = scored(run, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.parquet", "s.parts"]
    kept = scored(run, tmp_path / "kept", view_store=tmp_path / "views")
    np.testing.assert_allclose(kept["score"].to_numpy(), plain["score"].to_numpy(), atol=5e-3)
    folder, images, triples = run
    critic = load_critic(folder / "critic")
    store = FrozenFeatures(critic.blip2, folder, tmp_path / "views")
    told = [
        critic_example(images[n % 2].path, BOXES, row) for n, row in enumerate(triples.to_pylist())
    ]
    assert store.stored([as_drawn(row, critic.drawing).view for row in told]) is not None


def test_a_log_beside_the_weights_makes_no_other_critic(run, tmp_path, monkeypatch):
    first = scored(run, tmp_path)
    (run[0] / "critic" / "metrics.jsonl").write_text('{"step": 1, "seconds": 3.2}\n')
    monkeypatch.setattr(scoring, "_judge", None)  # nothing is left to be judged
    assert scored(run, tmp_path).equals(first)


def test_scores_that_are_no_numbers_end_it(run, tmp_path):
    folder, _, triples = run
    critic = load_critic(folder / "critic")
    with torch.no_grad():  # numbers, until one is multiplied with them
        critic.blip2.blip2.qformer.encoder.layer[-1].output_query.LayerNorm.weight.fill_(3e38)
    critic.save(tmp_path / "critic")
    with pytest.raises(ValueError, match="scores of 8 of 8 triples are no numbers"):
        scoring.score_triples(
            triples, folder / "regions.parquet", tmp_path / "critic", folder, tmp_path / "s.parquet"
        )
    assert not (tmp_path / "s.parquet").exists()
