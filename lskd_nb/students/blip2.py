"""The student: BLIP-2 stage 1, a frozen vision encoder read by a Q-Former that also reads text.

The Q-Former's query tokens look at the image through cross-attention and, depending on the
attention mask between queries and text, serve three objectives (BLIP-2, Li et al. 2023, section
3.2; LSKD section 3.3): image-text contrast (ITC, query and text apart), image-text matching (ITM,
both see each other) and language modelling (LM, the text sees the queries). The network is Hugging
Face's ``Blip2ForImageTextRetrieval``; that class lacks the contrast's temperature and the LM head,
so they are kept beside it here. The same code loads ``Salesforce/blip2-itm-vit-g``, LAVIS's files
and the mini world's student.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Blip2ForImageTextRetrieval, PreTrainedTokenizerBase
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertLMPredictionHead

from lskd_nb.students.qformer import ImageKeysValues, image_keys_values, run_qformer

EXTRA_WEIGHTS = "stage1.safetensors"  # temperature and LM head, beside the class's own weights
LABEL_SMOOTHING = 0.1  # of ITC and LM, as in BLIP-2
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the vision encoders' pre-training (CLIP)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Texts:
    """Tokenized texts. ``ids`` and ``mask`` are (B, L) int64; ``prefix`` (B,) counts [CLS] and
    the question's tokens.
    """

    ids: Tensor
    mask: Tensor
    prefix: Tensor

    def __getitem__(self, rows: Tensor) -> "Texts":
        return Texts(self.ids[rows], self.mask[rows], self.prefix[rows])


class Student(nn.Module):
    """BLIP-2 stage 1 with everything its three losses need."""

    def __init__(
        self,
        blip2: Blip2ForImageTextRetrieval,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int = 128,
    ):
        super().__init__()
        self.blip2, self.tokenizer, self.max_tokens = blip2, tokenizer, max_tokens
        config = blip2.config.qformer_config
        self.lm_head = BertLMPredictionHead(
            BertConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                layer_norm_eps=config.layer_norm_eps,
            )
        )
        self.lm_head.decoder.weight = blip2.embeddings.word_embeddings.weight  # tied, as in LAVIS
        self.temperature = nn.Parameter(torch.tensor(0.07))
        blip2.vision_model.requires_grad_(False)

    @property
    def image_size(self) -> int:
        return self.blip2.config.vision_config.image_size

    @property
    def word_embeddings(self) -> nn.Parameter:
        return self.blip2.embeddings.word_embeddings.weight

    @property
    def device(self) -> torch.device:
        return self.temperature.device

    def train(self, mode: bool = True) -> "Student":
        """The vision encoder is frozen: it stays in evaluation mode."""
        super().train(mode)
        self.blip2.vision_model.eval()
        return self

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, patches + 1, width) features of the frozen
        vision encoder.
        """
        return self.blip2.vision_model(pixels).last_hidden_state

    def tokenize(self, questions: Sequence[str], continuations: Sequence[str]) -> Texts:
        """Tokenize "question continuation" pairs, padded to the longest. Only the continuation
        may be cut at the end.
        """
        tokenizer = self.tokenizer
        first = tokenizer(list(questions), add_special_tokens=False).input_ids
        second = tokenizer(list(continuations), add_special_tokens=False).input_ids
        rows = [
            [tokenizer.cls_token_id, *q, *c][: self.max_tokens - 1] + [tokenizer.sep_token_id]
            for q, c in zip(first, second, strict=True)
        ]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        prefix = torch.tensor([min(1 + len(q), self.max_tokens - 1) for q in first])
        return Texts(ids.to(self.device), mask.to(self.device), prefix.to(self.device))

    def image_keys_values(self, image: Tensor) -> ImageKeysValues:
        """What the Q-Former sees of (B, P, width) features; the methods below take it in their
        place, to compute it once.
        """
        return image_keys_values(self.blip2.qformer, image)

    def query_features(self, image: Tensor | ImageKeysValues) -> Tensor:
        """(B, P, width) image features -> (B, queries, d) unit vectors for the contrast."""
        queries = self.blip2.query_tokens.expand(len(image), -1, -1)
        outputs = run_qformer(self.blip2.qformer, queries, None, queries.shape[1], image)
        return F.normalize(self.blip2.vision_projection(outputs).float(), dim=-1)

    def text_features(self, texts: Texts) -> Tensor:
        """(B, d) unit vectors of texts alone, from their [CLS]."""
        mask = texts.mask.bool()[:, None, None, :]
        out = run_qformer(self.blip2.qformer, self.blip2.embeddings(texts.ids), mask, 0, None)
        return F.normalize(self.blip2.text_projection(out[:, 0]).float(), dim=-1)

    def fused(self, image: Tensor | ImageKeysValues, ids: Tensor, mask: Tensor) -> Tensor:
        """Queries and text together -> (R, Q + L, hidden).

        ``image`` is (B, P, width) with R a multiple of B texts, those of one image next to each
        other. ``mask`` is (R, L) padding or (R, 1, Q + L, Q + L) bool.
        """
        queries = self.blip2.query_tokens.expand(len(ids), -1, -1)
        if mask.dim() == 2:
            mask = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1).bool()[
                :, None, None, :
            ]
        return run_qformer(
            self.blip2.qformer,
            self.blip2.embeddings(ids, query_embeds=queries),
            mask,
            queries.shape[1],
            image,
        )

    def itm_logits(self, image: Tensor | ImageKeysValues, texts: Texts) -> Tensor:
        """(R, 2): no match, match, for R texts about (B, P, width) images, grouped by image.
        Mean over the queries' two-way heads.
        """
        queries = self.blip2.query_tokens.shape[1]
        return (
            self.blip2.itm_head(self.fused(image, texts.ids, texts.mask)[:, :queries])
            .float()
            .mean(1)
        )

    def start_ids(self, texts: Texts) -> Tensor:
        """Token ids for generation: [DEC] in place of [CLS]."""
        return torch.cat(
            [torch.full_like(texts.ids[:, :1], self.tokenizer.bos_token_id), texts.ids[:, 1:]],
            dim=1,
        )

    def lm_log_probabilities(
        self, image: Tensor | ImageKeysValues, texts: Texts, conditioned: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, L - 1, vocabulary) of the next tokens, and which of them count (B,
        L - 1) bool.

        ``conditioned=False``: the text follows the image and every token is predicted (as
        published). ``conditioned=True``: the queries see the question, and only what follows the
        question is predicted.
        """
        queries = self.blip2.query_tokens.shape[1]
        prefix = texts.prefix if conditioned else torch.zeros_like(texts.prefix)
        hidden = self.fused(image, self.start_ids(texts), lm_mask(texts.mask, prefix, queries))
        return self.predict(hidden[:, queries:]), loss_mask(texts, conditioned)

    def predict(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the next tokens from (B, L, hidden) outputs at the words."""
        return self.lm_head(hidden[:, :-1]).float().log_softmax(-1)

    def save(self, folder: str | Path) -> None:
        """Write the model in Hugging Face's layout, the temperature and LM head beside it."""
        folder = Path(folder)
        self.blip2.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        extra = {
            f"lm_head.{k}": v.contiguous()
            for k, v in self.lm_head.state_dict().items()
            if k != "decoder.weight"
        }
        save_file({**extra, "temperature": self.temperature.detach()}, folder / EXTRA_WEIGHTS)


def lm_mask(mask: Tensor, prefix: Tensor, queries: int) -> Tensor:
    """Who sees whom, (B, 1, Q + L, Q + L) bool: rows look at columns.

    Queries see queries and the prefix; the prefix sees both; every later token sees queries, prefix
    and what came before. With an empty prefix this is BLIP-2's multimodal causal mask (UniLM).
    """
    length = mask.shape[1]
    position = torch.arange(length, device=mask.device)
    in_prefix = position[None, :] < prefix[:, None]
    see = torch.zeros(
        len(mask), queries + length, queries + length, dtype=torch.bool, device=mask.device
    )
    see[:, :, :queries] = True
    see[:, :, queries:] = in_prefix[:, None, :]
    see[:, queries:, queries:] |= (position[:, None] >= position[None, :]) & mask.bool()[:, None, :]
    return see[:, None]


def loss_mask(texts: Texts, conditioned: bool) -> Tensor:
    """(B, L - 1) bool: which next tokens are predicted; all, or those after the question."""
    position = torch.arange(1, texts.ids.shape[1], device=texts.ids.device)
    prefix = texts.prefix if conditioned else torch.zeros_like(texts.prefix)
    return texts.mask[:, 1:].bool() & (position >= prefix[:, None])


def itc_loss(
    queries: Tensor, texts: Tensor, image_ids: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Image-text contrast and its similarities (B, B): the best query speaks for the image (BLIP-2,
    section 3.2).

    Rows of one image are never each other's negatives: ``image_ids`` (B,) says which are.
    """
    similarity = torch.einsum("iqd,td->itq", queries, texts).amax(-1) / temperature
    own = torch.eye(len(image_ids), dtype=torch.bool, device=similarity.device)
    excluded = (image_ids[:, None] == image_ids[None, :]) & ~own
    loss = sum(_smoothed(logits, own, excluded) for logits in (similarity, similarity.T)) / 2
    return loss, similarity.detach().masked_fill(excluded | own, float("-inf"))


def _smoothed(logits: Tensor, target: Tensor, excluded: Tensor) -> Tensor:
    """Cross entropy with label smoothing over the classes that are not excluded."""
    log_probability = (
        logits.masked_fill(excluded, float("-inf")).log_softmax(-1).masked_fill(excluded, 0.0)
    )
    open_classes = (~excluded).sum(-1)
    smoothed = -log_probability.sum(-1) / open_classes
    return ((1 - LABEL_SMOOTHING) * -log_probability[target] + LABEL_SMOOTHING * smoothed).mean()


def lm_loss(
    log_probability: Tensor, counted: Tensor, next_ids: Tensor, tokens: Tensor | None = None
) -> Tensor:
    """Label-smoothed cross entropy of the tokens that count: their sum by ``tokens``, by their
    number where that is not given.
    """
    picked = -log_probability.gather(-1, next_ids[..., None]).squeeze(-1)
    smoothed = -log_probability.mean(-1)
    losses = (1 - LABEL_SMOOTHING) * picked + LABEL_SMOOTHING * smoothed
    return (losses * counted).sum() / (counted.sum() if tokens is None else tokens).clamp(min=1)


def pixels(image, size: int) -> np.ndarray:
    """A PIL image -> (3, size, size) float32, resized to a square (bicubic) and normalised, as
    BLIP-2 does.
    """
    from PIL import Image

    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return ((array - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)).transpose(2, 0, 1)


def autocast(device: torch.device, wanted: bool = True):
    """bf16 where it is ``wanted`` and the hardware multiplies it fast (GPUs; CPUs with
    AVX512-BF16), else full precision.
    """
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and fast)


def dtype_of(device: torch.device) -> torch.dtype:
    """What frozen weights are kept in: bf16 on a GPU, else float32."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32
