# Targets that arithmetic excludes, and inputs that cannot be: nothing is left behind.
try() {
    echo "\$ sintra $*" >&2
    code=0
    sintra -q "$@" || code=$?
    echo "exit $code" >&2
}
try optimize --target-size 1MB
try optimize --target-bpw 1
try optimize --target-memory 1500kB
try optimize --model nowhere --target-bpw 4
try optimize --profile nowhere
try optimize --corpus nowhere.txt --target-bpw 4.5
: >empty.txt
try optimize --corpus empty.txt --target-bpw 4.5
printf 'caf\351 au lait, and so on\n' >latin1.txt
try optimize --corpus latin1.txt --target-bpw 4.5
echo "too short" >short.txt
try optimize --corpus short.txt --target-bpw 4.5
echo "a file" >taken
try optimize --mock --target-bpw 4.5 --out taken
mkdir mine && echo "my own" >mine/notes.txt
try optimize --mock --target-bpw 4.5 --out mine
cat mine/notes.txt
try optimize --mock --target-bpw 4.5 --out /proc/nowhere/out
try optimize --resume
try optimize --resume 01zz
try --home taken runs
ls
