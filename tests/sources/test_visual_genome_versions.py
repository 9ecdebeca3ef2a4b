"""Visual Genome's versions say the same, and files changed at random are read right or named."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lskd_nb.sources.visual_genome import HumanText, read_human_texts, read_visual_genome

BOX, THING = (
    dict(x=2, y=3, w=10, h=20),
    dict(x=14, y=4, w=30, h=12),
)  # the second overruns an image of 40 x 30
URL = "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg"
VERSIONS = {
    "1.0": dict(
        image_data=[dict(id=1, width=40, height=30, url=URL, coco_id=None, flickr_id=None)],
        objects=[
            dict(
                id=1,
                objects=[
                    dict(id=5, names=["man"], **BOX),
                    dict(id=6, names=["surf board"], **THING),
                ],
            )
        ],
        attributes=[
            dict(
                id=1,
                attributes=[
                    dict(id=5, object_names=["man"], attributes=["tall", "wet"], **BOX),
                    dict(id=6, object_names=["surf board"], **THING),
                ],
            )
        ],
        relationships=[
            dict(
                id=1,
                relationships=[
                    dict(
                        id=8,
                        predicate="HOLDS",
                        subject=dict(id=5, name="man", **BOX),
                        object=dict(id=6, name="surf board", **THING),
                    )
                ],
            )
        ],
        region_descriptions=[
            dict(
                id=1,
                regions=[dict(id=9, image=1, phrase="a wet man", x=2, y=3, width=10, height=20)],
            )
        ],
        question_answers=[
            dict(
                id=1,
                qas=[
                    dict(
                        id=3,
                        image=1,
                        question="Who is wet?",
                        answer="A man.",
                        a_objects=[],
                        q_objects=[],
                    )
                ],
            )
        ],
    ),
    "1.4": dict(
        image_data=[dict(image_id=1, width=40, height=30, url=URL, coco_id=7, flickr_id=8)],
        objects=[
            dict(
                image_id=1,
                image_url=URL,
                objects=[
                    dict(
                        object_id=5,
                        names=["man"],
                        synsets=["man.n.01"],
                        merged_object_ids=[11],
                        **BOX,
                    ),
                    dict(
                        object_id=6, names=["surf board"], synsets=[], merged_object_ids=[], **THING
                    ),
                ],
            )
        ],
        attributes=[
            dict(
                image_id=1,
                attributes=[
                    dict(
                        object_id=5,
                        names=["man"],
                        synsets=["man.n.01"],
                        attributes=["tall", "wet"],
                        **BOX,
                    ),
                    dict(object_id=6, names=["surf board"], synsets=[], **THING),
                ],
            )
        ],
        relationships=[
            dict(
                image_id=1,
                relationships=[
                    dict(
                        relationship_id=8,
                        predicate="holds",
                        synsets=["hold.v.02"],
                        subject=dict(
                            object_id=5, names=["man"], synsets=[], merged_object_ids=[11], **BOX
                        ),
                        object=dict(
                            object_id=6,
                            name="surf board",
                            synsets=[],
                            merged_object_ids=[],
                            **THING,
                        ),
                    )
                ],
            )
        ],
        region_descriptions=[
            dict(
                id=1,
                regions=[
                    dict(region_id=9, image_id=1, phrase="a wet man", x=2, y=3, width=10, height=20)
                ],
            )
        ],
        question_answers=[
            dict(
                id=1,
                qas=[
                    dict(
                        qa_id=3,
                        image_id=1,
                        question="Who is wet?",
                        answer="A man.",
                        a_objects=[dict(object_id=5)],
                        q_objects=[],
                    )
                ],
            )
        ],
    ),
}
TEXTS = ("region_descriptions", "question_answers", "attributes", "relationships")


def visual_genome(folder: Path, files: dict) -> Path:
    (folder / "VG_100K_2").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "VG_100K_2" / "1.jpg")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_visual_genome_says_the_same(tmp_path, version):
    folder = visual_genome(tmp_path, VERSIONS[version])
    (image,), rejects = read_visual_genome(folder, counts=(counts := Counter()))
    assert not rejects and counts == {"clamped": 1} and image.path == "VG_100K_2/1.jpg"
    assert [(r.label, r.box) for r in image.regions] == [
        ("man", (2, 3, 12, 23)),
        ("surf board", (14, 4, 40, 16)),
    ]
    told, rejects = read_human_texts(folder, [image], TEXTS)
    assert not rejects and told == [
        HumanText("1", "local", 0, None, "a wet man", "region_descriptions"),
        HumanText("1", "dynamic", None, "Who is wet?", "A man.", "question_answers"),
        HumanText("1", "local", 0, None, "tall, wet man", "attributes"),
        HumanText("1", "local", 0, None, "man holds surf board", "relationships"),
    ]
    bare = replace(image, regions=())
    assert {t.kind for t in read_human_texts(folder, [bare], TEXTS)[0]} == {"global", "dynamic"}, (
        "a text about no region is about the image"
    )


@pytest.fixture(scope="session")
def box_of(cut) -> Callable[..., tuple | None]:
    """The box of an object that has four numbers."""

    def make(entry: object) -> tuple | None:
        try:
            xywh = [entry[k] for k in "xywh"]
            return cut(xywh, 40, 30) if all(map(math.isfinite, xywh)) else None
        except (KeyError, TypeError, OverflowError):
            return None

    return make


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_visual_genome_file_is_read_right_or_named(
    box_of, changed_content, tmp_path_factory, data
):
    content, way = data.draw(
        changed_content(VERSIONS[data.draw(st.sampled_from(sorted(VERSIONS)))])
    )
    folder = visual_genome(tmp_path_factory.mktemp("v"), content)
    try:
        images, rejects = read_visual_genome(folder)
        told, more = read_human_texts(folder, images, TEXTS)
    except (FileNotFoundError, ValueError) as error:
        assert f"{way[0]}.json" in str(error)
        return
    assert all(".json, " in r.record and r.detail for r in [*rejects, *more])
    if not images:
        assert rejects or not content[way[0]], "an image is lost for a reason"
    for image in images:
        boxes = [box_of(o) for o in content["objects"][0]["objects"]]
        assert {r.box for r in image.regions} <= set(boxes)
    if images and way[0] in TEXTS:
        assert len(told) + len(more) >= 3, "the other files are read as they are"
