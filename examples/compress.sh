#!/bin/sh
# The best file of at most 4.5 bits per weight, in under a minute on two cores.
set -e
sintra optimize --target-bpw 4.5 --out small

# What was tried, and the whole report.
sintra history --run latest
sintra report latest >report.txt

# The result is checked as any download is, and made again from its recipe, byte for byte.
(cd small && sha256sum --check --quiet SHA256SUMS)
sintra quantize sample -o again.gguf --recipe small/recipe.json --imatrix small/imatrix.gguf
cmp again.gguf small/*bpw.gguf && echo "the recipe makes the same file"
