"""SNLI-VE: the mini world's files, and the traps of the format."""

from collections import Counter

import pytest

from lskd_nb.mini.files.world_files import read_truth
from lskd_nb.mini.scenes import grammar
from lskd_nb.sources import count_reasons
from lskd_nb.sources.snli_ve import LABELS, PICTURE_IDS, read_snli_ve


def test_snli_ve_of_the_world(world):
    items, rejects = read_snli_ve(world / "snli_ve", "dev")
    assert not rejects and len({i.item_id for i in items}) == len(items)
    assert len(items) == sum(1 for _ in (world / "snli_ve/snli_ve_dev.jsonl").open())
    counts = Counter(LABELS[i.label] for i in items)
    assert set(counts) == set(LABELS) and all(
        i.choices == LABELS and LABELS[i.label] == i.slice for i in items
    )
    truth = read_truth(world / "truth.jsonl")
    entailed = next(i for i in items if i.slice == "entailment")
    assert grammar.IN_PLACE[truth[entailed.image.image_id].place] in entailed.question.lower()
    assert (world / "snli_ve" / items[0].image.path).is_file() and (
        items[0].image.width,
        items[0].image.height,
    ) == (320, 240)
    assert {i.image.split for i in read_snli_ve(world / "snli_ve", "train")[0]} == {"train"}


def test_picture_ids_that_are_numbers_are_read(edit, world_copy):
    folder = world_copy / "snli_ve"
    pictures = folder / "flickr30k_images"

    def numbered(rows: list) -> None:
        for place, row in enumerate(rows):
            picture = pictures / f"{row['Flickr30K_ID']}.jpg"
            if not (pictures / f"{1000 + place}.jpg").exists():
                (pictures / f"{1000 + place}.jpg").write_bytes(picture.read_bytes())
            row.pop("Flickr30K_ID")
            row[PICTURE_IDS[place % 3]] = 1000 + place if place % 2 else f"{1000 + place}.jpg"

    edit(folder / "snli_ve_dev.jsonl", numbered)
    items, rejects = read_snli_ve(folder, "dev")
    assert not rejects and len(items) > 6
    assert [i.image.path for i in items[:3]] == [
        f"flickr30k_images/{n}.jpg" for n in (1000, 1001, 1002)
    ]


def test_snli_ve_traps(edit, world_copy):
    folder = world_copy / "snli_ve"
    before = read_snli_ve(folder, "dev")[0]

    def spoil(rows: list) -> None:
        rows[0].update(gold_label="-")
        rows[1].update(pairID="vg_1.jpg#0r1e")
        rows[2].update(gold_label="maybe")
        rows[3].update(sentence2="")
        rows[4]["Flikr30kID"] = rows[4].pop("Flickr30K_ID") + ".jpg"
        rows[5]["Flickr30kID"] = rows[5].pop("Flickr30K_ID")
        rows[8].update(Flickr30K_ID=True)
        rows[6].pop("Flickr30K_ID")
        rows[7].update(pairID=rows[7]["pairID"][:-1] + "e", gold_label="neutral")

    edit(folder / "snli_ve_dev.jsonl", spoil)
    items, rejects = read_snli_ve(folder, "dev")
    assert [r.reason for r in rejects] == [
        "no gold label",
        "pair of another set",
        "bad label",
        "bad text",
        "missing field",
        "bad text",
    ]
    assert [i.image for i in items[:2]] == [before[4].image, before[5].image]
    assert LABELS[items[2].label] == "neutral"  # the label is the annotators', not the writer's
    (folder / items[-1].image.path).unlink()
    again, rejects = read_snli_ve(folder, "dev")
    assert len(again) < len(items) and count_reasons(rejects)["missing image"] == len(items) - len(
        again
    )
    with pytest.raises(ValueError, match="'val' is none of"):
        read_snli_ve(folder, "val")
