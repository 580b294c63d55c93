# Long commands of a script: how far they are is shown, and an end from outside ends them too.
# Sourced by deploy/demo and tests/run.
#
#   job_run COMMAND...            in a process group of its own; its exit code
#   job_progress LOG COMMAND...   the same with its output in LOG: shows how far ninja is, "[12/269]" in LOG.
#                                 On a terminal one line that moves, else (or with PROGRESS_LINES=yes) a line
#                                 every PROGRESS_EVERY_S
#   job_stop                      ends what runs; for the script's traps
#
# A shell runs its traps only once its command in front has ended: these run behind it, and are waited for.

PROGRESS_EVERY_S=${PROGRESS_EVERY_S:-10}
PROGRESS_LINES=${PROGRESS_LINES:-no}
job='' job_shower=''

progress_moves() { [ -t 1 ] && [ "$PROGRESS_LINES" = no ]; }

job_run() {
    local code=0
    setsid "$@" &
    job=$!
    wait "$job" || code=$?
    job=''
    return $code
}

job_progress() {
    local log=$1 code=0
    shift
    : >"$log"
    progress_show "$log" &
    job_shower=$!
    setsid "$@" >>"$log" 2>&1 &
    job=$!
    wait "$job" || code=$?
    job=''
    job_stop
    return $code
}

job_stop() {
    if [ -n "$job" ]; then
        kill -TERM -- "-$job" 2>/dev/null || true
        wait "$job" 2>/dev/null || true
        job=''
    fi
    if [ -n "$job_shower" ]; then
        kill "$job_shower" 2>/dev/null || true
        wait "$job_shower" 2>/dev/null || true
        job_shower=''
        if progress_moves; then printf '\r\e[K'; fi
    fi
}

progress_show() { # LOG: until it is killed
    local log=$1 begun at='' before done_steps all_steps
    begun=$(date +%s)
    while :; do
        # A sleep that outlives this shell must not hold the output of the script open.
        if progress_moves; then sleep 0.5; else sleep "$PROGRESS_EVERY_S" >/dev/null 2>&1; fi
        before=$at
        at=$(grep -o '^\[[0-9]*/[0-9]*\]' "$log" 2>/dev/null | tail -n 1 | tr -d '[]' || true)
        [ -n "$at" ] || continue
        done_steps=${at%/*} all_steps=${at#*/}
        if progress_moves; then
            printf '\r\e[K  [%s/%s] %d%%, %d s' "$done_steps" "$all_steps" \
                $((100 * done_steps / all_steps)) $(($(date +%s) - begun))
        elif [ "$at" != "$before" ]; then
            printf '  [%s/%s] %d%%, %d s\n' "$done_steps" "$all_steps" $((100 * done_steps / all_steps)) \
                $(($(date +%s) - begun))
        fi
    done
}
