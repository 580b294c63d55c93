#!/usr/bin/env bash
# clang-tidy over every source file of the rooms (not of tests and benches), with a memory: a file whose text after preprocessing, compiler flags,
# checks and clang-tidy are the same as at an earlier clean run is not looked at again.
#
#   tidy.sh <tree> <build folder with compile_commands.json> [file...]
#
# tests/house/tidy_debt.txt names files that are not clean yet; one that has become clean must leave the list, so the
# list only grows shorter. The memory is a folder of empty files named by hash: $BERTH_TIDY_CACHE, else ~/.cache/berth-tidy. Prints what clang-tidy
# finds and ends with "N clean, M with findings"; 0 when M is 0, 77 when it cannot run, else 1.
set -u
export LC_ALL=C
tree=$1 build=$2
shift 2
command -v clang-tidy >/dev/null || { echo "clang-tidy is not installed"; exit 77; }
[ -f "$build/compile_commands.json" ] || { echo "no compile_commands.json in $build"; exit 77; }
export tree build
export cache=${BERTH_TIDY_CACHE:-${HOME:-/root}/.cache/berth-tidy}
mkdir -p "$cache" || exit 1
tool=$(clang-tidy --version | tr '\n' ' ')
export tool
# file <TAB> compile command, for what the build compiles and this tree owns
debt=$(sed -e 's/#.*//' -e '/^ *$/d' "$tree/tests/house/tidy_debt.txt" 2>/dev/null)
export debt
rows=$(jq -r --arg tree "$tree/" '.[] | select(.file | startswith($tree)) | [.file, .directory, .command] | @tsv' "$build/compile_commands.json" |
    grep -vE "^$tree/(tests|bench)/" | sort -u -t"$(printf '\t')" -k1,1)
[ $# = 0 ] || rows=$(for file in "$@"; do grep -F "$(printf '%s\t' "$(realpath "$file")")" <<<"$rows"; done)
[ -n "$rows" ] || { echo "nothing to look at in $build"; exit 1; }

look() {
    local file directory command text key out
    IFS=$'\t' read -r file directory command <<<"$1"
    # the same command, but only preprocessed and without line marks' absolute paths
    text=$(cd "$directory" && eval "${command% -o *} -E -P $file" 2>/dev/null)
    key=$({
        echo "$tool"
        echo "${command//"$tree"/}"
        cat "$tree/.clang-tidy" "$file"
        echo "$text"
    } | sha256sum | cut -d' ' -f1)
    [ -e "$cache/$key" ] && { echo clean; return; }
    if grep -qxF "${file#"$tree"/}" <<<"$debt"; then
        clang-tidy --quiet -p "$build" "$file" >/dev/null 2>&1 || { echo owed; return; }
        printf 'found\n%s\n' "${file#"$tree"/}: is clean now; take it out of tests/house/tidy_debt.txt"
    elif out=$(clang-tidy --quiet -p "$build" "$file" 2>/dev/null); then
        : >"$cache/$key"
        echo clean
    else
        printf 'found\n%s\n' "$out"
    fi
}
export -f look

result=$(printf '%s\n' "$rows" | xargs -d '\n' -P "$(nproc)" -I{} bash -c 'look "$1"' _ {})
grep -vxE 'clean|found|owed' <<<"$result"
clean=$(grep -cx clean <<<"$result")
found=$(grep -cx found <<<"$result")
owed=$(grep -cx owed <<<"$result")
[ "$owed" = 0 ] || echo "not clean yet, in tests/house/tidy_debt.txt: $owed"
find "$cache" -type f -mtime +30 -delete 2>/dev/null
echo "$clean clean, $found with findings"
[ "$found" = 0 ]
