"""How each benchmark is put to the student: questions about highlighted images, with choices.

The student was taught "question Answer: ... Rationale: ..."; what a set asks in another form is
worded so that it fits. Wordings follow the reference release where it has one (SNLI-VE, A-OKVQA);
those of Sherlock and VisualCOMET, whose evaluation files are not public, are this project's, and so
scores on them differ from the paper's for that alone.
"""

from collections.abc import Iterable

from lskd_nb.evaluation.choices import Item
from lskd_nb.regions import mentions
from lskd_nb.sources import MultipleChoice
from lskd_nb.students.views import View

ANSWER_TASKS = ("vcr.q_a", "visual7w", "aokvqa", "snli_ve", "sherlock.comparison", "visualcomet")
INFERENCE_QUESTIONS = {  # VisualCOMET's relations, asked of the event's subject
    "intent": "What does {} want to do?",
    "before": "What did {} need to do before?",
    "after": "What will {} most likely do next?",
}


def student_items(items: Iterable[MultipleChoice]) -> list[Item]:
    """Items with all their regions drawn.

    Choices read "Answer: ...", those of QA→R "Rationale: ...".

    Raises ``ValueError`` naming a task that is none of the six sets'.
    """
    found = []
    for item in items:
        if item.task not in (*ANSWER_TASKS, "vcr.qa_r"):
            raise ValueError(f"item {item.item_id}: no wording for the task {item.task!r}")
        prefix = "Rationale: " if item.task == "vcr.qa_r" else "Answer: "
        view = View(item.image.path, item.image.regions)
        found.append(
            Item(
                item.item_id,
                item.image.image_id,
                view,
                question(item),
                tuple(prefix + c for c in item.choices),
                item.label,
                item.task,
                item.slice,
            )
        )
    return found


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
    """SNLI-VE another way: one text to each image, the hypothesis alone, whose match score
    thresholds cut into three classes.
    """
    return [
        Item(
            i.item_id,
            i.image.image_id,
            View(i.image.path, i.image.regions),
            "",
            (i.question,),
            i.label,
            i.task,
            i.slice,
        )
        for i in items
    ]
