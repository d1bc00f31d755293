#!/bin/sh
# No function of ours has the name of one that libllama or libggml exports: with two of a name, which
# one a call reaches would depend on the order of linking, and theirs could come to call ours.
set -eu
ours=$(nm --defined-only -g "$SINTRA_BUILD/libsintra.a" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u)
[ -n "$ours" ] || { echo "nm found no symbols in libsintra.a"; exit 1; }
lib=$SINTRA_ROOT/deps/llama/lib
theirs=$(nm -D --defined-only "$lib"/libllama.v0.5.0.so "$lib"/libggml.v0.5.0.so \
    "$lib"/libggml-base.so | awk 'NF == 3 && $2 ~ /[TDBRW]/ { print $3 }' | sort -u)
[ "$(echo "$theirs" | grep -c -x -e llama_decode -e gguf_init_from_file)" = 2 ] || {
    echo "nm did not find llama_decode and gguf_init_from_file in the libraries"
    exit 1
}
both=$( (echo "$ours"; echo "$theirs") | sort | uniq -d)
[ -z "$both" ] || { echo "named as upstream's:" $both; exit 1; }
