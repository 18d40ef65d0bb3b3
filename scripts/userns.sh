#!/bin/sh
# Where the system forbids user namespaces through AppArmor (Ubuntu 23.10 and later), offers the profile that allows
# them for ztlab alone. Says nothing where they work.
set -eu
binary=$(readlink -f "$1")
[ "$(uname -s)" = Linux ] || exit 0
[ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null || echo 0)" = 1 ] || exit 0
[ "$(id -u)" -ne 0 ] || exit 0
"$binary" doctor >/dev/null 2>&1 && exit 0

profile=/etc/apparmor.d/ztlab
text="abi <abi/4.0>,
include <tunables/global>
profile ztlab \"$binary\" flags=(unconfined) {
  userns,
}"
printf 'This system lets only named programs make user namespaces (AppArmor), and ztlab needs one for its cluster.\n'
printf 'The profile %s would name it:\n\n%s\n\n' "$profile" "$text"
if [ ! -t 0 ]; then
    printf 'Run `make lab` in a terminal to be asked whether to install it.\n' >&2
    exit 2
fi
printf 'Install it now (asks for sudo)? [y/N] '
read -r answer
case "$answer" in
    y|Y|yes)
        printf '%s\n' "$text" | sudo tee "$profile" >/dev/null
        sudo apparmor_parser -r "$profile"
        "$binary" doctor || exit 2 ;;
    *) printf 'Not installed. `ztlab doctor` shows the other ways.\n'; exit 2 ;;
esac
