try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra -q "$@" -t 1 || code=$?
    echo "exit $code" >&2
}
try eval nowhere.gguf --reference sample
echo "not a model" >bad.gguf
try eval bad.gguf --reference sample
sintra quantize sample -q -o q8.gguf --type q8_0 >/dev/null
try eval q8.gguf --reference nowhere
try eval q8.gguf --reference sample --corpus nowhere.txt
: >empty.txt
try eval q8.gguf --reference sample --corpus empty.txt
printf 'caf\351\n' >latin1.txt
try eval q8.gguf --reference sample --corpus latin1.txt
printf 'a\0b\n' >zero.txt
try eval q8.gguf --reference sample --corpus zero.txt
head -c 100000 q8.gguf >cut.gguf
try eval cut.gguf --reference sample
try eval q8.gguf --context 8
try eval q8.gguf --cache-type-k q6_k
