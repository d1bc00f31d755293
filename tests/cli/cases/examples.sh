# Every example works as written; compress.sh, the long one, is a case of its own. On one processor:
# threads of ggml wait for each other busily, and tests run side by side.
for r in "$SINTRA_ROOT"/examples/recipes/*.json; do
    echo "recipe $(basename "$r")"
    sintra quantize sample --dry-run --recipe "$r"
done
for s in "$SINTRA_ROOT"/examples/*.sh; do
    name=$(basename "$s" .sh)
    [ "$name" != compress ] || continue
    mkdir "$name" && cd "$name" || exit 1
    if taskset -c 0 sh "$s" >../out 2>../err; then
        echo "$name.sh works"
    else
        echo "$name.sh failed:"
        tail -n 5 ../out ../err
    fi
    cd ..
done
