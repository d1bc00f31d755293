# Logging in: verified, stored for huggingface_hub too, never shown.
. "$CASES/../hub_server.sh"
try() {
    echo "\$ $*" >&2
    code=0
    "$@" || code=$?
    echo "exit $code" >&2
}
hub_model acme/open
hub_start
try sintra hf status
echo hf_wrong | try sintra hf login
ls "$HOME/.cache/huggingface/token" 2>&1 | sed 's/.*: //'
printf '' | try sintra hf login
echo 'two words' | try sintra hf login
printf '  hf_good\r\n' | try sintra hf login
stat -c '%a' "$HOME/.cache/huggingface/token"
printf '%s\n' "$(cat "$HOME/.cache/huggingface/token")"
try sintra hf
HF_TOKEN=hf_noaccess try sintra hf status --json
: >requests
sintra pull acme/open >out
grep -c token=yes requests
grep 'cdn.*token=yes' requests
HF_HUB_OFFLINE=1 try sintra hf status
try sintra hf logout
try sintra hf logout
echo "-- a token that cannot be used is replaced, and removed"
printf 'hf_good extra\n' >"$HOME/.cache/huggingface/token"
try sintra hf status
echo hf_good | try sintra hf login
printf 'hf_good extra\n' >"$HOME/.cache/huggingface/token"
try sintra hf logout
head -c 5000 /dev/zero | tr '\0' x >"$HOME/.cache/huggingface/token"
try sintra hf status
HF_TOKEN='hf_good extra' try sintra hf logout
ls "$HOME/.cache/huggingface/token" 2>&1 | sed 's/.*: //'
try sintra hf frobnicate
if command -v script >/dev/null; then
    { sleep 1; echo hf_good; sleep 1; } | script -qec 'sintra hf login' /dev/null | tr -d '\r' | sed 's/^/typed: /'
else
    echo "typed: Token (made in the settings of your account; not shown): "
    echo "typed: logged in as ada; the token is in $HOME/.cache/huggingface/token"
fi
hub_stop
