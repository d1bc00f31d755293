#!/bin/sh
# The steps by hand: what an importance matrix is worth at 3 bits.
set -e
sintra calibrate sample -o sample.imatrix --tokens 8192
sintra quantize sample -o plain.gguf --type Q3_K_M
sintra quantize sample -o weighted.gguf --type Q3_K_M --imatrix sample.imatrix
sintra eval plain.gguf --reference sample --tokens 2048
sintra eval weighted.gguf --reference sample --tokens 2048
sintra bench weighted.gguf --repeats 2
