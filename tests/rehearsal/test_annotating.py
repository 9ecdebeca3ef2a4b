"""Labels by stand-ins travel the way that people's do: tasks out, Label Studio's export back in."""

from lskd_nb.critic.label_studio import write_tasks
from lskd_nb.critic.label_studio_import import import_labels
from lskd_nb.critic.labels import read_labels, run_triple_ids
from lskd_nb.rehearsal.annotating import ANNOTATORS, annotate_tasks


def test_tasks_become_labels(small_run, tmp_path):
    tasks, export = tmp_path / "tasks.json", tmp_path / "export.json"
    number, _ = write_tasks(small_run, tasks)
    said = annotate_tasks(tasks, export, seed=3)
    assert number < said <= 2 * number
    import_labels(export, small_run)
    found = read_labels(small_run / "labels_by_people.parquet", run_triple_ids(small_run))
    assert set(found["annotator"].to_pylist()) == set(ANNOTATORS.values())
    assert 0 < sum(found["accept"].to_pylist()) < len(found) <= said
