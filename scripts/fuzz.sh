#!/bin/sh
# Runs the fuzz targets, guided by the coverage of what they try: `sh scripts/fuzz.sh [SECONDS [TARGET…]]`.
#
# What is found on the way is kept under target/fuzz/corpus and used the next time; fuzz/corpus holds the seeds, and what once
# failed. An input that fails is in target/fuzz/artifacts, and its bytes belong into fuzz/corpus/TARGET with the fix.
set -eu

cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
case $seconds in
    '' | *[!0-9]*)
        echo "fuzz: \"$seconds\" is no number of seconds: make fuzz SECONDS=60 TARGETS=\"dns http\"" >&2
        exit 2
        ;;
esac

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: there is no nightly Rust compiler, which alone can say what code an input reached; get one with" >&2
    echo "          rustup toolchain install nightly --profile minimal" >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz with cargo"
    cargo install cargo-fuzz --locked
fi

known=$(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | grep -v '^ztlab-fuzz$')
for target in "$@"; do
    if ! echo "$known" | grep -qx "$target"; then
        echo "fuzz: there is no target \"$target\"; there are:" $known >&2
        exit 2
    fi
done
[ $# -gt 0 ] || set -- $known

# The program's own versions of everything, and the engine's beside them.
cp Cargo.lock fuzz/Cargo.lock
# The part of the program that a target is about; only that is built for it.
part() {
    sed -n "/^name = \"$1\"/,/^$/s/^required-features = \[\"\(.*\)\"\]/\1/p" fuzz/Cargo.toml
}
fuzz() {
    command=$1
    target=$2
    shift 2
    # Nearly all of it is safe code, in which a fault is a panic: what a sanitizer of memory costs goes to more tries.
    cargo +nightly fuzz "$command" --fuzz-dir fuzz --target-dir target/fuzz/build --sanitizer "${SANITIZER:-none}" \
        --no-default-features --features "$(part "$target")" "$target" "$@"
}

failed=
for target in "$@"; do
    kept=target/fuzz/corpus/$target
    artifacts=target/fuzz/artifacts/$target/
    mkdir -p "$kept" "$artifacts"
    seeds=
    [ ! -d "fuzz/corpus/$target" ] || seeds=fuzz/corpus/$target
    echo "fuzz: $target, for $seconds s"
    if ! fuzz run "$target" "$kept" $seeds -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=65536 \
        -artifact_prefix="$artifacts" -print_final_stats=1 -print_funcs=0 -verbosity=0; then
        failed="$failed $target"
        continue
    fi
    # What reaches nothing that another does not reach is not tried again.
    fuzz cmin "$target" "$kept" -- -timeout=10 -rss_limit_mb=4096 -verbosity=0
    echo "fuzz: $target: $(find "$kept" -type f | wc -l) inputs reach all that was reached"
done
if [ -n "$failed" ]; then
    echo "fuzz: failed:$failed; the inputs are under target/fuzz/artifacts" >&2
    exit 1
fi
