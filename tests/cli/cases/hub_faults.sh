# Servers and links that fail: what comes is right, or nothing comes.
. "$CASES/../hub_server.sh"
cache=$HOME/.cache/huggingface/hub
hub_model acme/tiny
try() { # try OPTION...: a hub with these faults, an empty cache
    echo "-- $*"
    echo "-- $*" >&2
    chmod -R u+w "$cache" 2>/dev/null || :
    rm -rf "$cache"
    hub_start "$@"
    code=0
    sintra pull -q acme/tiny --json >out || code=$?
    echo "exit $code"
    if [ $code = 0 ]; then
        cmp "$cache"/models--acme--tiny/snapshots/*/model.safetensors hub/acme/tiny/model.safetensors && echo same
        find "$cache" -name '*incomplete*' | wc -l
    else
        find "$cache" -path '*snapshots*' -name 'model.safetensors' 2>/dev/null | wc -l
    fi
    hub_stop
}
try busy=2
try broken=1
try truncate=1
try wrong=1
try wrong=9
try stall=1
try expire=1
try norange
try norange truncate=1
try noblobs
grep -c HEAD requests
try evil
try huge
