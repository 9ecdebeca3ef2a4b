"""A situation: what must be seen of a region and its surroundings, and what follows from it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Near:
    """Another region that a situation needs."""

    kinds: tuple[str, ...]
    held: str = ""


@dataclass(frozen=True)
class Situation:
    """Premises ("", () or 0 reads: any), answers by question type, and the step between them.

    ``near`` asks for some other region, ``toward`` for the kind that the region faces ("nothing"
    is one), ``faced_by`` for the kind of who faces it ("nobody" is one), ``count`` for the number
    of its kind. ``link`` is a general truth, the second step of a reason: "dogs love to fetch".
    """

    name: str
    kinds: tuple[str, ...]
    held: str = ""
    pose: str = ""
    face: str = ""
    place: str = ""
    weather: str = ""
    time: str = ""
    near: Near | None = None
    toward: tuple[str, ...] = ()
    faced_by: tuple[str, ...] = ()
    count: int = 0
    answers: dict[str, str] = field(default_factory=dict, hash=False)
    link: str = ""
