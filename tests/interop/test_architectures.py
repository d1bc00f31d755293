#!/usr/bin/env python3
"""Every architecture that sintra converts, beside upstream's converter and through libllama.

Each small model of architectures.py is converted by both (upstream's for all of them in one process), and keys,
values, tensors and bytes are compared as in test_convert.py; then libllama loads and runs our file, and stock
mixes straight from the folder are compared with those of llama-quantize.

Needs what test_convert.py needs; exits 77 without it. Names of cases may follow."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import test_convert as convert  # noqa: E402
from architectures import CASES, build  # noqa: E402
from folders import (byte_level, fp8, roberta, save_weights, sentencepiece, unigram, wordpiece,  # noqa: E402
                     write_json)  # noqa: E402

RUN = os.path.join(os.path.dirname(convert.TOKENIZE), "run_model")
QUANTIZE = os.path.join(convert.PEERS, "llama-quantize")
SPECIAL = ["[gMASK]", "<|observation|>", "<|endoftext|>", "<|user|>", "<s>", "</s>"]


def make_tokenizers(scratch):
    made = {}
    for kind in ("bpe", "spm", "wordpiece", "roberta", "unigram"):
        os.mkdir(f"{scratch}/{kind}")
    n = byte_level(f"{scratch}/bpe", "gpt-2", 400 - len(SPECIAL), SPECIAL,
                   config={"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "GPT2Tokenizer"})
    made["bpe"] = (f"{scratch}/bpe", n)
    made["wordpiece"] = (f"{scratch}/wordpiece", wordpiece(f"{scratch}/wordpiece", 500))
    made["roberta"] = (f"{scratch}/roberta", roberta(f"{scratch}/roberta", 500))
    made["unigram"] = (f"{scratch}/unigram", unigram(f"{scratch}/unigram", 350))
    made["spm"] = (f"{scratch}/spm", sentencepiece(f"{scratch}/spm", 600, keep_model=True))
    return made


def upstream(jobs):
    lines = "".join(f"{facts['pre']} {folder} {folder}.theirs {' '.join(facts['types'])}\n"
                    for folder, facts in jobs.values())
    p = subprocess.run([sys.executable, f"{HERE}/convert_upstream.py", "--list"], input=lines.encode(),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode == 77:
        convert.skip("there is no torch for upstream's converter (Debian package python3-torch)")
    if os.environ.get("SINTRA_TRACE"):
        sys.stderr.write(p.stderr.decode())
    told = dict(line.split(" ", 1) for line in p.stdout.decode().splitlines() if " " in line)
    return {name: told.get(folder, p.stderr.decode()[-600:]) for name, (folder, _) in jobs.items()}


def compare(folder, kind, facts, twin=None):
    ours, theirs = f"{folder}.ours.{kind}", f"{twin or folder}.theirs.{kind}"
    p = convert.run([convert.SINTRA, "convert", folder, "-o", ours, "--type", kind.upper()])
    if p.returncode != 0:
        return [f"sintra convert: {p.stderr.decode()[-600:]}"]
    if facts.get("upstream_fails"):
        return []
    wrong, a, b = [], convert.GGUFReader(ours), convert.GGUFReader(theirs)
    convert.compare_keys(a, b, facts, wrong)
    convert.compare_tensors(a, b, facts, wrong)
    return wrong


def runs(folder, kind):
    p = convert.run([RUN, f"{folder}.ours.{kind}"], timeout=60)
    return [] if p.returncode == 0 else [(p.stdout + p.stderr).decode()[-500:]]


def fp8_case(scratch, tokenizers):
    """A folder in FP8; upstream's converter, whose torch here knows no FP8, gets the same numbers as floats."""
    folder, twin = f"{scratch}/fp8/model", f"{scratch}/floats/model"
    os.makedirs(folder)
    os.makedirs(twin)

    def save(_, tensors, dtype, shards):
        stored, floats = fp8(tensors, (24, 40))
        save_weights(folder, stored, "F32")
        save_weights(twin, floats, "F32")

    facts = build("qwen3moe", folder, tokenizers, save, write_json)
    for file in os.listdir(folder):
        if file != "model.safetensors":
            shutil.copy(f"{folder}/{file}", twin)
    with open(f"{folder}/config.json", encoding="utf-8") as f:
        quantized = {"quant_method": "fp8", "weight_block_size": [24, 40]}
        write_json(folder, "config.json", {**json.load(f), "quantization_config": quantized})
    return folder, twin, facts


def tensors_of(path):
    return {t.name: (t.tensor_type.name, t.data.tobytes()) for t in convert.GGUFReader(path).tensors}


def mixes(folder, kind):
    """Stock mixes go by architecture: ours of the GGUF beside llama-quantize's, and the same types from the folder."""
    source, wrong = f"{folder}.ours.{kind}", []
    for mix, ours in (("Q3_K_L", source), ("Q4_K_M", folder)):
        p = convert.run([convert.SINTRA, "quantize", ours, "--type", mix, "-o", f"{folder}.{mix}"])
        q = convert.run([QUANTIZE, source, f"{folder}.theirs.{mix}", mix, "1"])
        if p.returncode or q.returncode:
            return [f"{mix}: {(p.stderr + q.stderr).decode()[-300:]}"]
        a, b = tensors_of(f"{folder}.{mix}"), tensors_of(f"{folder}.theirs.{mix}")
        of = (lambda t: t) if ours == source else (lambda t: t[0])
        wrong += [f"{mix}: {n} ours {a.get(n, '?')[0]}, theirs {b.get(n, '?')[0]}" for n in sorted(set(a) | set(b))
                  if n not in a or n not in b or of(a[n]) != of(b[n])]
    return wrong


def names():
    """What upstream converts is all in `sintra inspect --architectures`, and nothing else is."""
    p = convert.run([sys.executable, f"{HERE}/convert_upstream.py", "--names"])
    if p.returncode:
        return [f"upstream: {p.stderr.decode()[-300:]}"]
    theirs = dict(line.split() for line in p.stdout.decode().splitlines())
    theirs["NomicBertModel"] = "-"  # one of two, by config.json
    q = convert.run([convert.SINTRA, "inspect", "--architectures", "--json"])
    rows = json.loads(q.stdout)["architectures"]
    ours = {r["name"]: r["libllama"] for r in rows}
    wrong = [f"{n} is not listed" for n in sorted(set(theirs) - set(ours))]
    wrong += [f"{n} is not upstream's" for n in sorted(set(ours) - set(theirs))]
    wrong += [f"{n} is listed twice" for n in ours if sum(r["name"] == n for r in rows) > 1]
    wrong += [f"{n}: ours {ours[n]}, theirs {theirs[n]}" for n in ours if theirs.get(n, "-") not in ("-", ours[n])]
    wrong += [f"{r['name']} has no reason" for r in rows if not r["converted"] and not r.get("reason")]
    return wrong


def main():
    if not os.access(RUN, os.X_OK):
        convert.skip(f"{RUN} is not built")
    wanted, tally, jobs = sys.argv[1:] or list(CASES), [0, 0], {}
    with tempfile.TemporaryDirectory() as scratch:
        os.mkdir(f"{scratch}/tokenizers")
        tokenizers = make_tokenizers(f"{scratch}/tokenizers")
        for name in wanted:
            folder = f"{scratch}/{name}"
            os.mkdir(folder)
            jobs[name] = folder, build(name, folder, tokenizers, save_weights, write_json)
        whole = wanted == list(CASES)
        if whole:
            folder, twin, facts = fp8_case(scratch, tokenizers)
            jobs["fp8"] = twin, facts
        told = upstream(jobs)
        if whole:
            convert.report("all of upstream's architectures are listed", names(), tally)
            wrong = compare(folder, "bf16", facts, twin) if told["fp8"] == "ok" else [f"upstream: {told['fp8']}"]
            convert.report("fp8 as bf16", wrong or runs(folder, "bf16"), tally)
            del jobs["fp8"]
        for name, (folder, facts) in jobs.items():
            for kind in facts["types"]:
                wrong = compare(folder, kind, facts) if (told[name] == "ok") != bool(facts.get("upstream_fails")) else [f"upstream: {told[name]}"]
                convert.report(f"{name} as {kind}", wrong, tally)
                if not wrong and facts.get("mixes", True) and os.access(QUANTIZE, os.X_OK):
                    convert.report(f"{name} as stock mixes", mixes(folder, kind), tally)
                if not wrong and facts.get("runs", True):
                    convert.report(f"{name} in libllama", runs(folder, kind), tally)
    print(f"{tally[0]} passed, {tally[1]} failed")
    return tally[1] > 0


if __name__ == "__main__":
    sys.exit(main())
