"""Whatever is written in the released format comes back; rows changed at random are read right or
rejected.
"""

import copy
import json
import math
import re

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_nb.corpus import released
from lskd_nb.records import CORPUS, read_parquet
from lskd_nb.regions import mentions

WORDS = st.lists(
    st.one_of(
        st.text("abcé", min_size=1, max_size=5),
        st.lists(st.sampled_from([0, 2, 4]), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, 10**12, -1.5, math.nan, math.inf]),
    st.text(max_size=3),
    st.sampled_from(["../x", "\ud800", "9" * 30]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just(["", 2]),
)


@settings(max_examples=100, deadline=None)
@given(question=WORDS, answer=WORDS, score=st.one_of(st.none(), st.floats(0, 1, width=32)))
def test_any_tokens_come_back(released_row, question, answer, score):
    row = released.corpus_row(
        released_row | {"question": question, "answer": answer, "prediction": score}
    )
    again = released.corpus_row(json.loads(json.dumps(released.released_row(row))))
    assert again["score"] == score and mentions(again["question"]) == mentions(
        row["question"]
    ) == list(dict.fromkeys(i for t in question if isinstance(t, list) for i in t))
    assert (
        again["question"].split() == row["question"].split()
        and again["answer"].split() == row["answer"].split()
    )


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
FLOATS = st.floats(0, 1, width=32)
REGIONS = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.tuples(*[st.integers(0, 500)] * 2, *[st.integers(1, 500)] * 2, FLOATS),
        st.text("ab_()", max_size=4),
        st.none() | FLOATS,
    ),
    unique_by=lambda r: r[0],
    max_size=4,
).map(
    lambda regions: [
        dict(id=i, box=[x + f, float(y), x + f + w, float(y + h)], label=label, score=score)
        for i, (x, y, w, h, f), label, score in regions
    ]
)
TEXTS = st.text("ab é'.,?!()-[]12\n\"", max_size=40)
CORPUS_ROWS = st.fixed_dictionaries(
    dict(
        triple_id=NAMES,
        image_id=NAMES,
        family=st.sampled_from(["id", "description"]),
        question=TEXTS,
        answer=TEXTS,
        rationale=TEXTS,
        regions=st.lists(st.integers(0, 99), max_size=3),
        regions_offered=st.lists(st.integers(0, 99), max_size=3),
        model=NAMES,
        prompt=NAMES,
        request=NAMES,
        score=st.none() | FLOATS,
        image=st.sampled_from(["VG_100K/1.jpg", "vcr1images/m/a.jpg", "val2017/1.jpg", "m/a.jpg"]),
        width=st.none() | st.integers(1, 9999),
        height=st.none() | st.integers(1, 9999),
        source=NAMES,
        split=NAMES,
        references=REGIONS,
    )
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(CORPUS_ROWS, min_size=1, max_size=3))
def test_a_corpus_comes_back_as_it_was_written(tmp_path_factory, rows):
    folder, corpus = tmp_path_factory.mktemp("b"), pa.Table.from_pylist(rows, CORPUS)
    released.write_released(corpus, folder / "c.jsonl")
    released.convert_released(folder / "c.jsonl", folder / "d.parquet")
    again = [
        r
        for name in ("d.parquet", "d.unboxed.parquet")
        for r in read_parquet(folder / name, CORPUS).to_pylist()
    ]
    rows = sorted(corpus.to_pylist(), key=lambda r: bool(released.unboxed_mentions(r)))
    assert len(again) == len(rows)
    for old, new in zip(rows, again, strict=True):
        for text in ("question", "answer", "rationale"):
            before, after = old.pop(text), new.pop(text)
            assert "".join(before.split()) == "".join(after.split()) and mentions(
                before
            ) == mentions(after), "the same up to white space"
        assert old == new


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_changed_row_is_read_or_rejected(convert, released_row, tmp_path_factory, data):
    row = copy.deepcopy(released_row)
    place = row
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(VALUES)
        break
    counts, kept, apart, rejects = convert(
        tmp_path_factory.mktemp("c"), released_row, row, released_row
    )
    assert sum(counts) == 3 and len(kept) >= 2 and len(kept) + len(apart) + len(rejects) == 3
    assert all(
        r["record"] == "c.jsonl, line 2"
        and re.search("|".join([*released_row, "obj_guess"]), r["reason"])
        for r in rejects
    )
    for found in (*kept, *apart):
        assert found["score"] is None or 0 <= found["score"] <= 1
        assert all(
            x0 < x1 and y0 < y1 and math.isfinite(x1 - x0 + y1 - y0)
            for x0, y0, x1, y1 in (r["box"] for r in found["references"])
        )
