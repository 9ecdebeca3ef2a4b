"""Asking about what one points at: boxes drawn by hand, a question, answers (LSKD, figure 1).

A stage-1 student is a matching model. Given answers to choose from, it ranks them by how well each
fits the highlighted image (ITM, as in evaluation); asked without, it writes one word by word with
its LM head, which has seen the question (see ``students.blip2``), or, if told so, tries the
commonest answers of the corpus it was taught with. An LLM that sees images is asked through
OpenAI's protocol, with the same boxes drawn.
"""

import base64
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from lskd_nb.records import PARQUET
from lskd_nb.regions import NO_IMAGE, Region, as_rgb, clamp, highlight, mentions
from lskd_nb.students.blip2 import Student, autocast, lm_mask
from lskd_nb.students.views import draw_on, encode_drawn
from lskd_nb.teacher.replies import read_completion
from lskd_nb.teacher.requests import TeacherSettings, redact_key
from lskd_nb.training.batches import answer_text

LARGEST_UPLOAD = 40_000_000  # pixels
MOST_WORDS = 48  # tokens of an answer in a student's own words
COMMON_ANSWERS = (
    "SELECT answer FROM {} WHERE NOT contains(answer, '[') AND {} GROUP BY answer ORDER BY count(*)"
    " DESC, answer LIMIT ?"
)
SAME_QUESTION = (
    "lower(regexp_replace(question, '\\[[\\d, ]+\\]', '[]', 'g')) = lower(regexp_replace(?,"
    " '\\[[\\d, ]+\\]', '[]', 'g'))"
)
SAME_OPENING = "lower(split_part(question, ' ', 1)) = lower(split_part(?, ' ', 1))"
ASKED = (
    "Answer the question about the regions that are outlined and filled in colour. {legend} Reply"
    " with one short sentence, and point with [number]."
)


@dataclass(frozen=True)
class Said:
    """One answer of one system.

    ``match`` is the probability that it fits the image, ``share`` that it is the best of those
    given; None where unknown.
    """

    system: str
    answer: str
    match: float | None = None
    share: float | None = None


def read_upload(content: bytes, name: str) -> Image.Image:
    """An image somebody uploads, upright, as RGB.

    Raises ``ValueError`` naming it where it is no image, or larger than 40 megapixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            size = image.width, image.height
            if size[0] * size[1] <= LARGEST_UPLOAD:
                return as_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError(
            f"{name} is not a readable image:"
            " expected JPEG, PNG or another format that Pillow knows"
        ) from None
    except NO_IMAGE as error:
        raise ValueError(f"{name} is not a readable image: {error}") from error
    raise ValueError(
        f"{name} has {size[0]} × {size[1]} pixels: expected at most {LARGEST_UPLOAD:,}"
    )


def regions_of_boxes(
    boxes: Sequence[Sequence[float]], size: tuple[int, int], labels: Sequence[str] = ()
) -> tuple[Region, ...]:
    """Boxes in the order they were drawn (xyxy pixels) as regions 0, 1, …, cut to the image.

    Raises ``ValueError`` for one without area in it.
    """
    return tuple(
        Region(i, clamp(box, *size), labels[i] if i < len(labels) else "")
        for i, box in enumerate(boxes)
    )


def check_question(question: str, regions: Sequence[Region]) -> str:
    """The question, stripped.

    Raises ``ValueError`` where it is empty or mentions a region that isn't drawn.
    """
    question = " ".join(question.split())
    if not question:
        raise ValueError("ask something about the image, such as: What is [0] about to do?")
    if missing := [i for i in mentions(question) if i not in {r.id for r in regions}]:
        drawn = ", ".join(f"[{r.id}]" for r in regions) or "none"
        raise ValueError(
            f"the question mentions [{missing[0]}], but the regions drawn are {drawn}:"
            " draw it, or change the number"
        )
    return question


def prefix_of(students: Iterable[str | Path]) -> str:
    """What the first of these folders that tells its training had before each question; its base
    is asked likewise.
    """
    for folder in students:
        if (told := Path(folder) / "trained_from.json").is_file():
            return json.loads(told.read_text(encoding="utf-8")).get("prefix") or ""
    return ""


@torch.no_grad()
def look(student: Student, image: Image.Image, regions: Sequence[Region]) -> torch.Tensor:
    """(1, patches + 1, width) features of an image with its regions drawn."""
    drawn = torch.from_numpy(np.array(draw_on(image, regions, student.image_size)))[None]
    return encode_drawn(student, drawn)


def _fits(student: Student, question: str, answers: Sequence[str]) -> None:
    """Raise ``ValueError`` where the student would not read question and answers to the end."""
    told = student.tokenizer(
        [f"{question} {answer_text(a)}" for a in answers], add_special_tokens=False
    ).input_ids
    if (longest := max(map(len, told), default=0) + 2) > student.max_tokens:
        raise ValueError(
            f"question and answer have {longest} tokens, and the student reads"
            f" {student.max_tokens}: ask in fewer words"
        )


@torch.no_grad()
def rank_candidates(
    student: Student,
    seen: torch.Tensor,
    question: str,
    answers: Sequence[str],
    system: str,
    batch: int = 256,
) -> list[Said]:
    """Answers ranked by ITM, the best first, each as "question Answer: answer"; ``seen`` is
    ``look``'s.

    Raises ``ValueError`` for a question or an answer too long for the student: it would be cut, and
    all answers look alike.
    """
    _fits(student, question, answers)
    found = []
    with autocast(student.device):
        for start in range(0, len(answers), batch):
            texts = [answer_text(a) for a in answers[start : start + batch]]
            logits = student.itm_logits(seen, student.tokenize([question] * len(texts), texts))
            found += (logits[:, 1] - logits[:, 0]).tolist()
    margins = torch.tensor(found)
    rows = zip(answers, margins.sigmoid().tolist(), margins.softmax(0).tolist(), strict=True)
    return sorted((Said(system, *row) for row in rows), key=lambda said: -said.share)


@torch.no_grad()
def generate_answer(
    student: Student, seen: torch.Tensor, question: str, system: str, most: int = MOST_WORDS
) -> Said:
    """The likeliest answer, word by word, and how well it fits the image by ITM.

    The queries see the question, as in the question-conditioned LM loss; a student that was not
    trained with it writes what it happens to.
    """
    _fits(student, question, [""])
    tokenizer, device = student.tokenizer, student.device
    start = [
        tokenizer.bos_token_id,
        *tokenizer(f"{question} Answer:", add_special_tokens=False).input_ids,
    ]
    ids = list(start)
    prefix = 1 + len(tokenizer(question, add_special_tokens=False).input_ids)
    queries = student.blip2.query_tokens.shape[1]
    with autocast(device):
        # with [SEP], so that it can be matched as a whole
        while len(ids) < min(len(start) + most, student.max_tokens - 1):
            row = torch.tensor([ids], device=device)
            mask = torch.ones(1, len(ids), dtype=torch.long, device=device)
            sees = lm_mask(mask, torch.tensor([prefix], device=device), queries)
            last = torch.arange(queries + len(ids), device=device)[None] == queries + len(ids) - 1
            hidden = student.fused(seen, row, sees, last)
            following = int(student.lm_head(hidden).float()[0].argmax())
            if following in (tokenizer.sep_token_id, tokenizer.pad_token_id):
                break
            ids.append(following)
    said = " ".join(tokenizer.decode(ids[len(start) :], skip_special_tokens=True).split())
    return Said(
        system,
        said,
        rank_candidates(student, seen, question, [said], system)[0].match if said else None,
    )


def common_answers(corpus: str | Path, question: str, most: int = 60) -> list[str]:
    """A corpus's (records.CORPUS) commonest answers to this question, ids aside, or else to
    those that begin like it; none that mentions a region.
    """
    import duckdb

    rows: list[tuple[str]] = []
    try:
        with duckdb.connect() as db:
            for condition in (SAME_QUESTION, SAME_OPENING):
                rows = (
                    rows
                    or db.execute(
                        COMMON_ANSWERS.format(PARQUET, condition), [str(corpus), question, most]
                    ).fetchall()
                )
    except duckdb.Error as error:
        raise ValueError(f"{corpus} is no corpus: {str(error).splitlines()[0]}") from error
    return [answer for (answer,) in rows]


def key_is_set() -> bool:
    """Whether an LLM can be asked: OPENAI_API_KEY is in the environment."""
    return bool(os.environ.get("OPENAI_API_KEY"))


def ask_llm(
    image: Image.Image,
    regions: Sequence[Region],
    question: str,
    answers: Sequence[str] = (),
    model: str = "gpt-4.1-mini",
    largest: int = 768,
) -> Said:
    """What an LLM that sees images answers, with the regions drawn.

    Key and server are the environment's (OPENAI_API_KEY, OPENAI_BASE_URL).

    Raises ``RuntimeError`` with the server's words, never the key, where it can't be asked.
    """
    import openai

    settings = TeacherSettings(os.environ.get("OPENAI_BASE_URL", ""), model)
    drawn = highlight(image, regions)
    drawn.thumbnail((largest, largest))
    out = io.BytesIO()
    drawn.save(out, "PNG")
    legend = " ".join(
        f"[{r.id}] has its box at {_percents(r, image.size)} (left, top, right, bottom)."
        for r in regions
    )
    if answers:
        choices = "\nChoose one of these, word for word:\n" + "\n".join(f"- {a}" for a in answers)
    else:
        choices = ""
    content = [
        {"type": "text", "text": f"{ASKED.format(legend=legend)}\n{question}{choices}"},
        {
            "type": "image_url",
            "image_url": {
                "url": "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
            },
        },
    ]
    try:
        with openai.OpenAI(timeout=60, max_retries=2) as client:
            told = client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": content}],
                max_completion_tokens=200,
            )
    except openai.OpenAIError as error:
        raise RuntimeError(
            f"{model} could not be asked: {redact_key(str(error), settings)}"
        ) from None
    reply = read_completion(told.model_dump())
    if "error" in reply or not (reply["text"] or "").strip():
        why = reply.get("error") or reply.get("refusal") or f"its reply ended by {reply['finish']}"
        raise RuntimeError(f"{model} answered nothing: {redact_key(str(why), settings)}")
    return Said(model, " ".join(redact_key(reply["text"], settings).split()))


def _percents(region: Region, size: tuple[int, int]) -> str:
    return ", ".join(
        f"{100 * v / whole:.0f}%" for v, whole in zip(region.box, size * 2, strict=True)
    )
