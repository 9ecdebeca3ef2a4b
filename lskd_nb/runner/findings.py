"""One thing that ``lskd check`` has looked at, and all of them as lines, by the notebook that needs
it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# all parameters of each notebook, by its number
Given = Mapping[str, Mapping[str, object]]
NUMBER = re.compile(r"\d+[a-z]*(?= )")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok`` is None for what is only to be known.

    ``subject`` begins with the number of the first notebook that needs it, if any does.
    """

    subject: str
    ok: bool | None
    detail: str

    @property
    def notebook(self) -> str:
        """The number of the notebook that needs it; empty for what the whole run needs."""
        found = NUMBER.match(self.subject)
        return found[0] if found else ""

    def __str__(self) -> str:
        mark = {True: "ok", False: "MISSING", None: "note"}[self.ok]
        return f"{mark:8}{self.subject}: {self.detail}"


def report(findings: Sequence[Finding]) -> list[str]:
    """The findings, those of each notebook together in the order of the series, and a line that
    says what is missing for which.
    """
    numbers = sorted({f.notebook for f in findings} - {""})
    lines: list[str] = []
    for number in ["", *numbers]:
        about = [f for f in findings if f.notebook == number]
        if about:
            head = when(number, number == numbers[0]) if number else "for the run"
            lines += ["", f"{head}:", *(f"  {f}" for f in about)]
    missing = [f for f in findings if f.ok is False]
    if not missing:
        return [*lines[1:], "", "nothing is missing"]
    counts: dict[str, int] = {}
    for number in [*numbers, ""]:
        if count := sum(f.notebook == number for f in missing):
            head = when(number, number == numbers[0]) if number else "for the run"
            counts[head] = count
    told = ", ".join(f"{count} {head}" for head, count in counts.items())
    of = sum(f.ok is not None for f in findings)
    return [*lines[1:], "", f"{len(missing)} of {of} things are missing: {told}"]


def when(number: str, first: bool) -> str:
    """When something is needed of which the notebook with that number is the first to need it.

    >>> when("01", first=True), when("03", first=False)
    ('to start 01', 'before 03')
    """
    return f"{'to start' if first else 'before'} {number}"
