"""The mini world's base student: a small BLIP-2 stage 1 of the usual classes, before distillation.

``lskd mini pretrain`` trains it on captions of scenes nobody is evaluated on, annotated pictures
among them: frames in colours that the text mentions ("the green box is around a brown dog"), as web
corpora have them. It never sees a region id, nor anything that follows from a scene by common
sense: both are left for distillation to teach.
"""

import re
from collections.abc import Iterable

import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    OPTConfig,
    PreTrainedTokenizerBase,
)

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import LINKS, SITUATIONS
from lskd_nb.mini.scenes.world import COLORS, FACES, HELD, KINDS, PLACES, POSES, TIMES, WEATHER
from lskd_nb.students.blip2 import Student

IMAGE_SIZE, PATCH, QUERIES, HIDDEN = 192, 24, 8, 128
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# fmt: off
COMMON = (
    "a", "an", "the", "and", "or", "of", "to", "in", "on", "at", "with", "for", "from", "by", "is",
    "are", "was", "were", "be", "been", "has", "have", "had", "do", "does", "did", "what", "who",
    "where", "when", "why", "how", "many", "which", "this", "that", "these", "there", "here", "it",
    "its", "they", "them", "their", "his", "her", "he", "she", "someone", "somebody", "person",
    "people", "animal", "animals", "thing", "things", "one", "two", "three", "four", "five", "no",
    "not", "yes", "picture", "photo", "image", "frame", "framed", "frames", "wearing", "wears",
    "next", "left", "right", "near", "between", "front", "behind", "around", "answer", "question",
    "rationale", "because", "while", "time", "place", "weather", "color", "colour", "same", "other",
    "another", "outside", "outdoors", "indoors", "inside", "raining", "snowing", "shining", "sun",
    "rain", "snow", "clouds", "dark", "light", "kind", "wears", "looks", "like", "some", "any",
    "none", "shirt", "shirts", "holding", "doing", "dogs", "cats", "birds", "horses", "cows",
    "sheep", "cars", "bicycles", "boats", "tents", "benches", "trees", "lamps", "all", "more",
    "most", "green", "blue", "purple", "orange", "red", "yellow", "white", "black", "pink", "brown",
    "gray", "facing", "only", "nobody", "nothing", "entailment", "neutral", "contradiction",
    "describe", "just", "box", "about",
)
# fmt: on


def vocabulary() -> list[str]:
    """Every word of the world's language, letters and digits for what is not, in a fixed order."""
    texts = [
        *(a for s in SITUATIONS for a in s.answers.values()),
        *LINKS,
        *FACES,
        *KINDS,
        *HELD,
        *PLACES,
        *WEATHER,
        *TIMES,
        *(p for poses in POSES.values() for p in poses),
        *(c for colors in COLORS.values() for c in colors),
        *grammar.IN_PLACE.values(),
        *grammar.A_HELD.values(),
        *grammar.WEATHER_CLAUSE.values(),
        *grammar.TIME_CLAUSE.values(),
        *(q for forms in grammar.QUESTIONS.values() for q in forms),
    ]
    words = sorted({w for text in texts for w in re.findall(r"[a-z]+", text.lower())} | set(COMMON))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    marks = list("[]().,:;?!'\"-/") + list("0123456789")
    letters = [c for c in LETTERS if c not in words]
    return special + marks + words + letters + [f"##{c}" for c in LETTERS + "0123456789"]


def tokenizer() -> PreTrainedTokenizerBase:
    """A BERT tokenizer over the world's words; [DEC] starts generation, as in BLIP-2.

    A mention such as [0] is one word, which no pretraining ever says; it is three in BERT's own.
    """
    words = BertTokenizer(
        vocab={w: i for i, w in enumerate(vocabulary())}, bos_token="[DEC]", do_lower_case=True
    )
    words.add_tokens([f"[{number}]" for number in range(10)])
    return words


def fresh_student(
    seed: int,
    hidden: int = HIDDEN,
    layers: int = 2,
    vision_width: int = 160,
    vision_layers: int = 4,
    image_size: int = IMAGE_SIZE,
) -> Student:
    """A student of mini dimensions with random weights."""
    torch.manual_seed(seed)
    words = tokenizer()
    # the class's default, 1e-10, is for weights about to be loaded
    vision = Blip2VisionConfig(
        hidden_size=vision_width,
        intermediate_size=3 * vision_width,
        num_hidden_layers=vision_layers,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=PATCH,
        initializer_range=0.05,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=3 * hidden,
        max_position_embeddings=128,
        cross_attention_frequency=1,
        encoder_hidden_size=vision_width,
        use_qformer_text_input=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        initializer_range=0.05,
    )
    unused = OPTConfig(
        vocab_size=8,
        hidden_size=8,
        ffn_dim=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        word_embed_proj_dim=8,
        max_position_embeddings=8,
    )
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=unused.to_dict(),
        num_query_tokens=QUERIES,
        image_text_hidden_size=64,
    )
    blip2 = Blip2ForImageTextRetrieval(config)
    # the class leaves them zero: all queries would stay the same
    torch.nn.init.normal_(blip2.query_tokens, std=0.02)
    torch.nn.init.normal_(blip2.vision_model.embeddings.position_embedding, std=0.02)
    torch.nn.init.normal_(blip2.vision_model.embeddings.class_embedding, std=0.02)
    return Student(blip2, words)


def words_of(texts: Iterable[str], known: dict[str, int]) -> list[int]:
    """The content words of texts, as indices into ``known``."""
    return sorted(
        {known[w] for text in texts for w in re.findall(r"[a-z]+", text.lower()) if w in known}
    )
