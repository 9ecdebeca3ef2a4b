"""One thing that ``lskd check`` has looked at, and all of them as lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# all parameters of each notebook, by its number
Given = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``ok`` is None for what is only to be known."""

    subject: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        mark = {True: "ok", False: "MISSING", None: "note"}[self.ok]
        return f"{mark:8}{self.subject}: {self.detail}"


def report(findings: Sequence[Finding]) -> list[str]:
    """The findings, what is missing last, and a line that counts."""
    missing = [f for f in findings if f.ok is False]
    lines = [str(f) for f in findings if f.ok is not False] + [str(f) for f in missing]
    told = "nothing is missing"
    if missing:
        told = f"{len(missing)} of {sum(f.ok is not None for f in findings)} things are missing"
    return [*lines, "", told]
