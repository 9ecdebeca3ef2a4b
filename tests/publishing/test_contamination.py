"""Contamination of benchmarks: the pictures and texts that a corpus has shown, and no others."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb import sources
from lskd_nb.publishing import contamination

PHOTOGRAPH = next((Path(sources.__file__).parent / "photograph").glob("*.jp*g"))
LONG = (
    "the man in the long grey coat waits on the platform because the train to the coast has not"
    " come yet and it is getting late"
)


def test_a_picture_that_pillow_refuses_is_unreadable(tmp_path, monkeypatch):
    for name, side in (("small.png", 10), ("large.png", 40)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes((tmp_path / "small.png").read_bytes()[:40])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    hashes, read, unreadable = contamination.picture_hashes(
        tmp_path, ["small.png", "large.png", "bad.png"]
    )
    assert (
        read == ["small.png"] and unreadable == ["large.png", "bad.png"] and hashes.shape == (1, 4)
    )


@pytest.mark.parametrize(
    "path, name",
    [
        ("VG_100K_2/2417.jpg", "visual_genome 2417"),
        ("images/v7w_2417.jpg", "visual_genome 2417"),
        ("val2017/000000000139.jpg", "coco 139"),
        ("x/COCO_val2014_000000000139.jpg", "coco 139"),
        ("flickr30k_images/139.jpg", "flickr30k_images/139"),
        ("vcr1images/lsmdc_1/A@3.jpg", "a@3.jpg"),
    ],
)
def test_a_data_set_s_name_of_an_image(path, name):
    assert contamination.image_name(path) == name


def drawing(path: Path, seed: int) -> None:
    """A drawn picture: the same ground, other shapes."""
    rng = np.random.default_rng(seed)
    picture = np.full((120, 160, 3), (150, 200, 240), np.uint8)
    picture[80:] = (90, 160, 80)
    for _ in range(4):
        x, y = rng.integers(0, 130), rng.integers(20, 90)
        picture[y : y + rng.integers(15, 30), x : x + rng.integers(15, 30)] = rng.integers(
            0, 256, size=3
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_an_image_is_known_by_name_or_picture_and_no_other(
    benchmark_item, corpus_row, written_corpus, tmp_path
):
    folder = written_corpus(
        [
            corpus_row(0, "Who is [0]?", image="1"),
            corpus_row(1, "Who is [0]?", image="2"),
            corpus_row(2, "Who is [0]?", image="3"),
        ]
    )
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for number in (2, 3):
        drawing(ours / f"VG_100K/{number}.jpg", number)
    photograph = Image.open(PHOTOGRAPH).convert("RGB")
    photograph.save(ours / "VG_100K/1.jpg", quality=95)
    (theirs / "s").mkdir(parents=True)
    photograph.save(theirs / "s/other_name.png")
    photograph.resize((photograph.width // 2, photograph.height // 2)).save(
        theirs / "s/small.jpg", quality=40
    )
    drawing(theirs / "s/new.jpg", 99)
    drawing(theirs / "s/v7w_2.jpg", 98)  # the same name for another picture
    (theirs / "s/broken.jpg").write_bytes(b"no image")
    names = [
        "s/other_name.png",
        "s/small.jpg",
        "s/new.jpg",
        "s/v7w_2.jpg",
        "s/broken.jpg",
        "s/absent.jpg",
    ]
    told = contamination.measure_contamination(
        folder / "corpus.parquet",
        ours,
        {"set": ([benchmark_item(n, path) for n, path in enumerate(names)], theirs)},
    )["set"]["image"]
    assert (
        told["images"],
        told["same_name"],
        told["same_picture"],
        told["items"],
        told["unreadable"],
    ) == (6, 1, 2, 3, 2)
    pairs = {(e["benchmark"], e["corpus"]): (e["same_name"], e["bits"]) for e in told["examples"]}
    assert pairs.keys() == {
        ("s/other_name.png", "VG_100K/1.jpg"),
        ("s/small.jpg", "VG_100K/1.jpg"),
        ("s/v7w_2.jpg", "VG_100K/2.jpg"),
    }
    assert (
        pairs["s/v7w_2.jpg", "VG_100K/2.jpg"] == (True, None)
        and pairs["s/small.jpg", "VG_100K/1.jpg"][1] <= contamination.BITS
    )


def test_a_text_is_known_exactly_or_nearly_and_both_about_the_same_picture(
    benchmark_item, corpus_row, written_corpus, tmp_path
):
    folder = written_corpus(
        [
            corpus_row(0, "Who is [2]?", "A cook.", image="1"),
            corpus_row(1, f"Why {LONG}?", "Yes.", image="2"),
            corpus_row(2, "Who is [0]?", "A cook.", image="3"),
        ]
    )
    items = [
        benchmark_item(0, "v7w_1.jpg", "who is [0]?"),
        benchmark_item(1, "v7w_9.jpg", "Who is [1]?"),
        benchmark_item(2, "v7w_2.jpg", f"Why {LONG.replace('grey', 'red')}?", ("No.", "Yes."), 1),
        benchmark_item(3, "v7w_1.jpg", label=None),
        benchmark_item(4, "v7w_1.jpg", "Who is [0]?", label=1),
    ]
    told = contamination.measure_contamination(
        folder / "corpus.parquet", tmp_path, {"set": (items, tmp_path)}
    )["set"]
    text = told["text"]
    assert (text["compared"], text["without_answer"], text["exact"], text["near"]) == (4, 1, 2, 1)
    assert text["examples"] == [dict(item="i0", triple="t0", wording="who is []? a cook.", items=2)]
    assert (
        text["near_examples"][0]["item"] == "i2"
        and text["near_examples"][0]["triple"] == "t1"
        and 0.7 <= text["near_examples"][0]["jaccard"] < 1
    )
    assert told["both"] == dict(items=1, share=0.25, examples=[dict(item="i0", triple="t0")])
    assert told["image"]["items"] == 4 and told["image"]["unreadable"] == 3  # known by name alone


def test_sets_of_the_world_have_no_held_out_picture(corpus_row, written_corpus, tmp_path):
    """The mini world's files, read as the real sets are; its training stills are the corpus's
    own pictures.
    """
    from lskd_nb.mini.files.world_files import write_world

    write_world(tmp_path / "world", 12, 6, seed=0)
    homes = {
        name: tmp_path / "world" / name
        for name in ("vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w", "nowhere")
    }
    sets = contamination.benchmark_sets(homes)
    assert set(sets) == set(homes) - {"nowhere"} and all(items for items, _ in sets.values())
    left_out: dict[str, str] = {}
    shutil.rmtree(homes["snli_ve"] / "flickr30k_images")
    (homes["aokvqa"] / "aokvqa_v1p0_val.json").unlink()
    rest = contamination.benchmark_sets(homes, left_out=left_out)
    assert set(rest) == set(sets) - {"snli_ve", "aokvqa"}
    assert left_out.keys() == {"snli_ve", "aokvqa", "nowhere"}
    assert re.search("nothing in .*snli_ve can be read. missing image: ", left_out["snli_ve"])
    assert "aokvqa_v1p0_val.json is not there" in left_out["aokvqa"]
    with pytest.raises(FileNotFoundError, match="aokvqa_v1p0_val.json"):
        contamination.benchmark_sets(homes)
    images = sorted((tmp_path / "world/visual_genome/VG_100K").glob("*.jpg"))
    folder = written_corpus(
        [corpus_row(n, "Why is [0] here?", image=path.stem) for n, path in enumerate(images)]
    )
    told = contamination.measure_contamination(
        folder / "corpus.parquet", tmp_path / "world/visual_genome", rest
    )
    assert all(t["image"]["items"] == 0 and t["image"]["unreadable"] == 0 for t in told.values())
    from lskd_nb.sources import vcr

    trained = [vcr.q_a(q) for q in vcr.read_vcr(homes["vcr"], "train")[0]]
    assert (
        contamination.measure_contamination(
            folder / "corpus.parquet",
            tmp_path / "world/visual_genome",
            {"t": (trained, homes["vcr"])},
        )["t"]["image"]["items"]
        == len(trained)
        > 0
    )


def test_pictures_are_found_in_the_other_folder_and_never_outside(tmp_path):
    for place in ("root/VG_100K_2/1.png", "outside.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10)).save(tmp_path / place)
    _, read, unreadable = contamination.picture_hashes(
        tmp_path / "root", ["VG_100K/1.png", "../outside.png"]
    )
    assert read == ["VG_100K/1.png"] and unreadable == ["../outside.png"]
