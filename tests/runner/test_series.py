"""Which notebooks are the series: what else lies beside them is passed over, with a word."""

import shutil

import pytest

from lskd_nb.run_folder import RunError
from lskd_nb.runner.parameters import profile_notebooks, read_notebooks


@pytest.fixture
def folder(tiny, tmp_path):
    """Two notebooks of the series; beside them a copy, somebody's try, and an empty one."""
    tiny("01_one", "1")
    tiny("03_two", "1")
    notebooks = tmp_path / "notebooks"
    shutil.copy(notebooks / "03_two.ipynb", notebooks / "03_two-Copy1.ipynb")
    (notebooks / "99_my_try.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4}')
    (notebooks / "Untitled.ipynb").write_text("")
    return notebooks


def names(notebooks):
    return [n.name for n in notebooks]


def test_what_lies_beside_the_series_is_passed_over_with_a_word(folder, tmp_path, run_tiny):
    said: list[str] = []
    run_tiny(tmp_path, said.append, only=["03"])
    assert said[0] == (
        "passed over, as params/ has no file for it:"
        " 03_two-Copy1.ipynb, 99_my_try.ipynb, Untitled.ipynb"
    )
    assert len(said) == 2 and said[1].startswith("[1/1] 03_two …")
    assert names(read_notebooks(tmp_path)) == ["01_one", "03_two"]


def test_a_notebook_beside_the_series_can_be_named(folder, tmp_path, run_tiny):
    with pytest.raises(RunError, match="99_my_try.ipynb has 0 cells tagged 'parameters'"):
        run_tiny(tmp_path, only=["99"])
    with pytest.raises(RunError, match="no .*03_two-Copy1.yaml: the profile 'tiny' has no param"):
        run_tiny(tmp_path, only=["03_two-Copy1"])
    shutil.copy(folder / "01_one.ipynb", folder / "mine.ipynb")
    assert names(read_notebooks(tmp_path, ["mine"])) == ["01_one", "03_two", "mine"]


def test_of_two_with_the_same_number_the_profile_has_one(folder, tmp_path):
    """Another profile has the copy."""
    told = tmp_path / "params" / "other" / "03_two-Copy1.yaml"
    told.parent.mkdir()
    told.write_text("")
    assert names(read_notebooks(tmp_path)) == ["01_one", "03_two", "03_two-Copy1"]
    assert names(profile_notebooks(tmp_path, "tiny")) == ["01_one", "03_two"]
    assert names(profile_notebooks(tmp_path, "other")) == ["01_one", "03_two-Copy1"]
    shutil.copy(told, tmp_path / "params" / "tiny")
    with pytest.raises(RunError, match="03_two and 03_two-Copy1 have the same number, and params/"):
        profile_notebooks(tmp_path, "tiny")
    assert names(profile_notebooks(tmp_path, "tiny", ["03_two"])) == ["01_one", "03_two"]


def test_a_damaged_notebook_of_the_series_is_not_passed_over(folder, tmp_path):
    for text in ("", "[]", '{"cells": 3}', "<<<<<<< HEAD"):
        (folder / "01_one.ipynb").write_text(text)
        with pytest.raises(RunError, match="01_one.ipynb is not a notebook"):
            read_notebooks(tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(RunError, match="holds no notebook NN_name.ipynb"):
        read_notebooks(tmp_path)
