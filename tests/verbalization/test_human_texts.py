"""What people wrote: lines of the dataset verbalizer, pairs to rehearse, sets for a captioner."""

import json

import pytest
from PIL import Image

from lskd_nb.records import VERBALIZATIONS, write_parquet
from lskd_nb.sources.sherlock import read_sherlock
from lskd_nb.sources.visual_genome import HumanText
from lskd_nb.training.batches import rehearsal_rows
from lskd_nb.verbalization import caption_rows
from lskd_nb.verbalization.describe import dataset_rows, write_rehearsal
from lskd_nb.verbalization.verbalizers import Verbalizers, verbalizers_under

TEXTS = [
    HumanText("a", "local", 1, None, "a man", "region_descriptions"),
    HumanText("a", "dynamic", None, "Where?", "outside", "question_answers"),
    HumanText("b", "global", None, None, "two of them", "captions"),
]


def test_lines_of_the_dataset_verbalizer(tmp_path):
    rows = dataset_rows(TEXTS)
    assert [(r["kind"], r["region"], r["question"], r["version"]) for r in rows] == [
        (t.kind, t.region, t.question, t.origin) for t in TEXTS
    ]
    assert write_parquet(rows, tmp_path / "lines.parquet", VERBALIZATIONS).num_rows == 3


def test_the_rehearsal_set_has_every_text_with_its_image(tmp_path, images):
    rows = rehearsal_rows(write_rehearsal(TEXTS, images, tmp_path / "rehearsal.parquet"))
    assert [(r.image, r.question, r.answer) for r in rows] == [
        ("a.png", "", "a man"),
        ("a.png", "Where?", "outside"),
        ("b.png", "", "two of them"),
    ]


def test_models_by_folder_or_hub_name(tmp_path):
    (tmp_path / "weights").mkdir()
    found = verbalizers_under(tmp_path, clip="weights", captioner="org/blip2", narrator="")
    assert found == Verbalizers(clip=str(tmp_path / "weights"), captioner="org/blip2")
    with pytest.raises(TypeError, match="capton"):
        verbalizers_under(tmp_path, capton="weights")


def test_sets_for_a_captioner_lie_below_one_root(tmp_path):
    (tmp_path / "sherlock").mkdir()
    (tmp_path / "vg" / "VG_100K").mkdir(parents=True)
    clues = []
    for number in (1, 2):
        name = f"VG_100K/{number}.jpg"
        Image.new("RGB", (60, 40)).save(tmp_path / "vg" / name)
        box = dict(left=5, top=5, width=20, height=70)
        url = f"https://cs.stanford.edu/people/rak248/{name}"
        inputs = dict(image=dict(url=url, width=60, height=40), bboxes=[box], confidence=3.0)
        inputs |= dict(clue=f"clue {number}", obs_idx=0)
        clues.append(dict(inputs=inputs, targets=dict(inference="late"), instance_id=str(number)))
    (tmp_path / "sherlock" / "sherlock_train_v1_1.json").write_text(json.dumps(clues))
    every = caption_rows.sherlock_set(tmp_path, "sherlock", "vg")
    assert [(r["image"], r["text"]) for r in every.rows] == [
        ("vg/VG_100K/1.jpg", "clue 1"),
        ("vg/VG_100K/2.jpg", "clue 2"),
    ]
    assert every.rejected == [] and every.clamped == 2
    first, _ = read_sherlock(tmp_path / "sherlock", "train", tmp_path / "vg")[0]
    some = caption_rows.sherlock_set(tmp_path, "sherlock", "vg", held_out=[first.image])
    assert [r["text"] for r in some.rows] == ["clue 2"]


def test_narratives_without_an_image_are_left_out(tmp_path):
    (tmp_path / "narratives").mkdir()
    narrative = dict(
        dataset_id="mscoco_train2017", image_id="9", annotator_id=1, caption="In this image …"
    )
    (tmp_path / "narratives" / "coco_train_localized_narratives-00000-of-00004.jsonl").write_text(
        json.dumps(narrative) + "\n"
    )
    found = caption_rows.narrative_set(tmp_path, "narratives")
    assert list(found.rows) == [] and len(found.rejected) == 1
