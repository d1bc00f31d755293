# Refused before anything is written.
try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra "$@" || code=$?
    echo "exit $code" >&2
}
try quantize sample --type Q4_K_M
try quantize sample -o x.gguf
try quantize sample -o x.gguf --type Q4_K_M --recipe r.json
try quantize sample -o x.gguf --type Q4_K_X
try quantize sample -o x.gguf --type Q4_K --tensor-type ffn_down
try quantize sample -o x.gguf --type Q4_K --tensor-type ffn_down=Q9
try quantize sample -o x.gguf --type Q4_K --tensor-type '(=Q4_K'
try quantize sample -o x.gguf --type Q4_K --output-type I32
try quantize sample -o x.gguf --type IQ2_XS
try quantize sample -o x.gguf --recipe nowhere.json
echo '{"sintra_recipe":1,"base":"Q4_K","drop_layers":[8]}' >drop.json
try quantize sample -o x.gguf --recipe drop.json
try quantize sample -o x.gguf --type Q4_K --drop-layers 3,x
try quantize sample -o x.gguf --type Q4_K --drop-layers 0,1,2,3,4,5,6,7
echo '{"sintra_recipe":1,"base":"Q4_K","speed":9}' >unknown.json
try quantize sample -o x.gguf --recipe unknown.json
echo '{"base":' >broken.json
try quantize sample -o x.gguf --recipe broken.json
echo 'not a matrix' >bad.imatrix
try quantize sample -o x.gguf --type Q4_K_M --imatrix bad.imatrix
try quantize sample -o x.gguf --type Q4_K_M --imatrix nowhere.imatrix
try quantize sample -o nowhere/x.gguf --type Q4_K_M
sintra quantize sample -q -o q.gguf --type Q4_K_M >/dev/null
try quantize q.gguf -o x.gguf --type Q3_K_M
mkdir folder
try quantize sample -o x.gguf --type Q4_K_M --card folder
try quantize sample -o x.gguf --type Q4_K_M --card nowhere/README.md
try quantize sample -o x.gguf --type Q4_K_M --card folder/../x.gguf
cp -r "$SINTRA_ROOT/models/sample" own
try quantize own -o x.gguf --type Q4_K_M --card own/README.md
rm -r own
try quantize sample -o folder --type Q4_K_M
ls
