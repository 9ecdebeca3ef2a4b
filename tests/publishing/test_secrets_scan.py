"""Keys and paths are found wherever they hide in what is staged, and are not told."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from lskd_nb.publishing import secrets_scan
from lskd_nb.records import CORPUS, TRIPLES, read_parquet, write_parquet

TOKEN = "hf_" + "T0ken" * 7


def test_keys_and_paths_are_found_wherever_they_hide_and_not_told(
    against, staged, finished_run, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-4711")
    dataset, student, _ = (r.folder for r in staged)
    rows = read_parquet(dataset / "data/corpus.parquet", CORPUS).to_pylist()
    rows[1]["references"][0]["label"] = "a sesame-4711 dog"  # compressed, in a list of structures
    write_parquet(rows, dataset / "data/corpus.parquet", CORPUS)
    rows = read_parquet(dataset / "data/triples.parquet", TRIPLES)
    pq.write_table(
        rows.replace_schema_metadata({"written by": str(finished_run)}),
        dataset / "data/triples.parquet",
        compression="zstd",
    )
    (student / "config.json").write_text(json.dumps({"x": f"from {finished_run}/base"}))
    (student / "notes.json").write_text('{"by": "/home/somebody/run"}')
    (dataset / "README.md").write_text(f"x{TOKEN}")
    found = against(staged, finished_run)
    assert found == [
        "dataset/README.md: holds what looks like a key, or a person's home folder",
        "dataset/data/corpus.parquet: holds the value of OPENAI_API_KEY",
        "dataset/data/triples.parquet: holds the run's path",
        "student/config.json: holds the run's path",
        "student/notes.json: holds what looks like a key, or a person's home folder",
    ]
    assert "sesame" not in str(found)


SECRET = "sesame-4711"
KEY = "what looks like a key, or a person's home folder"


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x", SECRET]).dictionary_encode(),
        pa.array([[["x", SECRET]]], pa.large_list(pa.large_list(pa.string()))),
        pa.array([[("k", SECRET)]], pa.map_(pa.string(), pa.string())),
        pa.array([[(SECRET, "v")]], pa.map_(pa.string(), pa.string())),
        pa.array(["x", SECRET], pa.string_view()),
        pa.array([b"\xff" + SECRET.encode()]),
        pa.array([SECRET.encode()], pa.binary(len(SECRET))),
        pa.array([[dict(a=dict(b=[SECRET]))]]),
        pa.array([[SECRET]], pa.list_(pa.string(), 1)),
    ],
    ids=lambda c: str(c.type),
)
def test_columns_of_every_type_are_looked_at(tmp_path, column):
    pq.write_table(pa.table({"a": column}), tmp_path / "a.parquet", compression="zstd")
    assert list(
        secrets_scan.disclosures_in(tmp_path / "a.parquet", {"the key": SECRET.encode()})
    ) == ["holds the key"]
    assert (
        list(secrets_scan.disclosures_in(tmp_path / "a.parquet", {"the key": b"another one"})) == []
    )


@pytest.mark.parametrize(
    "schema",
    [
        pa.schema([(SECRET, pa.int32())]),
        pa.schema([("a", pa.list_(pa.struct([(SECRET, pa.int32())])))]),
        pa.schema([pa.field("a", pa.int32(), metadata={"k": SECRET})]),
        pa.schema([pa.field("a", pa.list_(pa.field("item", pa.int32(), metadata={SECRET: "v"})))]),
        pa.schema([("a", pa.int32())], {"k": SECRET}),
    ],
)
def test_names_and_metadata_of_columns_are_looked_at(tmp_path, schema):
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    assert list(
        secrets_scan.disclosures_in(tmp_path / "a.parquet", {"the key": SECRET.encode()})
    ) == ["holds the key"]


@pytest.mark.parametrize(
    "name, content, found",
    [
        ("a.json", '{"a": "\\u0073esame-4711"}', ["holds the key"]),
        ("a.json", '{"a": "\\u0073esame-4711", "a": 1}', ["holds the key"]),
        ("a.jsonl", '{"a": 1}\n{"a": ["\\u0073esame-4711"]}\n', ["holds the key"]),
        ("a.jsonl", '{"a": 1}\nx\n{}\n', ["not whole (line 2 is no JSON)"]),
        ("a.json", '{"a": "\\/home\\/ada\\/x"}', [f"holds {KEY}"]),
        ("a.txt", "/home/jos\u00e9.m/x", [f"holds {KEY}"]),
        ("a.txt", "ghp_" + "a1" * 18, [f"holds {KEY}"]),
        ("a.txt", "AKIA" + "AB12" * 4, [f"holds {KEY}"]),
        ("a.txt", "github_pat_11AB", [f"holds {KEY}"]),
        ("a.txt", "/home/, at home/office", []),
        ("config.json", '{"a": [{"b": "/models/x"}]}', ["holds what looks like a path"]),
        ("tokenizer_config.json", '{"a": "D:\\\\x"}', ["holds what looks like a path"]),
        ("config.json", '{"a": "org/name", "/": "and/or"}', []),
        ("a.zip", "PK", ["an archive, which is not looked into"]),
        ("a.json", "[" * 99999, None),
    ],
)
def test_texts_are_looked_at_without_their_escapes(tmp_path, name, content, found):
    (tmp_path / name).write_text(content, encoding="utf-8")
    told = list(secrets_scan.disclosures_in(tmp_path / name, {"the key": SECRET.encode()}))
    assert told == found if found is not None else told[0].startswith("not whole")


def test_what_weights_say_of_themselves_is_looked_at(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "a.safetensors", metadata={"from": "/home/ada/models"})
    assert list(secrets_scan.disclosures_in(tmp_path / "a.safetensors", {})) == [f"holds {KEY}"]


def test_a_key_across_two_blocks_is_found(against, staged, finished_run, monkeypatch):
    monkeypatch.setattr(secrets_scan, "BLOCK", 16)
    monkeypatch.setenv("HF_TOKEN", "across-blocks")
    (staged[0].folder / "corpus.jsonl").write_text('{"a": "1234567across-blocks"}\n')
    assert "dataset/corpus.jsonl: holds the value of HF_TOKEN" in against(staged, finished_run)
