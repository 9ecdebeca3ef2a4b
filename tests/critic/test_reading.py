"""What the critic's base reads before it learns from labels."""

from dataclasses import asdict

from lskd_nb.critic.model import CriticExample, ids_shuffled, training_views
from lskd_nb.critic.reading import reading_config
from lskd_nb.regions import Region
from lskd_nb.run_folder import find_root
from lskd_nb.runner.parameters import read_notebook
from lskd_nb.students.views import View

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
        **{name: critic[name] for name in ("batch", "warmup", "embedding_lr", "seed")},
    )
    recipe = asdict(config)
    shared = recipe.keys() & student.keys() - {"image_size"}
    assert {"steps", "lr", "itc", "swaps", "rehearsal_share", "base_share", "views"} <= shared
    assert {k: recipe[k] for k in shared} == {k: student[k] for k in shared}
    assert config.corpus == str(tmp_path / "unfiltered.parquet")
    assert config.out == str(tmp_path / "student" / "unfiltered")


def test_training_may_ask_for_each_numbering_and_for_no_other_view():
    regions = tuple(Region(i, (i, i, i + 9.0, i + 9.0)) for i in range(5))
    example = CriticExample(View("a.jpg", regions), "Why is [0] here?", "Answer: [1] is.")
    assert training_views([example]) == [example.view]
    views = training_views([example, example], shuffles=2)
    assert views == 2 * [ids_shuffled(example, which).view for which in range(3)]
    assert len({v.key for v in views}) == 3
    assert all(sorted(r.id for r in v.regions) == list(range(5)) for v in views)
