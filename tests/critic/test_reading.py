"""What the critic's base reads before it learns from labels."""

from dataclasses import asdict

from lskd_nb.critic.reading import reading_config
from lskd_nb.run_folder import find_root
from lskd_nb.runner.parameters import read_notebook

NOTEBOOKS = find_root() / "notebooks"


def test_the_reader_is_the_unfiltered_student_of_notebook_05(tmp_path):
    critic = read_notebook(NOTEBOOKS / "03_critic_training.ipynb").defaults
    student = read_notebook(NOTEBOOKS / "05_distillation.ipynb").defaults
    config = reading_config(
        tmp_path,
        critic["base"],
        "images",
        steps=critic["adapt_steps"],
        lr=critic["adapt_lr"],
        **{name: critic[name] for name in ("batch", "warmup", "embedding_lr", "seed", "threads")},
    )
    recipe = asdict(config)
    shared = recipe.keys() & student.keys() - {"image_size"}
    assert {"steps", "lr", "itc", "swaps", "rehearsal_share", "base_share", "views"} <= shared
    assert {k: recipe[k] for k in shared} == {k: student[k] for k in shared}
    assert config.corpus == str(tmp_path / "unfiltered.parquet")
    assert config.out == str(tmp_path / "student" / "unfiltered")
