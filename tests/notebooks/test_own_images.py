"""Somebody's own photographs, from a fresh folder to a corpus, with the README's own commands: a
detector's boxes or those of an annotation tool, a model that sees behind a server of one's own.
"""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.rehearsal.checkpoints import write_hub

sys.path.insert(0, str(Path(__file__).parent))

import own_model  # noqa: E402

DETECTOR = "google/owlv2-base-patch16-ensemble"


@pytest.fixture(scope="module")
def project(root, tmp_path_factory) -> Path:
    """A fresh folder: the series, the profile, and a hub's cache with the detector alone."""
    home = tmp_path_factory.mktemp("own")
    for name in ("notebooks", "lskd_nb"):
        (home / name).symlink_to(root / name)
    shutil.copytree(root / "params" / "own", home / "params" / "own")
    write_hub(home / "hub", [DETECTOR])
    photos = home / "photos"
    for place in ("", "Summer 2024/", "Summer 2024/by the sea/"):
        (photos / place).mkdir(exist_ok=True)
    names = [
        "a.jpg",
        "Summer 2024/a.jpg",
        "Summer 2024/by the sea/é 1.JPG",
        "cmyk.jpg",
        "lying.jpg",
    ]
    for name, scene in zip(names, sample_scenes(len(names), 7, "p"), strict=True):
        picture, how = render(scene), {}
        if name == "cmyk.jpg":
            picture = picture.convert("CMYK")
        if name == "lying.jpg":
            picture, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
            exif[0x0112], how["exif"] = 6, exif
        picture.save(photos / name, format="JPEG", **how)
    (photos / "elsewhere").symlink_to(photos / "Summer 2024")
    (photos / "phone.heic").write_bytes(b"ftypheic")
    return home


@pytest.fixture(scope="module")
def type_here(lskd, project) -> Callable[..., str]:
    """Type a command in the project: offline, without any key. Returns all that was said."""

    def type_(command: str, *more: str, status: int = 0) -> str:
        place = dict(HF_HOME=str(project / "hub"), HF_HUB_CACHE=str(project / "hub"))
        place |= dict(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", OPENAI_API_KEY="")
        done = lskd(project, *shlex.split(command)[1:], *more, **place)
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return type_


@pytest.fixture(scope="module")
def server():
    with own_model.serving() as base_url:
        yield ("-p", f"02.base_url={base_url}")


@pytest.fixture(scope="module")
def walked(root, type_here, server) -> list[str]:
    """The README's three commands; its server's address alone is another."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    part = readme.split("## Your own images in three commands")[1].split("\n## ")[0]
    commands = re.findall(r"^    (lskd .+?)(?:  +#.*)?$", part, re.M)
    assert len(commands) == 3
    return [type_here(command, *server) for command in commands]


def test_three_commands_lead_to_a_corpus(walked, project):
    checked, _, ran = walked
    assert "nothing is missing" in checked and "VG_100K" not in checked
    run = project / "outputs" / "runs" / "own"
    corpus = pq.read_table(run / "corpus.parquet").to_pylist()
    regions = {r["image_id"]: r for r in pq.read_table(run / "regions.parquet").to_pylist()}
    assert set(regions) == {
        "Summer 2024/a.jpg",
        "Summer 2024/by the sea/é 1.JPG",
        "a.jpg",
        "cmyk.jpg",
        "lying.jpg",
    }
    assert regions["lying.jpg"]["width"] > regions["lying.jpg"]["height"], "as it is shown"
    counts = [sum(len(r["regions"]) for r in regions.values()), len(corpus)]
    assert f"5 images, {counts[0]} regions, 1 records left out" in ran
    assert f"{counts[1]} valid triples, 0 rejected" in ran and f"{counts[1]} kept, 0 dropped" in ran
    assert counts[1] > 5 and {r["model"] for r in corpus} == {own_model.MODEL}
    assert "pooled" not in ran and "Warning" not in ran


def test_the_card_says_that_nothing_was_filtered(walked, project, type_here):
    """And the mini world's models had no say."""
    run = project / "outputs" / "runs" / "own"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["kept"]["triples"] > 5
    type_here("lskd publish own --dataset ada/photos")
    card = (project / "outputs/publish/own/dataset/README.md").read_text(encoding="utf-8")
    assert "unfiltered" in card and own_model.MODEL in card


def test_boxes_may_come_from_an_annotation_tool(project, type_here):
    """Then no detector is loaded; models of drawings are warned of."""
    file = project / "boxes" / "result.json"
    file.parent.mkdir()
    content = dict(
        images=[dict(id=0, file_name="images\\3f2a-a.jpg"), dict(id=1, file_name="cmyk.jpg")],
        categories=[dict(id=0, name="thing")],
        annotations=[dict(id=0, image_id=1, category_id=0, bbox=[10, 10, 90.5, 80])],
    )
    file.write_text(json.dumps(content))
    told = "01.sources={coco: {annotations: boxes/result.json, images: photos}}"
    mini = ("-p", "01.detector=", "-p", "01.captioner=lskd_nb/mini/weights/vlm")
    said = type_here("lskd run own --only 01 --out outputs/runs/boxes", "-p", told, *mini)
    assert "1 images, 1 regions, 1 records left out" in said
    notebook = project / "outputs/runs/boxes/notebooks/01_verbalization.ipynb"
    assert "know its drawings only: lskd_nb/mini/weights/vlm" in notebook.read_text()


def test_what_is_missing_is_said_before_anything_runs(project, type_here):
    told = type_here("lskd run own -p 01.sources={folder:\\ pictures}", status=1)
    assert "FAILED 01_verbalization: not started" in told and "pictures is not there" in told
    told = type_here("lskd run own -p 01.detector= --out outputs/runs/none", status=1)
    assert "come without boxes: name a detector in 01.detector" in told
