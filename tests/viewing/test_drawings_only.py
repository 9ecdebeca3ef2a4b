"""The mini world's models are known wherever they are met."""

import json

from lskd_nb.viewing.drawings_only import learned_from_drawings, warning


def test_a_student_of_drawings_is_known_by_what_it_began_with(tmp_path):
    told = tmp_path / "trained_from.json"
    for base, drawings in (
        ("/home/ada/lskd/lskd_nb/mini/weights/student", True),
        ("Salesforce/blip2-itm-vit-g", False),
    ):
        told.write_text(json.dumps({"student": base}))
        assert learned_from_drawings(tmp_path) is drawings
    told.write_text("[]")
    assert not learned_from_drawings(tmp_path) and learned_from_drawings("lskd_nb/mini/weights/vlm")
    assert "vlm, mini-rule-based-writer" in warning(
        tmp_path, ["lskd_nb/mini/weights/vlm", "gpt-4.1", None, "mini-rule-based-writer"], "Do."
    )
    assert warning(tmp_path, ["gpt-4.1"], "Do.") == ""
