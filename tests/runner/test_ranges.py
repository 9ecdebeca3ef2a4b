"""What parameters may be: stated once by name, and refused before anything runs."""

import pytest
import yaml

from lskd_nb.run_folder import RunError
from lskd_nb.runner.parameters import parse_overrides, profile_parameters, read_notebooks
from lskd_nb.runner.ranges import rule_of, what_is_allowed

PLACE = "add one to BY_NAME of lskd_nb/runner/ranges.py"


@pytest.fixture(scope="module")
def notebooks(root):
    return read_notebooks(root)


def test_every_number_of_every_notebook_has_a_rule(notebooks):
    lacking = [
        f"{n.name}.{name}"
        for n in notebooks
        for name, default in n.defaults.items()
        if type(default) in (int, float) and rule_of(n.number, name) is None
    ]
    assert not lacking, f"no rule says what {', '.join(lacking)} may be: {PLACE}"


def test_what_the_notebooks_and_their_profiles_say_is_allowed(notebooks, root):
    for n in notebooks:
        for name, default in n.defaults.items():
            told = what_is_allowed(n.number, name, default)
            assert told is None, f"{n.name}.{name} = {default!r} by default, but must be {told}"
        for file in (root / "params").glob(f"*/{n.name}.yaml"):
            profile_parameters(root, file.parent.name, n)


@pytest.mark.parametrize(
    "option, says",
    [
        ("05.lr=nan", "05_distillation.lr must be finite, not nan"),
        ("05.lr=inf", "05_distillation.lr must be finite, not inf"),
        ("05.lr=0", "05_distillation.lr must be above 0, not 0.0"),
        ("05.steps=-3", "05_distillation.steps must be 1 or more, not -3"),
        ("05.shares=[0, 2]", "05_distillation.shares must be a list of shares above 0"),
        ("05.shares=[1.0, .nan]", "05_distillation.shares must be finite"),
        ("05.shares=[1.0, yes]", "05_distillation.shares must be a list of shares"),
        ("05.shares=[0.5, 0.501]", "05_distillation.shares must be a list of shares"),
        (
            "05.studies=[size]",
            "05_distillation.studies must be a list of some of sizes, lm, thresh",
        ),
        ("05.studies=[lm, lm]", "05_distillation.studies must be a list of some of sizes, lm, thr"),
        ("05.threshold_shares=[0.0]", "05_distillation.threshold_shares must be a list of shares"),
        ("05.backend=HF", "05_distillation.backend must be one of hf, lavis, not 'HF'"),
        ("05.base_share=1.5", "05_distillation.base_share must be from 0 to 1, not 1.5"),
        ("02.concurrency=0", "02_prompting.concurrency must be 1 or more, not 0"),
        ("02.triples=-1", "02_prompting.triples must be 1 or more, not -1"),
        ("02.mode=Batch", "02_prompting.mode must be one of async, batch, not 'Batch'"),
        ("02.base_url=localhost:8000", "02_prompting.base_url must be empty, or an address like"),
        ("02.budget_usd=-0.5", "02_prompting.budget_usd must be 0 or more, not -0.5"),
        ("04.keep=20", "04_filtering.keep must be above 0 and no more than 1, not 20.0"),
        ("04.engine=slurm", "04_filtering.engine must be one of local, gpus, ray, not 'slurm'"),
        ("03.held_out=100", "03_critic_training.held_out must be above 0 and below 1, not 100.0"),
        ("01b.held_out=0", "01b_region_captioner.held_out must be 1 or more, not 0"),
        ("01.world=[100]", "01_verbalization.world must be two numbers of 1 or more, not [100]"),
        ("01.seed=-1", "01_verbalization.seed must be 0 or more, not -1"),
        ("06.baselines=[1]", "06_evaluation.baselines must be a list of texts, not [1]"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(notebooks, option, says):
    with pytest.raises(RunError) as refused:
        parse_overrides([option], notebooks)
    assert str(refused.value).startswith(f"-p {option}: {says}")


def test_a_profile_out_of_range_stops_the_run_before_anything_runs(tiny, tmp_path, lskd):
    tiny("01_good", "1")
    path = tiny("02_bad", parameters='run_dir: str = "."\nlr: float = 0.1')
    told = tmp_path / "params" / "tiny" / f"{path.stem}.yaml"
    told.write_text(yaml.safe_dump({"lr": float("nan")}))
    done = lskd(tmp_path, "run", "tiny")
    assert done.returncode == 1 and not (tmp_path / "outputs").exists()
    assert done.stderr.strip() == f"{told}: 02_bad.lr must be finite, not nan"


@pytest.mark.parametrize("values", [[], ["id", "id"], ["ID"], [1]])
def test_some_of_a_list_of_choices(values):
    told = what_is_allowed("02", "families", values)
    assert told == "a list of some of id, description, words, each once"
    assert what_is_allowed("02", "families", ["words", "id"]) is None


def test_studies_are_those_that_there_are_and_may_be_none():
    from lskd_nb.corpus.comparisons import STUDIES

    assert what_is_allowed("05", "studies", []) is None
    assert what_is_allowed("05", "studies", list(STUDIES)) is None
    assert what_is_allowed("05", "studies", ["truth", "?"]).endswith("plain_base, each once, or []")


def test_rules_by_number_go_before_rules_by_name():
    assert rule_of("03", "held_out") is not rule_of("01b", "held_out")
    assert rule_of("05", "checkpoint_every").allowed == "1 or more"
    assert rule_of("05", "of_no_rule") is None and what_is_allowed("05", "of_no_rule", -1) is None
