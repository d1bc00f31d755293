#!/usr/bin/env python3
"""Our conversion beside upstream's: every key, every tensor, and the token ids that libllama makes of text.

For each case a folder is made (folders.py), converted by `sintra convert` and by upstream's converter, and
the two GGUF files compared: keys with order, types and values, tensors with order, shapes, types and bytes.
Allowed differences are those of docs/conversion.md: general.file_type and general.quantization_version stand
at another place, and SentencePiece scores where the folder has no tokenizer.model. Then the text of folders.py is
tokenized by the tokenizers package and by libllama from our file (tests/oracle/tokenize).

Needs SINTRA, SINTRA_BUILD (programs), SINTRA_PEERS or deps/peers/bin; exits 77 without them."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("SINTRA_ROOT", os.path.dirname(os.path.dirname(HERE)))
SINTRA = os.environ.get("SINTRA", f"{ROOT}/sintra")
TOKENIZE = os.path.join(os.environ.get("SINTRA_BUILD", f"{ROOT}/build"), "oracle", "tokenize")
os.environ.setdefault("SINTRA_PEERS", f"{ROOT}/deps/peers/bin")
PEERS = os.environ["SINTRA_PEERS"]


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


for needed in (SINTRA, TOKENIZE):
    if not os.access(needed, os.X_OK):
        skip(f"{needed} is not built")
if not os.path.exists(f"{PEERS}/convert_hf_to_gguf.py"):
    skip("upstream's converter is not there (make peers)")
sys.path[0:0] = [HERE, os.path.realpath(f"{PEERS}/../src/gguf-py")]

import folders  # noqa: E402
from folders import TEXT, byte_level, save_config, save_weights, sentencepiece, weights, write_json  # noqa: E402
from gguf import GGUFReader  # noqa: E402

SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5)

# ---- the cases: each fills a folder and returns {"pre", "types", "spm"} ------------------------------


def llama_tied(d):
    n = byte_level(d, "gpt-2", 900, ["<s>", "</s>"], bos="<s>",
                   config={"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
    c = save_config(d, "LlamaForCausalLM", dict(SMALL, vocab_size=n, tie_word_embeddings=True))
    save_weights(d, weights(c, 1, tied=True), "BF16")
    return {"pre": "gpt-2", "types": ["bf16", "f16", "f32"]}


def llama_biases(d):
    """Every bias, linear scaling, a head_dim of its own, F32 weights, sizes that no quant block divides."""
    n = byte_level(d, "smollm", 800, ["<|endoftext|>"], plain=["<think>", "\u2581x\u2581"],
                   config={"eos_token": {"content": "<|endoftext|>", "__type": "AddedToken"}, "add_prefix_space": False})
    c = save_config(d, "LlamaForCausalLM", dict(
        SMALL, vocab_size=n, head_dim=24, attention_bias=True, mlp_bias=True, rope_theta=5000.0,
        rope_scaling={"type": "linear", "factor": 2.5}))
    save_weights(d, weights(c, 2, attention_bias="qkv", output_bias=True, mlp_bias=True), "F32")
    return {"pre": "smollm", "types": ["f32", "f16", "bf16"]}


def llama3_sharded(d):
    """Frequency factors, a chat template, sampling defaults, three shards with index, F16, several EOS ids."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|reserved_0|>"]
    n = byte_level(d, "llama-bpe", 900, special, ignore_merges=True, bos="<|begin_of_text|>",
                   config={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
                           "chat_template": "{% for m in messages %}{{ m['content'] }}é{% endfor %}"})
    c = save_config(d, "LlamaForCausalLM", dict(
        SMALL, vocab_size=n + 5, head_dim=128, hidden_size=128, max_position_embeddings=131072, rope_theta=500000.0,
        bos_token_id=n - 4, eos_token_id=[n - 3, n - 2], rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}))
    write_json(d, "generation_config.json", {"temperature": 0.6, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1,
                                             "eos_token_id": [n - 3, n - 2], "do_sample": True})
    save_weights(d, weights(c, 3), "F16", shards=3)
    return {"pre": "llama-bpe", "types": ["f16", "f32"], "near": ["rope_freqs.weight"]}


def mistral_spm(d):
    n = sentencepiece(d, 700, keep_model=True, symbols=["[INST]", "[/INST]"])
    with open(f"{d}/tokenizer.json", encoding="utf-8") as f:
        t = json.load(f)
    c = save_config(d, "MistralForCausalLM", dict(SMALL, vocab_size=n + 12, sliding_window=128, rope_theta=1e6))
    del c["rope_theta"]
    save_weights(d, weights(c, 4), "BF16")
    assert [a["content"] for a in t["added_tokens"]][:3] == ["<unk>", "<s>", "</s>"]
    return {"types": ["bf16"], "spm": True, "symbols": True}


def llama_spm_json(d):
    """tokenizer.json alone: upstream has no scores then."""
    n = sentencepiece(d, 800, keep_model=False, drop=["add_prefix_space"])
    c = save_config(d, "LlamaForCausalLM", dict(SMALL, vocab_size=n, num_key_value_heads=4, pad_token_id=2))
    save_weights(d, weights(c, 5), "BF16")
    return {"types": ["bf16"], "spm": True, "no_scores": True}


def llama_spm_metaspace(d):
    n = sentencepiece(d, 750, keep_model=True, legacy=False)
    c = save_config(d, "LlamaForCausalLM", dict(SMALL, vocab_size=n))
    save_weights(d, weights(c, 6), "BF16")
    return {"types": ["bf16"], "spm": True, "first_only": True}


def codellama(d):
    n = sentencepiece(d, 700, keep_model=True, prefix=False)
    assert n < 32016
    c = save_config(d, "LlamaForCausalLM", dict(SMALL, vocab_size=32016, num_hidden_layers=1))
    save_weights(d, weights(c, 7), "BF16")
    return {"types": ["bf16"], "spm": True}


def qwen2(d):
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    n = byte_level(d, "qwen2", 900, special, plain=["<tool_call>", "</tool_call>"], config={
        "add_bos_token": False, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "chat_template": [{"name": "default", "template": "{{ a }}"}, {"name": "tool use", "template": "{{ b }}"}]})
    c = save_config(d, "Qwen2ForCausalLM", dict(
        SMALL, vocab_size=n + 7, tie_word_embeddings=True, bos_token_id=n - 5, eos_token_id=n - 3,
        rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "beta_fast": 32.0}))
    save_weights(d, weights(c, 8, attention_bias="qkv", tied=True), "BF16")
    return {"pre": "qwen2", "types": ["bf16", "f16"]}


def qwen3(d):
    """Two shards without an index, head_dim left to its default of 128, biases."""
    n = byte_level(d, "qwen2", 850, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                   config={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None})
    with open(f"{d}/chat_template.jinja", "w", encoding="utf-8", newline="") as f:
        f.write("{{ messages }}\r\n{# second line #}\n")
    c = save_config(d, "Qwen3ForCausalLM", dict(SMALL, vocab_size=n, attention_bias=True))
    c["head_dim"] = 128
    save_weights(d, weights(c, 9, attention_bias="qkv", qk_norm=True), "BF16", shards=2, index=False)
    return {"pre": "qwen2", "types": ["bf16"]}


def named(d):
    """Names and a model card; the folder itself is called like a model."""
    n = byte_level(d, "tekken", 900, ["<s>", "</s>", "[INST]"], ignore_merges=True, bos="<s>",
                   config={"bos_token": "<s>", "eos_token": "</s>"})
    c = save_config(d, "MistralForCausalLM", dict(SMALL, vocab_size=n, head_dim=16))
    c["_name_or_path"] = "some-lab/Base-Model-0.1M"
    write_json(d, "config.json", c)
    with open(f"{d}/README.md", "w", encoding="utf-8") as f:
        f.write("---\nlicense: apache-2.0\nlicense_name: the licence\nlanguage:\n- en\n- no\n- de\ntags: [chat, \"x y\"]\n"
                "pipeline_tag: text-generation\nmodel_creator: A. Person\nbase_model:\n- org-x/Great-Model-7B-v0.1\n"
                "- https://huggingface.co/org/other-13b\n- https://example.org/m\ndatasets:\n- lab/data-set\n- plain\n"
                "description: >\n  two lines\n  folded\nempty: null\n---\n# Title\n")
    save_weights(d, weights(c, 10), "BF16")
    return {"pre": "tekken", "types": ["bf16"], "ascii": True}


def smaug(d):
    n = byte_level(d, "smaug-bpe", 900, ["<s>"], config={"bos_token": "<s>", "add_bos_token": True})
    c = save_config(d, "LlamaForCausalLM", dict(SMALL, vocab_size=n, rope_scaling={"rope_type": "dynamic", "factor": 2.0}))
    save_weights(d, weights(c, 11), "BF16")
    return {"pre": "smaug-bpe", "types": ["bf16"]}


def sample(d):
    for name in os.listdir(f"{ROOT}/models/sample"):
        shutil.copy(f"{ROOT}/models/sample/{name}", d)
    return {"pre": "gpt-2", "types": ["bf16", "f16", "f32", "q8_0"]}


CASES = {
    "tiny-llama-tied": llama_tied, "biases": llama_biases, "Meta-Llama-3.1-8B-Instruct": llama3_sharded,
    "Mistral-Tiny-v0.3": mistral_spm, "spm.json": llama_spm_json, "metaspace-1b": llama_spm_metaspace,
    "CodeThing-7b-hf": codellama, "Qwen2.5-0.1M-Instruct": qwen2, "qwen3": qwen3,
    "Some-Model-0.2M-Chat-v1.5": named, "smaug": smaug, "sample": sample,
}

# ---- comparing -----------------------------------------------------------------------------------


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def values(field):
    return field.types, [p.tobytes() for p in (field.parts[i] for i in field.data)]


AT_THE_END = ("general.file_type", "general.quantization_version")


def compare_keys(ours, theirs, facts, wrong):
    apart = facts.get("apart", ())  # keys known to differ
    a = [k for k in ours.fields if not k.startswith("GGUF.") and k not in apart]
    b = [k for k in theirs.fields if not k.startswith("GGUF.") and k not in apart]
    order_a, order_b = ([k for k in x if k not in AT_THE_END] for x in (a, b))
    if sorted(a) != sorted(b):
        wrong.append(f"keys: only ours {sorted(set(a) - set(b))}, only theirs {sorted(set(b) - set(a))}")
    elif order_a != order_b and not facts.get("any_order"):
        wrong.append(f"order of keys: ours {order_a}, theirs {order_b}")
    for k in a:
        if k in theirs.fields and values(ours.fields[k]) != values(theirs.fields[k]):
            if k == "tokenizer.ggml.scores" and facts.get("no_scores"):
                continue
            va, vb = ours.fields[k].contents(), theirs.fields[k].contents()
            if isinstance(va, list) and isinstance(vb, list) and len(va) == len(vb):
                odd = [(i, x, y) for i, (x, y) in enumerate(zip(va, vb)) if x != y]
                va, vb = odd[:6], f"{len(odd)} items"
            wrong.append(f"{k}: ours {ours.fields[k].types} {va!r}, theirs {theirs.fields[k].types} {vb!r}"[:600])


def trimmed(shape):
    """As ggml counts dimensions, and as we write them: without ones at the end."""
    shape = list(shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return shape


def compare_tensors(ours, theirs, facts, wrong):
    a, b = ours.tensors, theirs.tensors
    if [t.name for t in a] != [t.name for t in b]:
        wrong.append(f"tensors: ours {[t.name for t in a][:8]}..., theirs {[t.name for t in b][:8]}...")
        return
    for x, y in zip(a, b):
        if trimmed(x.shape) != trimmed(y.shape) or x.tensor_type != y.tensor_type:
            wrong.append(f"{x.name}: ours {x.tensor_type.name} {list(x.shape)}, theirs {y.tensor_type.name} {list(y.shape)}")
        elif x.data.tobytes() != y.data.tobytes():
            near = x.name in facts.get("near", ()) and np.allclose(x.data, y.data, rtol=5e-7, atol=0)
            if not near:
                count = np.count_nonzero(x.data.view(np.uint8) != y.data.view(np.uint8))
                wrong.append(f"{x.name}: {count} bytes differ")


def convert_upstream(folder, facts, scratch):
    p = run([sys.executable, f"{HERE}/convert_upstream.py", facts.get("pre", "-"), folder, f"{scratch}/theirs",
             *facts["types"]])
    if p.returncode == 77:
        skip("there is no torch for upstream's converter (Debian package python3-torch)")
    return f"upstream's converter: {p.stderr.decode()[-800:]}" if p.returncode else None


def compare(folder, kind, facts, scratch):
    ours, theirs = f"{scratch}/ours.gguf", f"{scratch}/theirs.{kind}"
    p = run([SINTRA, "convert", folder, "-o", ours, "--type", kind.upper()])
    if p.returncode != 0:
        return [f"sintra convert: {p.stderr.decode()[-600:]}"]
    wrong = []
    a, b = GGUFReader(ours), GGUFReader(theirs)
    compare_keys(a, b, facts, wrong)
    compare_tensors(a, b, facts, wrong)
    return wrong


# ---- token ids -----------------------------------------------------------------------------------


def texts(facts):
    lines = TEXT.split("\n")
    yield from lines
    yield "\n".join(lines) if not facts.get("spm") else TEXT.replace("\r", "")
    yield " leading"
    yield "trailing  "
    yield "x" * 300 + " " * 40 + "y"
    data = os.environ.get("SINTRA_DATA")
    if data and os.path.exists(f"{data}/wikitext2-test.txt"):
        with open(f"{data}/wikitext2-test.txt", encoding="utf-8") as f:
            text = f.read(400000)
        yield from (text[i:i + 20000] for i in range(0, len(text), 20000))


def libllama_ids(gguf, texts):
    p = run([TOKENIZE, gguf], input="\0".join(texts).encode())
    if p.returncode != 0:
        raise RuntimeError(p.stderr.decode()[-400:])
    return [[int(i) for i in line.split()] for line in p.stdout.decode().split("\n")[:-1]]


def compare_ids(folder, gguf, facts):
    from tokenizers import Tokenizer

    t, wrong, count = Tokenizer.from_file(f"{folder}/tokenizer.json"), [], 0
    if facts.get("pre") == "qwen2":  # libllama has no NFC: compare on text that is NFC
        import unicodedata

        tidy = lambda s: unicodedata.normalize("NFC", s)  # noqa: E731
    elif facts.get("ascii"):  # libllama's tekken takes A-Z for upper case and a-z for lower case
        tidy = lambda s: s.encode("ascii", "ignore").decode()  # noqa: E731
    else:
        tidy = str
    inputs = [tidy(text) for text in texts(facts)]
    if facts.get("first_only"):  # Metaspace adds no second space there, libllama always does
        inputs = [text for text in inputs if not text.startswith(" ")]
    if not facts.get("spm"):
        with open(f"{folder}/tokenizer.json", encoding="utf-8") as f:
            added = [a["content"] for a in json.load(f)["added_tokens"]]
        # As upstream, we write a user-defined token's U+2581 as a space, and libllama looks for that.
        inputs += [f"before{a}after" for a in added if "\u2581" not in a]
    for text, got in zip(inputs, libllama_ids(gguf, inputs), strict=True):
        want = t.encode(text, add_special_tokens=False).ids
        count += len(want)
        if want != got:
            at = next((i for i, (x, y) in enumerate(zip(want, got)) if x != y), min(len(want), len(got)))
            wrong.append(f"ids of {text[:60]!r} differ at {at}: tokenizers {want[at:at + 8]} "
                         f"{[t.id_to_token(i) for i in want[at:at + 8]]}, libllama {got[at:at + 8]} "
                         f"{[t.id_to_token(i) for i in got[at:at + 8]]}")
    return wrong, count


# ---- all of it -----------------------------------------------------------------------------------


def report(name, wrong, tally, note=""):
    tally[bool(wrong)] += 1
    print(f"{'FAIL' if wrong else 'ok  '} {name}{note}", flush=True)
    for w in wrong[:8]:
        print(f"     {w}")


def main():
    wanted, tally = sys.argv[1:], [0, 0]
    for name, build in CASES.items():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = f"{scratch}/{name}"
            os.mkdir(folder)
            facts = build(folder)
            failure = convert_upstream(folder, facts, scratch)
            for kind in facts["types"]:
                wrong = [failure] if failure else compare(folder, kind, facts, scratch)
                report(f"{name} as {kind}", wrong, tally)
            if os.path.exists(f"{scratch}/ours.gguf"):
                wrong, count = compare_ids(folder, f"{scratch}/ours.gguf", facts)
                report(f"{name}: token ids", wrong, tally, f" ({count} tokens)")
    print(f"{tally[0]} passed, {tally[1]} failed")
    return tally[1] > 0


if __name__ == "__main__":
    sys.exit(main())
