"""Families and offers: three ways to refer to regions, three choices of the regions offered; what
a real run asks for is built piece by piece, and what the mini profile asks stays as it was.
"""

import hashlib
import json
import tracemalloc
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.world import PEOPLE
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME, write_triples
from lskd_nb.records import REJECTS, TRIPLES, VERBALIZATIONS, write_parquet
from lskd_nb.regions import LocatedImage, Region, is_person, mentions
from lskd_nb.teacher import generate, parsing
from lskd_nb.teacher import prompts as prompting
from lskd_nb.teacher.requests import TeacherSettings, request_key
from lskd_nb.viewing import plots

WORLD = SimpleNamespace(**run_path(str(Path(__file__).with_name("test_generate.py"))))
SCENES, located, truth_lines = WORLD.SCENES, WORLD.located, WORLD.truth_lines
# of requests, names, keys and replies of the families "id" and "description" with all regions: what
# a cache of replies holds, and what figures were made of. A new hash is a new set of triples
AS_THEY_WERE = "6bd8cb1ab8d363f4ea66a4d3229b177029b37f75fe70ece9cc3817b3469eb125"


def everything(scenes=SCENES) -> prompting.Prompts:
    return prompting.build_prompts(
        located(scenes), truth_lines(scenes), prompting.FAMILIES, 3, prompting.OFFERS
    )


def test_requests_of_the_mini_profile_and_their_replies_are_as_they_were():
    settings, digest = TeacherSettings("http://localhost", NAME, 1.0, 0), hashlib.sha256()
    for p in prompting.build_prompts(located(), truth_lines(), number=3):
        key = request_key(p, settings)
        reply = write_triples(list(p.messages), 3, 0, 1.0)
        told = [p.image_id, p.family, list(p.offered), p.name, key, reply]
        digest.update(json.dumps(told).encode())
    assert digest.hexdigest() == AS_THEY_WERE


def test_every_family_is_asked_for_with_every_offer_once():
    asked, images = list(everything()), {i.image_id: i for i in located()}
    assert len({(p.image_id, p.source) for p in asked}) == len(asked)
    requests = {(p.image_id, p.family, p.offered) for p in asked}
    assert len(requests) == len(asked), "the same request twice would give the same triples twice"
    assert {p.source for p in asked} == {
        *prompting.FAMILIES,
        *(f"{family}_{offer}" for family in prompting.FAMILIES for offer in ("any", "people")),
    }
    for p in asked:
        image = images[p.image_id]
        ids, offer = [r.id for r in image.regions], p.source.partition("_")[2] or "all"
        people = [r.id for r in image.regions if r.label in PEOPLE]
        assert list(p.offered) == [i for i in ids if i in p.offered] and p.offered
        if offer == "people":
            assert list(p.offered) == people
        else:
            assert (offer == "all") == (len(p.offered) == len(ids))
        shown = p.messages[-1]["content"]
        assert mentions(shown) == list(p.offered), "only what is offered is described"


def test_offers_are_the_same_in_every_run_and_differ_between_images():
    regions = tuple(Region(n, (0, 0, 9, 9), "boat") for n in range(6))
    many = [LocatedImage(str(n), "x.jpg", 9, 9, regions, "vcr", "train") for n in range(300)]
    drawn = [prompting.offered_regions(image, "any") for image in many]
    assert drawn == [prompting.offered_regions(image, "any") for image in many]
    assert {len(ids) for ids in drawn} == {1, 2, 3, 4, 5} and len(set(drawn)) > 40
    assert {i for ids in drawn for i in ids} == set(range(6))
    assert prompting.offered_regions(many[0], "people") == ()
    lonely = LocatedImage("1", "x.jpg", 9, 9, regions[:1], "vcr", "train")
    asked = prompting.build_prompts([lonely], [], ("id",), 3, prompting.OFFERS)
    assert [p.source for p in asked] == ["id"], "one region: nothing to choose from"


def test_the_world_s_people_are_people():
    assert all(map(is_person, PEOPLE))
    assert not is_person("person's hat") and is_person(" Person ")


def test_a_family_or_offer_that_there_is_not_is_named():
    for families, offers, message in (
        (("id", "poem"), ("all",), r"families is \['id', 'poem'\]; expected some of"),
        ((), ("all",), r"families is \[\]"),
        (("id",), ("all", "all"), r"offers is \['all', 'all'\]; .* each once"),
        (("id",), ("few",), "offers is .*expected some of .*'all', 'any', 'people'"),
    ):
        with pytest.raises(ValueError, match=message):
            prompting.build_prompts(located(), [], families, 3, offers)
    with pytest.raises(ValueError, match="no image has a region to point at"):
        prompting.build_prompts([], []).image(3)


def test_triples_of_all_families_and_offers(tmp_path):
    asked = everything()
    with serving(imagination=0.0) as url:
        settings = generate.TeacherSettings(url, NAME, temperature=0.0)
        rows, rejects, _ = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")
    assert not rejects and len({r["triple_id"] for r in rows}) == len(rows) > 600
    write_parquet(rows, tmp_path / "t.parquet", TRIPLES)
    offered = {(p.image_id, p.name): list(p.offered) for p in asked}
    truth = {s.scene_id: s for s in SCENES}
    judged = 0
    for row in rows:
        assert row["regions_offered"] == offered[row["image_id"], row["prompt"]]
        texts = [row[name] for name in ("question", "answer", "rationale")]
        assert row["regions"] == mentions(" ".join(texts))
        if row["family"] == "words":
            assert "[" not in "".join(texts) and row["regions"] == []
        else:
            assert row["regions"] and set(row["regions"]) <= set(row["regions_offered"])
            scene = truth[row["image_id"]]
            # words don't tell which of two dogs is faced
            if "_" not in row["prompt"] and len({e.kind for e in scene.entities}) == len(
                scene.entities
            ):
                judged += 1
                assert grammar.judge(truth[row["image_id"]], *texts) == (True, 1.0)
    assert judged > 50
    plots.question_variety(rows)
    plots.question_variety([r for r in rows if r["family"] == "words"])
    plots.question_variety([])


def test_a_text_in_words_has_no_id_and_the_others_have_one():
    item = dict(question="Who is the man?", answer="A cook.", rationale="He has a pan.")
    pointing = item | dict(rationale="[0] has a pan.")
    assert parsing.invalid(item, [0], "words") is None
    assert parsing.invalid(pointing, [0], "words") == "mentions a region by its id"
    huge = item | dict(answer="[" + "1" * 5000 + "]")
    assert parsing.invalid(huge, [0], "words") == "mentions a region by its id"
    for family in ("id", "description"):
        assert parsing.invalid(item, [0], family) == "question mentions no region"
    prompt = prompting.build_prompt(located()[0], [], "words", offer="people")
    text = json.dumps({"triples": [item, pointing]})
    reply = dict(text=text, finish="stop", refusal=None, usage=[1, 1])
    worth = parsing.triples_and_rejects(prompt, "k", reply, "m")
    rows, rejects = worth.rows, worth.rejects
    image = located()[0].image_id
    assert [r["triple_id"] for r in rows] == [f"{image}-words_people-0"]
    assert [r["record"] for r in rejects] == [f"{image}-words_people-1"]
    assert "[0] has a pan" in rejects[0]["detail"]


def test_lines_of_a_table_are_those_of_a_list():
    lines = [dict(score=None, model="m", version="v") | line for line in truth_lines()]
    shuffled = lines[1::2] + lines[::2]
    table = pa.Table.from_pylist(shuffled, VERBALIZATIONS)
    for given in (table, pa.concat_tables([table.slice(0, 7), table.slice(7)])):
        one, other = (
            prompting.build_prompts(located(), told, offers=prompting.OFFERS)
            for told in (shuffled, given)
        )
        assert len(one) == len(other) and list(one) == list(other) == other[:]
        assert other[-1] == list(one)[-1] and sum(other.counts().values()) == len(one)
        image = other.image(-1)
        assert other.about(image) == [p for p in one if p.image_id == image.image_id]
    empty = prompting.build_prompts(located(), table.slice(0, 0))
    assert list(empty) == list(prompting.build_prompts(located(), []))


def test_prompts_take_little_memory_however_many_there_are():
    """A request is some kilobytes; what is kept of one is a tenth of that."""
    lines = [dict(score=None, model="m", version="v") | line for line in truth_lines()]
    table = pa.Table.from_pylist(lines, VERBALIZATIONS)
    images = located() * 20
    tracemalloc.start()
    asked = prompting.build_prompts(images, table, prompting.FAMILIES, 3, prompting.OFFERS)
    sent = sum(len(json.dumps(p.messages)) for p in asked)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(asked) > 4000 and kept < sent / 10 and kept / len(asked) < 400


def test_no_triple_at_all_is_said_with_its_reason(tmp_path):
    bad = [dict(stage="teacher", record=f"{n}-id", reason="not JSON", detail="Sure!") for n in "ab"]
    other = dict(stage="teacher", record="c-id", reason="refusal", detail="")
    write_parquet([*bad, other], tmp_path / "r.parquet", REJECTS)
    told = (
        r"no valid triple: 2 of 3 rejects are 'not JSON', 1 other reasons; a-id: Sure!\. .*r\.par"
    )
    with pytest.raises(RuntimeError, match=told):
        generate.require_triples([], [*bad, other], tmp_path / "r.parquet")
    with pytest.raises(RuntimeError, match="no prompt, as no image has a region"):
        generate.require_triples([], [], tmp_path / "r.parquet")
    generate.require_triples([{}], bad, tmp_path / "r.parquet")
