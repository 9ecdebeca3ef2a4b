"""The baseline that answers from words alone."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lskd_nb.evaluation import preference as p
from lskd_nb.evaluation.verbal_baseline import answer_prompt, answers_from_words
from lskd_nb.mini.annotator import preferred
from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import situation_of
from lskd_nb.mini.scenes.world import Scene, sample_scenes
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.records import REJECTS, write_parquet
from lskd_nb.regions import LocatedImage, Region
from lskd_nb.teacher.generate import TeacherSettings

SCENES = sample_scenes(40, 11, "p")


def asked_of(scenes: list[Scene]) -> list[p.PointedQuestion]:
    """A question of the world about each scene's first region that has an answer."""
    found = []
    for number, scene in enumerate(scenes):
        image = LocatedImage(
            scene.scene_id,
            "m.png",
            320,
            240,
            tuple(Region(i, e.box, e.kind) for i, e in enumerate(scene.entities)),
            "mini",
            "val",
        )
        region = next((i for i in range(len(scene.entities)) if situation_of(scene, i)), None)
        if region is not None:
            kinds = sorted(situation_of(scene, region)[0].answers)
            kind = kinds[number % len(kinds)]
            found.append(
                p.PointedQuestion(f"q-{scene.scene_id}", image, grammar.question(kind, region))
            )
    return found


def words_about(scene: Scene) -> list[dict]:
    return [
        dict(
            image_id=scene.scene_id,
            kind="global",
            verbalizer="captioner",
            region=None,
            question=None,
            text=grammar.caption(scene),
        ),
        *(
            dict(
                image_id=scene.scene_id,
                kind="local",
                verbalizer="region-captioner",
                region=i,
                question=None,
                text=grammar.describe_closely(e),
            )
            for i, e in enumerate(scene.entities)
        ),
    ]


def test_who_sees_true_words_answers_the_question_that_is_asked(judged, tmp_path):
    asked, truth = asked_of(SCENES), {s.scene_id: s for s in SCENES}
    lines = [line for scene in SCENES for line in words_about(scene)]
    with serving(imagination=0.0) as url:
        settings = TeacherSettings(url, NAME, temperature=0.0)
        table, rejects, report = answers_from_words(
            asked, lines, settings, tmp_path / "c.sqlite", "words"
        )
        again = answers_from_words(asked, lines, settings, tmp_path / "c.sqlite", "words")
        unseen = answers_from_words(asked, [], settings, tmp_path / "c.sqlite", "blind")[0]
    assert (
        not rejects
        and report.requests == len(asked) > 30
        and again[2].cached == len(asked)
        and again[0] == table
    )
    right = []
    for q, row in zip(asked, table.to_pylist(), strict=True):
        assert row["question"] == q.question and row["question_id"] == q.question_id
        told = (row["question"], row["answer"], row["rationale"])
        right.append(grammar.judge(truth[row["image_id"]], *told) == (True, 1.0))
    assert np.mean(right) > 0.9  # words don't tell which of two dogs is faced

    pairs, key, _ = p.blinded_pairs(table, unseen, seed=0)
    rows = []
    for pair in pairs.to_pylist():  # judged from the truth, by two who agree
        rows += [
            (pair["pair_id"], who, preferred(truth[pair["image_id"]], pair, 0.0, [0]))
            for who in "ab"
        ]
    found = p.preference(judged(rows), key, "words")["blind"]
    assert (
        found["win"]["mean"] > 0.5 and found["lose"]["mean"] == 0.0
    )  # more is known of it than the regions' labels
    assert found["alpha"] in (1.0, None)


def test_replies_that_are_no_answer_are_rejected_with_their_reason(tmp_path):
    scenes = sample_scenes(150, 12, "r")
    asked = asked_of(scenes)
    with serving() as url:
        table, rejects, report = answers_from_words(
            asked, [], TeacherSettings(url, NAME, temperature=2.0), tmp_path / "c.sqlite", "words"
        )
    write_parquet(rejects, tmp_path / "r.parquet", REJECTS)
    assert rejects and sum(report.rejects.values()) == len(rejects)
    assert len(table) + len({r["record"].removesuffix("-0") for r in rejects}) == len(
        asked
    )  # every question is somewhere
    with pytest.raises(ValueError, match="same question_id"):
        answers_from_words(
            [asked[0], asked[0]],
            [],
            TeacherSettings("http://127.0.0.1:1", NAME),
            tmp_path / "c.sqlite",
            "words",
        )


def test_the_request_has_what_is_known_and_the_question_last():
    question = asked_of(SCENES)[0]
    prompt = answer_prompt(question, words_about(SCENES[0]))
    assert prompt.messages[-1]["content"].endswith(f"\n\nQuestion: {question.question}")
    assert grammar.describe(SCENES[0].entities[0]) in prompt.messages[-1]["content"]
    assert (
        prompt.offered == tuple(r.id for r in question.image.regions)
        and "word for word" in prompt.messages[0]["content"]
    )


class Chatting(BaseHTTPRequestHandler):
    """A server that answers, and never in the form that was asked for."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        said = dict(role="assistant", content="I can't see any image.")
        choice = dict(index=0, message=said, finish_reason="stop")
        usage = dict(prompt_tokens=3, completion_tokens=3, total_tokens=6)
        told = json.dumps(
            dict(id="1", object="chat.completion", created=1, model="m", usage=usage)
            | dict(choices=[choice])
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_) -> None:
        pass


def test_who_answers_nothing_is_told_with_the_reasons(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Chatting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = TeacherSettings(f"http://127.0.0.1:{server.server_port}/v1", "mini-chatting")
        with pytest.raises(RuntimeError, match="mini-chatting at .* answered none of 2"):
            answers_from_words(asked_of(SCENES)[:2], [], settings, tmp_path / "c.sqlite", "words")
        server.shutdown()
