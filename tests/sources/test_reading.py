"""What all readers share: files and images that are damaged, and rejects."""

from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from lskd_nb import sources
from lskd_nb.records import REJECTS
from lskd_nb.sources import (
    BadRecord,
    Rejected,
    count_reasons,
    finite,
    image_size,
    read_json,
    read_jsonl,
    read_records,
    reject_rows,
)


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
