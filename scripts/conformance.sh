#!/bin/sh
# Points the community's tests of NetworkPolicy (cyclonus) at a cluster of its own, made and deleted here.
#   conformance.sh ZTLAB [TAGS]
# TAGS choose cases, separated by commas; `all` is every case and takes most of an hour. Their list: cyclonus generate --help.
set -eu

ztlab=$(realpath "$1")
tags=${2:-upstream-e2e,action,example}
[ "$tags" = all ] && tags=
peer=$(pwd)/target/peers/cyclonus

say() { printf 'conformance: %s\n' "$*" >&2; }

if [ ! -x "$peer" ]; then
    command -v go >/dev/null 2>&1 || { say "Go is needed to build cyclonus: https://go.dev/dl"; exit 2; }
    say "building cyclonus from its Go module (some minutes, once)"
    mkdir -p target/peers
    (cd tests/peers/cyclonus && GOFLAGS=-mod=mod go build -o "$peer" .)
fi

dir=$(mktemp -d)
export XDG_STATE_HOME="$dir/state" XDG_RUNTIME_DIR="$dir/run" HOME="$dir"
mkdir -m 700 "$dir/run"
trap '"$ztlab" cluster delete conformance >/dev/null 2>&1; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

"$ztlab" cluster create conformance >/dev/null
KUBECONFIG=$("$ztlab" cluster kubeconfig conformance)
export KUBECONFIG

log=$(pwd)/target/conformance.log
say "running (tags: ${tags:-all}); what it says goes to $log"
# No SCTP: no pod here speaks it. A pod always reaches itself, as Kubernetes' documents say; cyclonus expects policies to forbid it.
"$peer" generate --server-protocol TCP,UDP --exclude sctp --include "$tags" --ignore-loopback --job-timeout-seconds 1 \
    --perturbation-wait-seconds 1 --junit-results-file "$dir/results.xml" >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; say "cyclonus did not run to its end"; exit 1; }
run=$(grep -c '<testcase ' "$dir/results.xml") || run=0
failed=$(grep -c '<failure' "$dir/results.xml") || failed=0
say "$run cases, $failed failed"
[ "$run" -gt 0 ] && [ "$failed" -eq 0 ]
