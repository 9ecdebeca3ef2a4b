"""How each benchmark is put to the student: questions about highlighted images, with choices.

The student was taught "question Answer: ... Rationale: ..."; what a set asks in another form is
worded so that it fits. Wordings follow the reference release where it has one (SNLI-VE, A-OKVQA);
those of Sherlock and VisualCOMET, whose evaluation files are not public, are this project's, and so
scores on them differ from the paper's for that alone.

Drawn are the regions that an item *mentions*, numbered in order of mention, as the reference has
it: the question first, then all choices. A still of VCR may have thirty detections, a student has
learned ten colours; what nobody speaks of would only be in the way.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lskd_nb.evaluation.choices import Item
from lskd_nb.regions import Region, mentions, renumber
from lskd_nb.sources import MultipleChoice
from lskd_nb.students.views import View

ANSWER_TASKS = ("vcr.q_a", "visual7w", "aokvqa", "snli_ve", "sherlock.comparison", "visualcomet")
INFERENCE_QUESTIONS = {  # VisualCOMET's relations, asked of the event's subject
    "intent": "What does {} want to do?",
    "before": "What did {} need to do before?",
    "after": "What will {} most likely do next?",
}


def student_items(items: Iterable[MultipleChoice]) -> list[Item]:
    """Items with the regions drawn that they mention (``numbered_by_mention``).

    Choices read "Answer: ...", those of QA→R "Rationale: ...". Of Sherlock, which has no text that
    mentions, all boxes of the clue are drawn under [0].

    Raises ``ValueError`` naming a task that is none of the six sets'.
    """
    found = []
    for item in items:
        if item.task not in (*ANSWER_TASKS, "vcr.qa_r"):
            raise ValueError(f"item {item.item_id}: no wording for the task {item.task!r}")
        prefix = "Rationale: " if item.task == "vcr.qa_r" else "Answer: "
        texts = question(item), *(prefix + choice for choice in item.choices)
        drawn, (asked, *choices) = numbered_by_mention(item.image.regions, texts)
        found.append(
            Item(
                item.item_id,
                item.image.image_id,
                View(item.image.path, drawn),
                asked,
                tuple(choices),
                item.label,
                item.task,
                item.slice,
            )
        )
    return found


def numbered_by_mention(
    regions: Sequence[Region], texts: Sequence[str]
) -> tuple[tuple[Region, ...], list[str]]:
    """The regions that ``texts`` mention, numbered 0, 1, … in order of mention, and the texts
    with these numbers. Texts that mention nothing draw nothing.

    VCR's Q→A asks "Why is [11] smiling?" on a still with twelve people; two answers name others:

    >>> people = [Region(i, (10.0 * i, 0.0, 10.0 * i + 9, 30.0)) for i in range(12)]
    >>> texts = ["Why is [11] smiling?", "[3] told [11] a joke.", "[7, 3] wave.", "It is late."]
    >>> drawn, told = numbered_by_mention(people, texts)
    >>> [(r.id, r.box[0]) for r in drawn]
    [(0, 110.0), (1, 30.0), (2, 70.0)]
    >>> told
    ['Why is [0] smiling?', '[1] told [0] a joke.', '[2, 1] wave.', 'It is late.']

    Where more than ten are mentioned ("everyone" in a crowd) all of them are drawn; the ids from
    ten on have colours and words that no training has shown. Several regions of one id stay
    together. What stands in brackets and is no region's id is left as it is: VCR's reader rejects
    it, in the other sets it is no mention.
    """
    known = {r.id for r in regions}
    order = [i for i in mentions(" ".join(texts)) if i in known]
    mapping = {old: new for new, old in enumerate(order)}
    drawn = tuple(replace(r, id=mapping[i]) for i in order for r in regions if r.id == i)
    unknown = {i: i for i in mentions(" ".join(texts)) if i not in known}
    return drawn, [renumber(text, unknown | mapping) for text in texts]


def question(item: MultipleChoice) -> str:
    """An item's question as the student reads it."""
    if item.task == "snli_ve":
        return f"Does the image describe {item.question.rstrip('.')}?"
    if item.task == "sherlock.comparison":
        return "What can be inferred from [0]?"
    if item.task == "visualcomet":
        subject = next((f"[{i}]" for i in mentions(item.question)), "the person")
        return f"{item.question} {INFERENCE_QUESTIONS[item.slice].format(subject)}"
    return item.question


def hypothesis_items(items: Iterable[MultipleChoice]) -> list[Item]:
    """SNLI-VE another way, which is not zero-shot: one text to each image, the hypothesis alone,
    whose match score two thresholds cut into three classes. They are fitted on training labels
    (``choices.entailment_by_thresholds``).

    Zero-shot it is asked by ``student_items``: three texts, "Does the image describe HYPOTHESIS?
    Answer: LABEL", with the labels' own words, as the reference release has them (entailment,
    neutral, contradiction).
    """
    return [
        Item(
            i.item_id,
            i.image.image_id,
            View(i.image.path, i.image.regions),
            "",
            (i.question,),
            i.label,
            "snli_ve_fitted",
            i.slice,
        )
        for i in items
    ]
