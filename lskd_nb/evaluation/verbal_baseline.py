"""The baseline that sees words alone: ChatGPT + verbalizers (LSKD, section 4.3).

An LLM, such as the student was distilled from, reads an image's verbalization and answers the same
questions as the student, so that people can compare the two. It is asked through the teacher's
client, with its cache, budget, retries and checks, for one triple that has the given question:
``TeacherSettings`` says which LLM that is. ChatGPT itself has not been asked here; a rule-based
writer behind the same protocol has.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from lskd_nb.evaluation.preference import PointedQuestion, answers_table
from lskd_nb.teacher.generate import TeacherReport, TeacherSettings, generate_triples
from lskd_nb.teacher.prompts import TEMPLATES, Prompt, context_text
from lskd_nb.training.batches import answer_text

FAMILY = "answer"  # of these prompts
MORE = "more than the answer that was asked for"


def answer_prompt(question: PointedQuestion, lines: Sequence[Mapping]) -> Prompt:
    """The request for an answer: what is known of the image (``lines``: its rows of
    records.VERBALIZATIONS), and the question last.
    """
    system = (TEMPLATES / "answer.txt").read_text(encoding="utf-8").strip()
    asked = f"{context_text(question.image, lines)}\n\nQuestion: {question.question}"
    messages = ({"role": "system", "content": system}, {"role": "user", "content": asked})
    offered = tuple(r.id for r in question.image.regions)
    return Prompt(
        question.question_id,
        FAMILY,
        offered,
        messages,
        f"{FAMILY}-{hashlib.sha256(system.encode()).hexdigest()[:8]}",
    )


def answers_from_words(
    questions: Sequence[PointedQuestion],
    lines: Iterable[Mapping],
    settings: TeacherSettings,
    cache_path: str | Path,
    system: str,
) -> tuple[pa.Table, list[dict], TeacherReport]:
    """ANSWERS rows of ``system`` for the questions it answered, REJECTS rows for the others with
    the reason, and the client's report.

    Raises ``ValueError`` where two questions have one id, ``RuntimeError`` where the LLM can't be
    reached, and where it answered none of them, with the reasons.
    """
    if len({q.question_id for q in questions}) < len(questions):
        raise ValueError("two questions have the same question_id")
    of: dict[str, list[Mapping]] = {}
    for line in lines:
        of.setdefault(line["image_id"], []).append(line)
    triples, rejects, report = generate_triples(
        [answer_prompt(q, of.get(q.image.image_id, [])) for q in questions], settings, cache_path
    )
    said = {t["triple_id"]: t for t in triples}
    more = [
        dict(stage="teacher", record=name, reason=MORE, detail=t["answer"])
        for name, t in said.items()
        if not name.endswith("-0")
    ]
    if more:
        report.rejects[MORE] = len(more)
    answered = [
        (q, said[f"{q.question_id}-{FAMILY}-0"])
        for q in questions
        if f"{q.question_id}-{FAMILY}-0" in said
    ]
    if questions and not answered:
        first = "; ".join(f"{r['reason']}: {r['detail']}" for r in (rejects + more)[:1])
        raise RuntimeError(
            f"{settings.model} at {settings.base_url} answered none of {len(questions)} questions:"
            f" {dict(report.rejects)}, the first: {first}. Its replies are kept in {cache_path};"
            " try another model, or one that can answer in JSON"
        )
    texts = [answer_text(t["answer"], t["rationale"]) for _, t in answered]
    return answers_table([q for q, _ in answered], system, texts), rejects + more, report
