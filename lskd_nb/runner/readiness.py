"""What a run needs, looked at before anything is spent: ``lskd check PROFILE``.

Parameters, data sets, models, keys, GPUs and disk are looked at without loading a model. The
teacher's server is asked once, what it takes of a request. The first run on a new machine fails at
its weakest point hours in; this says beforehand which points are weak.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lskd_nb.critic import NONE, TRAIN
from lskd_nb.run_folder import RunError
from lskd_nb.runner.data_wanted import files
from lskd_nb.runner.disk import bytes_below, disk
from lskd_nb.runner.expected import expected
from lskd_nb.runner.findings import Finding, Given
from lskd_nb.runner.parameters import choose, given_values, parse_overrides, profile_notebooks
from lskd_nb.runner.stops import MODELS, is_hub_name
from lskd_nb.teacher.requests import TeacherSettings, is_own

# At batch 64 a GPU and 480 px with ViT-G: 19 GiB were measured for a step of 05 on an H200, random
# weights; 03 is estimated as that, 01b and 08 (a part of 16 rows) from their weights and layers.
GPU_GIB = {"03": 24, "05": 24, "01b": 30, "08": 45}
WEIGHTS = (".safetensors", ".bin", ".pth")  # one kind is downloaded
PATIENCE = 10  # seconds for the hub to answer
SERVER_PATIENCE = 60.0  # for a teacher: it may have to load its model first


def check(
    profile: str,
    root: Path,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    start: str | None = None,
) -> list[Finding]:
    """Everything that a run of a profile needs and whether it is here, in the order it would miss
    it.

    ``overrides``, ``only`` and ``start`` are those of the run: optional notebooks are looked at
    only where they are named.
    """
    given: dict[str, dict[str, object]] = {}
    found: list[Finding] = []

    def beside(line: str) -> None:
        found.append(Finding("notebooks", None, line))

    named = (*only, *([start] if start else ()))
    notebooks = profile_notebooks(root, profile, named, say=beside)
    changed = parse_overrides(overrides, notebooks)
    for notebook in choose(notebooks, only, start):
        try:
            given[notebook.number] = given_values(root, profile, notebook, changed)
        except RunError as error:
            found.append(Finding(f"{notebook.number} parameters", False, str(error)))
    found += files(profile, given, root)
    models = _models(given, root)
    found += [model.finding for model in models]
    found += _teachers(given, root)
    base = str(given.get("05", {}).get("base", ""))
    large = bool(base) and not ((root / base).is_dir() and bytes_below(root / base) < 1e9)
    found += _gpus(needed=large)
    sizes = {model.name: model.size for model in models}
    found += expected(given, root, gpus_there())
    return found + disk(given, root, sizes, [m.name for m in models if m.downloaded])


def look(profile: str, given: Given, root: Path) -> list[Finding]:
    """What of these notebooks' needs can be seen on this machine alone: files, folders of models,
    keys, prices. Nobody is asked.
    """
    here = [m.finding for m in _models(given, root, of_the_hub=False)]
    return [*files(profile, given, root), *here, *_teachers(given, root, ask=False)]


# ------------------------------------------------------------------------------------------- models


@dataclass(frozen=True)
class Model:
    """A model that notebooks load; ``size`` are the bytes of one of the hub, None where nobody
    knows.
    """

    name: str
    finding: Finding
    downloaded: bool = False
    size: float | None = None


def _models(given: Given, root: Path, of_the_hub: bool = True) -> list[Model]:
    """Every model once, with the notebooks that load it. The hub is asked for all at once, or those
    of the hub are passed over.
    """
    users: dict[str, list[str]] = {}
    for number, values in given.items():
        for name in (*MODELS, "critic"):
            told = values.get(name)
            if name == "base" and values.get("critic") == NONE:
                continue
            if name == "critic" and told in (TRAIN, NONE):
                continue
            for model in told if isinstance(told, list) else [told]:
                if model and (of_the_hub or not _is_of_the_hub(str(model), root)):
                    users.setdefault(str(model), []).append(f"{number} {name}")
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda u: _model(u[0], ", ".join(u[1]), root), users.items()))


def _model(name: str, by: str, root: Path) -> Model:
    path = root / name
    if path.is_file():
        return Model(name, Finding(by, True, f"{path}, {path.stat().st_size / 1e9:.1f} GB"))
    if path.is_dir():
        whole = (path / "config.json").exists() and any(path.glob("*.safetensors"))
        told = f"{path}" if whole else f"{path} lacks config.json or *.safetensors"
        return Model(name, Finding(by, whole, told))
    if not is_hub_name(name):
        told = f"{name} is not there, and is no name of the hub (organisation/model)"
        return Model(name, Finding(by, False, told))
    return _hub_model(name, by, root)


def _is_of_the_hub(name: str, root: Path) -> bool:
    return not (root / name).exists() and is_hub_name(name) and not name.startswith("models/")


def _hub_model(name: str, by: str, root: Path) -> Model:
    """A model of the hub: in the cache, or downloadable, with the size that the download has."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if size := _weights([(f.name, f.stat().st_size) for f in cached.iterdir() if f.is_file()]):
            return Model(name, Finding(by, True, f"{name}, in the hub's cache"), size=size)
    except (LocalEntryNotFoundError, ValueError):
        pass
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=PATIENCE)
    except Exception as error:  # of the hub or of its HTTP client: here each is a finding
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        told = f"{name} is not in the cache, and the hub did not give it: {why}"
        if (root / name.split("/")[0]).is_dir() or name.startswith("models/"):
            told += f"; {root / name} is not there either"
        return Model(name, Finding(by, False, told), downloaded=True)
    size = _weights([(f.rfilename, f.size or 0) for f in info.siblings or []])
    told = "of unknown size" if size is None else f"{size / 1e9:.1f} GB"
    finding = Finding(by, True, f"{name}, to be downloaded: {told}")
    return Model(name, finding, downloaded=True, size=size)


def _weights(files: Sequence[tuple[str, int]]) -> float | None:
    """Bytes of a model's weights, of the kind that is loaded where it has them in several."""
    sizes = (sum(size for name, size in files if name.endswith(end)) for end in WEIGHTS)
    return next((size for size in sizes if size), None)


# ---------------------------------------------------------------------------------------- key, GPUs


def _teachers(given: Given, root: Path, ask: bool = True) -> list[Finding]:
    """The server that writes triples, and those of the judge and of notebook 08 if they are others;
    each is asked, or looked at from here alone.
    """
    found = []
    asked: set[tuple[object, object]] = set()
    judge = given.get("03", {}).get("judge", {})
    for number, values in (("02", given.get("02", {})), ("03", judge), ("08", given.get("08", {}))):
        who = values.get("base_url"), values.get("model")
        if who[0] and who not in asked:
            asked.add(who)
            found += _teacher(number, values, root, ask)
    return found


def _teacher(number: str, values: Mapping[str, object], root: Path, ask: bool) -> list[Finding]:
    """The key, where one is needed, the price, and what the server says to one small
    request; what may be sent is only told.
    """
    found, url = [], str(values["base_url"])
    if not is_own(url):
        key = _settings(values).key_variable
        there = bool(os.environ.get(key))
        told = f"{key} is {'set' if there else 'not set in the environment'}"
        found.append(Finding(f"{number} key", there, told))
    found.append(_price(number, values, root))
    requests, usd = values.get("budget_requests"), values.get("budget_usd")
    limits = [f"{requests:,} requests"] if requests else []
    limits += [f"{usd:,.2f} USD"] if usd else []
    if limits:
        told = f"at most {' and '.join(limits)} to {url}: see lskd estimate"
    else:
        told = f"NO LIMIT on requests to {url}: set budget_requests or budget_usd"
    if "budget_usd" in values:
        found.append(Finding(f"{number} budget", None, told))
    return [*found, _server(number, values)] if ask else found


def _settings(values: Mapping[str, object], **more: object) -> TeacherSettings:
    mode = str(values.get("mode") or "async")
    return TeacherSettings(str(values["base_url"]), str(values["model"]), mode=mode, **more)


def _server(number: str, values: Mapping[str, object]) -> Finding:
    """What the server takes, found out by one small request (a few hundredths of a cent where it
    is paid for).
    """
    from lskd_nb.teacher.client import look_at

    subject, url = f"{number} server", str(values["base_url"])
    if not is_own(url) and not os.environ.get(_settings(values).key_variable):
        return Finding(subject, None, f"{url} was not asked, without a key")
    asked = {name: values[name] for name in ("temperature", "seed") if name in values}
    asked |= {name: values[name] for name in ("takes", "reasoning_effort") if values.get(name)}
    try:
        dialect, models = look_at(
            _settings(values, timeout=SERVER_PATIENCE, max_retries=1, **asked)
        )
    except (RuntimeError, ValueError) as error:
        return Finding(subject, False, str(error))
    told = f"{values['model']} at {url} answers, and takes: {dialect}"
    if until := models.get(str(values["model"])):
        told += f"; the server says that it has this model until {until}"
    return Finding(subject, True, told)


def _price(number: str, values: Mapping[str, object], root: Path) -> Finding:
    """Whether what the teacher costs is known: without that, nothing is sent. And whether OpenAI
    still has the model.
    """
    from lskd_nb.teacher.budget import price_of

    subject, model = f"{number} price", values["model"]
    prices = root / str(values["prices"]) if values.get("prices") else None
    try:
        price = price_of(
            _settings(values, prices=prices, budget_usd=values.get("budget_usd") or None)
        )
    except (ValueError, OSError) as error:
        return Finding(subject, False, str(error))
    if not price.known:
        agreed = " the number of questions is agreed to"
        if number == "02":
            agreed = " you are asked, or agree with 02.budget_requests"
        return Finding(subject, None, f"no price is known for {model}:{agreed}")
    if price.free:
        told = "costs nothing"
    else:
        told = (
            f"{price.input:g} USD per million tokens of input and {price.output:g}"
            f" of output, prices of {price.date}"
        )
    if price.shutdown and "openai.com" in str(values["base_url"]):
        if price.shutdown <= date.today().isoformat():
            gone = f"{model} is gone since {price.shutdown}"
            return Finding(subject, False, f"{gone}: set {number}.model to {price.instead!r}")
        told += f"; OpenAI has it until {price.shutdown}, and recommends {price.instead} then"
    return Finding(subject, True, f"{model}: {told}")


def gpus_there() -> int:
    """How many GPUs torch can use."""
    import torch

    return torch.cuda.device_count()


def _gpus(needed: bool) -> list[Finding]:
    """The GPUs; a student that takes less than a gigabyte needs none."""
    import torch

    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    if not found:
        told = "none that torch can use" + ("" if needed else ", and none is needed")
        return [Finding("GPU", False if needed else None, told)]
    smallest = min(p.total_memory for p in found) / 2**30
    detail = f"{len(found)} × {found[0].name}, {smallest:.0f} GiB"
    short = [n for n, gib in GPU_GIB.items() if gib > smallest]
    if short:
        detail += (
            f"; notebooks {', '.join(short)} were sized for"
            f" {max(GPU_GIB.values())} GiB: lower `batch`"
        )
    return [Finding("GPU", not short, detail)]
