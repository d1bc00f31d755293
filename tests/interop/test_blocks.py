#!/usr/bin/env python3
"""Blocks left out, for every architecture that sintra converts: a block silenced in memory, as the search probes it,
must say what a file without it says; where that is not known the block must not be tried.

Needs the packages of requirements.txt; exits 77 without them. Names of cases may follow."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
BUILD = os.environ.get("SINTRA_BUILD", os.path.join(HERE, "../../build"))
TOOL = os.path.join(BUILD, "oracle", "silent_block")

try:
    import test_architectures as architectures
    from architectures import CASES, build
    from folders import save_weights, write_json
except ImportError as error:
    print(f"missing: {error}")
    sys.exit(77)

# Blocks of these are known not to be silenced by two matrices.
NOT_TRIED = {"mamba", "mamba2", "lfm2"}


def main(wanted):
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="sintra-blocks-") as scratch:
        os.mkdir(f"{scratch}/tokenizers")
        tokenizers = architectures.make_tokenizers(f"{scratch}/tokenizers")
        for name in wanted or CASES:
            folder = f"{scratch}/{name}"
            try:
                os.makedirs(folder)
                facts = build(name, folder, tokenizers, save_weights, write_json)
            except Exception as error:
                print(f"FAIL {name}: {error}")
                failed += 1
                continue
            if not facts.get("runs", True):
                continue
            p = subprocess.run([TOOL, folder, scratch], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
            said = p.stdout.decode().strip().replace("\n", "; ")
            good = p.returncode == 0 and (name not in NOT_TRIED or said.startswith("not tried"))
            print(f"{'ok  ' if good else 'FAIL'} {name}: {said} {p.stderr.decode().strip()}", flush=True)
            passed += good
            failed += not good
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
