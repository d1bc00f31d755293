#!/usr/bin/env python3
"""Runs upstream's convert_hf_to_gguf.py, for comparison.

    convert_upstream.py PRE FOLDER OUT KIND...

writes OUT.KIND for every kind (bf16, f16, ...), in one process, since the imports take longest;

    convert_upstream.py --list < LINES

does so for every line "PRE FOLDER OUT KIND..." and prints for each "FOLDER ok" or "FOLDER REASON";

    convert_upstream.py --names

prints all architectures that upstream converts. PRE is the name to give a byte-level tokenizer ("-" leaves it to upstream): upstream recognises tokenizers
by a hash of known models, which a tokenizer trained for a test never has. torch comes from this Python, or
from Debian's python3-torch (CPU only, 1.13), which lacks a few types that float models do not use.
"""
import os
import runpy
import sys
import tempfile

DEBIAN = "/usr/lib/python3/dist-packages"


def find_torch(scratch):
    try:
        import torch
    except ImportError:
        if not os.path.isdir(f"{DEBIAN}/torch") or sys.version_info[:2] != (3, 11):
            sys.exit(77)
        for name in ("torch", "torchgen"):  # only these: the rest of the folder is for another numpy
            os.symlink(f"{DEBIAN}/{name}", f"{scratch}/{name}")
        sys.path.append(scratch)
        import torch
    for name in ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"):
        if not hasattr(torch, name):
            setattr(torch, name, "absent " + name)


def convert(script, pre, folder, out, kinds):
    import conversion.base

    model = conversion.base.TextModel
    if not hasattr(model, "own_pre"):
        model.own_pre = model.get_vocab_base_pre
    model.get_vocab_base_pre = model.own_pre if pre == "-" else lambda self, tokenizer: pre
    for kind in kinds:
        sys.argv = [script, folder, "--outfile", f"{out}.{kind}", "--outtype", kind]
        runpy.run_path(script, run_name="__main__")


def convert_list(script):
    for line in sys.stdin:
        pre, folder, out, *kinds = line.split()
        try:
            convert(script, pre, folder, out, kinds)
            reason = "ok"
        except BaseException as e:  # the script exits on errors
            reason = f"{type(e).__name__} {e}".replace("\n", " ")[:300]
            if os.environ.get("SINTRA_TRACE"):
                import traceback
                traceback.print_exc()
        print(folder, reason, flush=True)


def print_names():
    """Each architecture that upstream converts, and its name in libllama ("-": it depends)."""
    import logging

    logging.disable(logging.CRITICAL)
    import conversion
    import gguf

    conversion.load_all_models()
    known = conversion.ModelBase._model_classes
    for name in sorted({**conversion.TEXT_MODEL_MAP, **conversion.MMPROJ_MODEL_MAP}):
        of = known[conversion.ModelType.TEXT].get(name)
        print(name, gguf.MODEL_ARCH_NAMES.get(of.model_arch, "-") if of else "-")


def main():
    peers = os.environ["SINTRA_PEERS"]
    with tempfile.TemporaryDirectory() as scratch:
        find_torch(scratch)
        source = os.path.realpath(os.path.join(peers, "..", "src"))
        sys.path[0:0] = [source, os.path.join(source, "gguf-py")]
        script = os.path.join(source, "convert_hf_to_gguf.py")
        if sys.argv[1] == "--names":
            print_names()
        elif sys.argv[1] == "--list":
            convert_list(script)
        else:
            convert(script, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])


if __name__ == "__main__":
    main()
