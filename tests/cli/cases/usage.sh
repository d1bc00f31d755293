# What is mistyped is refused with exit code 2 and the nearest name; nothing is written.
try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra "$@" || code=$?
    echo "exit $code" >&2
}
try quantise sample
try optimise
try frobnicate
try ./models/mine
try optimize --target-sise 4GB
try optimize --target-size 4Q
try optimize --target-size 0
try optimize --target-bpw four
try optimize --target-bpw 0.1
try optimize --target-accuracy 95
try optimize --target-tps -5
try optimize --preset fast
try optimize --backend gptq
try optimize --architect openai
try optimize --architect-model gpt
try optimize --mock=yes
try optimize --model
try optimize ./models/mine
try optimize --profile raspberry-pi-5-8gb --auto-detect
try optimize --resume --target-bpw 4
try --target-bpw 4 plan
try bench
try bench a b
try bench a --threads 0
try bench a -z
try convert sample
try convert sample -o x --type Q4_K
try compare one
try --home= runs
ls -A
