#!/usr/bin/env python3
"""Quantized checkpoints of the sample model, converted to F32 beside the floats that numpy makes of them.

Every case of quantized.py is written as a Hugging Face folder, and a twin of it with plain F32 weights; sintra's
conversions of both to F32 must be the same bytes. gpt-oss keeps its MXFP4, as with upstream's converter. Where upstream's converter reads the format too (GPTQ of 2, 4 and
8 bits), its conversion of the quantized folder must be the same as well. Names of cases may follow."""
import json
import os
import shutil
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import test_convert as convert  # noqa: E402
from folders import write_json, write_safetensors  # noqa: E402
from quantized import CASES  # noqa: E402

SAMPLE = os.path.join(convert.ROOT, "models", "sample")


def sample_weights():
    """Name → float32 array; its tensors are BF16."""
    with open(f"{SAMPLE}/model.safetensors", "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(length)), f.read()
    weights = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            bits = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16
            weights[name] = bits.view(np.float32).reshape(t["shape"])
    return weights


def folder_of(path, tensors, config):
    os.makedirs(path)
    for file in os.listdir(SAMPLE):
        if file not in ("model.safetensors", "config.json"):
            shutil.copy(f"{SAMPLE}/{file}", path)
    write_json(path, "config.json", config)
    write_safetensors(f"{path}/model.safetensors", tensors, "F32")


def to_gguf(folder, out):
    """By a recipe, which unlike `convert` keeps no blocks."""
    write_json(os.path.dirname(out), "f32.json", {"sintra_recipe": 1, "base": "F32"})
    p = convert.run([convert.SINTRA, "quantize", folder, "-o", out, "--recipe", f"{os.path.dirname(out)}/f32.json"])
    return p.stderr.decode() if p.returncode == 0 else f"failed: {p.stderr.decode()[-400:]}"


def differences(a, b):
    """By name: upstream's converter moves to the end what it unpacks."""
    wrong, pair = [], [convert.GGUFReader(path) for path in (a, b)]
    for reader in pair:
        reader.tensors.sort(key=lambda t: t.name)
    convert.compare_tensors(*pair, {}, wrong)
    return wrong


def upstream_differences(folder, ours, scratch):
    p = convert.run([sys.executable, f"{HERE}/convert_upstream.py", "gpt-2", folder, f"{scratch}/theirs", "f32"])
    if p.returncode == 77 or b"no attribute 'itemsize'" in p.stderr:
        return None
    if p.returncode:
        return [f"upstream's converter: {p.stderr.decode()[-400:]}"]
    return [f"upstream: {w}" for w in differences(ours, f"{scratch}/theirs.f32")]


def one(name, weights, config, tally):
    linear = {n: w for n, w in weights.items() if n.endswith("_proj.weight")}
    stored, floats, quantization = CASES[name](linear)
    rest = {n: w for n, w in weights.items() if n not in linear}
    with tempfile.TemporaryDirectory() as scratch:
        folder_of(f"{scratch}/quantized", {**rest, **stored}, {**config, "quantization_config": quantization})
        folder_of(f"{scratch}/floats", {**rest, **floats}, config)
        told = to_gguf(f"{scratch}/quantized", f"{scratch}/a.gguf")
        plain = to_gguf(f"{scratch}/floats", f"{scratch}/b.gguf")
        if told.startswith("failed") or plain.startswith("failed"):
            return convert.report(name, [told, plain], tally)
        wrong = differences(f"{scratch}/a.gguf", f"{scratch}/b.gguf")
        if told.count("already quantized") != 1 or "already quantized" in plain:
            wrong.append(f"the warning: {told!r}, of floats {plain!r}")
        note = ""
        if quantization["quant_method"] == "gptq" and quantization["bits"] != 3:
            beside = upstream_differences(f"{scratch}/quantized", f"{scratch}/a.gguf", scratch)
            note = " (upstream's converter wants torch 2)" if beside is None else " (and upstream's converter)"
            wrong += beside or []
    convert.report(name, wrong, tally, note)


def gptoss_folders(scratch):
    """gpt-oss as it is published: experts in blocks along their inputs, where its floats have them transposed."""
    from architectures import build
    from test_architectures import make_tokenizers

    folder, twin, stored, floats = f"{scratch}/quantized", f"{scratch}/floats", {}, {}
    os.mkdir(folder)
    build("gptoss", folder, make_tokenizers(scratch), lambda _, t, *rest, **more: floats.update(t), write_json)
    for name, w in list(floats.items()):
        stored[name] = w
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, inputs, outputs = w.shape
            pieces, values, _ = CASES["mxfp4"]({name: w.transpose(0, 2, 1).reshape(-1, inputs)})
            del stored[name]
            for piece, (kind, shape, blob) in pieces.items():
                stored[piece] = kind, (experts, outputs, *shape[1:]), blob
            floats[name] = values[name].reshape(experts, outputs, inputs).transpose(0, 2, 1)
    shutil.copytree(folder, twin)
    with open(f"{folder}/config.json", encoding="utf-8") as f:
        write_json(folder, "config.json", {**json.load(f), "quantization_config": {"quant_method": "mxfp4"}})
    # Shards, so that upstream's order of what it moves and what it computes shows.
    halves = [{n: t for n, t in stored.items() if (".1." in n) == second} for second in (False, True)]
    for i, part in enumerate(halves):
        write_safetensors(f"{folder}/model-{i + 1:05}-of-00002.safetensors", part, "F32")
    write_json(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": {
        n: f"model-{i + 1:05}-of-00002.safetensors" for i, part in enumerate(halves) for n in part}})
    write_safetensors(f"{twin}/model.safetensors", floats, "F32")
    return folder, twin


def gptoss(tally):
    """Its blocks are moved into the GGUF as upstream's converter does it; other types begin from the same floats."""
    kinds, runner = ("bf16", "f16", "f32", "q8_0"), os.path.join(os.path.dirname(convert.TOKENIZE), "run_model")
    with tempfile.TemporaryDirectory() as scratch:
        folder, twin = gptoss_folders(scratch)
        failure = convert.convert_upstream(folder, {"pre": "gpt-2", "types": kinds}, scratch)
        for kind in kinds:
            wrong = [failure] if failure else convert.compare(folder, kind, {}, scratch)
            types = [t.tensor_type.name for t in convert.GGUFReader(f"{scratch}/ours.gguf").tensors]
            if types.count("MXFP4") != 6:
                wrong.append(f"{types.count('MXFP4')} tensors in MXFP4, expected 6")
            convert.report(f"gpt-oss in mxfp4 as {kind}", wrong, tally)
        p = convert.run([convert.SINTRA, "convert", folder, "-q", "-o", f"{scratch}/ours.gguf"])
        told = p.stdout.decode()
        convert.report("gpt-oss in mxfp4: told", [] if "6 tensors stay in MXFP4" in told else [told], tally)
        p = convert.run([runner, f"{scratch}/ours.gguf"])
        convert.report("gpt-oss in mxfp4 in libllama", [(p.stdout + p.stderr).decode()[-500:]] if p.returncode else [], tally)
        whole = ["quantize", folder, "--type", "BF16", "-o", f"{scratch}/bf16.gguf"]
        decoded = ["quantize", folder, "--type", "Q4_1", "-o", f"{scratch}/a.gguf"]
        floats = ["quantize", twin, "--type", "Q4_1", "-o", f"{scratch}/b.gguf"]
        told = [p.stderr.decode()[-400:] for p in (convert.run([convert.SINTRA, *c]) for c in (whole, decoded, floats))
                if p.returncode]
        convert.run([convert.SINTRA, "convert", folder, "--type", "BF16", "-o", f"{scratch}/ours.gguf"])
        wrong = told or differences(f"{scratch}/bf16.gguf", f"{scratch}/ours.gguf")
        convert.report("gpt-oss in mxfp4 by quantize as bf16", wrong, tally)
        wrong = told or differences(f"{scratch}/a.gguf", f"{scratch}/b.gguf")
        convert.report("gpt-oss in mxfp4 by quantize as q4_1", wrong, tally)


def main():
    wanted, tally = sys.argv[1:], [0, 0]
    weights = sample_weights()
    with open(f"{SAMPLE}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    for name in CASES:
        if not wanted or name in wanted:
            one(name, weights, config, tally)
    if not wanted or "gpt-oss" in wanted:
        gptoss(tally)
    print(f"{tally[0]} passed, {tally[1]} failed")
    return tally[1] > 0


if __name__ == "__main__":
    sys.exit(main())
