"""LAVIS's stage-1 BLIP-2 beside a current transformers, and nothing of LAVIS besides.

LAVIS 1.0.2 (BSD-3-Clause) was written for the transformers, timm and torchvision of 2022. Its
Q-Former needs little of them: names that transformers has moved or dropped, two small functions of
timm's, and otherwise names that it imports for downloads, videos or activation checkpointing, never
reached from here. They are lent to LAVIS while it is imported and taken back afterwards, so no
other package sees them. What isn't installed and is used all the same raises ``ImportError`` and
says which package it is.
"""

import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

INSTALL = "pip install --no-deps salesforce-lavis==1.0.2"
# imported by LAVIS's BLIP-2 modules
DONE_WITHOUT = ("fairscale", "iopath", "omegaconf", "timm", "torchvision")
# once in transformers.modeling_utils
MOVED = ("apply_chunking_to_forward", "find_pruneable_heads_and_indices", "prune_linear_layer")


@functools.cache
def import_lavis() -> SimpleNamespace:
    """LAVIS's own ``Blip2Qformer``, ``BertLMHeadModel``, ``LayerNorm``, ``EvaViT`` and ``ClipViT``.

    Raises ``ImportError`` where LAVIS is not installed.
    """
    if find_spec("lavis") is None:
        raise ImportError(f"the LAVIS backend needs LAVIS: {INSTALL}")

    with _bare_packages() as models, _placeholders(), _moved_names():
        models.BaseModel = importlib.import_module(
            "lavis.models.base_model"
        ).BaseModel  # LAVIS's registry looks for it there
        eva, clip, blip2, qformer, stage1 = (
            importlib.import_module(f"lavis.models.{name}")
            for name in (
                "eva_vit",
                "clip_vit",
                "blip2_models.blip2",
                "blip2_models.Qformer",
                "blip2_models.blip2_qformer",
            )
        )
    _follow_transformers(
        qformer.BertPreTrainedModel, (qformer.BertLMHeadModel, qformer.BertForMaskedLM)
    )
    return SimpleNamespace(
        Blip2Qformer=stage1.Blip2Qformer,
        BertLMHeadModel=qformer.BertLMHeadModel,
        LayerNorm=blip2.LayerNorm,
        EvaViT=eva.VisionTransformer,
        ClipViT=clip.VisionTransformer,
    )


@contextmanager
def one_process_group() -> Iterator[None]:
    """A group of one process: LAVIS's ``forward`` asks torch.distributed for its rank."""
    import torch.distributed as dist

    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


# ------------------------------------------------------------------- what is lent during the import


@contextmanager
def _bare_packages() -> Iterator[ModuleType]:
    """``lavis`` and ``lavis.models`` without their ``__init__``, which import all of LAVIS."""
    root = Path(find_spec("lavis").submodule_search_locations[0])
    lent = {"lavis": ModuleType("lavis"), "lavis.models": ModuleType("lavis.models")}
    lent["lavis"].__path__, lent["lavis.models"].__path__ = [str(root)], [str(root / "models")]
    before = {name: sys.modules[name] for name in lent if name in sys.modules}
    sys.modules.update(lent)
    try:
        yield lent["lavis.models"]
    finally:
        for name in lent:
            del sys.modules[name]
        sys.modules.update(before)


class _Missing:
    """Stands for a name that is not to be had; using it says so."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *_: object, **__: object) -> None:
        raise ImportError(
            f"LAVIS calls {self._name} here, which it has not got: only its stage-1 BLIP-2 is used,"
            " and nothing downloaded by it"
        )

    def __getattr__(self, attribute: str) -> "_Missing":
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _Missing(f"{self._name}.{attribute}")


class _Placeholders(MetaPathFinder, Loader):
    """Empty modules under the names of the packages that are done without."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if _done_without(name) else None

    def exec_module(self, module: ModuleType) -> None:
        # the two that LAVIS's vision encoder does call; timm's are the same functions
        if module.__name__ == "timm.models.layers":
            module.to_2tuple = torch.nn.modules.utils._pair
            module.trunc_normal_ = torch.nn.init.trunc_normal_
        module.__getattr__ = lambda attribute: _Missing(f"{module.__name__}.{attribute}")


def _done_without(module: str) -> bool:
    return module.split(".")[0] in DONE_WITHOUT


@contextmanager
def _placeholders() -> Iterator[None]:
    """All of the packages or none: one that is absent breaks others (timm needs torchvision)."""
    if all(find_spec(package) for package in DONE_WITHOUT):
        yield
        return
    finder = _Placeholders()
    aside = {name: sys.modules.pop(name) for name in list(sys.modules) if _done_without(name)}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _done_without(name)]:
            del sys.modules[name]
        sys.modules.update(aside)


@contextmanager
def _moved_names() -> Iterator[None]:
    """LAVIS's names of ``transformers.modeling_utils``; placeholders for those dropped."""
    from transformers import modeling_utils, pytorch_utils

    lent = [name for name in MOVED if not hasattr(modeling_utils, name)]
    for name in lent:
        setattr(
            modeling_utils, name, getattr(pytorch_utils, name, _Missing(f"transformers {name}"))
        )
    try:
        yield
    finally:
        for name in lent:
            delattr(modeling_utils, name)


# ----------------------------------------------------------- what LAVIS's own classes need for good


def _follow_transformers(base: type, with_head: tuple[type, ...]) -> None:
    """Give LAVIS's own BERT classes what transformers 5 expects of a model, and no longer gives
    it.
    """
    transformers_init = base.init_weights

    def init_weights(
        self,
    ) -> None:  # weight tying is set up by post_init(), which LAVIS's constructors don't call
        transformers_init(self) if "all_tied_weights_keys" in self.__dict__ else self.post_init()

    def get_head_mask(self, head_mask: None, layers: int) -> list[None]:
        if head_mask is not None:
            raise NotImplementedError(
                "transformers 5 has no head masks, and LAVIS's BLIP-2 uses none"
            )
        return [None] * layers

    def invert_attention_mask(
        self, mask: Tensor
    ) -> Tensor:  # 1 where one may look -> what is added to the scores
        mask = mask[:, None, :, :] if mask.dim() == 3 else mask[:, None, None, :]
        return (1.0 - mask.to(self.dtype)) * torch.finfo(self.dtype).min

    base.init_weights = init_weights
    base.get_head_mask = get_head_mask
    base.invert_attention_mask = invert_attention_mask
    base.can_generate = classmethod(lambda cls: False)  # its generate() went with transformers 4
    for model in with_head:
        model._tied_weights_keys = {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        }
