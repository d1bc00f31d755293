#!/usr/bin/env python3
"""docs/recipe.schema.json beside the program: what the schema takes the program takes, and the other way round.

Each document is judged by the jsonschema package and by `sintra quantize --recipe FILE --dry-run` on the
sample model. Names of types and mixes, and patterns that match nothing, are beyond a schema and left out here;
the unit tests have them. Needs SINTRA (or ./sintra); exits 77 without it."""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ.get("SINTRA_ROOT", os.path.dirname(os.path.dirname(HERE)))
SINTRA = os.environ.get("SINTRA", f"{ROOT}/sintra")

try:
    import jsonschema
except ImportError:
    print("skipped: no jsonschema package (make setup-dev)")
    sys.exit(77)
if not os.access(SINTRA, os.X_OK):
    print(f"skipped: {SINTRA} is not built")
    sys.exit(77)

FULL = {"sintra_recipe": 1, "container": "gguf", "base": "Q4_K_M",
        "rules": [{"match": "blk.{0-3}.ffn_down.weight", "type": "Q6_K"}],
        "drop_layers": [], "prune": {"ffn_ratio": 0, "heads_ratio": 0.0},
        "kv": {"k": "f16", "v": "F16"}, "importance": None}


def changed(**keys):
    doc = dict(FULL)
    for key, value in keys.items():
        if value is KeyError:
            del doc[key]
        else:
            doc[key] = value
    return doc


RULE = FULL["rules"][0]
DOCUMENTS = [
    FULL, {"sintra_recipe": 1, "base": "Q8_0"}, {"bits": 4}, {"bits": 16, "pruning_ratio": 0},
    {"bits": 8, "layers_to_drop": []}, changed(drop_layers=[3, 7]), changed(rules=[]), changed(kv={}), changed(prune={}),
    {}, [], 4, None, {"base": "Q4_K_M"}, {"sintra_recipe": 1},
    {"bits": 7}, {"bits": "4"}, {"bits": 4.5}, {"bits": 4, "base": "Q4_K_M"},
    {"bits": 4, "pruning_ratio": 0.1}, {"bits": 4, "layers_to_drop": [-1]},
    changed(sintra_recipe=2), changed(sintra_recipe="1"), changed(container="onnx"), changed(base=4),
    changed(colour="blue"), changed(bits=4), changed(drop_layers=[-1]), changed(drop_layers=[3, 3]), changed(drop_layers={}),
    changed(prune={"ffn_ratio": 0.1}), changed(prune={"depth": 0}), changed(prune=[]),
    changed(kv={"k": "q8_0"}), changed(kv={"k": "Q8_0", "v": "IQ4_nl"}), changed(kv={"v": "q6_k"}),
    changed(kv={"v": "bf16"}), changed(kv={"v": "xf16"}), changed(kv={"x": "f16"}), changed(kv=[]), changed(kv={"k": 16}),
    changed(importance="abc"), changed(importance="A" * 64), changed(importance=1),
    changed(rules={}), changed(rules=[1]), changed(rules=[{}]), changed(rules=[{**RULE, "note": ""}]),
    changed(rules=[{"match": "*"}]), changed(rules=[{"match": "", "type": "Q6_K"}]),
    changed(rules=[{"match": "a" * 5000, "type": "Q6_K"}]), changed(rules=[{"match": 1, "type": "Q6_K"}]),
]


def program_takes(doc, folder):
    path = os.path.join(folder, "recipe.json")
    with open(path, "w") as f:
        json.dump(doc, f)
    done = subprocess.run([SINTRA, "quantize", f"{ROOT}/models/sample", "--recipe", path, "--dry-run"],
                          capture_output=True, text=True, timeout=60)
    if done.returncode not in (0, 1, 2):
        raise SystemExit(f"exit {done.returncode}: {done.stderr}")
    return done.returncode == 0


def main():
    schema = json.load(open(f"{ROOT}/docs/recipe.schema.json"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for doc in DOCUMENTS:
            by_schema, by_program = validator.is_valid(doc), program_takes(doc, folder)
            passed += by_schema == by_program
            if by_schema != by_program:
                failed += 1
                print(f"schema says {by_schema}, program says {by_program}: {json.dumps(doc)[:200]}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
