#!/usr/bin/env bash
# Goal: a QMP client that nobody here wrote drives berth-vmm as it drives QEMU. Method: Ganeti's, which runs on
# thousands of hosts against qemu-system: from Debian's package, unpacked and not installed, by a script that uses
# its calls (qmp_client.py). It takes the greeting, the line ends and the descriptors as QEMU gives and takes them. The
# guest is one of a few bytes, so any KVM will do.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
package=ganeti-3.0
cache=${BERTH_CLIENT_CACHE:-$top/.cache/qmp-client}

[ -c /dev/kvm ] || { echo "there is no /dev/kvm"; exit 77; }
[ -x /usr/bin/python3 ] || { echo "python3 is not installed"; exit 77; }
command -v apt-get >/dev/null || { echo "the client is a Debian package, and apt-get is not here"; exit 77; }
if ! [ -d "$cache/$package" ]; then
    mkdir -p "$cache"
    (cd "$cache" && apt-get -q -o APT::Sandbox::User=root download $package >download.log 2>&1) ||
        { echo "$package cannot be downloaded: $(tail -n 1 "$cache/download.log")"; exit 77; }
    rm -rf "$cache/new"
    dpkg-deb -x "$cache/$package"_*.deb "$cache/new"
    mv "$cache/new" "$cache/$package"
fi
export PYTHONPATH=$cache/$package/usr/share/ganeti/3.0
/usr/bin/python3 -c 'import ganeti.hypervisor.hv_kvm.monitor' 2>/dev/null ||
    { echo "what $package needs is not installed: $(/usr/bin/python3 -c 'import ganeti.hypervisor.hv_kvm.monitor' 2>&1 | tail -n 1)"; exit 77; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-qmp.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$bin/tests/micro_kernel_file" "$folder/kernel"
truncate -s 1M "$folder/disk"
ASAN_OPTIONS=detect_leaks=0 PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$top/tests/system/qmp_client.py" "$bin/berth-vmm" "$folder"
