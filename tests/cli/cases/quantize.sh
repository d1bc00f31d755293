# Types in any case, by number, with overrides; a recipe; plans without a file.
sintra quantize sample -q -o a.gguf --type q4_k_m
sintra quantize sample -q -o b.gguf --type 15 -t 1
cmp a.gguf b.gguf && echo "15 is Q4_K_M"
sintra quantize sample --dry-run --type Q4_K --pure
sintra quantize sample --dry-run --type Q3_K_M --tensor-type 'ffn_down=q6_K' \
    --tensor-type 'ffn=Q2_K' --embedding-type q8_0
cat >recipe.json <<'EOF'
{"sintra_recipe":1,"container":"gguf","base":"Q4_K",
 "rules":[{"match":"token_embd.weight","type":"Q6_K"},{"match":"blk.{0-1}.ffn_down.weight","type":"Q5_K"}]}
EOF
sintra quantize sample -q -o r.gguf --recipe recipe.json --json
sintra quantize a.gguf -q -o again.gguf --type Q8_0 --allow-requantize
echo "-- a model card"
cp -r "$SINTRA_ROOT/models/sample" carded
printf -- '---\nlicense: other\nlicense_name: some-licence\n---\n' >carded/README.md
sintra quantize carded -q -o carded/c.gguf --type q4_k_m --pure --card card.md | tail -n 1
cat card.md
ls
