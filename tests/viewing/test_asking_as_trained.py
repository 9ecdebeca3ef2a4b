"""A student is asked in the form in which it was trained, and its base likewise."""

import json

from lskd_nb.mini.files.world_files import write_world
from lskd_nb.run_folder import find_root
from lskd_nb.sources.visual_genome import read_visual_genome
from lskd_nb.students.loading import load_student
from lskd_nb.viewing import pointing, widgets

BASE = find_root() / "lskd_nb" / "mini" / "weights" / "student"


def test_students_are_asked_with_the_prefix_that_they_were_trained_with(tmp_path):
    student = load_student(str(BASE)).eval()
    write_world(tmp_path / "world", 2, 1, 4)
    root = tmp_path / "world" / "visual_genome"
    images, _ = read_visual_genome(root)
    base, ours = tmp_path / "base", tmp_path / "lskd"
    for folder in (base, ours):
        folder.mkdir()
    assert pointing.prefix_of([base, ours]) == ""
    (ours / "trained_from.json").write_text(json.dumps({"prefix": "question: "}))
    assert pointing.prefix_of([base, ours]) == "question: "
    pointer = widgets.RegionPointer({"base": BASE, "lskd": BASE}, images[:1], root)
    pointer._student = lambda name: student
    pointer.canvas.boxes = [list(images[0].regions[0].box)]
    pointer.question.value, pointer.choices.value = "What is [0] doing?", "Run.\nSit."
    plain = pointer._asked("What is [0] doing?", pointer.regions)
    pointer.systems = {"base": base, "lskd": ours}
    asked = pointer._asked("What is [0] doing?", pointer.regions)
    seen = pointing.look(student, pointer.picture, pointer.regions)
    wanted = pointing.rank_candidates(
        student, seen, "question: What is [0] doing?", ["Run.", "Sit."], "base"
    )
    assert [said.match for said in asked[0][2]] == [said.match for said in wanted]
    assert [said.match for said in plain[0][2]] != [said.match for said in wanted]
