#!/bin/bash
# The house rules that a compiler does not know, checked over the source tree with bash, awk and grep.
#
#   house_test.sh <tree>                 every rule that reads text; 0 when all hold
#   house_test.sh <tree> <rule>...       these rules only
#   house_test.sh <tree> --arrows        draws which room includes which
#   house_test.sh <tree> --self-test     plants one offender per rule in a copy and expects red
#
# Each offence is one line: rule, place, what is wrong and what to do instead. The rules `alone` (needs a
# C compiler, $CC) and `format` (needs clang-format 14) run when they are named; 77 means they cannot.
set -u
export LC_ALL=C

# room: the rooms it may include. CMakeLists.txt has to say the same.
arrows='base:
model: base
config: model base
consensus: model base
scheduler: model base
net: model base
vmm: model base
fence: base
fetch: base
unpack: vmm base
api: model base
agent: api config consensus scheduler net vmm fence fetch model base
cli: config model base'

# header (a pattern of awk): where it may be included. A word with a dot is one file.
libraries='uv\.h: base consensus net api agent
raft\.h|raft/.*: consensus
jansson\.h: base/json.h
yaml\.h: config
czmq\.h|zmq\.h|zmq_.*|czmq_.*: net
netlink/.*: net
microhttpd\.h: api
gnutls/.*: api agent
curl/.*: fetch cli bench/api_load_bench.c
zlib\.h|lz4\.h|zstd\.h|lzma\.h: unpack
libsmartcols/.*: cli
linux/kvm\.h: vmm'

# call: what to use instead. `!` before a call: tests and benches, which see no foreign text, may use it.
calls='sprintf: snprintf, or bytes_write_format
vsprintf: vsnprintf
!strcpy: snprintf, or memcpy with a checked size
!strcat: snprintf, or bytes_write_format
strncat: snprintf, or bytes_write_format
strtok: strcspn and strspn
atoi: parse_u64 of base/parse_number.h
atol: parse_u64 of base/parse_number.h
atoll: parse_u64 of base/parse_number.h
atof: parse_permille and its like of base/parse_number.h
gets: fd_read_full
usleep: a loop_timer; in tests wait for the event
alloca: malloc, or a buffer with a named size
rand: random_u64 of base/random.h
srand: random_seed of base/random.h
!system: loop_child_run, which has an argv, a limit and a deadline
!popen: loop_child_run, which has an argv, a limit and a deadline
!open: fd_open_at, which is close-on-exec and follows no link'

# Stems that hide a header of the C library or POSIX.
libc_stems=' assert complex ctype dirent errno fcntl fenv float glob grp iconv inttypes limits locale
math poll pthread pwd regex sched search semaphore setjmp signal stdalign stdarg stdatomic stdbool stddef
stdint stdio stdlib string strings syslog termios tgmath threads time uchar unistd utime wchar wctype '

readme_lines_max=20

tree=${1:?usage: house_test.sh <tree> [rule... | --arrows | --self-test]}
shift
cd "$tree" || exit 1
self=$(cd "$OLDPWD" && realpath "$0")
offences=0

offend() { # rule place text
    echo "$1: $2: $3"
    offences=$((offences + 1))
}

# Turns "place<TAB>text" lines into offences. Not in a pipe: the count has to survive.
offend_each() { # rule, lines
    local place text
    while IFS=$'\t' read -r place text; do
        if [ -n "$place" ]; then
            offend "$1" "$place" "$text"
        fi
    done <<<"$2"
}

rooms() {
    echo "$arrows" | cut -d: -f1
}

# Every C file of the tree, or those below the folders given.
c_files() {
    local folders=("$@")
    if [ ${#folders[@]} -eq 0 ]; then
        mapfile -t folders < <(rooms)
        folders+=(tests bench)
    fi
    find "${folders[@]}" \( -name node_modules -o -name build \) -prune -o \
        -name '*.[ch]' -type f -print 2>/dev/null | sort
}

# "file:line<TAB>header<TAB>quote" of every #include; quote is " or <.
includes() {
    c_files | tr '\n' '\0' | xargs -0 -r awk '
        /^[ \t]*#[ \t]*include[ \t]*["<]/ {
            line = $0
            sub(/^[ \t]*#[ \t]*include[ \t]*/, "", line)
            quote = substr(line, 1, 1)
            line = substr(line, 2)
            sub(/[">].*/, "", line)
            print FILENAME ":" FNR "\t" line "\t" quote
        }'
}

# Which room a file counts as: a room itself, or the room that a test or bench belongs to; "any" for
# tests of the whole, "support" for the shared helpers.
awk_room_of='
    function room_of(file,    part, room) {
        split(file, part, "/")
        room = part[1]
        if (room == "tests" || room == "bench") {
            room = part[1] == "bench" ? part[2] : part[2] == "fuzz" ? part[3] : part[2]
            sub(/_.*/, "", room)
            if (part[2] == "support") {
                return "support"
            }
            return (room in may) ? room : "any"
        }
        return room
    }'

awk_read_arrows='
    function read_arrows(table,    lines, count, i, side) {
        count = split(table, lines, "\n")
        for (i = 1; i <= count; i++) {
            split(lines[i], side, ":")
            may[side[1]] = side[2] " "
        }
    }'

rule_arrows() {
    local found
    found=$(includes | awk -F '\t' -v table="$arrows" "$awk_room_of$awk_read_arrows"'
        BEGIN { read_arrows(table) }
        $3 == "\"" {
            file = $1
            sub(/:[0-9]+$/, "", file)
            from = room_of(file)
            to = $2
            is_test = file ~ /^(tests|bench)\//
            if (to !~ /\//) {
                if (is_test) { # a helper beside the test that needs it
                    next
                }
                print $1 "\tname the room: \"<room>/" to "\""
                next
            }
            sub(/\/.*/, "", to)
            if (to == from || (is_test && to == "support") || (from == "any" && to in may)) {
                next
            }
            if (from == "support" ? to == "base" || to == "model" : index(may[from], " " to " ")) {
                next
            }
            known = from == "support" ? " base model" : may[from]
            print $1 "\t" from " may not include " $2 " (" from " ->" known ")"
        }')
    offend_each arrows "$found"
    # The build enforces the same arrows: both tables must agree.
    local room allowed declared
    while IFS=: read -r room allowed; do
        declared=$(awk -v room="$room" '
            index($0, "berth_room(" room " ") || index($0, "berth_room(" room ")") { on = 1 }
            on { text = text " " $0 }
            on && /\)/ { print text; exit }' CMakeLists.txt |
            sed -n 's/.*DEPENDS *\([a-z ]*\).*/\1/p')
        if [ "$(echo $allowed | tr ' ' '\n' | sort | xargs)" != \
            "$(echo $declared | tr ' ' '\n' | sort | xargs)" ]; then
            offend arrows CMakeLists.txt \
                "berth_room($room) depends on [$(echo $declared)], the rule says [$(echo $allowed)]"
        fi
    done <<<"$arrows"
}

draw_arrows() {
    includes | awk -F '\t' -v table="$arrows" "$awk_room_of$awk_read_arrows"'
        BEGIN { read_arrows(table) }
        $3 == "\"" {
            file = $1
            sub(/:[0-9]+$/, "", file)
            from = room_of(file)
            to = $2
            sub(/\/.*/, "", to)
            if (file !~ /^(tests|bench)\// && to != from) {
                drawn[from] = drawn[from] (index(drawn[from], " " to " ") ? "" : " " to " ")
            }
        }
        END {
            for (room in drawn) {
                gsub(/ +/, " ", drawn[room])
                printf "%-10s ->%s\n", room, drawn[room]
            }
        }' | sort
}

rule_libraries() {
    local found
    found=$(includes | awk -F '\t' -v table="$libraries" -v arrows="$arrows" \
        "$awk_room_of$awk_read_arrows"'
        BEGIN {
            read_arrows(arrows)
            count = split(table, lines, "\n")
            for (i = 1; i <= count; i++) {
                split(lines[i], side, ": ")
                pattern[i] = "^(" side[1] ")$"
                where[i] = " " side[2] " "
            }
        }
        {
            file = $1
            sub(/:[0-9]+$/, "", file)
            from = room_of(file)
            is_test = file ~ /^(tests|bench)\//
            for (i = 1; i <= count; i++) {
                if ($2 !~ pattern[i] || from == "any" || from == "support") {
                    continue
                }
                good = index(where[i], " " from " ") || index(where[i], " " file " ")
                if (!good) {
                    print $1 "\t<" $2 "> belongs to" where[i] "only: go through its header"
                }
            }
            if ($2 == "raft.h" && !is_test) {
                # docs/decisions/0002: the node and the guard around it, nobody else
                if (file !~ /^consensus\/raft_([a-z_]*\.c|library\.h)$/) {
                    print $1 "\t<raft.h> belongs to consensus/raft_*.c: nobody else knows it"
                }
            }
        }')
    offend_each libraries "$found"
}

# Code without comments and without the insides of texts: "file:line<TAB>code".
bare_code() {
    xargs -d '\n' -r awk '
        FNR == 1 { in_comment = 0 }
        {
            out = ""
            quote = ""
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                two = substr($0, i, 2)
                if (in_comment) {
                    if (two == "*/") { in_comment = 0; i++ }
                } else if (quote != "") {
                    if (c == "\\") { i++ } else if (c == quote) { quote = ""; out = out c }
                } else if (two == "/*") { in_comment = 1; i++ }
                else if (two == "//") { break }
                else {
                    if (c == "\"" || c == "\047") { quote = c }
                    out = out c
                }
            }
            if (out ~ /\(/) { print FILENAME ":" FNR "\t" out }
        }'
}

rule_calls() {
    local found
    found=$(c_files | bare_code | awk -F '\t' -v table="$calls" '
        BEGIN {
            count = split(table, lines, "\n")
            for (i = 1; i <= count; i++) {
                split(lines[i], side, ": ")
                rooms_only[i] = sub(/^!/, "", side[1])
                name[i] = side[1]
                better[i] = side[2]
                pattern[i] = "(^|[^A-Za-z0-9_.>])" side[1] "[ \t]*\\("
            }
        }
        {
            file = $1
            sub(/:[0-9]+$/, "", file)
            code = $0
            sub(/^[^\t]*\t/, "", code)
            for (i = 1; i <= count; i++) {
                if (code !~ pattern[i] || (rooms_only[i] && file ~ /^(tests|bench)\//) ||
                    (name[i] == "open" && file == "base/fd.c")) {
                    continue
                }
                print $1 "\t" name[i] "(): use " better[i]
            }
        }')
    offend_each calls "$found"
}

rule_leftovers() {
    local words found
    words='(^|[[:space:]/*#])(TO''DO|FIX''ME|XX''X)([[:space:]:(,]|$)'
    found=$(find . \( -name .git -o -name node_modules -o -name build -o -name dist \
        -o -name corpus -o -name results \) -prune -o -type f \
        \( -name '*.[ch]' -o -name '*.md' -o -name '*.sh' -o -name '*.txt' -o -name '*.cmake' \
        -o -name '*.js' -o -name '*.jsx' -o -name '*.ts' -o -name '*.tsx' -o -name '*.css' \
        -o -name '*.html' -o -name '*.yaml' -o -name '*.yml' -o -name '*.json' \
        -o -path './deploy/*' -o -path './.ci/*' \) -print0 |
        xargs -0 -r grep -InE "$words" |
        awk -F : '{ place = $1 ":" $2; print place "\tleft over: " substr($0, length(place) + 2) }')
    offend_each leftovers "$found"
}

rule_headers() {
    local found
    found=$(c_files | grep '\.h$' | xargs -d '\n' -r awk '
        FNR == 1 {
            check()
            file = FILENAME
            prose = substr($0, 1, 2) == "/*"
            once = 0
        }
        /^#pragma once/ { once = 1 }
        function check() {
            if (file != "" && !prose) {
                print file ":1\tbegins with prose: what it is, shapes, units, errors"
            }
            if (file != "" && !once) {
                print file ":1\tneeds #pragma once"
            }
        }
        END { check() }')
    offend_each headers "$found"
}

rule_tests() {
    local room file stem place reason
    local excused=tests/house/untested.txt
    for room in $(rooms); do
        for file in "$room"/*.c; do
            stem=$(basename "$file" .c)
            if [ ! -e "$file" ] || [[ $stem == *_main ]]; then
                continue
            fi
            if [ ! -e "tests/$room/${stem}_test.c" ] && ! grep -q "^$file: ." "$excused"; then
                offend tests "$file" "has no tests/$room/${stem}_test.c; if it cannot, say why in $excused"
            fi
        done
    done
    while IFS=: read -r place reason; do
        case $place in '' | '#'*) continue ;; esac
        stem=$(basename "$place" .c)
        if [ ! -e "$place" ] || [ -e "tests/$(dirname "$place")/${stem}_test.c" ]; then
            offend tests "$excused" "$place is gone or has its test: take the line out"
        fi
    done <"$excused"
}

rule_readmes() {
    local room lines
    for room in $(rooms); do
        if [ ! -e "$room/README.md" ]; then
            offend readmes "$room" "needs a README.md: purpose, who may use it, what it may use, what to read first"
            continue
        fi
        lines=$(wc -l <"$room/README.md")
        if [ "$lines" -gt $readme_lines_max ]; then
            offend readmes "$room/README.md" "$lines lines; $readme_lines_max are enough"
        fi
    done
}

rule_map() {
    local room
    if [ ! -e docs/MAP.md ]; then
        offend map docs/MAP.md "is missing: the map of the rooms and their arrows"
        return
    fi
    for room in $(rooms); do
        if ! grep -qw "$room" docs/MAP.md; then
            offend map docs/MAP.md "does not name the room $room"
        fi
    done
}

rule_stems() {
    local found
    found=$(c_files | awk -F / -v libc="$libc_stems" '
        {
            stem = $NF
            sub(/\.[ch]$/, "", stem)
            folder = $0
            sub(/\/[^\/]*$/, "", folder)
            if (stem in home && home[stem] != folder) {
                print $0 "\tthe stem " stem " is taken by " home[stem] "/: every stem is used once"
            }
            home[stem] = folder
            gsub(/\n/, " ", libc)
            if (index(libc, " " stem " ")) {
                print $0 "\tthe stem " stem " hides the system header <" stem ".h>"
            }
        }')
    offend_each stems "$found"
}

# A header that its own source includes before all else compiles with nothing before it, or the build fails.
alone_by_build() {
    local first
    [ -f "${1%.h}.c" ] && grep -q '^#pragma once' "$1" || return 1
    first=$(grep -m 1 '^#include' "${1%.h}.c")
    [ "$first" = "#include \"${1#tests/}\"" ]
}

# Each header compiles with nothing before it, and twice. Tests are told two folders by CMake.
rule_alone() {
    local compiler=${CC:-cc} packages package header message
    local flags=('-DBERTH_SOURCE_DIR="/"' '-DBERTH_BINARY_DIR="/"')
    command -v "$compiler" >/dev/null || return 77
    packages=$(sed -n '/berth_room(/,/)/p' CMakeLists.txt | tr '\n' ' ' |
        grep -oE 'LIBS [^)]*' | sed 's/^LIBS//')
    for package in $packages; do
        mapfile -t -O ${#flags[@]} flags < <(pkg-config --cflags "$package" 2>/dev/null | xargs -r -n 1)
    done
    while read -r header; do
        ! alone_by_build "$header" || continue
        message=$(printf '#include "%s"\n#include "%s"\n' "${header#tests/}" "${header#tests/}" |
            "$compiler" -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function \
                -fsyntax-only -I. -Itests -I"$(dirname "$header")" "${flags[@]}" -x c - 2>&1)
        if [ -n "$message" ]; then
            offend alone "$header" "does not compile alone: $(grep -m 1 -E 'error|warning' <<<"$message")"
        fi
    done < <(c_files | grep '\.h$')
}

rule_format() {
    local formatter found
    formatter=$(command -v clang-format-14 || command -v clang-format) || return 77
    case $("$formatter" --version) in *' 14.'*) ;; *) return 77 ;; esac
    found=$(c_files | xargs -d '\n' -r "$formatter" --dry-run 2>&1 |
        awk -F : '/clang-format-violations/ && !seen[$1]++ { print $1 ":" $2 "\trun clang-format -i" }')
    offend_each format "$found"
}

# A reader that ends early ends its writer by SIGPIPE, which pipefail makes the pipe's result: sometimes.
rule_pipes() {
    local found
    found=$(find . \( -name .git -o -name node_modules -o -name build \) -prune -o -type f -print0 |
        xargs -0 -r grep -IlE 'set -[a-z]*o pipefail' | tr '\n' '\0' |
        xargs -0 -r grep -nE '[|] *(grep -[A-Za-z]*q|head -n)' /dev/null |
        awk -F : '{ print $1 ":" $2 "\tmay end what writes to it: grep -q WORD <<<\"$(...)\", or sed -n 1p" }')
    offend_each pipes "$found"
}

# A shell that meets its fault in the last line has run for an hour before.
rule_shell() {
    local found
    found=$(find . \( -name .git -o -name node_modules -o -name build \) -prune -o -type f -print0 |
        xargs -0 -r grep -IlE '^#!.*[/ ]bash' | while read -r file; do
        bash -n "$file" 2>&1 | sed -n '1s/^\(.*\): line \([0-9]*\): .*/\1:\2\tbash does not understand it/p'
    done)
    offend_each shell "$found"
}

# What a user reads says sizes as a user gives them: in texts of the programs and in docs/.
rule_sizes() {
    local unit='([KMGT]iB|B)([^A-Za-z0-9_]|$)' found
    found=$({
        c_files | grep -v '^tests/\|^bench/' |
            xargs -d '\n' -r grep -nE "^([^\"]*\"[^\"]*\")*[^\"]*\"[^\"]*([0-9]|%[a-z0-9.*]+) $unit" /dev/null
        find docs README.md -maxdepth 1 -name '*.md' -exec grep -nE "[0-9] $unit" /dev/null {} +
    } 2>/dev/null | awk -F : '{ print $1 ":" $2 "\ta size with a blank in it: 64MiB, as files and flags take it" }')
    offend_each sizes "$found"
}

text_rules='arrows libraries calls leftovers headers tests readmes map stems pipes shell sizes'

run_rules() {
    local rule status skipped=0
    for rule in "$@"; do
        "rule_$rule"
        status=$?
        if [ $status -eq 77 ]; then
            echo "$rule: skipped, its tool is not on this machine"
            skipped=77
        fi
    done
    if [ $offences -gt 0 ]; then
        echo "$offences offences against the house rules"
        return 1
    fi
    return $skipped
}

# ---- self-test: each rule has to bite ----

copy=
bites=0
misses=0

# Runs a rule on the copy; it must be red and name the place.
expect_red() { # rule, text that its output must hold, what was planted
    local output
    output=$(bash "$self" "$copy" "$1" 2>&1)
    if [ $? -eq 1 ] && grep -qF -- "$2" <<<"$output"; then
        bites=$((bites + 1))
    else
        misses=$((misses + 1))
        echo "self-test: the rule $1 does not see: $3"
    fi
}

expect_green() { # rule, text that its output must not hold, what was planted
    local output
    output=$(bash "$self" "$copy" "$1" 2>&1)
    if grep -qF -- "$2" <<<"$output"; then
        misses=$((misses + 1))
        echo "self-test: the rule $1 complains of: $3"
    else
        bites=$((bites + 1))
    fi
}

# Plants a file (its text on stdin), expects, and takes it out again.
plant() { # expectation, rule, file, words of the offence, file to plant
    local text
    text=$(cat)
    mkdir -p "$copy/$(dirname "$3")"
    printf '%s\n' "$text" >"$copy/$3"
    "$1" "$2" "$4" "$text ($3)"
    rm -f "$copy/$3"
}

self_test() {
    local room
    copy=$(mktemp -d) || exit 1
    trap 'rm -rf "$copy"' EXIT
    # One room and the frame are enough to plant in, and keep this quick.
    for room in $(rooms); do
        mkdir -p "$copy/$room"
    done
    cp -r base "$copy"
    mkdir -p "$copy/tests" "$copy/docs"
    cp -r tests/house tests/support "$copy/tests"
    cp CMakeLists.txt .clang-format "$copy"

    local header='/* prose */
#pragma once'
    plant expect_red arrows scheduler/zz_bad.c 'scheduler may not include net/mesh.h' <<<'#include "net/mesh.h"'
    plant expect_red arrows base/zz_bad.h 'base may not include model/vm.h' <<<'  #  include "model/vm.h"'
    plant expect_red arrows tests/vmm/zz_bad_test.c 'vmm may not include agent/x.h' <<<'#include "agent/x.h"'
    plant expect_red arrows tests/fuzz/net_zz_fuzz.c 'net may not include api/x.h' <<<'#include "api/x.h"'
    plant expect_red arrows tests/support/zz_bad.h 'support may not include api/x.h' <<<'#include "api/x.h"'
    plant expect_red arrows model/zz_bad.c 'name the room' <<<'#include "zz_bad.h"'
    plant expect_green arrows tests/net/zz_test.c tests/net/zz_test.c <<<'#include "beside.h"'
    plant expect_green arrows agent/zz_good.c agent/zz_good.c <<<'#include "net/mesh.h"'
    plant expect_green arrows tests/sim/zz_good.c tests/sim/zz_good.c <<<'#include "net/mesh.h"'
    sed -i 's/berth_room(scheduler DEPENDS/berth_room(scheduler DEPENDS net/' "$copy/CMakeLists.txt"
    expect_red arrows 'berth_room(scheduler) depends on' 'a new arrow in CMakeLists.txt'
    cp CMakeLists.txt "$copy/CMakeLists.txt"

    local row library file
    while read -r library file; do
        plant expect_red libraries "$file" "$file:1: <$library> " <<<"#include <$library>"
    done <<'PLANTED'
uv.h scheduler/zz_bad.c
raft.h agent/zz_bad.c
raft/uv.h net/zz_bad.c
jansson.h base/zz_bad.c
jansson.h api/zz_bad.c
yaml.h cli/zz_bad.c
czmq.h agent/zz_bad.c
zmq.h base/zz_bad.h
netlink/netlink.h vmm/zz_bad.c
microhttpd.h agent/zz_bad.c
gnutls/gnutls.h net/zz_bad.c
curl/curl.h api/zz_bad.c
libsmartcols/libsmartcols.h agent/zz_bad.c
linux/kvm.h agent/zz_bad.c
raft.h consensus/zz_bad.h
PLANTED
    plant expect_red libraries consensus/zz_bad.c 'belongs to consensus/raft_' <<<'#include <raft.h>'
    plant expect_green libraries config/zz_good.c config/zz_good.c <<<'#include <yaml.h>'

    local call
    for call in $(cut -d: -f1 <<<"$calls" | tr -d '!'); do
        plant expect_red calls cli/zz_bad.c "cli/zz_bad.c:1: $call(): use " <<<"int x = $call (a);"
    done
    plant expect_red calls tests/cli/zz_bad.c 'zz_bad.c:2: usleep()' <<<$'/* a\n */ usleep(5);'
    plant expect_green calls cli/zz_good.c cli/zz_good.c <<'GOOD'
/* sprintf(x), open(y) */ // system(z)
char *text = "strcpy(a, b) \" atoi(c)"; log_open(1); ops->open(2); it.open(3); my_atoi(4);
/* more
   popen(5) */
GOOD
    plant expect_green calls tests/cli/zz_good.c tests/cli/zz_good.c <<<'int fd = open("x", 0);'

    local word
    for word in 'TO''DO' 'FIX''ME' 'XX''X'; do
        plant expect_red leftovers cli/zz_bad.c 'cli/zz_bad.c:1' <<<"/* $word: later */"
        plant expect_red leftovers docs/zz_bad.md 'docs/zz_bad.md:1' <<<"$word"
    done
    plant expect_red sizes cli/zz_bad.c 'cli/zz_bad.c:1' <<<'puts("more than 64 MiB");'
    plant expect_red sizes cli/zz_bad.c 'cli/zz_bad.c:1' <<<'printf("less than %llu KiB free", free);'
    plant expect_red sizes docs/zz_bad.md 'docs/zz_bad.md:1' <<<'uploaded 7 B'
    plant expect_green sizes cli/zz_good.c cli/zz_good.c <<<'puts("64MiB"); /* of 64 MiB */ puts("2 Blobs");'
    plant expect_green leftovers cli/zz_good.c cli/zz_good.c <<<'mkdtemp("a-XXXXXX"); TODOS; "X.XXX.X"'

    plant expect_red headers cli/zz_bad.h 'needs #pragma once' <<<'/* prose */'
    plant expect_red headers cli/zz_bad.h 'begins with prose' <<<'#pragma once'

    plant expect_red tests cli/zz_bad.c 'cli/zz_bad.c: has no tests/cli/zz_bad_test.c' <<<'int x;'
    plant expect_green tests cli/zz_main.c cli/zz_main.c <<<'int x;'
    echo 'cli/zz_gone.c: no reason' >>"$copy/tests/house/untested.txt"
    expect_red tests 'cli/zz_gone.c is gone' 'an excuse for a file that is gone'
    echo 'cli/zz_bare.c:' >>"$copy/tests/house/untested.txt"
    plant expect_red tests cli/zz_bare.c 'cli/zz_bare.c: has no' <<<'excused without a reason'
    cp tests/house/untested.txt "$copy/tests/house/untested.txt"

    mv "$copy/base/README.md" "$copy/base/README.kept"
    expect_red readmes 'base: needs a README.md' 'a room without a README'
    seq 21 >"$copy/base/README.md"
    expect_red readmes 'base/README.md: 21 lines' 'a README of 21 lines'
    mv "$copy/base/README.kept" "$copy/base/README.md"

    echo 'a map of nothing' >"$copy/docs/MAP.md"
    expect_red map 'does not name the room scheduler' 'a map without the scheduler'
    rm -f "$copy/docs/MAP.md"
    expect_red map 'is missing' 'no map'

    plant expect_red stems cli/clock.c 'clock is taken by' <<<'int x;'
    plant expect_red stems cli/signal.h 'hides the system header <signal.h>' <<<"$header"

    plant expect_red pipes deploy/zz_bad 'deploy/zz_bad:2: may end' <<<'set -euo pipe''fail
ls | gr''ep -q x'
    plant expect_red pipes deploy/zz_bad 'deploy/zz_bad:2: may end' <<<'set -euo pipe''fail
ls | he''ad -n 1'
    plant expect_red shell deploy/zz_bad 'deploy/zz_bad:2: bash does not' <<<$'#!/bin/bash\necho \'it\'s\' (a)'
    plant expect_green shell deploy/zz_good deploy/ <<<$'#!/bin/bash\necho "it\'s" "(a)"'
    plant expect_green pipes deploy/zz_good deploy/ <<<'set -eu
ls | gr''ep -q x'

    if command -v "${CC:-cc}" >/dev/null; then
        plant expect_red alone base/zz_bad.h 'base/zz_bad.h: does not compile alone' <<<"$header
int zz_bad(size_t x);"
        plant expect_red alone base/zz_bad.h 'base/zz_bad.h: does not compile alone' <<<'struct zz { int x; };'
        plant expect_green alone base/zz_good.h base/ <<<"$header
#include <stddef.h>
int zz_good(size_t x);"
    else
        echo 'self-test: no C compiler, the rule alone is not tried'
    fi
    if bash "$self" "$copy" format >/dev/null 2>&1; [ $? -ne 77 ]; then
        plant expect_red format base/zz_bad.c 'base/zz_bad.c:1: run clang-format' <<<'int  zz(void){return 1;}'
    else
        echo 'self-test: no clang-format 14, the rule format is not tried'
    fi

    echo "self-test: $bites expectations met, $misses not"
    [ $misses -eq 0 ]
}

case ${1:-} in
--arrows) draw_arrows ;;
--self-test) self_test ;;
'') run_rules $text_rules ;;
*)
    for rule in "$@"; do
        if ! declare -F "rule_$rule" >/dev/null; then
            echo "there is no rule $rule: $text_rules alone format" >&2
            exit 2
        fi
    done
    run_rules "$@"
    ;;
esac
