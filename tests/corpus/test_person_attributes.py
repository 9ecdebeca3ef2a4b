"""Words about people: whole words, in named groups."""

import pytest

from lskd_nb.corpus import person_attributes


def test_attributes_are_whole_words():
    told = person_attributes.read_attributes()
    assert {
        "feminine",
        "masculine",
        "age",
        "body",
        "skin_or_ethnicity",
        "religion",
        "disability",
        "attractiveness",
    } <= told.keys()
    import duckdb

    def found(group: str, text: str) -> bool:
        return duckdb.execute(
            "SELECT regexp_matches(?, ?)", [text, person_attributes.word_pattern(told[group])]
        ).fetchall()[0][0]

    assert (
        found("masculine", "the man's hat")
        and found("masculine", "two boys, one hat")
        and not found("masculine", "a mango of many")
    )
    assert (
        not found("masculine", "the woman")
        and found("feminine", "women")
        and found("age", "a middle-aged cook")
        and not found("age", "household")
    )
    assert found("skin_or_ethnicity", "a black  man") and not found(
        "skin_or_ethnicity", "a black dog"
    )


def test_a_bad_vocabulary_is_named(tmp_path):
    for text, complaint in (
        ("age: old", "group 'age'"),
        ("- a", "expected groups"),
        ("a: [", "not valid YAML"),
        ("a: [1]", "group 'a'"),
    ):
        (tmp_path / "words.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"words.yaml.*{complaint}"):
            person_attributes.read_attributes(tmp_path / "words.yaml")
