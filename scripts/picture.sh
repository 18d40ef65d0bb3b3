#!/bin/sh
# Draws book/src/terminal.svg from the real program: starts the lab wiretap in a terminal of 120×36, captures in payments-api, and
# takes what is on the screen. Needs tmux and python3.
#   scripts/picture.sh PATH-OF-ZTLAB
set -eu
program=$(readlink -f "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
home=$(mktemp -d)
mkdir "$home/run"
cd "$home"
run() { env -u KUBECONFIG XDG_STATE_HOME="$home/state" XDG_RUNTIME_DIR="$home/run" "$@"; }
end() {
    tmux -L ztlab-picture kill-server 2>/dev/null || true
    run "$program" lab stop --delete >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap end EXIT
run "$program" lab start wiretap >/dev/null 2>&1
run tmux -L ztlab-picture -f /dev/null new-session -d -x 120 -y 36 "TERM=screen-256color '$program'"
press() { tmux -L ztlab-picture send-keys "$@"; sleep 1; }
sleep 2
press t
press Down Down Down Down
press Enter
sleep 3
tmux -L ztlab-picture capture-pane -e -p | python3 "$root/scripts/ansi-to-svg.py" > "$root/book/src/terminal.svg"
