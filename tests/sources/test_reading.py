"""What all readers share: files and images that are damaged, and rejects."""

import json
from codecs import BOM_UTF8
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from lskd_nb import sources
from lskd_nb.records import REJECTS
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    below,
    count_reasons,
    finite,
    image_size,
    read_json,
    read_jsonl,
    read_records,
    reject_rows,
)
from lskd_nb.sources.aokvqa import read_aokvqa
from lskd_nb.sources.localized_narratives import read_narratives
from lskd_nb.sources.sherlock import read_comparison
from lskd_nb.sources.snli_ve import read_snli_ve
from lskd_nb.sources.vcr import read_vcr
from lskd_nb.sources.visual7w import read_visual7w
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.sources.visualcomet import read_visualcomet


def test_damaged_files_are_named_with_the_place(tmp_path):
    path = tmp_path / "objects.json"
    with pytest.raises(FileNotFoundError, match="objects.json is not there"):
        read_json(path)
    path.write_text('[{"a": 1},\n {"b": }]')
    with pytest.raises(ValueError, match=r"objects.json, line 2, column 8: not valid JSON"):
        read_json(path)
    path.write_bytes(b'["\xff\xfe"]')
    with pytest.raises(ValueError, match="objects.json: not a UTF-8 text file"):
        read_json(path)
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="objects.json: expected a list of records, found dict"):
        read_records(path)
    path.write_text('[{"a": 1}, 7]')
    with pytest.raises(ValueError, match="objects.json, element 1: expected an object, found int"):
        read_records(path)
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match="objects.json, line 3: not valid JSON"):
        read_jsonl(path)
    path.write_text('{"a": 1}\n\n[2]\n')
    with pytest.raises(ValueError, match="objects.json, line 3: expected an object, found list"):
        read_jsonl(path)
    path.write_text('{"a": "line\u2028separator"}\n\n')  # str.splitlines would cut this row in two
    assert read_jsonl(path) == [{"a": "line\u2028separator"}]


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 5000])
def test_json_beyond_what_python_reads_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "a.jsonl").write_text("{}\n" + content)
    with pytest.raises(ValueError, match="a.json: not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="a.jsonl, line 2: not valid JSON"):
        read_jsonl(tmp_path / "a.jsonl")


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    for name, text in (("a.json", '[{"a": 1}]'), ("a.jsonl", '{"a": 1}\n')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_records(tmp_path / "a.json") == read_jsonl(tmp_path / "a.jsonl") == [{"a": 1}]


def test_every_reader_takes_a_byte_order_mark(small_world, small_copy):
    read = {
        "visual_genome/objects.json": lambda w: read_visual_genome(w / "visual_genome"),
        "vcr/val.jsonl": lambda w: read_vcr(w / "vcr", "val"),
        "sherlock/val_comparison_answer_key.json": lambda w: read_comparison(
            w / "sherlock", "val", w / "vcr"
        ),
        "visualcomet/val_annots.json": lambda w: read_visualcomet(
            w / "visualcomet", "val", w / "vcr"
        ),
        "aokvqa/aokvqa_v1p0_val.json": lambda w: read_aokvqa(w / "aokvqa", "val"),
        "snli_ve/snli_ve_dev.jsonl": lambda w: read_snli_ve(w / "snli_ve", "dev"),
        "visual7w/dataset_v7w_telling.json": lambda w: read_visual7w(w / "visual7w", "val"),
    }
    for name, reader in read.items():
        path = small_copy / name
        path.write_bytes(BOM_UTF8 + path.read_bytes())
        found = reader(small_copy)
        assert found == reader(small_world) and found[0], name
    path = small_copy / "coco_val_captions.jsonl"
    row = dict(dataset_id="Flick30k", image_id="1", annotator_id=1, caption="A dog.")
    path.write_bytes(BOM_UTF8 + json.dumps(row).encode())
    assert len(read_narratives(path)[0]) == 1


@pytest.mark.parametrize("size", [(7, 300), (300, 1), (1, 1), (7, 7), (8, 8)])
def test_narrow_pictures_have_a_size(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "narrow.jpg")
    assert image_size(tmp_path / "narrow.jpg") == size


def test_a_path_of_the_data_may_not_leave_its_root(tmp_path):
    (tmp_path / "secret.png").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    for path in ("../secret.png", "link/../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(BadRecord, match="bad path: .*leaves the image root"):
            below(tmp_path / "root", path)
    assert below(tmp_path / "root", "link/secret.png").is_file()


def test_images_that_cannot_be_read(tmp_path):
    good = tmp_path / "good.jpg"
    Image.effect_noise((200, 100), 50).save(good)
    assert image_size(good) == (200, 100)
    Image.effect_noise((20, 10), 50).save(tmp_path / "small.png")
    assert image_size(tmp_path / "small.png") == (20, 10)
    with pytest.raises(BadRecord, match="missing image"):
        image_size(tmp_path / "none.jpg")
    for name, content in (
        ("cut.jpg", good.read_bytes()[:2000]),
        ("text.jpg", b"not an image"),
        ("empty.jpg", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadRecord, match="corrupt image") as error:
            image_size(tmp_path / name)
        assert name in error.value.detail


def test_rejects_fit_their_schema_and_are_counted():
    rejects = [
        Rejected("a", "no box", "x"),
        Rejected("b", "no name", "y"),
        Rejected("c", "no box", "z"),
    ]
    assert count_reasons(rejects) == {"no box": 2, "no name": 1}
    table = pa.Table.from_pylist(reject_rows(rejects, "regions"), schema=REJECTS)
    assert table["record"].to_pylist() == ["a", "b", "c"] and set(table["stage"].to_pylist()) == {
        "regions"
    }


def test_no_reader_imports_a_model():
    for path in Path(sources.__file__).parent.glob("*.py"):
        assert "torch" not in path.read_text() and "lskd_nb.mini" not in path.read_text(), path


def test_beyond_floats_and_file_systems(tmp_path):
    with pytest.raises(BadRecord, match="bad number: x is 1000"):
        finite(10**400, "x")
    with pytest.raises(BadRecord, match="missing image"):
        image_size(tmp_path / ("x" * 400))
    with pytest.raises(ValueError, match="xxx: can't be read"):
        read_json(tmp_path / ("x" * 400))
