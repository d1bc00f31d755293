"""Small Hugging Face folders with random weights: one builder per kind of tokenizer, one for weights.

Configurations are written by transformers' own classes, tokenizers trained with the tokenizers and
sentencepiece packages, weights written here (numpy has no bfloat16, so tensors are raw bytes)."""
import io
import json
import os
import struct

import numpy as np

LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_REGEX = LLAMA3_REGEX.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN_REGEX = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXT = """The quick brown fox jumps over the lazy dog. It's what they'd said; I'm sure you'll agree, WE'VE seen it!
Der schnelle braune Fuchs springt über den faulen Hund. Größe, Straße, Übermut, ÄRGER.
Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë au delà des îles.
Съешь же ещё этих мягких французских булок, да выпей чаю. Ελληνικά: Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
我想在apple工作1314151天～ 敏捷的棕色狐狸。いろはにほへと ちりぬるを。키스의 고유조건은 입술끼리 만나야 하고.
صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت — דג סקרן שט בים מאוכזב. नहीं नज़र किसी की बुरी. កាន់តែពិសេសអាច
def fib(n: int) -> int:\n\treturn n if n < 2 else fib(n - 1) + fib(n - 2)  # 0x1F, 3.14e-10, a_b[i]++;\r\n
for (int i = 0; i < 1000; ++i) { printf("%d\\n", i * 12345678); }    // four spaces    and more\t\ttabs
🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ 🦙🦙 👨‍👩‍👧‍👦 🏳️‍🌈 e\u0301 ﬁ ½ ² Ⅷ 1 22 333 4444 55555 666666
''''''```````\"\"\"\"......!!!!!!?????? 'The 'RE you sure? 'M not, 'D \u00a0nbsp\u3000wide\u2003em   \n\n\n \n  \n\t\n end"""


def corpus():
    extra = " ".join(f"word{i} {i * 7919} anti{i % 13}body re{i % 7}play" for i in range(300))
    return [line for line in (TEXT + "\n" + extra).split("\n") for _ in range(3)]


# ---- tokenizers ----------------------------------------------------------------------------------


def byte_level(folder, kind, vocab_size, special, plain=(), ignore_merges=False, bos=None, config=None):
    """A byte-level BPE tokenizer; `special` and `plain` are added tokens, control and user-defined."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import AddedToken

    def bytes_step(use_regex):
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)

    def split(regex):
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(regex), behavior="isolated", invert=False), bytes_step(False)]
        )

    steps = {
        "gpt-2": lambda: bytes_step(True),
        "llama-bpe": lambda: split(LLAMA3_REGEX),
        "smaug-bpe": lambda: split(LLAMA3_REGEX),
        "qwen2": lambda: split(QWEN2_REGEX),
        "tekken": lambda: split(TEKKEN_REGEX),
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(True), bytes_step(True)]),
    }
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = steps[kind]()
    if kind == "qwen2":
        t.normalizer = normalizers.NFC()
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False)
    t.train_from_iterator(corpus(), trainer)
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    t.add_tokens([AddedToken(s, special=False, normalized=False) for s in plain])
    if bos:
        template = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, t.token_to_id(bos))])
        t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    else:
        t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.save(f"{folder}/tokenizer.json")
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **(config or {})})
    return t.get_vocab_size()


def sentencepiece(folder, vocab_size, keep_model, symbols=(), drop=(), legacy=True, prefix=True):
    """A SentencePiece BPE with byte fallback, and the tokenizer.json that transformers makes of it."""
    import sentencepiece as spm
    from transformers import LlamaTokenizerFast

    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, vocab_size=vocab_size, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, split_digits=True, allow_whitespace_only_pieces=True,
        user_defined_symbols=list(symbols), character_coverage=0.98, minloglevel=2, unk_surface=" \u2047 ")
    path = f"{folder}/tokenizer.model"
    with open(path, "wb") as f:
        f.write(model.getvalue())
    fast = LlamaTokenizerFast(path, legacy=legacy, add_prefix_space=prefix)
    fast.save_pretrained(folder)
    with open(f"{folder}/tokenizer_config.json", encoding="utf-8") as f:
        stated = json.load(f)
    write_json(folder, "tokenizer_config.json", {k: v for k, v in stated.items() if k not in drop})
    if not keep_model:
        os.remove(path)
    return len(fast)


def wordpiece(folder, vocab_size, lowercase=True):
    """BERT's tokenizer."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special,
                                                              show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.save(f"{folder}/tokenizer.json")
    write_json(folder, "tokenizer_config.json", {
        "tokenizer_class": "BertTokenizer", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
        "pad_token": "[PAD]", "mask_token": "[MASK]", "do_lower_case": lowercase})
    return t.get_vocab_size()


def roberta(folder, vocab_size):
    """GPT-2's splits with <s> and </s> around a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    t.save(f"{folder}/tokenizer.json")
    write_json(folder, "tokenizer_config.json", {
        "tokenizer_class": "RobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>",
        "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"})
    return t.get_vocab_size()


def unigram(folder, vocab_size):
    """XLM-RoBERTa's: a SentencePiece Unigram, of which only tokenizer.json is left."""
    import sentencepiece as spm
    from transformers import XLMRobertaTokenizerFast

    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, vocab_size=vocab_size, model_type="unigram",
        character_coverage=0.98, minloglevel=2)
    path = f"{folder}/sentencepiece.bpe.model"
    with open(path, "wb") as f:
        f.write(model.getvalue())
    fast = XLMRobertaTokenizerFast(path)
    fast.save_pretrained(folder)
    os.remove(path)
    with open(f"{folder}/tokenizer.json", encoding="utf-8") as f:
        doc = json.load(f)
    # As the model's repository has them; upstream takes the map from just there.
    doc["normalizer"] = next(n for n in doc["normalizer"]["normalizers"] if n["type"] == "Precompiled")
    doc["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}]}
    write_json(folder, "tokenizer.json", doc)
    with open(f"{folder}/tokenizer_config.json", encoding="utf-8") as f:
        write_json(folder, "tokenizer_config.json", {**json.load(f), "clean_up_tokenization_spaces": True})
    return len(fast)


# ---- weights and configuration -------------------------------------------------------------------


def write_json(folder, name, value):
    with open(f"{folder}/{name}", "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)


def to_bytes(array, dtype):
    if dtype == "F32":
        return array.astype(np.float32).tobytes()
    if dtype == "F16":
        return array.astype(np.float16).tobytes()
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def write_safetensors(path, tensors, dtype):
    """tensors: name → array, or (dtype, shape, bytes) for one that is of another type."""
    header, blobs, at = {}, [], 0
    for name, array in tensors.items():
        kind, shape, blob = array if isinstance(array, tuple) else (dtype, array.shape, to_bytes(array, dtype))
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def fp8(tensors, block, seed=1):
    """Projections as FP8 with a scale for each block: those tensors, and the same as floats."""
    rng, stored, floats = np.random.default_rng(seed), {}, {}
    for name, array in tensors.items():
        stored[name] = floats[name] = array
        if not name.endswith("_proj.weight"):
            continue
        raw = rng.integers(0, 256, array.shape).astype(np.uint8) & 0xBF  # exponents up to 0
        bits = raw.astype(int)
        exponent, mantissa = bits >> 3 & 15, bits & 7
        value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0**(exponent - 7))
        rows, cols = array.shape
        scales = rng.uniform(0.01, 0.05, (-(-rows // block[0]), -(-cols // block[1]))).astype(np.float32)
        spread = scales.repeat(block[0], 0).repeat(block[1], 1)[:rows, :cols]
        floats[name] = np.where(bits & 128, -value, value).astype(np.float32) * spread
        stored[name] = ("F8_E4M3", array.shape, raw.tobytes())
        stored[f"{name}_scale_inv"] = ("F32", scales.shape, scales.tobytes())
    return stored, floats


def weights(c, seed, attention_bias=(), output_bias=False, mlp_bias=False, qk_norm=False, tied=False):
    rng = np.random.default_rng(seed)
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    hidden, ffn = c["hidden_size"], c["intermediate_size"]
    q, kv = c["num_attention_heads"] * head, c["num_key_value_heads"] * head

    def normal(*shape):
        return rng.normal(0, 0.02, shape).astype(np.float32)

    t = {"model.embed_tokens.weight": normal(c["vocab_size"], hidden)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        t[p + "input_layernorm.weight"] = 1 + normal(hidden)
        t[p + "post_attention_layernorm.weight"] = 1 + normal(hidden)
        for name, shape in (("q", (q, hidden)), ("k", (kv, hidden)), ("v", (kv, hidden)), ("o", (hidden, q))):
            t[f"{p}self_attn.{name}_proj.weight"] = normal(*shape)
            if name in attention_bias or (name == "o" and output_bias):
                t[f"{p}self_attn.{name}_proj.bias"] = normal(shape[0])
        for name, shape in (("gate", (ffn, hidden)), ("up", (ffn, hidden)), ("down", (hidden, ffn))):
            t[f"{p}mlp.{name}_proj.weight"] = normal(*shape)
            if mlp_bias:
                t[f"{p}mlp.{name}_proj.bias"] = normal(shape[0])
        if qk_norm:
            t[p + "self_attn.q_norm.weight"] = 1 + normal(head)
            t[p + "self_attn.k_norm.weight"] = 1 + normal(head)
    t["model.norm.weight"] = 1 + normal(hidden)
    if not tied:
        t["lm_head.weight"] = normal(c["vocab_size"], hidden)
    return t


def save_weights(folder, tensors, dtype, shards=1, index=True):
    if shards == 1:
        write_safetensors(f"{folder}/model.safetensors", tensors, dtype)
        return
    names, where = list(tensors), {}
    for k in range(shards):
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        part = names[k * len(names) // shards:(k + 1) * len(names) // shards]
        write_safetensors(f"{folder}/{file}", {n: tensors[n] for n in part}, dtype)
        where.update({n: file for n in part})
    if index:
        write_json(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def save_config(folder, architecture, fields):
    """As transformers writes it: defaults left out where the class has them as defaults."""
    import transformers

    config = getattr(transformers, architecture.replace("ForCausalLM", "Config"))(
        architectures=[architecture], **fields)
    config.save_pretrained(folder)
    with open(f"{folder}/config.json", encoding="utf-8") as f:
        return json.load(f)
