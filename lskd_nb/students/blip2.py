"""The student: BLIP-2 stage 1, a frozen vision encoder read by a Q-Former that also reads text.

The Q-Former's query tokens look at the image through cross-attention and, depending on the
attention mask between queries and text, serve three objectives (BLIP-2, Li et al. 2023, section
3.2; LSKD section 3.3): image-text contrast (ITC, query and text apart), image-text matching (ITM,
both see each other) and language modelling (LM, the text sees the queries). The network is Hugging
Face's ``Blip2ForImageTextRetrieval``; that class lacks the contrast's temperature and the LM head,
so they are kept beside it here. The same code loads ``Salesforce/blip2-itm-vit-g``, LAVIS's files
and the mini world's student.

    pixels_B3SS                               "question Answer: ..."  -> ids_RL, mask_RL
        | vision encoder, frozen                  | word embeddings
        v                                         v
    features_BPD -> keys, values_BPH -> Q-Former of query tokens (1, Q, H), words_RLH, or both
                                          |
      ITC  queries alone -> queries_BQE   |   words alone, [CLS] -> words_BE
           similarity_BB = max over Q of queries_BQE · words_BE / temperature
      ITM  both, each sees the other  ->  queries' outputs (R, Q, H) -> logits_RQ2 -> mean: (R, 2)
      LM   both, by lm_mask           ->  words' outputs (C, H)      -> log_probability_CV

    in LM's mask    sees queries   question   what follows      (question: empty as published,
    queries              yes         yes          no             where not ``conditioned``)
    question             yes         yes          no
    what follows         yes         yes          what came before, and itself

Letters of shapes, here and in ``qformer``, ``views`` and ``training``: B images, R texts about them
(a multiple of B, those of one image next to each other), S side of the square image, P patches and
[CLS], D width of the vision encoder, Q query tokens, L tokens of a text, T = Q + L, M = L - 1 next
tokens, C of all texts' next tokens that count, H width of the Q-Former, E width of the contrast, V
vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from lskd_nb.students.qformer import ImageKeysValues, image_keys_values, run_qformer

if TYPE_CHECKING:  # its import takes seconds, which drawing a view and reading a corpus don't need
    from transformers import Blip2ForImageTextRetrieval, PreTrainedTokenizerBase

EXTRA_WEIGHTS = "stage1.safetensors"  # temperature and LM head, beside the class's own weights
LABEL_SMOOTHING = 0.1  # of ITC and LM, as in BLIP-2
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the vision encoders' pre-training (CLIP)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Texts:
    """Tokenized texts.

    ``ids`` and ``mask`` are (B, L) int64; ``prefix`` (B,) counts [CLS] and the question's tokens.
    """

    ids: Tensor
    mask: Tensor
    prefix: Tensor

    def __getitem__(self, rows: Tensor) -> "Texts":
        return Texts(self.ids[rows], self.mask[rows], self.prefix[rows])


class Student(nn.Module):
    """BLIP-2 stage 1 with everything its three losses need.

    ``fresh`` names the weights that its files did not have, and that begin at random.
    """

    fresh: tuple[str, ...] = ()

    def __init__(
        self,
        blip2: "Blip2ForImageTextRetrieval",
        tokenizer: "PreTrainedTokenizerBase",
        max_tokens: int = 128,
    ):
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertLMPredictionHead

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

    def origin(self, part: str) -> str:
        """Whether a part (``lm_head``, ``temperature``) was "loaded", or began "fresh"."""
        return "fresh" if any(name.split(".")[0] == part for name in self.fresh) else "loaded"

    def train(self, mode: bool = True) -> "Student":
        """The vision encoder is frozen: it stays in evaluation mode."""
        super().train(mode)
        self.blip2.vision_model.eval()
        return self

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, P, D) features of the frozen vision encoder."""
        return self.blip2.vision_model(pixels).last_hidden_state

    def tokenize(self, questions: Sequence[str], continuations: Sequence[str]) -> Texts:
        """Tokenize "question continuation" pairs, padded to the longest.

        Only the continuation may be cut at the end.
        """
        tokenizer = self.tokenizer
        first = tokenizer(list(questions), add_special_tokens=False).input_ids
        second = tokenizer(list(continuations), add_special_tokens=False).input_ids
        rows = [
            [tokenizer.cls_token_id, *q, *c][: self.max_tokens - 1] + [tokenizer.sep_token_id]
            for q, c in zip(first, second, strict=True)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        padding = [tokenizer.pad_token_id] * longest
        ids = torch.tensor([(row + padding)[:longest] for row in rows])
        mask = (torch.arange(longest) < lengths[:, None]).long()
        prefix = torch.tensor([min(1 + len(q), self.max_tokens - 1) for q in first])
        return Texts(ids.to(self.device), mask.to(self.device), prefix.to(self.device))

    def image_keys_values(self, image: Tensor) -> ImageKeysValues:
        """What the Q-Former sees of (B, P, D) features.

        The methods below take it in their place, to compute it once.
        """
        return image_keys_values(self.blip2.qformer, image)

    def query_features(self, image: Tensor | ImageKeysValues) -> Tensor:
        """(B, P, D) image features -> (B, Q, E) unit vectors for the contrast."""
        queries_BQH = self.blip2.query_tokens.expand(len(image), -1, -1)
        out_NH = run_qformer(self.blip2.qformer, queries_BQH, None, queries_BQH.shape[1], image)
        out_BQH = out_NH.view_as(queries_BQH)
        return F.normalize(self.blip2.vision_projection(out_BQH).float(), dim=-1)

    def text_features(self, texts: Texts) -> Tensor:
        """(B, E) unit vectors of texts alone, from their [CLS]."""
        mask_B11L = texts.mask.bool()[:, None, None, :]
        words_BLH = self.blip2.embeddings(texts.ids)
        first_BL = torch.zeros_like(texts.mask, dtype=torch.bool)
        first_BL[:, 0] = True
        out_BH = run_qformer(self.blip2.qformer, words_BLH, mask_B11L, 0, None, first_BL)
        return F.normalize(self.blip2.text_projection(out_BH).float(), dim=-1)

    def fused(
        self, image: Tensor | ImageKeysValues, ids: Tensor, mask: Tensor, wanted: Tensor
    ) -> Tensor:
        """Queries and text together -> (W, H), outputs of the ``wanted`` tokens, (R, T) bool, row
        by row: all queries or words.

        ``image`` is (B, P, D) with R a multiple of B texts, those of one image next to each other.
        ``ids`` are (R, L), ``mask`` is (R, L) padding or (R, 1, T, T) bool.
        """
        queries_RQH = self.blip2.query_tokens.expand(len(ids), -1, -1)
        if mask.dim() == 2:
            mask_RT = torch.cat([mask.new_ones(queries_RQH.shape[:2]), mask], dim=1)
            mask = mask_RT.bool()[:, None, None, :]
        both_RTH = self.blip2.embeddings(ids, query_embeds=queries_RQH)
        return run_qformer(self.blip2.qformer, both_RTH, mask, queries_RQH.shape[1], image, wanted)

    def seen_by_queries(self, image: Tensor | ImageKeysValues, texts: Texts) -> Tensor:
        """Outputs of the queries, (R, Q, H), which see R texts about (B, P, D) images, grouped by
        image.
        """
        queries = self.blip2.query_tokens.shape[1]
        wanted_RT = F.pad(torch.zeros_like(texts.mask, dtype=torch.bool), (queries, 0), value=True)
        found_NH = self.fused(image, texts.ids, texts.mask, wanted_RT)
        return found_NH.view(len(texts.ids), queries, -1)

    def itm_logits(self, image: Tensor | ImageKeysValues, texts: Texts) -> Tensor:
        """(R, 2): no match, match, for R texts about (B, P, D) images, grouped by image.

        Mean over the queries' two-way heads.
        """
        return self.blip2.itm_head(self.seen_by_queries(image, texts)).float().mean(1)

    def start_ids(self, texts: Texts) -> Tensor:
        """Token ids for generation: [DEC] in place of [CLS]."""
        start_B1 = torch.full_like(texts.ids[:, :1], self.tokenizer.bos_token_id)
        return torch.cat([start_B1, texts.ids[:, 1:]], dim=1)

    def lm_log_probabilities(
        self, image: Tensor | ImageKeysValues, texts: Texts, conditioned: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (C, V) of the next tokens that count, row by row, and which of all
        these are, (B, M) bool.

        ``conditioned=False``: the text follows the image and every token is predicted (as
        published). ``conditioned=True``: the queries see the question, and only what follows the
        question is predicted.
        """
        queries = self.blip2.query_tokens.shape[1]
        prefix_B = texts.prefix if conditioned else torch.zeros_like(texts.prefix)
        mask_B1TT = lm_mask(texts.mask, prefix_B, queries)
        counted_BM = loss_mask(texts, conditioned)
        before_BT = F.pad(counted_BM, (queries, 1))  # each is predicted by the token before it
        hidden_CH = self.fused(image, self.start_ids(texts), mask_B1TT, before_BT)
        return self.predict(hidden_CH), counted_BM

    def predict(self, hidden: Tensor) -> Tensor:
        """(C, H) outputs at words -> log-probabilities (C, V) of what follows them."""
        return self.lm_head(hidden).float().log_softmax(-1)

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
    """Who sees whom, (B, 1, T, T) bool: rows look at columns.

    Queries see queries and the prefix; the prefix sees both; every later token sees queries, prefix
    and what came before. With an empty prefix this is BLIP-2's multimodal causal mask (UniLM).
    """
    length = mask.shape[1]
    both = queries + length
    position_L = torch.arange(length, device=mask.device)
    in_prefix_BL = position_L[None, :] < prefix[:, None]
    before_LL = position_L[:, None] >= position_L[None, :]
    see_BTT = torch.zeros(len(mask), both, both, dtype=torch.bool, device=mask.device)
    see_BTT[:, :, :queries] = True
    see_BTT[:, :, queries:] = in_prefix_BL[:, None, :]
    see_BTT[:, queries:, queries:] |= before_LL & mask.bool()[:, None, :]
    return see_BTT[:, None]


def loss_mask(texts: Texts, conditioned: bool) -> Tensor:
    """(B, M) bool: which next tokens are predicted; all, or those after the question."""
    position_M = torch.arange(1, texts.ids.shape[1], device=texts.ids.device)
    prefix_B = texts.prefix if conditioned else torch.zeros_like(texts.prefix)
    return texts.mask[:, 1:].bool() & (position_M >= prefix_B[:, None])


def itc_loss(
    queries: Tensor, texts: Tensor, image_ids: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Image-text contrast of (B, Q, E) ``queries`` and (B, E) ``texts``, and similarities (B, B).

    The best query speaks for the image (BLIP-2, section 3.2). Rows of one image are never each
    other's negatives: ``image_ids`` (B,) says which are.
    """
    similarity_BB = torch.einsum("iqd,td->itq", queries, texts).amax(-1) / temperature
    own_BB = torch.eye(len(image_ids), dtype=torch.bool, device=similarity_BB.device)
    excluded_BB = (image_ids[:, None] == image_ids[None, :]) & ~own_BB
    ways = (similarity_BB, similarity_BB.T)  # texts of an image, images of a text
    loss = sum(_smoothed(logits_BB, own_BB, excluded_BB) for logits_BB in ways) / 2
    return loss, similarity_BB.detach().masked_fill(excluded_BB | own_BB, float("-inf"))


def _smoothed(logits_BB: Tensor, target_BB: Tensor, excluded_BB: Tensor) -> Tensor:
    """Cross entropy with label smoothing over the classes that are not excluded."""
    open_logits_BB = logits_BB.masked_fill(excluded_BB, float("-inf"))
    log_probability_BB = open_logits_BB.log_softmax(-1).masked_fill(excluded_BB, 0.0)
    open_classes_B = (~excluded_BB).sum(-1)
    smoothed_B = -log_probability_BB.sum(-1) / open_classes_B
    picked_B = -log_probability_BB[target_BB]
    return ((1 - LABEL_SMOOTHING) * picked_B + LABEL_SMOOTHING * smoothed_B).mean()


def lm_loss(
    log_probability: Tensor, counted: Tensor, next_ids: Tensor, tokens: Tensor | None = None
) -> Tensor:
    """Label-smoothed cross entropy of the tokens that count, from their (C, V) log-probabilities.

    ``counted`` and ``next_ids`` are (B, M). Their sum is divided by ``tokens``, by their number
    where that is not given.
    """
    picked_C = -log_probability.gather(-1, next_ids[counted][:, None]).squeeze(-1)
    losses_C = (1 - LABEL_SMOOTHING) * picked_C - LABEL_SMOOTHING * log_probability.mean(-1)
    return losses_C.sum() / (counted.sum() if tokens is None else tokens).clamp(min=1)


def pixels(image, size: int) -> np.ndarray:
    """A PIL image -> (3, S, S) float32, resized to a square (bicubic) and normalised, as BLIP-2."""
    from PIL import Image

    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return ((array - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)).transpose(2, 0, 1)


def autocast(device: torch.device, wanted: bool = True):
    """bf16 where it is ``wanted`` and the hardware multiplies it fast, else full precision.

    Those are GPUs, and CPUs with AVX512-BF16.
    """
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and fast)


def dtype_of(device: torch.device) -> torch.dtype:
    """What frozen weights are kept in: bf16 on a GPU, else float32."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32
