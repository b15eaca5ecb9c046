#!/bin/bash
# First program in the guest, as root, on a read-only root file system shared by the host.
# usage: inside.sh OUT KERNEL_ROOT CHECKOUT CACHE COMMAND...
set -u
out=$1 kernel_root=$2 checkout=$3 cache=$4
shift 4
# Without udev there may be no usable console: everything goes to a file on the host.
exec >"$out/log" 2>&1 </dev/null

mkdir -p /run/home/.cache
# Headers that the host has made already: there is no network here to make them with.
[ ! -d "$cache" ] || cp -r "$cache" /run/home/.cache/

# A directory that can be written to, in which a checkout below it stays visible.
writable() {
	if [[ $checkout/ == "$1"/* ]]; then
		mkdir /run/checkout
		mount --rbind "$checkout" /run/checkout
		mount -t tmpfs tmpfs "$1"
		mkdir -p "$checkout"
		mount --rbind /run/checkout "$checkout"
	else
		mount -t tmpfs tmpfs "$1"
	fi
}
writable /tmp
writable /var/lib

# The host's /lib/modules knows nothing of this kernel; the kernel asks this script instead.
printf '#!/bin/sh\nexec /usr/sbin/modprobe -d %q "$@"\n' "$kernel_root" >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe

export HOME=/run/home XDG_CACHE_HOME=/run/home/.cache TMPDIR=/run/tmp LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
export HYPOTHESIS_STORAGE_DIRECTORY=/run/tmp/hypothesis
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$checkout" || exit 1
"$@"
echo "$?" >"$out/exit"
sync
