# What the benches on a rack of three hosts share. Sourced, with $top set; needs root and a release build.
#
#   bench_begin [N]           hosts h1..h3 or ..hN (deploy/lib/rack.sh), nothing started; all of it goes when the shell ends
#   bench_cluster             a cluster of the three, all of them voters, with image `none` and template `fake`
#   wait_for SECONDS COMMAND  until it succeeds; gives up with words
#   stats VALUE...            "p50 a, p99 b, max c, n d"
#   leader                    who leads, as $api says
#   berthd_pid H              of its daemon
#   url H [PORT]              https://...
#   health H                  what it says of itself, as JSON
#   header TITLE WORDS        the head of a results file
#
# State folders are below $RACK_RUN, which is on a disk: BENCH_FOLDER, else /var/tmp. $bench_name and $bench_net, set
# before bench_begin, keep a bench apart from another that runs beside it.

bin=${BERTH_BIN:-$top/build/release}
load=$bin/bench/api_load_bench
api=h1
# 1,000 one-CPU machines of 32 MiB must find a place on three small hosts; the fake engine uses nothing of it.
share=(--cpu-overcommit 256 --reserve-memory 64MiB --backup-every 0s)

say() { printf -- '-- %s\n' "$*" >&2; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
wait_for() { # SECONDS COMMAND...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$deadline" ] || { echo "waited in vain for: $*" >&2; exit 1; }
        sleep 0.05
    done
}
stats() {
    printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { printf "p50 %s, p99 %s, max %s, n %d", v[int((NR + 1) / 2)], v[(NR > 1) ? int(NR * 0.99 + 0.5) : 1], v[NR], NR }'
}
health() { curl -s -m 2 --unix-socket "$RACK_RUN/$1/berthd.sock" http://berth/healthz 2>/dev/null || true; }
leader() { health "$api" | jq -r '.leader // empty'; }
berthd_pid() { awk '{ print $1 }' "$RACK_RUN/$1/berthd.pid"; }
url() { echo "https://$RACK_NET.1${1#h}:${2:-7443}"; }
voters_are() { [ "$(berth_on "$api" ls host -o json | jq '[.items[] | select(.status.voter == "voter")] | length')" = "$1" ]; }
hosts_agree() { # all know one leader and are at one revision
    local host
    [ "$(for host in "${RACK_HOSTS[@]}"; do health "$host" | jq -r 'select(.status == "ok") | "\(.leader) \(.revision)"'; done | uniq -c | awk 'END { print $1, NR }')" = "${#RACK_HOSTS[@]} 1" ]
}
header() { printf '# %s\n\n`%s` on %s cores, kernel %s, %s; three hosts on one machine, release build.\n' "$1" "$2" "$(nproc)" "$(uname -r)" "$(date -u +%F)"; }

bench_end() {
    local code=$?
    trap - EXIT INT TERM
    declare -F bench_clean >/dev/null && bench_clean
    rack_down
    rm -rf "$bench_files"
    exit $code
}

bench_begin() {
    [ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
    [ -x "$bin/berthd" ] && [ -x "$load" ] ||
        { echo "build it first: cmake --preset release && cmake --build --preset release --target berth berthd berth-fence api_load_bench" >&2; exit 1; }
    . "$top/deploy/lib/rack.sh"
    RACK_NET=${bench_net:-10.97.0}
    rack_init "${bench_name:-berth-bench}" "$bin" "${BENCH_FOLDER:-/var/tmp}/${bench_name:-berth-bench}"
    bench_files=$(mktemp -d)
    trap bench_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rack_down
    rack_up "${1:-3}"
}

bench_cluster() {
    local host
    say "rack of three"
    berth_on h1 up --name h1 "${share[@]}" >&2
    for host in h2 h3; do berth_on $host join "$(berth_on h1 token join)" --name $host "${share[@]}" >&2; done
    wait_for 60 voters_are 3
    head -c 4096 /dev/zero >"$bench_files/kernel"
    cat >"$bench_files/base.yaml" <<'YAML'
apiVersion: berth/v1
kind: Image
metadata: {name: none, tenant: default}
spec: {artifacts: [{role: kernel, file: kernel}]}
---
apiVersion: berth/v1
kind: Template
metadata: {name: fake}
spec: {image: none, engine: fake, memory: {size: 32MiB}}
YAML
    (cd "$bench_files" && berth_on h1 apply base.yaml) >&2
}

group() { # NAME REPLICAS
    printf 'apiVersion: berth/v1\nkind: Group\nmetadata: {name: %s}\nspec: {template: {name: fake}, replicas: %d}\n' "$1" "$2" >"$bench_files/$1.yaml"
}
