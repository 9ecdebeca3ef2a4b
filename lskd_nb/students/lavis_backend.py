"""LAVIS as a second backend: the same student run by LAVIS's own ``Blip2Qformer``.

``load_student(name, backend="lavis")`` gives a ``LavisStudent``, which distillation and evaluation
take in a student's place. Weights are a student's, handed over by ``lavis_layout``; vision encoder,
Q-Former and heads are LAVIS's code. LAVIS has no pass for several texts of one image, so an image
is repeated for each of them, which makes this the slower of the two. What it saves is a student's
folder: either backend goes on from it.
"""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BatchEncoding, Blip2Config, PreTrainedTokenizerBase
from transformers.models.bert.configuration_bert import BertConfig

from lskd_nb.students.blip2 import Student, Texts, loss_mask
from lskd_nb.students.lavis_compat import import_lavis
from lskd_nb.students.lavis_layout import from_lavis, to_lavis
from lskd_nb.students.lavis_weights import network_class


class LavisStudent(Student):
    """A student whose ``blip2`` is LAVIS's ``Blip2Qformer``."""

    def __init__(self, blip2: nn.Module, tokenizer: PreTrainedTokenizerBase, max_tokens: int = 128):
        nn.Module.__init__(self)
        self.blip2, self.tokenizer, self.max_tokens = blip2, tokenizer, max_tokens
        # Image encoder and its norm, frozen, as one module; not registered again: its weights have
        # their names already.
        self.blip2.__dict__["vision_model"] = nn.Sequential(
            blip2.visual_encoder, blip2.ln_vision
        ).requires_grad_(False)

    @classmethod
    def of(cls, student: Student) -> "LavisStudent":
        """The same student in LAVIS's network; its weights are copied."""
        config = student.blip2.config
        blip2 = lavis_network(
            config, student.tokenizer, student.blip2.vision_model.post_layernorm.eps
        )
        weights = to_lavis(
            student.state_dict(), clip=getattr(config.vision_config, "pre_layernorm", False)
        )
        found = blip2.load_state_dict(weights, strict=False)
        if found.unexpected_keys or found.missing_keys != ["Qformer.bert.embeddings.position_ids"]:
            raise ValueError(
                "LAVIS's network has no place for"
                f" {found.unexpected_keys}, and misses {found.missing_keys}"
            )
        whole = cls(blip2, student.tokenizer, student.max_tokens)
        whole.fresh = student.fresh
        return whole

    @property
    def temperature(self) -> nn.Parameter:
        return self.blip2.temp

    @property
    def word_embeddings(self) -> nn.Parameter:
        return self.blip2.Qformer.bert.embeddings.word_embeddings.weight

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.blip2.vision_model(pixels)

    def image_keys_values(self, image: Tensor) -> Tensor:
        """LAVIS computes keys and values in every pass: the features themselves."""
        return image

    def query_features(self, image: Tensor) -> Tensor:
        return F.normalize(
            self.blip2.vision_proj(self._queries(image).last_hidden_state).float(), dim=-1
        )

    def text_features(self, texts: Texts) -> Tensor:
        found = self.blip2.forward_text(
            BatchEncoding({"input_ids": texts.ids, "attention_mask": texts.mask})
        )
        return F.normalize(self.blip2.text_proj(found).float(), dim=-1)

    def fused(self, image: Tensor, ids: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        queries = self.blip2.query_tokens.expand(len(ids), -1, -1)
        if mask.dim() == 2:
            mask = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1)
        else:
            mask = mask[:, 0].long()
        return self.blip2.Qformer.bert(
            ids,
            query_embeds=queries,
            attention_mask=mask,
            return_dict=True,
            **self._seen(image, len(ids)),
        ).last_hidden_state[wanted]

    def lm_log_probabilities(
        self, image: Tensor, texts: Texts, conditioned: bool
    ) -> tuple[Tensor, Tensor]:
        if conditioned:  # LAVIS has no such pass; its Q-Former takes the mask
            return super().lm_log_probabilities(image, texts, conditioned)
        looked = self._queries(image, rows=len(texts.ids), use_cache=True)
        mask = torch.cat(
            [texts.mask.new_ones(looked.last_hidden_state.shape[:2]), texts.mask], dim=1
        )
        logits = self.blip2.Qformer(
            self.start_ids(texts),
            attention_mask=mask,
            past_key_values=looked.past_key_values,
            use_cache=False,
            return_dict=True,
        ).logits
        counted_BM = loss_mask(texts, conditioned)
        return logits[:, :-1][counted_BM].float().log_softmax(-1), counted_BM

    def predict(self, hidden: Tensor) -> Tensor:
        return self.blip2.Qformer.cls(hidden).float().log_softmax(-1)

    def save(self, folder: str | Path) -> None:
        """Write a student's folder, as ``Student.save`` does."""
        self.to_student().save(folder)

    def to_student(self) -> Student:
        """The same student in Hugging Face's network; its weights are copied."""
        config = self.blip2.config
        student = Student(network_class(config)(config), self.tokenizer, self.max_tokens)
        weights, _ = from_lavis(self.blip2.state_dict(), "LAVIS's network")
        student.load_state_dict(weights)
        return student.to(self.device)

    def _queries(self, image: Tensor, rows: int | None = None, use_cache: bool = False):
        rows = rows or len(image)
        return self.blip2.Qformer.bert(
            query_embeds=self.blip2.query_tokens.expand(rows, -1, -1),
            use_cache=use_cache,
            return_dict=True,
            **self._seen(image, rows),
        )

    def _seen(self, image: Tensor, rows: int) -> dict[str, Tensor]:
        image = image.to(self.temperature.dtype).repeat_interleave(rows // len(image), dim=0)
        return {
            "encoder_hidden_states": image,
            "encoder_attention_mask": torch.ones(
                image.shape[:2], dtype=torch.long, device=image.device
            ),
        }


def lavis_network(
    config: Blip2Config, tokenizer: PreTrainedTokenizerBase, epsilon: float
) -> nn.Module:
    """LAVIS's ``Blip2Qformer`` of a configuration's sizes, with random weights.

    ``epsilon`` is ``ln_vision``'s.

    LAVIS's constructor calls three class methods that download BERT and the vision encoder at their
    published sizes; here they build what the configuration says. Dropping of layers (0 in BLIP-2's
    stage 1) is left out. ``config`` is kept as an attribute.
    """
    lavis, vision, qformer = import_lavis(), config.vision_config, config.qformer_config

    class Network(lavis.Blip2Qformer):
        @classmethod
        def init_tokenizer(cls):
            return tokenizer

        @classmethod
        def init_vision_encoder(cls, *_):
            return _vision_encoder(vision), lavis.LayerNorm(vision.hidden_size, eps=epsilon)

        @classmethod
        def init_Qformer(cls, *_):
            return lavis.BertLMHeadModel(_bert_config(config)), nn.Parameter(
                torch.zeros(1, config.num_query_tokens, qformer.hidden_size)
            )

    network = Network(
        img_size=vision.image_size,
        vit_precision="fp32",
        freeze_vit=False,
        num_query_token=config.num_query_tokens,
        cross_attention_freq=qformer.cross_attention_frequency,
        embed_dim=config.image_text_hidden_size,
    )
    network.config = config
    return network


def _vision_encoder(vision) -> nn.Module:
    lavis = import_lavis()
    if getattr(vision, "pre_layernorm", False):
        return lavis.ClipViT(
            input_resolution=vision.image_size,
            patch_size=vision.patch_size,
            width=vision.hidden_size,
            layers=vision.num_hidden_layers + 1,  # LAVIS leaves out the last
            heads=vision.num_attention_heads,
            use_grad_checkpointing=False,
        )
    ratio = (vision.intermediate_size + 0.5) / vision.hidden_size  # LAVIS rounds the product down
    return lavis.EvaViT(
        img_size=vision.image_size,
        patch_size=vision.patch_size,
        use_mean_pooling=False,
        embed_dim=vision.hidden_size,
        depth=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        mlp_ratio=ratio,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=vision.layer_norm_eps),
    )


def _bert_config(config: Blip2Config) -> BertConfig:
    """A BERT configuration of the Q-Former's sizes, with what LAVIS adds to it."""
    of = config.qformer_config
    bert = BertConfig(
        vocab_size=of.vocab_size,
        hidden_size=of.hidden_size,
        num_hidden_layers=of.num_hidden_layers,
        num_attention_heads=of.num_attention_heads,
        intermediate_size=of.intermediate_size,
        hidden_act=of.hidden_act,
        hidden_dropout_prob=of.hidden_dropout_prob,
        attention_probs_dropout_prob=of.attention_probs_dropout_prob,
        max_position_embeddings=of.max_position_embeddings,
        layer_norm_eps=of.layer_norm_eps,
        pad_token_id=of.pad_token_id,
    )
    bert.encoder_width, bert.add_cross_attention = config.vision_config.hidden_size, True
    bert.cross_attention_freq = of.cross_attention_frequency
    bert.query_length = config.num_query_tokens
    return bert
