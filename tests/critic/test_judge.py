"""An LLM as judge: its marks are read strictly, cached, and stand beside the critic's."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from lskd_nb.critic import judge
from lskd_nb.mini.annotator import judge as by_the_truth
from lskd_nb.mini.scenes import true_words
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.mini.teacher.judge import write_verdicts
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.generate import TeacherSettings, generate_triples
from lskd_nb.teacher.prompts import build_prompts

SCENES = {s.scene_id: s for s in sample_scenes(60, 5, "j")}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, words about them, and triples by a writer that makes mistakes; a server."""
    images = {image.image_id: image for image in true_words.located(SCENES.values())}
    lines = true_words.captions(SCENES.values()) + true_words.region_lines(SCENES.values())
    folder = tmp_path_factory.mktemp("judge")
    with serving() as url:
        settings = TeacherSettings(url, NAME, 1.0, 0, takes=asdict(Dialect()))
        asked = build_prompts(images.values(), lines, ("id",), 8)
        triples = generate_triples(asked, settings, folder / "t.sqlite")[0]
        yield SimpleNamespace(
            images=images, lines=lines, triples=triples, settings=settings, folder=folder
        )


def test_a_judge_of_words_finds_what_follows_from_them(world):
    def asked() -> judge.Judged:
        return judge.judge_triples(
            world.triples, world.images, world.lines, world.settings, world.folder / "j.sqlite"
        )

    told, again = asked(), asked()
    assert told.verdicts == again.verdicts and again.report.cached == told.report.requests
    assert not told.rejects and told.verdicts.keys() == {t["triple_id"] for t in world.triples}
    true = [
        by_the_truth(SCENES[t["image_id"]], t["question"], t["answer"], t["rationale"]).accept
        for t in world.triples
    ]
    verdicts = [told.verdicts[t["triple_id"]] for t in world.triples]
    found = judge.agreement_with_people(
        true,
        [v.score for v in verdicts],
        [v.accept for v in verdicts],
        [t["image_id"] for t in world.triples],
    )
    assert 0.3 < np.mean(true) < 0.7 and found["auc"]["n"] == len(true) > 300
    assert found["auc"]["low"] > 0.8 and found["kappa"]["low"] > 0.5, "words tell nearly all here"
    assert found["auc"]["high"] < 1, "its marks waver"


GOOD = dict(number=1, pointing=5, correct=4, supported=4)


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        ([GOOD | dict(correct=6)], "bad field correct: less_than_equal"),
        ([GOOD | dict(number=0)], "bad field number: greater_than_equal"),
        ([{"number": 1, "pointing": 5}], "bad field correct: missing"),
        ([GOOD | dict(number=3)], "a triple is judged that was not asked about"),
        ([GOOD | dict(number=2)], "the judge passed it over"),
        ([GOOD, GOOD | dict(correct=1)], "a triple is judged twice"),
        ([GOOD | dict(correct=True)], "bad field correct: bool"),
        (
            [{"Number": 1, "Pointing": True, "correct": 5, "supported": 5}],
            "bad field pointing: bool",
        ),
        ([], "not JSON"),
    ],
)
def test_what_is_no_verdict_leaves_the_triple_with_a_reason(world, verdicts, reason):
    image = next(iter(world.images.values()))
    own = [t for t in world.triples if t["image_id"] == image.image_id][:2]
    prompt = judge.judge_prompt(image, world.lines, own)
    read = judge._reader({(image.image_id, prompt.name): ["a", "b"]})
    text = f"Sure!\n```json\n{json.dumps({'verdicts': verdicts})}\n```"
    worth = read(prompt, "k", dict(text=text, finish="stop", refusal=None, usage=[1, 1]), "m")
    assert worth.rejects[0]["reason"] == reason
    assert len(worth.rows) + len(worth.rejects) == 2


def test_the_mini_judge_says_of_anything_what_it_is_worth():
    told = "Regions:\n[0] dog: a dog\n\nTriples:\n1. Question: How does [0] feel? Answer: Happy."
    told += " Rationale: [0] is a dog and this is in the park."
    for text in (told, told.replace("[0] feel", "[7] feel"), told.replace("Happy", "A stone")):
        (verdict,) = json.loads(write_verdicts([{"content": text}], 0, 0.0))["verdicts"]
        assert verdict["number"] == 1 and all(1 <= verdict[m] <= 5 for m in judge.MARKS)


def test_agreement_and_price():
    labels = np.array([1, 1, 0, 0] * 30, bool)
    images = [str(n // 4) for n in range(120)]
    told = judge.agreement_with_people(labels, labels * 0.9, labels, images)
    assert told["auc"] == dict(mean=1.0, low=1.0, high=1.0, n=120, clusters=30)
    coin = np.random.default_rng(0).random(120)
    told = judge.agreement_with_people(labels, coin, coin > 0.5, images)
    assert told["auc"]["low"] < 0.5 < told["auc"]["high"]
    assert told["kappa"]["low"] < 0 < told["kappa"]["high"]
    nothing = judge.agreement_with_people(labels[:2], coin[:2], coin[:2] > 0, images[:2])
    assert np.isnan(nothing["auc"]["mean"])
    assert judge.usd_per_kept(3.0, 1000, 0.3) == pytest.approx(0.01)
