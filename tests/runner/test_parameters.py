"""Parameters of notebooks: read without running anything, and refused where they do not fit."""

import pytest

from lskd_nb.run_folder import RunError
from lskd_nb.runner.parameters import checked, parse_overrides, profile_parameters, read_notebook

DECLARED = (
    "run_dir: str = ''\nsteps: int = 320  # a comment\nlr: float = 1e-3\nshares: list = [1.0,"
    " 0.5]\nfast: bool = False\nfree = None"
)


def test_parameters_cell_is_read_without_running_it(tiny):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    assert notebook.defaults == dict(
        run_dir="", steps=320, lr=1e-3, shares=[1.0, 0.5], fast=False, free=None
    )


@pytest.mark.parametrize(
    "given, says",
    [
        ({"stesp": 3}, "03_learn has no parameter 'stesp'; did you mean 'steps'?"),
        ({"q": 3}, "03_learn has no parameter 'q'; it has run_dir, steps"),
        ({"steps": "many"}, "03_learn.steps must be int, like 320, not 'many'"),
        ({"steps": 3.5}, "03_learn.steps must be int"),
        ({"steps": True}, "03_learn.steps must be int"),
        ({"steps": None}, "03_learn.steps must be int"),
        (
            {"lr": "1e-5"},
            (
                "03_learn.lr must be float, like 0.001, not '1e-5' (YAML wants a point in it, like"
                " 1.0e-5)"
            ),
        ),
        ({"run_dir": "https://me:secret@host/v1"}, "03_learn.run_dir holds a password"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(tiny, given, says):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    with pytest.raises(RunError) as refused:
        checked(notebook, given, "here")
    assert str(refused.value).startswith(f"here: {says}")
    assert "secret" not in str(refused.value)


def test_what_fits_is_taken(tiny):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    assert checked(notebook, {"lr": 1, "free": "x", "shares": []}, "") == {
        "lr": 1.0,
        "free": "x",
        "shares": [],
    }
    options = [
        "3.lr=1e-4",
        "03.steps=5",
        "03_learn.run_dir=3",
        "03.fast=true",
        "03.shares=[0.1, 1]",
        "03.free=1e3=x",
    ]
    assert parse_overrides(options, [notebook]) == {
        "03_learn": dict(lr=1e-4, steps=5, run_dir="3", fast=True, shares=[0.1, 1], free="1e3=x")
    }


@pytest.mark.parametrize("option", ["03steps=4", "04.steps=4", "03.steps"])
def test_an_override_of_another_form_is_refused(tiny, option):
    with pytest.raises(RunError, match="expected NN.key=value with NN one of 03"):
        parse_overrides([option], [read_notebook(tiny("03_learn", parameters=DECLARED))])


@pytest.mark.parametrize(
    "source", ["steps: int = 3 * 4", "import os", "steps: int", "steps =", "a.b = 3"]
)
def test_a_parameters_cell_holds_literals_only(tiny, source):
    with pytest.raises(RunError, match="line 1 of the parameters cell must be"):
        read_notebook(tiny("03_learn", parameters=source))


def test_damaged_files_are_named(tiny, tmp_path):
    path = tiny("03_learn")
    notebook = read_notebook(path)
    told = tmp_path / "params" / "tiny" / "03_learn.yaml"
    told.write_text("steps: [")
    with pytest.raises(RunError, match="03_learn.yaml is not valid YAML"):
        profile_parameters(tmp_path, "tiny", notebook)
    told.write_text("- 3")
    with pytest.raises(RunError, match="03_learn.yaml must be a mapping"):
        profile_parameters(tmp_path, "tiny", notebook)
    with pytest.raises(
        RunError, match="the profile 'huge' has no parameters for 03_learn; profiles: tiny"
    ):
        profile_parameters(tmp_path, "huge", notebook)
    path.write_text("{")
    with pytest.raises(RunError, match="03_learn.ipynb is not a notebook"):
        read_notebook(path)


def test_metadata_may_only_name_declared_parameters(tiny):
    with pytest.raises(RunError, match="names 'param:base', but it declares only run_dir, seed"):
        read_notebook(tiny("03_learn", reads=["param:base"]))
