#!/usr/bin/env python3
"""Writes the frozen facts of tests/schema/*.txt from upstream's type snapshots.

usage: freeze.py LLAMA_CPP_SOURCE      (the source tree of llama.cpp 0.5.0)

Upstream's tests/snapshots/*.schema say, for real models and every mix, which quantizable tensor gets another
type than the mix's default. They have no shapes, and leave out tensors that never differ. Row lengths of the
architectures are added here from the models' public configurations; the expert tensors that a snapshot shows in some
layers only are completed to all layers that have ffn_down_exps. Run once per release of llama.cpp; the test
reads only what is written here.
"""
import collections
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# architecture, row length of most tensors, then those of others; heads as the first layer has them
MODELS = {
    "deepseek-v3.1": ("deepseek2", 7168, {"attn_k_b.weight": 128, "attn_output.weight": 16384,
                      "attn_q_b.weight": 1536, "ffn_down.weight": 18432,
                      "ffn_down_exps.weight": 2048, "ffn_down_shexp.weight": 2048}),
    "gemma-3-4b-it": ("gemma3", 2560, {"attn_output.weight": 2048, "ffn_down.weight": 10240}),
    "glm-4.6v": ("glm4moe", 4096, {"attn_output.weight": 12288, "ffn_down.weight": 10944,
                 "ffn_down_exps.weight": 1408, "ffn_down_shexp.weight": 1408}),
    "gpt-oss-120b": ("gpt-oss", 2880, {"attn_output.weight": 4096}),
    "meta-llama-3.1-70b-instruct": ("llama", 8192, {"ffn_down.weight": 28672}),
    "nvidia-nemotron-3-nano-30b-a3b": ("nemotron_h_moe", 2688, {"attn_output.weight": 4096,
                 "ffn_down_exps.weight": 1856, "ffn_down_shexp.weight": 3712, "ssm_out.weight": 4096}),
    "qwen3-0.6b": ("qwen3", 1024, {"attn_output.weight": 2048, "ffn_down.weight": 3072}),
    "qwen3-14b": ("qwen3", 5120, {"ffn_down.weight": 17408}),
    "qwen3-coder-next": ("qwen3next", 2048, {"attn_output.weight": 4096, "ffn_down_exps.weight": 512,
                 "ffn_down_shexp.weight": 512, "ssm_out.weight": 4096}),
    "qwen3.5-397b-a17b": ("qwen35moe", 4096, {"attn_output.weight": 8192, "ffn_down_exps.weight": 1024,
                 "ffn_down_shexp.weight": 1024, "ssm_out.weight": 8192}),
    "qwen3.6-27b": ("qwen35", 5120, {"attn_output.weight": 6144, "ffn_down.weight": 17408,
                 "ssm_out.weight": 6144}),
    "step-3.5-flash": ("step35", 4096, {"attn_output.weight": 8192, "ffn_down.weight": 11264,
                 "ffn_down_exps.weight": 1280, "ffn_down_shexp.weight": 1280}),
}
STACKED = ("_exps.weight", "attn_k_b.weight")
COMPLETED = ("ffn_gate_exps.weight", "ffn_up_exps.weight")


def split(name):
    m = re.fullmatch(r"blk\.(\d+)\.(.*)", name)
    return (int(m.group(1)), m.group(2)) if m else (-1, name)


def ranges(layers):
    layers, out = sorted(layers), []
    if layers == [-1]:
        return "-"
    for n in layers:
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


def read(path):
    facts, mixes, mix = {}, collections.OrderedDict(), None
    for line in open(path):
        line = line.strip()
        if line.startswith("# n_embd"):
            facts = dict(kv.split("=") for kv in line[2:].split(", "))
        elif line.startswith("["):
            name, default = re.fullmatch(r"\[(\S+)\] (\S+)", line).groups()
            mix = mixes[name] = (default, {})
        elif line and not line.startswith("#"):
            tensor, kind = line.rsplit(" ", 1)
            mix[1][tensor] = kind
    return facts, mixes


def grouped(names):
    by_suffix = collections.defaultdict(set)
    for name in names:
        layer, suffix = split(name)
        by_suffix[suffix].add(layer)
    return by_suffix


def freeze(model, path):
    arch, row, other_rows = MODELS[model]
    facts, mixes = read(path)
    tensors = grouped(set().union(*[types for _, types in mixes.values()]))
    for suffix in COMPLETED:
        if suffix in tensors:
            tensors[suffix] = tensors["ffn_down_exps.weight"]
    out = [
        f"# Types per tensor of {model}; made by freeze.py from tests/snapshots/{model}.schema of llama.cpp 0.5.0.",
        f"model {arch} {facts['n_layer']} {facts['n_head']} {facts['n_head_kv']} {facts.get('n_expert', 0)}",
    ]
    for suffix in sorted(tensors):
        depth = 8 if suffix.endswith(STACKED) else 1
        out.append(f"tensor {ranges(tensors[suffix])} {suffix} {other_rows.get(suffix, row)} {depth}")
    for name, (default, types) in mixes.items():
        out.append(f"mix {name} {default}")
        by_kind = collections.defaultdict(list)
        for suffix, layers in sorted(grouped(types).items()):
            per_type = collections.defaultdict(set)
            for layer in layers:
                tensor = suffix if layer < 0 else f"blk.{layer}.{suffix}"
                per_type[types[tensor]].add(layer)
            for kind, its in sorted(per_type.items()):
                by_kind[(kind, ranges(its))].append(suffix)
        for (kind, where), suffixes in sorted(by_kind.items()):
            out.append(f"type {kind} {where} {' '.join(suffixes)}")
    with open(os.path.join(HERE, model + ".txt"), "w") as f:
        f.write("\n".join(out) + "\n")
    return len(mixes)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = os.path.join(sys.argv[1], "tests", "snapshots")
    for model in sorted(MODELS):
        n = freeze(model, os.path.join(folder, model + ".schema"))
        print(f"{model}: {n} mixes")


main()
