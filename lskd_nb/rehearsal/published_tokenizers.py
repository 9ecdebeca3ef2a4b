"""Tokenizers of published checkpoints, as files: as many entries as theirs, special ones in their
places, and the words of the mini world among them.

BERT's has 30,522 entries, [CLS] being number 101; CLIP's 49,408, the marks of begin and end last;
T5's 32,100, <pad> 0 and </s> 1, the last hundred for spans. Files are those of the hub, older than
the library that reads them: ``tokenizer_config.json`` tells little, ``special_tokens_map.json`` and
the vocabulary stand beside ``tokenizer.json``. Only the words differ: merges and pieces are trained
on the mini world's texts. SentencePiece's ``spiece.model`` is left out.
"""

import json
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from lskd_nb.mini.pretraining.base import LETTERS, vocabulary

BERT_WORDS, CLIP_WORDS, T5_WORDS, T5_SPANS = 30522, 49408, 32100, 100


def write_bert(folder: Path, more: tuple[str, ...] = ()) -> int:
    """BERT's, uncased; ``more`` tokens are added at the end, as BLIP's [DEC] and [ENC] are.

    Returns how many entries there are.
    """
    marks = list("!\"#$%&'()*+,-./0123456789:;<=>?@[]_") + list(LETTERS)
    words = [w for w in vocabulary() if w.isalpha() and len(w) > 1 and w.islower()]
    pieces = [f"##{c}" for c in LETTERS + "0123456789"]
    entries = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries += [f"[unused{n}]" for n in range(99, 994)]
    entries += list(dict.fromkeys([*marks, *words, *pieces]))
    entries += [f"[spare{n}]" for n in range(BERT_WORDS - len(entries))]
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    of = {entry: number for number, entry in enumerate(entries)}
    bert = Tokenizer(models.WordPiece(of, unk_token="[UNK]", max_input_chars_per_word=100))
    bert.normalizer = normalizers.BertNormalizer(lowercase=True)
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", of["[CLS]"]), ("[SEP]", of["[SEP]"])],
    )
    bert.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *more])
    special = {f"{n}_token": f"[{n.upper()}]" for n in ("cls", "mask", "pad", "sep", "unk")}
    told = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    if more:
        special = {"bos_token": "[DEC]", **special}
        if len(more) > 1:
            special["additional_special_tokens"] = list(more[1:])
    _write(folder, bert, told | special, special)
    return bert.get_vocab_size()


def write_clip(folder: Path) -> int:
    """CLIP's: bytes and merges within words that end in "</w>"."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=1,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator([w for w in vocabulary() if w.isalpha()], trainer)
    learned = json.loads(bpe.to_str())["model"]
    entries = list(dict.fromkeys([*alphabet, *(f"{c}</w>" for c in alphabet), *learned["vocab"]]))
    entries += [f"spare{n}</w>" for n in range(CLIP_WORDS - 2 - len(entries))]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    of = {entry: number for number, entry in enumerate(entries)}
    merges = [tuple(m) for m in learned["merges"]]
    (folder / "vocab.json").write_text(json.dumps(of), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    begin, end = "<|startoftext|>", "<|endoftext|>"
    clip = Tokenizer(
        models.BPE(
            of, merges, unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix=""
        )
    )
    clip.normalizer = normalizers.Lowercase()
    clip.pre_tokenizer = bpe.pre_tokenizer
    clip.decoder = decoders.ByteLevel()
    clip.post_processor = processors.RobertaProcessing(
        (end, of[end]), (begin, of[begin]), trim_offsets=False, add_prefix_space=False
    )
    clip.add_special_tokens([begin, end])
    special = {"bos_token": begin, "eos_token": end, "pad_token": end, "unk_token": end}
    told = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    _write(folder, clip, told | special, special)
    return len(of)


def write_t5(folder: Path, more: tuple[str, ...] = ()) -> int:
    """T5's: pieces with scores, words begin with "▁"; ``more`` tokens are added at the end, as
    BLIP-2's <image> is.
    """
    spans = [f"<extra_id_{n}>" for n in range(T5_SPANS)]
    words = [w for w in vocabulary() if w.isalpha() and len(w) > 1 and w.islower()]
    marks = "!\"#$%&'()*+,-./0123456789:;<=>?@[]_" + LETTERS + LETTERS.upper()
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.5)]
    pieces += [(f"▁{word}", -5.0) for word in words]
    pieces += [(f"▁{word.capitalize()}", -6.0) for word in words]
    pieces += [(mark, -9.0) for mark in marks]
    spare = T5_WORDS - T5_SPANS - len(pieces)
    pieces += [(f"▁spare{n}", -20.0) for n in range(spare)]
    pieces += [(span, 0.0) for span in reversed(spans)]
    t5 = Tokenizer(models.Unigram(pieces, unk_id=2))
    t5.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    t5.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    t5.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    t5.add_special_tokens(["<pad>", "</s>", "<unk>", *spans, *more])
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    special["additional_special_tokens"] = spans
    told = {"extra_ids": T5_SPANS, "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
    _write(folder, t5, told | special, special)
    if more:
        added = {token: T5_WORDS + n for n, token in enumerate(more)}
        (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    return t5.get_vocab_size()


def _write(folder: Path, tokenizer: Tokenizer, told: dict, special: dict) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (("tokenizer_config", told), ("special_tokens_map", special)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
