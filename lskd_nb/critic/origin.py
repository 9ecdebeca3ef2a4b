"""Where scores come from: the parameter ``critic`` of notebooks 03 and 04.

``"train"``: a critic that notebook 03 trains. A folder or a hub name: one that was trained before,
as notebook 03 leaves it. A LAVIS ``.pth``: one of the reference release's network, as its released
critic (jamespark3922/localized-skd, README); notebook 03 converts it into the run's ``critic/``.
``"none"``: nothing is scored and nothing filtered.

The reference's class 1 is what its filter keeps, and is taken for *accept*. Its file lacks the
vision encoder and the word embeddings, which were frozen: they are the base's. Tested on random
weights in this layout; the released file has not been read yet.
"""

import json
import os
import shutil
from pathlib import Path

from lskd_nb.critic import NONE, TRAIN
from lskd_nb.critic.model import HEADS, Critic, Drawing
from lskd_nb.students.lavis_weights import CRITIC_HEADS, read_checkpoint
from lskd_nb.students.loading import load_lavis

ALL_DRAWN = Drawing()
MADE_FROM = "converted_from.json"
THEIRS = dict(zip(CRITIC_HEADS, ("qa_head.", "rationale_head."), strict=True))


def critic_folder(critic: str, run_folder: str | Path, root: str | Path) -> Path | None:
    """The folder of the critic that scores; None where there is none to.

    Raises ``FileNotFoundError`` where it is not there, or notebook 03 has still to make it.
    """
    if critic == NONE:
        return None
    ours, there = Path(run_folder) / "critic", Path(root) / critic
    if critic == TRAIN:
        found, why = ours, "train the critic first (notebook 03)"
    elif there.suffix == ".pth":
        if _told(ours) != _of(there):
            raise FileNotFoundError(
                f"{ours} is not converted from {there}: run notebook 03 with this `critic` first"
            )
        found, why = ours, "run notebook 03 again"
    else:
        found = there if there.is_dir() else _downloaded(critic, there)
        why = "expected a critic's folder, as notebook 03 leaves it, or a LAVIS .pth"
    if not (found / HEADS).exists():
        raise FileNotFoundError(f"{found} has no {HEADS}: {why}")
    return found


def bring_critic(
    critic: str,
    run_folder: str | Path,
    root: str | Path,
    base: str,
    image_size: int | None = None,
    drawing: Drawing = ALL_DRAWN,
) -> Path | None:
    """The same, where notebook 03 has done its part: a ``.pth`` is converted, once, with what it
    lacks taken from ``base``; ``drawing`` is what it was trained to look at.

    Raises as ``critic_folder`` and ``load_lavis`` do, and ``ValueError`` for a file that has no
    critic's heads.
    """
    source, out = Path(root) / critic, Path(run_folder) / "critic"
    if source.suffix == ".pth":
        made = _of(source) | dict(
            base=str(base),
            image_size=image_size,
            drawing=[drawing.at_most, drawing.mentioned_share],
        )
        if _told(out, whole=True) != made:
            _convert(source, out, base, image_size, drawing, made)
    return critic_folder(critic, run_folder, root)


def told_of(critic: str) -> str:
    """The critic's name as others may see it: without the folders of this machine."""
    return Path(critic).name if Path(critic).is_absolute() else critic


def _convert(
    source: Path, out: Path, base: str, image_size: int | None, drawing: Drawing, made: dict
) -> None:
    student = load_lavis(source, base, image_size, CRITIC_HEADS)
    heads = {
        ours + name.removeprefix(theirs): weight
        for name, weight in read_checkpoint(source)[0].items()
        for theirs, ours in THEIRS.items()
        if name.startswith(theirs)
    }
    first = heads.get("qa_head.0.weight")
    critic = Critic(student, 0 if first is None else len(first), drawing)
    expected = {n for n in critic.state_dict() if n.startswith(tuple(THEIRS.values()))}
    if missing := sorted(expected ^ heads.keys()):
        raise ValueError(
            f"{source} is no critic of the reference release: of its score heads ({CRITIC_HEADS})"
            f" {', '.join(missing)} are missing or not known"
        )
    critic.load_state_dict(heads, strict=False)  # accepting is the matching head's, which it has
    building = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        critic.eval().save(building)
        (building / MADE_FROM).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _of(source: Path) -> dict[str, object]:
    """What a file is known by. Raises ``FileNotFoundError`` where it is not there."""
    try:
        state = source.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"the critic {source} is not there") from None
    return dict(file=str(source.resolve()), size=state.st_size, time=state.st_mtime_ns)


def _told(folder: Path, whole: bool = False) -> dict[str, object]:
    """What a converted critic was made from; its file alone, unless the ``whole`` is wanted."""
    path = folder / MADE_FROM
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return told if whole else {k: told[k] for k in ("file", "size", "time") if k in told}


def _downloaded(name: str, path: Path) -> Path:
    """A critic of the hub, from its cache where it is in there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        why = str(error).splitlines()[0][:200]
        raise FileNotFoundError(
            f"critic is {name!r}: {path} is not there, and the hub does not give it ({why});"
            " expected 'train', 'none', a critic's folder or hub name, or a LAVIS .pth"
        ) from None
