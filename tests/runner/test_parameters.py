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
        ({"steps": 3e2}, "03_learn.steps must be int, like 320, not 300.0 (write 300)"),
        ({"steps": "1:30"}, "03_learn.steps must be int, like 320, not '1:30'"),
        ({"lr": "fast"}, "03_learn.lr must be float, like 0.001, not 'fast'"),
        ({"fast": "maybe"}, "03_learn.fast must be bool, like False, not 'maybe' (write true or"),
        ({"run_dir": 3}, "03_learn.run_dir must be str, like '', not 3 (put it in quotes"),
        ({"run_dir": None}, "03_learn.run_dir must be str, like '', not None (write \"\" for"),
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
    given = {"lr": 1, "free": "x", "shares": [1]}
    assert checked(notebook, given, "") == {"lr": 1.0, "free": "x", "shares": [1]}
    assert checked(notebook, {"lr": "1e-5", "fast": "yes"}, "") == {"lr": 1e-5, "fast": True}
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


@pytest.mark.parametrize(
    "text, steps",
    [("0100", 100), ("1_000", 1000), ("0x10", 16), ("0o17", 15), ("08", 8), ("1:30", None)],
)
def test_numbers_are_those_that_people_mean(tiny, tmp_path, text, steps):
    """YAML 1.1 takes the first for 64, the last for 90."""
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    told = tmp_path / "params" / "tiny" / "03_learn.yaml"
    told.write_text(f"\ufeffsteps: {text}\n", encoding="utf-8")
    asked = (
        lambda: parse_overrides([f"03.steps={text}"], [notebook])["03_learn"],
        lambda: profile_parameters(tmp_path, "tiny", notebook),
    )
    for ask in asked:
        if steps is None:
            with pytest.raises(RunError, match="03_learn.steps must be int, like 320, not '1:30'"):
                ask()
        else:
            assert ask() == {"steps": steps}


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001", "1E-05", '"1e-5"'])
def test_a_text_that_is_a_number_is_one_where_a_number_is_wanted(tiny, tmp_path, text):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    told = tmp_path / "params" / "tiny" / "03_learn.yaml"
    told.write_text(f"lr: {text}\nfast: on\n")
    assert profile_parameters(tmp_path, "tiny", notebook) == {"lr": 1e-5, "fast": True}
    assert parse_overrides([f"3.lr={text}"], [notebook]) == {"03_learn": {"lr": 1e-5}}


@pytest.mark.parametrize(
    "text, says",
    [
        ("steps: 3\nlr: 0.1\nsteps: 4", "line 3: the key 'steps' is there already, in line 1"),
        ("free: {a: 1,\n  a: 2}", "line 2: the key 'a' is there already, in line 1"),
        ("steps: 3\n---\nsteps: 4", "expected a single document"),
    ],
)
def test_a_key_is_given_once(tiny, tmp_path, text, says):
    notebook = read_notebook(tiny("03_learn", parameters=DECLARED))
    (tmp_path / "params" / "tiny" / "03_learn.yaml").write_text(text)
    with pytest.raises(RunError) as refused:
        profile_parameters(tmp_path, "tiny", notebook)
    assert says in str(refused.value) and "03_learn.yaml is not valid YAML" in str(refused.value)


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
