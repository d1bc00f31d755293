# For cases that need a hub: hub_start [OPTION...] serves ./hub (made of the sample when it is not
# there) by tests/tools/hub_server.c and points HF_ENDPOINT at it; what was asked of it is in
# ./requests. It ends with the case, or by hub_stop.
hub_model() { # hub_model ORG/NAME: the sample under that name
    mkdir -p "hub/$1"
    cp "$SINTRA_ROOT"/models/sample/* "hub/$1/"
    chmod -R u+w hub
}

hub_start() {
    rm -f keep ports requests
    mkfifo keep
    "$TOOLS/hub_server" hub ports log=requests "$@" <keep &
    exec 9>keep
    n=0
    while [ ! -s ports ] && [ $n -lt 200 ]; do
        sleep 0.05
        n=$((n + 1))
    done
    HF_ENDPOINT=http://127.0.0.1:$(cut -d' ' -f1 ports)
    export HF_ENDPOINT HF_HUB_DOWNLOAD_TIMEOUT=1
    case ,${http_proxy:-}, in ,,) ;; *) export no_proxy=127.0.0.1,localhost ;; esac
}

hub_stop() {
    exec 9>&-
    wait
}

# The requests without what differs from run to run, in a fixed order.
hub_requests() {
    sed -E 's/[0-9a-f]{40}/<commit>/; s/bytes=[0-9]+-[0-9]+/<range>/' requests | sort
    : >requests
}
