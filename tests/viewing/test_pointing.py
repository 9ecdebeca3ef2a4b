"""Pointing by hand: what is drawn is what the student sees, its answers are those of evaluation
and of its own LM head, and the LLM gets the same picture.
"""

import base64
import io
import json
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from lskd_nb.evaluation import choices as ev
from lskd_nb.mini.files.world_files import write_world
from lskd_nb.records import CORPUS, write_parquet
from lskd_nb.regions import Region, highlight_colors
from lskd_nb.run_folder import find_root
from lskd_nb.sources import visual_genome
from lskd_nb.students.blip2 import autocast
from lskd_nb.students.loading import load_student
from lskd_nb.students.views import FrozenFeatures, View, open_image
from lskd_nb.viewing import pointing, widgets

BASE = find_root() / "lskd_nb" / "mini" / "weights" / "student"
NOW = datetime.now()
ANSWERS = ["Run away.", "To rest.", "Play with a ball."]


@pytest.fixture(scope="module")
def student():
    return load_student(str(BASE)).eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 4, 1, 4)
    images, _ = visual_genome.read_visual_genome(folder / "visual_genome")
    return images, folder / "visual_genome"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    rows = [
        dict(
            triple_id=f"t{i}",
            image_id="m",
            family="id",
            question=("What is [0] doing?", "What is [3, 4] doing?", "Why is [0] here?")[i % 3],
            answer=("Run.", "Run.", "To rest.", "[1] waits.", "Sit.", "To see.")[i % 6],
            rationale="r",
            regions=[0],
            regions_offered=[0],
            model="w",
            prompt="p",
            request="r",
            score=0.9,
            image="m.png",
            width=40,
            height=30,
            source="s",
            split="train",
            references=[],
        )
        for i in range(12)
    ]
    write_parquet(rows, tmp_path_factory.mktemp("corpus") / "c.parquet", CORPUS)
    return tmp_path_factory.getbasetemp() / "corpus0" / "c.parquet"


def test_answers_are_ranked_as_in_evaluation(student, world):
    images, root = world
    image, question = images[0], "What is [0] about to do?"
    item = ev.Item(
        "i",
        image.image_id,
        View(image.path, image.regions),
        question,
        tuple(f"Answer: {a}" for a in ANSWERS),
        0,
        "vcr.q_a",
    )
    (expected,) = ev.match_scores(student, [item], FrozenFeatures(student, root))
    said = pointing.rank_candidates(
        student,
        pointing.look(student, open_image(root, image.path), image.regions),
        question,
        ANSWERS,
        "base",
    )
    assert [s.answer for s in said] == [ANSWERS[i] for i in np.argsort(-expected)]
    odds = {s.answer: np.log(s.match / (1 - s.match)) for s in said}
    assert np.allclose(
        [odds[a] for a in ANSWERS], expected, atol=0.05
    )  # bf16, where the processor has it
    assert sum(s.share for s in said) == pytest.approx(1) and said[0].share == max(
        s.share for s in said
    )


def test_where_one_points_changes_what_is_seen(student, world):
    images, root = world
    picture = open_image(root, images[0].path)
    here, there = (
        pointing.look(student, picture, pointing.regions_of_boxes([box], picture.size))
        for box in ([5, 5, 60, 60], [120, 90, 190, 140])
    )
    assert (here - there).abs().max() > 0.1


def test_own_words_are_the_likeliest_ones(student, world):
    images, root = world
    seen, question = (
        pointing.look(student, open_image(root, images[1].path), images[1].regions),
        "What is [0] about to do?",
    )
    said = pointing.generate_answer(student, seen, question, "base")
    assert said.answer and said.share is None and 0 < said.match < 1
    texts = student.tokenize([question], [f"Answer: {said.answer}"])
    with torch.no_grad(), autocast(student.device):
        log_probability, counted = student.lm_log_probabilities(seen, texts, conditioned=True)
    agreed = (log_probability.argmax(-1) == texts.ids[:, 1:][counted])[2:]  # past "answer" and ":"
    assert agreed.all() and len(agreed) > 1


def test_an_answer_ends_where_the_student_could_not_match_it_any_more(student, world, monkeypatch):
    images, root = world
    seen, question = (
        pointing.look(student, open_image(root, images[1].path), images[1].regions),
        "What is [0] about to do?",
    )
    whole = pointing.generate_answer(student, seen, question, "base").answer
    start = 1 + len(student.tokenizer(f"{question} Answer:", add_special_tokens=False).input_ids)
    monkeypatch.setattr(student, "max_tokens", start + 2)  # room for one word and [SEP]
    said = pointing.generate_answer(student, seen, question, "base")
    assert (
        said.match is not None
        and said.answer
        and len(said.answer) < len(whole)
        and whole.startswith(said.answer)
    )


def test_common_answers_are_those_to_the_same_question(corpus):
    assert pointing.common_answers(corpus, "what IS [7] doing?") == ["Run.", "Sit."]
    assert pointing.common_answers(corpus, "Why does [0] run?") == ["To rest.", "To see."]
    assert pointing.common_answers(corpus, "Who?") == []


@pytest.mark.parametrize(
    "question, message",
    [
        ("  ", "ask something"),
        ("What is [1] doing?", r"mentions \[1\], but the regions drawn are \[0\]"),
    ],
)
def test_questions_that_cannot_be_asked(question, message):
    with pytest.raises(ValueError, match=message):
        pointing.check_question(question, [Region(0, (0, 0, 5, 5))])
    with pytest.raises(ValueError, match="no area"):
        pointing.regions_of_boxes([[50, 50, 60, 60]], (40, 40))


def test_uploads_stand_upright_and_bad_ones_are_named():
    out, picture = io.BytesIO(), Image.new("RGB", (40, 20), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(out, "JPEG", exif=exif)
    assert pointing.read_upload(out.getvalue(), "a.jpg").size == (20, 40)
    for content in (b"", b"<svg/>", out.getvalue()[:100]):
        with pytest.raises(ValueError, match="b.jpg is not a readable image"):
            pointing.read_upload(content, "b.jpg")
    large = io.BytesIO()
    Image.new("1", (10_000, 5_000)).save(large, "PNG")
    with pytest.raises(ValueError, match="c.png has 10000 × 5000 pixels: expected at most"):
        pointing.read_upload(large.getvalue(), "c.png")


@pytest.fixture
def llm(monkeypatch):
    """A loopback server that speaks OpenAI's protocol and keeps what it was sent; set ``status``
    to fail.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            reply = {
                "id": "c",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": "[0] is about\n to run."},
                    }
                ],
            }
            body = json.dumps(
                reply
                if Handler.status == 200
                else {"error": {"message": f"bad key {self.headers['Authorization']}"}}
            ).encode()
            self.send_response(Handler.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    yield asked, Handler
    server.shutdown()


def test_an_llm_is_shown_the_same_boxes(llm):
    asked, handler = llm
    said = pointing.ask_llm(
        Image.new("RGB", (100, 80), "white"),
        [Region(0, (10, 20, 50, 60))],
        "What is [0] about to do?",
        ["Run.", "Sit."],
        "some-model",
    )
    assert said == pointing.Said("some-model", "[0] is about to run.")
    text, picture = asked[0]["messages"][0]["content"]
    assert (
        "[0] has its box at 10%, 25%, 50%, 75%" in text["text"]
        and "- Run.\n- Sit." in text["text"]
        and asked[0]["model"] == "some-model"
    )
    drawn = Image.open(
        io.BytesIO(
            base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
        )
    )
    assert drawn.getpixel((10, 40)) == highlight_colors(0)[1][:3] and drawn.getpixel((90, 40)) == (
        255,
        255,
        255,
    )
    handler.status = 401
    with pytest.raises(RuntimeError, match="some-model could not be asked") as failed:
        pointing.ask_llm(Image.new("RGB", (10, 10)), [], "Why?", model="some-model")
    assert "sk-secret" not in str(failed.value)


# --------------------------------------------------------------------------------------- the widget


@pytest.fixture
def pointer(world, corpus):
    return widgets.RegionPointer({"base": BASE}, world[0], world[1], corpus)


def test_pointer_asks_about_drawn_boxes(pointer):
    pointer.question.value = "What is [0] doing?"
    pointer.press("Enter")
    assert "the regions drawn are none" in pointer.status.value and not pointer.result.value
    pointer.canvas.boxes = [[10.0, 10.0, 80.0, 90.0]]
    pointer.press("Enter")
    assert [(name, len(said)) for name, _, said in pointer.answers] == [
        ("base", 1),
        ("base", 2),
    ]  # own words, and the corpus's two answers
    assert (
        "loc-answer" in pointer.result.value
        and "% of the choice" in pointer.result.value
        and pointer.answers[0][2][0].match is not None
    )
    pointer.choices.value = "Run <b>away</b>.\n\n Sit. "
    pointer.ask()
    (block,) = pointer.answers
    assert (
        sorted(s.answer for s in block[2]) == ["Run <b>away</b>.", "Sit."]
        and "<b>away" not in pointer.result.value
    )
    assert (
        'class="loc-box r0"' in pointer.static_html() and "Run &lt;b&gt;" in pointer.static_html()
    )
    with pytest.raises(ValueError, match="tokens, and the student reads 128: ask in fewer words"):
        pointing.rank_candidates(
            pointer._student("base"),
            pointing.look(pointer._student("base"), pointer.picture, []),
            "very " * 200,
            ["a"],
            "base",
        )
    pointer.canvas.boxes = [*pointer.canvas.boxes, [5.0, 5.0, 30.0, 30.0]]
    assert (
        not pointer.result.value and "drawn: [0], [1]" in pointer.status.value
    )  # those answers were about other boxes
    pointer.press("c")
    assert pointer.canvas.boxes == [] and not pointer.result.value


def test_pointer_goes_through_images_and_takes_ones_own(pointer):
    first = pointer.canvas.image
    assert pointer.canvas.offered and pointer.canvas.size == [
        pointer.images[0].width,
        pointer.images[0].height,
    ]
    pointer.canvas.boxes = [pointer.canvas.offered[0]["box"]]
    assert pointer.regions[0].label == pointer.images[0].regions[0].label != ""
    pointer.press("n")
    assert (
        pointer.canvas.image != first and pointer.canvas.boxes == [] and pointer.number.value == 2
    )
    out = io.BytesIO()
    Image.new("RGB", (2000, 500), "blue").save(out, "PNG")
    pointer.upload.value = (
        {
            "name": "mine.png",
            "type": "image/png",
            "size": 1,
            "content": memoryview(out.getvalue()),
            "last_modified": NOW,
        },
    )
    assert (
        pointer.canvas.size == [2000, 500]
        and pointer.canvas.offered == []
        and "mine.png" in pointer.canvas.alt
    )
    pointer.upload.value = (
        {
            "name": "<x>.png",
            "type": "image/png",
            "size": 1,
            "content": memoryview(b"no"),
            "last_modified": NOW,
        },
    )
    assert "&lt;x&gt;.png is not a readable image" in pointer.status.value
    pointer.press("p")
    assert pointer.number.value == 1 and pointer.canvas.image == first
    pointer.show_photograph()
    assert pointer.canvas.size == [512, 512] and "astronaut" in pointer.canvas.alt


def test_pointer_asks_an_llm_only_with_a_key_and_when_told(pointer, llm, monkeypatch):
    pointer.canvas.boxes, pointer.choices.value = [[10.0, 10.0, 80.0, 90.0]], "Run.\nSit."
    pointer.ask()
    assert not llm[0]
    pointer.also_llm.value = True
    pointer.ask()
    assert len(llm[0]) == 1 and "is about to run" in pointer.result.value
    monkeypatch.delenv("OPENAI_API_KEY")
    pointer.ask()
    assert (
        "OPENAI_API_KEY is not set" in pointer.result.value
        and len(llm[0]) == 1
        and pointer.result.value.count("loc-answer") == 2
    )  # the student's stay


def test_more_boxes_than_colours_are_cut_off(pointer):
    pointer.canvas.boxes = [[1.0, 1.0, 20.0, 20.0]] * 25
    assert len(pointer.canvas.boxes) == widgets.pointer.MOST_REGIONS == len(pointer.canvas.colors)


def test_page_says_what_is_missing(tmp_path):
    from lskd_nb.viewing.widgets.app import page

    tabs = page(tmp_path, BASE)
    assert (
        "is no folder of a run" in tabs.children[1].value and "make mini" in tabs.children[1].value
    )
    assert tabs.children[0].children[1].canvas.size == [512, 512]  # the photograph


def test_students_of_drawings_are_warned_of_before_a_photograph(pointer, world, corpus):
    """And not before a drawing; nor is a student that learned from others."""
    pointer.canvas.boxes = [[10, 10, 60, 60]]
    pointer.ask()
    assert "drawings only" not in pointer.result.value
    pointer.show_photograph()
    pointer.canvas.boxes = [[10, 10, 60, 60]]
    pointer.ask()
    assert "base knows the mini world&#x27;s drawings only" in pointer.result.value
    pointer.number.value = 2
    pointer.canvas.boxes = [[10, 10, 60, 60]]
    pointer.ask()
    assert "drawings only" not in pointer.result.value
