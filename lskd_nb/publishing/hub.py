"""The hub: what of a finished run goes there, laid out, looked through, and sent when asked for.

A folder is staged for each repository: the corpus as Parquet and in the released format, with its
report; the student; the critic; each with its card. Then every file is read (``secrets_scan``): it
has to be whole, and may hold no key of the environment and no path of this machine. Images are
other people's and stay away unless they are asked for. Labels stay away as well: they name
annotators.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lskd_nb.critic import TRAIN
from lskd_nb.publishing.secrets_scan import disclosures_in, is_config, without_folders
from lskd_nb.records import place_for
from lskd_nb.run_folder import RunError, imported_from
from lskd_nb.teacher.requests import KEYS as TEACHER_KEYS
from lskd_nb.teacher.requests import OPENAI_KEY

KEYS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", OPENAI_KEY, *TEACHER_KEYS.values())
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
)
# notebooks that must have ended well
NEEDS = {"dataset": ("01", "02", "03", "04"), "student": ("05",), "critic": ("03",)}
STAGED = "staged.json"


@dataclass(frozen=True)
class Repository:
    """What is to be sent to one repository of the hub."""

    what: str  # dataset | student | critic
    name: str  # USER/NAME
    folder: Path

    @property
    def kind(self) -> str:
        """The hub's type of it."""
        return "dataset" if self.what == "dataset" else "model"

    def files(self) -> list[Path]:
        return sorted(p for p in self.folder.rglob("*") if p.is_file())


def stage(
    run_dir: str | Path,
    out: str | Path,
    names: Mapping[str, str],
    report: Mapping | None = None,
    images: bool = False,
    licence: str = "",
) -> list[Repository]:
    """Lay out a finished run below ``out``, a folder for each of ``names``.

    ``names`` are dataset, student, critic to USER/NAME.

    ``report`` is that of the corpus, by default the one in the run's folder. What was staged there
    before is replaced when the new is whole. Raises ``RunError`` for a name the hub would refuse, a
    run that is not finished, or a folder that holds anything that was not staged before.
    """
    run_dir, out = Path(run_dir).resolve(), Path(out).resolve()
    check_ready(run_dir, names)
    _check_only_staged(out)
    building = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with place_for(out):
            repositories = [Repository(what, name, building / what) for what, name in names.items()]
            _lay_out(run_dir, repositories, names, report, images, licence)
            listed = {
                r.what: dict(
                    name=r.name,
                    files={str(p.relative_to(r.folder)): p.stat().st_size for p in r.files()},
                )
                for r in repositories
            }
            (building / STAGED).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
            _check_only_staged(out)  # again: laying out takes its time
            shutil.rmtree(out, ignore_errors=True)
            os.replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return [Repository(r.what, r.name, out / r.what) for r in repositories]


def _check_only_staged(out: Path) -> None:
    """Raise ``RunError`` where a folder holds a file that its staged.json does not list."""
    if out.exists():
        found = {
            str(p.relative_to(out)) for p in out.rglob("*") if p.is_symlink() or not p.is_dir()
        }
    else:
        found = set()
    try:
        told = json.loads((out / STAGED).read_text(encoding="utf-8")) if STAGED in found else {}
        listed = {f"{what}/{name}" for what, one in told.items() for name in one["files"]}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise RunError(
            f"{out / STAGED} is damaged: delete {out} yourself, or name another folder"
        ) from error
    if others := sorted(found - listed - {STAGED}):
        raise RunError(
            f"{out} holds something that was not staged by lskd publish"
            f" ({', '.join(others[:5])}): name another folder"
        )


def findings(
    repositories: list[Repository], paths: Mapping[str, str], images: bool = False
) -> list[str]:
    """What speaks against sending: a line for each file and reason.

    ``paths`` are those of this machine, by what they are.
    """
    keys = {
        f"the value of {key}": os.environ[key] for key in KEYS if len(os.environ.get(key, "")) > 3
    }
    secrets = {
        what: value.encode()
        for what, value in (keys | {w: v for w, v in paths.items() if len(v) > 3}).items()
    }
    found = []
    for repository in repositories:
        if not (repository.folder / "README.md").is_file():
            found.append(f"{repository.what}: there is no card")
        for path in repository.files():
            name = f"{repository.what}/{path.relative_to(repository.folder)}"
            found += [f"{name}: {why}" for why in disclosures_in(path, secrets, images)]
    return found


def send(repositories: list[Repository], private: bool = False) -> list[str]:
    """Create the repositories where they are not there yet and upload their folders.

    Returns their addresses.

    The token is that of the environment (HF_TOKEN) and no other. Raises ``RunError`` without one,
    or where the hub refuses, saying what has been sent by then; sending again is safe.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    token = os.environ.get("HF_TOKEN")
    if not token:
        raise RunError("HF_TOKEN is not set in the environment: nothing was sent")
    api, sent = HfApi(token=token), []
    for repository in repositories:
        try:
            address = api.create_repo(
                repository.name, repo_type=repository.kind, private=private, exist_ok=True
            )
            api.upload_folder(
                folder_path=repository.folder,
                repo_id=repository.name,
                repo_type=repository.kind,
                commit_message=f"{repository.what} of a run of lskd_nb",
            )
        except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
            done = f"sent before: {', '.join(sent)}" if sent else "nothing was sent before"
            raise RunError(
                f"{repository.kind} {repository.name} was"
                f" not sent ({str(error).splitlines()[0][:200]}); {done}"
            ) from error
        sent.append(str(address))
    return sent


def listing(repositories: list[Repository]) -> Iterator[str]:
    """Every file with its size, in lines."""
    for repository in repositories:
        files = repository.files()
        yield (
            f"{repository.kind} {repository.name}: {len(files)} files,"
            f" {sum(p.stat().st_size for p in files):,} bytes"
        )
        yield from (f"{p.stat().st_size:>16,}  {p.relative_to(repository.folder)}" for p in files)


# ------------------------------------------------------------------------------------------- layout


def check_ready(run_dir: Path, names: Mapping[str, str]) -> None:
    """Raise ``RunError`` for a name the hub would refuse, or a run that is not finished enough."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    from lskd_nb.publishing.card_facts import run_notebooks

    if not names:
        raise RunError("nothing to publish: give --dataset, --student or --critic")
    for what, name in names.items():
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise RunError(f"--{what}: {error}") from error
        if name.count("/") != 1:
            raise RunError(f"--{what} is {name!r}, expected USER/NAME")
    try:
        if (record := imported_from(run_dir)) and (others := names.keys() & {"dataset", "critic"}):
            raise RunError(
                f"{run_dir} was imported from {record['file']}: its {' and '.join(sorted(others))}"
                " was not made here, and is its makers' to publish. The student can be (--student)"
            )
        told = run_notebooks(run_dir)
    except FileNotFoundError:
        raise RunError(f"nothing has run in {run_dir}") from None
    except ValueError as error:
        raise RunError(str(error)) from error
    status = {name.split("_")[0]: entry["status"] for name, entry in told.items()}
    unfinished = sorted({n for what in names for n in NEEDS[what] if status.get(n) != "done"})
    if unfinished:
        raise RunError(
            f"{run_dir} is not finished: notebook {', '.join(unfinished)} has not ended well"
        )
    used = {n.split("_")[0]: e["parameters"].get("critic", TRAIN) for n, e in told.items()}
    if "critic" in names and used["03"] != TRAIN:
        raise RunError(f"{run_dir} has trained no critic to publish: 03.critic is {used['03']!r}")


def _lay_out(
    run_dir: Path,
    repositories: list[Repository],
    names: Mapping[str, str],
    report: Mapping | None,
    images: bool,
    licence: str,
) -> None:
    from dataclasses import replace

    from lskd_nb.publishing.card_facts import run_facts
    from lskd_nb.publishing.cards import critic_card, dataset_card, student_card, write_card

    facts = run_facts(run_dir)
    facts = replace(facts, report=report or facts.report)
    for repository in repositories:
        repository.folder.mkdir(parents=True)
        if repository.what == "dataset":
            _lay_out_dataset(run_dir, repository.folder, facts.report, images)
            card = dataset_card(facts, licence, images)
        else:
            _lay_out_model(
                run_dir / {"student": "student/lskd", "critic": "critic"}[repository.what],
                repository.folder,
            )
            make = student_card if repository.what == "student" else critic_card
            card = make(facts, repository.name, names.get("dataset"), licence)
        write_card(card, repository.folder)


def _lay_out_dataset(run_dir: Path, folder: Path, report: Mapping | None, images: bool) -> None:
    from lskd_nb.corpus.released import write_released
    from lskd_nb.publishing.cards import FILES
    from lskd_nb.publishing.report import write_report
    from lskd_nb.records import CORPUS, REGIONS, SCORES, TRIPLES, read_parquet, write_parquet
    from lskd_nb.regions import image_file
    from lskd_nb.run_folder import RunFolder

    schemas = dict(kept=CORPUS, raw=TRIPLES, scores=SCORES, regions=REGIONS)
    for name, schema in schemas.items():  # and no other columns that a file may have
        table = read_parquet(run_dir / Path(FILES[name]).name, schema)
        write_parquet(table, folder / FILES[name], schema)
    corpus = read_parquet(run_dir / "corpus.parquet", CORPUS)
    write_released(corpus, folder / "corpus.jsonl")
    if report:
        write_report(report, folder)
    if images:
        root = RunFolder(run_dir).image_root
        for image in sorted(set(corpus["image"].to_pylist())):
            try:
                _copy(image_file(root, image), folder / "images" / image)
            except ValueError as error:
                raise RunError(str(error)) from None


def _lay_out_model(source: Path, folder: Path) -> None:
    """Weights, configuration and tokenizer, without logs, checkpoints and the names of the
    folders that a model was loaded from.
    """
    files = sorted({p for pattern in MODEL_FILES for p in source.glob(pattern)})
    if not any(p.suffix == ".safetensors" for p in files) or not (source / "config.json").exists():
        raise RunError(f"{source} has no config.json and *.safetensors: is the run finished?")
    for path in files:
        _copy(path, folder / path.name)
        if is_config(path):
            told = without_folders(json.loads(path.read_text(encoding="utf-8")))
            (folder / path.name).write_text(
                json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    if (source / "trained_from.json").exists():
        told = json.loads((source / "trained_from.json").read_text(encoding="utf-8"))
        numbers = {k: v for k, v in told.items() if isinstance(v, int | float)}
        (folder / "training.json").write_text(
            json.dumps(numbers, indent=1) + "\n", encoding="utf-8"
        )


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise RunError(f"{source} is not there: is the run finished?")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
