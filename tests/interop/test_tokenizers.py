#!/usr/bin/env python3
"""Tokenizers of every kind: the ids that libllama makes with our file beside those of the tokenizers package.

For each case a small tokenizer is trained with a model family's own normalizer and pre-tokenizer, put beside one
shared set of weights, converted by `sintra convert` and loaded by libllama (tests/oracle/tokenize). Expressions are
those of the models' tokenizer.json files, as quoted in src/llama-vocab.cpp of llama.cpp 0.5.0 and in public code.
Upstream's converter is not run here: it knows byte-level tokenizers by a hash of their ids (test_convert.py runs it).

    test_tokenizers.py [CASE...]

Needs SINTRA and SINTRA_BUILD (programs) and the gguf package of `make peers`; exits 77 without them."""
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("SINTRA_ROOT", os.path.dirname(os.path.dirname(HERE)))
SINTRA = os.environ.get("SINTRA", f"{ROOT}/sintra")
TOKENIZE = os.path.join(os.environ.get("SINTRA_BUILD", f"{ROOT}/build"), "oracle", "tokenize")
for needed in (SINTRA, TOKENIZE, f"{ROOT}/deps/peers/src/gguf-py"):
    if not os.access(needed, os.X_OK):
        print(f"skipped: {needed} is not built")
        sys.exit(77)
sys.path[0:0] = [HERE, os.path.realpath(f"{ROOT}/deps/peers/src/gguf-py")]

from gguf import GGUFReader  # noqa: E402
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, trainers  # noqa: E402

from architectures import build  # noqa: E402
from folders import TEXT, corpus, save_weights, weights, write_json  # noqa: E402

ROWS = 1000  # vocab_size of every folder; ids without a token are filled
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 32,
          "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": ROWS,
          "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}

# ---- byte-level pre-tokenizers ---------------------------------------------------------------------

TAILS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def cl100k(numbers):
    return rf"{TAILS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}"


def cased(tail, numbers):
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{tail}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{tail}|"
            rf"{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}")


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


DIGITS, DIGIT_RUNS = ({"type": "Digits", "individual_digits": single} for single in (True, False))
BYTES, GPT2 = byte_level(False), byte_level(True)
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
CJK = "[一-龥぀-ゟ゠-ヿ]+"
MARKS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
DEEPSEEK = MARKS + "[A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
LETTERS = ("A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ")
HAN_UPPER, HAN_LOWER = (rf"[{c}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^\p{{Han}}]]" for c in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
KIMI = (rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{HAN_UPPER}*{HAN_LOWER}+{TAILS}?|"
        rf"[^\r\n\p{{L}}\p{{N}}]?{HAN_UPPER}+{HAN_LOWER}*{TAILS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}")
O200K = cased(TAILS + "?", r"\p{N}{1,3}")
JAIS2 = cl100k(r"\p{N}{1,3}").replace(SPACES, r"\s*[\r\n]+|" + "".join(
    rf"\s{{{n}}}(?!\S)|" for n in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2")) + r"\s{1}")

# name: (steps, ignore_merges, what libllama splits in another way and the texts leave out: an expression, or "ascii" for all but ASCII)
FAMILIES = {
    "gpt-2": ([GPT2], False, ""),
    "llama-bpe": ([split(cl100k(r"\p{N}{1,3}")), BYTES], True, ""),
    "smaug-bpe": ([split(cl100k(r"\p{N}{1,3}"), "Removed", True), BYTES], False, ""),
    "qwen2": ([split(cl100k(r"\p{N}")), BYTES], False, ""),
    "qwen35": ([split(cl100k(r"\p{N}").replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(
        r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")), BYTES], False, ""),
    "smollm": ([DIGITS, GPT2], False, ""),
    "falcon": ([{"type": "Punctuation", "behavior": "Contiguous"}, GPT2, DIGIT_RUNS, split("[0-9][0-9][0-9]")],
               False, ""),
    "deepseek-llm": ([split("[\r\n]"), split(f"\\s?[{LETTERS}]+"), split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"), split("\\s+$"),
                      split("[一-龥ࠀ-一가-퟿]+"), DIGITS, BYTES], False, "ascii"),
    "deepseek-coder": ([split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), DIGITS,
                        BYTES], False, ""),
    "deepseek-v3": ([split(r"\p{N}{1,3}"), split(CJK), split(f"{DEEPSEEK}[\r\n]*|{SPACES}"), BYTES], False, ""),
    "spark2_5": ([split(r"\p{N}{1,3}"), split(CJK), split(DEEPSEEK + r"|[\r\n]|\s+(?!\S)|\s+"), split(r"\p{N}"), BYTES],
                 False, ""),
    "youtu": ([split("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + CJK), split(cased(TAILS + "?", r"\p{N}")), BYTES],
              True, ""),
    "tekken": ([split(cased("", r"\p{N}")), BYTES], True, "ascii"),
    "gpt-4o": ([split(O200K), BYTES], False, "ascii"),
    "tiny_aya": ([split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K), BYTES], False, "1314151"),
    "bloom": ([split(BLOOM), BYTES], False, ""),
    "viking": ([split(BLOOM), DIGITS, BYTES], False, ""),
    "chameleon": ([split("<sentinel:[0-9]+>"), split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"), split("([\\t\\n]|    |  )"),
                   DIGITS, {"type": "Punctuation", "behavior": "Isolated"}, GPT2], False, ""),
    "kimi-k2": ([split(KIMI), BYTES], True, "ascii"),
    "superbpe": ([split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), BYTES], False, ""),
    "afmoe": ([split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), split(
        "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"),
        split(f"{DEEPSEEK}[\r\n]*|{SPACES}"), BYTES], False, ""),
    "bailingmoe": ([split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|"
                          r"\s+(?!\S)|\s+"), BYTES], False, ""),
    "seed-coder": ([split(rf"{TAILS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}"),
                    BYTES], False, ""),
    "ufakzeka": ([split(cl100k(r"\p{N}").removeprefix(TAILS + "|")), BYTES], False, ""),
    "laguna": ([split("[^\n]+|[\n]+"), split(cl100k(r"\p{N}")), BYTES], False, ""),
    "exaone-moe": ([split(rf"{TAILS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}|"
                          r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"), BYTES], False, ""),
    "minicpm5": ([split(r"\p{N}{1,3}"), split(cl100k(r"\p{N}+")), BYTES], True, ""),
    "jais-2": ([split(JAIS2), BYTES], False, ""),
}


def train_bytes(steps, ignore_merges):
    doc = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
           "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
           "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
           "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
           "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                     "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                     "ignore_merges": False, "vocab": {}, "merges": []}}
    t = Tokenizer.from_str(json.dumps(doc))
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    t.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    doc = json.loads(t.to_str())
    doc["model"]["ignore_merges"] = ignore_merges
    return doc


def family(name):
    def fill(folder):
        steps, ignore_merges, lacks = FAMILIES[name]
        write_json(folder, "tokenizer.json", train_bytes(steps, ignore_merges))
        write_json(folder, "tokenizer_config.json", {"eos_token": "<|end|>", "add_bos_token": False})
        return {"keys": {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": name}, "lacks": lacks}
    return fill


# ---- SentencePiece and WordPiece ------------------------------------------------------------------


def train_pieces(path, kind, **options):
    import sentencepiece as spm

    with open(path, "wb") as f:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()), model_writer=f, model_type=kind, minloglevel=2,
            **{"vocab_size": 800 if kind == "bpe" else 350, "character_coverage": 0.98, **options})
    return spm.SentencePieceProcessor(model_file=path)


def scored(folder):
    """tokenizer.model alone, BPE with byte fallback, user-defined pieces and a token beyond them."""
    p = train_pieces(f"{folder}/tokenizer.model", "bpe", byte_fallback=True, normalization_rule_name="identity",
                     remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True,
                     user_defined_symbols=["[INST]", "<sep>"], unk_id=0, bos_id=1, eos_id=2, pad_id=3)
    write_json(folder, "tokenizer_config.json", {"added_tokens_decoder": {
        "0": {"content": "<unk>", "special": True}, "1": {"content": "<s>", "special": True},
        "800": {"content": "<|im_end|>", "special": True}}, "eos_token": "<|im_end|>", "add_bos_token": True})
    return {"encode": p.encode, "name": p.id_to_piece, "keys": {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.padding_token_id": 3, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": None}, "at": {4: ("[INST]", 4), 5: ("<sep>", 4), 1: ("<s>", 3),
                                                          800: ("<|im_end|>", 3), 801: ("[PAD801]", 5)}}


def scored_gemma(folder):
    """Gemma's layout: no space in front, its tokenizer.json splits at spaces that are no more there."""
    p = train_pieces(f"{folder}/tokenizer.model", "bpe", byte_fallback=True, normalization_rule_name="identity",
                     remove_extra_whitespaces=False, add_dummy_prefix=False, allow_whitespace_only_pieces=True)
    pieces = {p.id_to_piece(i): i for i in range(len(p))}
    write_json(folder, "tokenizer.json", {
        "added_tokens": [{"id": i, "content": t, "special": True} for i, t in enumerate(["<unk>", "<s>", "</s>"])],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "model": {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>", "vocab": pieces,
                  "merges": []}})
    return {"encode": p.encode, "name": p.id_to_piece, "keys": {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": False}}


def gemma4(folder):
    """Gemma 4's and Sarvam's layout, tokenizer.json alone: BPE with byte fallback over marked spaces."""
    from tokenizers import models, normalizers

    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Replace(" ", "\u2581")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=950, limit_alphabet=150, max_token_length=12, show_progress=False,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", *bytes_]))
    doc = json.loads(t.to_str())
    doc["added_tokens"] = [a for a in doc["added_tokens"] if a["content"] not in bytes_]
    write_json(folder, "tokenizer.json", doc)
    write_json(folder, "tokenizer_config.json", {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"})
    return {"keys": {"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": False}}


def whitespace(lowercase, step):
    """Jina v2's Chinese model: merges of characters in words, which end at spaces that are dropped."""
    def fill(folder):
        from tokenizers import models, normalizers

        t = Tokenizer(models.BPE(unk_token="<unk>"))
        t.normalizer = normalizers.Lowercase() if lowercase else normalizers.NFC()
        t.pre_tokenizer = step()
        t.train_from_iterator(corpus(), trainers.BpeTrainer(
            vocab_size=980, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False))
        t.save(f"{folder}/tokenizer.json")
        write_json(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
        known = {c for token in t.get_vocab() for c in token}
        # A character that the vocabulary lacks is <unk> there, and libllama leaves it out.
        lacks = "|".join({re.escape(c) for c in TEXT + TEXT.lower() if not c.isspace() and c.lower() not in known})
        return {"lacks": lacks, "keys": {"tokenizer.ggml.model": "whitespace", "tokenizer.ggml.pre": "whitespace",
                                         "tokenizer.ggml.normalizer.lowercase": True if lowercase else None}}
    return fill


def unigram(folder):
    """spiece.model alone, with its normalization of characters and spaces."""
    p = train_pieces(f"{folder}/spiece.model", "unigram", unk_id=2, pad_id=0, eos_id=1, bos_id=-1)
    return {"encode": p.encode, "name": p.id_to_piece, "score": p.get_score, "keys": {
        "tokenizer.ggml.model": "t5", "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True}}


def unigram_odd_ids(folder):
    p = train_pieces(f"{folder}/tokenizer.model", "unigram", remove_extra_whitespaces=False,
                     normalization_rule_name="nfkc", unk_id=5, bos_id=3, eos_id=4, user_defined_symbols=["<x>", "<y>"])
    return {"encode": p.encode, "name": p.id_to_piece, "score": p.get_score, "lacks": r"^\s+$", "keys": {
        "tokenizer.ggml.unknown_token_id": 5, "tokenizer.ggml.bos_token_id": 3, "tokenizer.ggml.eos_token_id": 4,
        "tokenizer.ggml.remove_extra_whitespaces": False}}


def unigram_json(folder):
    """The tokenizer.json that transformers makes of T5's."""
    from transformers import T5TokenizerFast

    train_pieces(f"{folder}/spiece.model", "unigram", unk_id=2, pad_id=0, eos_id=1, bos_id=-1)
    T5TokenizerFast(f"{folder}/spiece.model", extra_ids=3, add_prefix_space=True).save_pretrained(folder)
    os.remove(f"{folder}/spiece.model")
    return {"keys": {"tokenizer.ggml.model": "t5", "tokenizer.ggml.add_space_prefix": True,
                     "tokenizer.ggml.remove_extra_whitespaces": True, "tokenizer.ggml.eos_token_id": 1,
                     "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.add_eos_token": True},
            "at": {2: ("<unk>", 2), 0: ("<pad>", 3)}}


def fairseq(folder):
    """XLM-RoBERTa: other ids than the model's own, in the file and in tokenizer.json."""
    from transformers import XLMRobertaTokenizerFast

    train_pieces(f"{folder}/sentencepiece.bpe.model", "unigram")
    fast = XLMRobertaTokenizerFast(f"{folder}/sentencepiece.bpe.model")
    return {"encode": lambda text: fast.backend_tokenizer.encode(text, add_special_tokens=False).ids,
            "name": fast.backend_tokenizer.id_to_token, "at": {
                0: ("<s>", 3), 1: ("<pad>", 3), 2: ("</s>", 3), 3: ("<unk>", 2), 351: ("<mask>", 3)}}


def fairseq_json(folder):
    from transformers import XLMRobertaTokenizerFast

    facts = fairseq(folder)
    XLMRobertaTokenizerFast(f"{folder}/sentencepiece.bpe.model").save_pretrained(folder)
    os.remove(f"{folder}/sentencepiece.bpe.model")
    return {**facts, "keys": {"tokenizer.ggml.unknown_token_id": 3, "tokenizer.ggml.mask_token_id": 351,
                              "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}}


def wordpiece(lowercase):
    def fill(folder):
        from tokenizers import decoders, models, normalizers, processors

        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.decoder = decoders.WordPiece()
        t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=900, special_tokens=special,
                                                                  show_progress=False))
        t.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        t.save(f"{folder}/tokenizer.json")
        write_json(folder, "tokenizer_config.json", {
            "tokenizer_class": "BertTokenizer", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
            "pad_token": "[PAD]", "mask_token": "[MASK]"})
        return {"keys": {"tokenizer.ggml.model": "bert", "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 3,
                         "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.seperator_token_id": 3,
                         "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.mask_token_id": 4,
                         "tokenizer.ggml.token_type_count": 1, "tokenizer.ggml.normalizer.lowercase": lowercase},
                "at": {4: ("[MASK]", 3)},
                # No limit on the length of words; accents are stripped by another table than Python's.
                "lacks": "x{101,}" + ("|[가-힣\u0600-\u06ff\u0900-\u097f\u1780-\u17ff]" if lowercase else "")}
    return fill


def token_bytes(text):
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    back = {c: b for b, c in bytes_to_unicode().items()}
    return bytes(back[c] for c in text)


def tekken(listed):
    """tekken.json, with its list of special tokens or as the first ones were, without."""
    def fill(folder):
        steps, _, lacks = FAMILIES["tekken"]
        doc = train_bytes(steps, True)
        doc["added_tokens"] = []
        pieces = sorted(doc["model"]["vocab"], key=doc["model"]["vocab"].get)
        first = 40
        special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
        vocab = [{"rank": i, "token_bytes": base64.b64encode(token_bytes(p)).decode(), "token_str": p}
                 for i, p in enumerate(pieces)]
        t = {"config": {"pattern": steps[0]["pattern"]["Regex"], "num_vocab_tokens": len(pieces) + 5,
                        "default_vocab_size": len(pieces) + first, "default_num_special_tokens": first, "version": "v7"},
             "vocab": vocab + [{"rank": len(pieces), "token_bytes": "eHl6enk=", "token_str": "xyzzy"}]}
        if listed:
            t["special_tokens"] = [{"rank": i, "token_str": s, "is_control": True} for i, s in enumerate(special)]
        write_json(folder, "tekken.json", t)
        write_json(folder, "config.json", {**CONFIG, "bos_token_id": 1, "eos_token_id": 2})
        t = Tokenizer.from_str(json.dumps(doc))
        return {"encode": lambda text: [i + first for i in t.encode(text, add_special_tokens=False).ids],
                "name": lambda i: t.id_to_token(i - first), "lacks": lacks,
                "keys": {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tekken", "tokenizer.ggml.bos_token_id": 1,
                         "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
                         "tokenizer.ggml.add_bos_token": True,
                         "tokenizer.ggml.padding_token_id": None if listed else 11},
                "at": {3: ("[INST]", 3), 39: ("<SPECIAL_39>", 3), 11: ("<SPECIAL_11>" if listed else "<pad>", 3)}}
    return fill


def glm_ranks(folder):
    """GLM-4's tokenizer.model: base64 and ranks, which no file says how to split for."""
    doc = train_bytes([split(cl100k(r"\p{N}{1,3}")), BYTES], True)
    pieces = sorted(doc["model"]["vocab"], key=doc["model"]["vocab"].get)
    with open(f"{folder}/tokenizer.model", "w", encoding="ascii") as f:
        f.writelines(f"{base64.b64encode(token_bytes(p)).decode()} {i}\n" for i, p in enumerate(pieces))
    special = ["<|endoftext|>", "[gMASK]", "<|user|>"]
    write_json(folder, "tokenizer_config.json", {"added_tokens_decoder": {
        str(len(pieces) + i): {"content": s, "special": True} for i, s in enumerate(special)}})
    os.mkdir(f"{folder}.glm")
    build("chatglm", f"{folder}.glm", {"bpe": (folder, CONFIG["vocab_size"])}, save_weights, write_json)
    for file in ("config.json", "model.safetensors"):
        os.replace(f"{folder}.glm/{file}", f"{folder}/{file}")
    doc["added_tokens"] = []
    t, n = Tokenizer.from_str(json.dumps(doc)), len(pieces)
    return {"encode": lambda text: t.encode(text, add_special_tokens=False).ids, "name": t.id_to_token,
            "keys": {"tokenizer.ggml.pre": "glm4", "tokenizer.ggml.eos_token_id": n, "tokenizer.ggml.eot_token_id": n + 2},
            "at": {n + 1: ("[gMASK]", 3)}}


def old_files(folder):
    """vocab.json and merges.txt, as GPT-2 and DialoGPT have them."""
    doc = train_bytes([GPT2], False)
    model = doc["model"]
    vocab = {**model["vocab"], "<|endoftext|>": len(model["vocab"])}
    write_json(folder, "vocab.json", vocab)
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]))
    write_json(folder, "config.json", {**CONFIG, "bos_token_id": len(vocab) - 1, "eos_token_id": len(vocab) - 1})
    t = Tokenizer.from_str(json.dumps(doc))
    return {"encode": lambda text: t.encode(text, add_special_tokens=False).ids, "name": t.id_to_token, "keys": {
        "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.eos_token_id": len(vocab) - 1},
        "at": {len(vocab) - 1: ("<|endoftext|>", 3)}}


CASES = {f"pre/{name}": family(name) for name in FAMILIES} | {
    "words": whitespace(False, pre_tokenizers.Whitespace), "words/lowercase": whitespace(True, pre_tokenizers.Whitespace),
    "words/split": whitespace(False, pre_tokenizers.WhitespaceSplit), "json/gemma4": gemma4,
    "spm/bpe": scored, "spm/bpe-gemma": scored_gemma, "spm/unigram": unigram, "spm/unigram-odd-ids": unigram_odd_ids,
    "spm/unigram-json": unigram_json, "spm/fairseq": fairseq, "spm/fairseq-json": fairseq_json,
    "vocab.json": old_files, "tekken.json": tekken(True), "tekken.json/first": tekken(False), "glm/ranks": glm_ranks, "wordpiece/uncased": wordpiece(True), "wordpiece/cased": wordpiece(False),
}

# ---- all of it -------------------------------------------------------------------------------------


def texts(facts):
    lines = TEXT.split("\n")
    for text in [*lines, TEXT, " leading", "trailing  ", "x" * 300 + " " * 40 + "y", "1 12 123 1234 12345 1234567 1.5"]:
        text = unicodedata.normalize("NFC", text)
        lacks = facts.get("lacks")
        yield text.encode("ascii", "ignore").decode() if lacks == "ascii" else re.sub(lacks, "", text) if lacks else text


def run(command, **options):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if p.returncode != 0:
        raise RuntimeError(f"{os.path.basename(command[0])} {command[1]}: {p.stderr.decode()[-500:].strip()}")
    return p.stdout.decode()


def key_faults(gguf, facts):
    fields = GGUFReader(gguf).fields
    keys = facts.get("keys", {})
    found = {k: fields[k].contents() if k in fields else None for k in keys}
    wrong = [f"{k}: {found[k]!r}, expected {v!r}" for k, v in keys.items() if found[k] != v]
    for i, expected in facts.get("at", {}).items():
        token = tuple(fields["tokenizer.ggml." + k].contents(i) for k in ("tokens", "token_type"))
        if token != expected:
            wrong.append(f"token {i}: {token!r}, expected {expected!r}")
    return wrong


def same_score(a, b, score, name_of):
    """Two segmentations of equal probability: which one is found first is nobody's business."""
    texts = ["".join(map(name_of, ids)) for ids in (a, b)]
    return texts[0] == texts[1] and abs(sum(map(score, a)) - sum(map(score, b))) < 1e-3


def id_faults(encode, gguf, inputs, name_of, score=None):
    printed = run([TOKENIZE, gguf], input="\0".join(inputs).encode())
    got_all = [[int(i) for i in line.split()] for line in printed.split("\n")[:-1]]
    wrong, count = [], 0
    for text, got in zip(inputs, got_all, strict=True):
        want = encode(text)
        count += len(want)
        if want != got and not (score and same_score(want, got, score, name_of)):
            at = next((i for i, (x, y) in enumerate(zip(want, got)) if x != y), min(len(want), len(got)))
            wrong.append(f"ids of {text[:50]!r} differ at {at}: wanted {[name_of(i) for i in want[max(at - 2, 0):at + 6]]}, "
                         f"libllama {[name_of(i) for i in got[max(at - 2, 0):at + 6]]}")
    return wrong, count


def check(name, shared, scratch):
    folder, gguf = f"{scratch}/model", f"{scratch}/model.gguf"
    shutil.copytree(shared, folder, symlinks=True)
    facts = CASES[name](folder)
    run([SINTRA, "convert", folder, "-o", gguf, "--type", "BF16"])
    wrong = key_faults(gguf, facts)
    if "encode" not in facts:
        t = Tokenizer.from_file(f"{folder}/tokenizer.json")
        facts.update(encode=lambda text: t.encode(text, add_special_tokens=False).ids, name=t.id_to_token)
    faults, count = id_faults(facts["encode"], gguf, list(texts(facts)), facts["name"], facts.get("score"))
    return wrong + faults, count


def undocumented():
    """Names of pre-tokenizers that libllama knows and docs/conversion.md says nothing about."""
    with open(f"{ROOT}/deps/peers/src/src/llama-vocab.cpp", encoding="utf-8") as f:
        names = set(re.findall(r'tokenizer_pre == "([^"]+)"', f.read()))
    with open(f"{ROOT}/docs/conversion.md", encoding="utf-8") as f:
        section = f.read().split("## Tokenizers")[1].split("\n## ")[0]
    known = set(re.findall(r"[\w.-]+", section))
    return [f"{n} is in libllama and not in docs/conversion.md" for n in sorted(names - known)] if names else ["no names"]


def make_shared(folder):
    os.mkdir(folder)
    write_json(folder, "config.json", CONFIG)
    save_weights(folder, weights(CONFIG, 1, tied=True), "BF16")


def main():
    wanted, tally = sys.argv[1:], [0, 0]
    with tempfile.TemporaryDirectory() as root:
        make_shared(f"{root}/shared")
        for name in CASES:
            if wanted and not any(w in name for w in wanted):
                continue
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                try:
                    wrong, count = check(name, f"{root}/shared", scratch)
                except RuntimeError as e:
                    wrong, count = [str(e)], 0
            tally[bool(wrong)] += 1
            print(f"{'FAIL' if wrong else 'ok  '} {name} ({count} tokens)", flush=True)
            for w in wrong[:6]:
                print(f"     {w}")
    if not wanted:
        wrong = undocumented()
        tally[bool(wrong)] += 1
        print(f"{'FAIL' if wrong else 'ok  '} every name of libllama is documented", *wrong, sep="\n     ")
    print(f"{tally[0]} passed, {tally[1]} failed")
    return tally[1] > 0


if __name__ == "__main__":
    sys.exit(main())
