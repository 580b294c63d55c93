#include "chaos_check.h"

#include "base/require.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ACTORS_MAX        64
#define PRINTF_LIKE(a, b) __attribute__((format(printf, a, b)))

static PRINTF_LIKE(2, 3) void fault(struct chaos_report *report, const char *format, ...)
{
    if (report->faults++ < CHAOS_REPORT_MAX) {
        va_list arguments;
        va_start(arguments, format);
        (void)fputs("FAULT: ", report->stream);
        (void)vfprintf(report->stream, format, arguments);
        (void)fputc('\n', report->stream);
        va_end(arguments);
    }
}

/* The library's wants an array, also of nothing. */
static void
sort(void *items, size_t count, size_t size, int (*order)(const void *, const void *))
{
    if (count > 0) {
        qsort(items, count, size, order);
    }
}

/* ---- whole revisions ---- */

/* Within one revision an object may change more than once: its last state counts. What
 * came of a revision that was cut short by the end of a connection says nothing. Dropped
 * ones have no type any more. */
struct part {
    size_t *indexes; /* of one actor's records of the revision that is under way */
    size_t count;
};

static void part_drop(struct history *history, struct part *part)
{
    for (size_t i = 0; i < part->count; i++) {
        history->records[part->indexes[i]].type = 0;
    }
    part->count = 0;
}

static void part_take(struct history *history,
                      struct part *part,
                      size_t index,
                      struct chaos_report *report)
{
    struct chaos_record *record = &history->records[index];
    if (record->outcome == RECORD_OK && record->at != record->revision) {
        fault(report, "watch %u: an event of revision %" PRIu64 " has the id %" PRIu64,
              record->actor, record->revision, record->at);
    }
    for (size_t i = 0; i < part->count; i++) {
        struct chaos_record *before = &history->records[part->indexes[i]];
        if (before->revision != record->revision) {
            fault(report, "watch %u: revision %" PRIu64 " does not end before %" PRIu64,
                  record->actor, before->revision, record->revision);
        } else if (strcmp(before->key, record->key) != 0) {
            continue;
        } else if (strcmp(before->value, record->value) == 0) {
            fault(report, "watch %u was told revision %" PRIu64 " of %s twice",
                  record->actor, record->revision, record->key);
        }
        before->type = 0;
    }
    part->indexes = realloc(part->indexes, (part->count + 1) * sizeof(size_t));
    REQUIRE(part->indexes != NULL);
    part->indexes[part->count++] = index;
    if (record->outcome == RECORD_OK) {
        part->count = 0;
    }
}

static void keep_whole_revisions(struct history *history, struct chaos_report *report)
{
    struct part parts[ACTORS_MAX] = {0};
    for (size_t i = 0; i < history->count; i++) {
        const struct chaos_record *record = &history->records[i];
        REQUIRE(record->actor < ACTORS_MAX);
        struct part *part = &parts[record->actor];
        if (record->type == RECORD_SEEN) {
            part_take(history, part, i, report);
        } else if (record->type == RECORD_RESUMED || record->type == RECORD_LISTING) {
            part_drop(history, part);
        }
    }
    for (size_t i = 0; i < ACTORS_MAX; i++) {
        part_drop(history, &parts[i]);
        free(parts[i].indexes);
    }
}

/* ---- the witness: what is known of (revision, key) ---- */

struct known {
    uint64_t revision;
    const char *key;
    const char *value;
};

struct witness {
    struct known *by_revision; /* unique; by revision, then key */
    struct known *by_key;      /* the same by key, then revision */
    size_t count;
};

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int by_revision(const void *left, const void *right)
{
    const struct known *a = left;
    const struct known *b = right;
    int order = compare_u64(a->revision, b->revision);
    return order != 0 ? order : strcmp(a->key, b->key);
}

static int by_key(const void *left, const void *right)
{
    const struct known *a = left;
    const struct known *b = right;
    int order = strcmp(a->key, b->key);
    return order != 0 ? order : compare_u64(a->revision, b->revision);
}

/* A listing tells of what was deleted by leaving it out, so only the others count. */
static bool tells_of_a_change(const struct chaos_record *record)
{
    switch (record->type) {
    case RECORD_WRITE:
    case RECORD_READ:
        return record->outcome == RECORD_OK && record->revision != 0;
    case RECORD_LISTED:
    case RECORD_SEEN:
        return true;
    default:
        return false;
    }
}

static struct witness witness_of(const struct history *history,
                                 struct chaos_report *report)
{
    struct witness witness = {0};
    struct known *all = calloc(history->count + 1, sizeof(*all));
    size_t count = 0;
    REQUIRE(all != NULL);
    for (size_t i = 0; i < history->count; i++) {
        const struct chaos_record *record = &history->records[i];
        if (tells_of_a_change(record)) {
            all[count++] = (struct known){record->revision, record->key, record->value};
        }
    }
    sort(all, count, sizeof(*all), by_revision);
    for (size_t i = 0; i < count; i++) {
        if (witness.count > 0 && by_revision(&all[witness.count - 1], &all[i]) == 0) {
            if (strcmp(all[witness.count - 1].value, all[i].value) != 0) {
                fault(report, "revision %" PRIu64 " of %s is told as %s and as %s",
                      all[i].revision, all[i].key, all[witness.count - 1].value,
                      all[i].value);
            }
            continue;
        }
        all[witness.count++] = all[i];
    }
    witness.by_revision = all;
    witness.by_key = calloc(witness.count + 1, sizeof(*all));
    REQUIRE(witness.by_key != NULL);
    memcpy(witness.by_key, all, witness.count * sizeof(*all));
    sort(witness.by_key, witness.count, sizeof(*all), by_key);
    return witness;
}

static void witness_fini(struct witness *witness)
{
    free(witness->by_revision);
    free(witness->by_key);
}

/* The first whose revision is above. */
static size_t first_above(const struct witness *witness, uint64_t revision)
{
    size_t low = 0;
    size_t high = witness->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (witness->by_revision[middle].revision <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* What key was in the state of that revision; NULL: nobody was told of it by then. */
static const struct known *
known_at(const struct witness *witness, const char *key, uint64_t revision)
{
    const struct known *found = NULL;
    size_t low = 0;
    size_t high = witness->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct known *known = &witness->by_key[middle];
        int order = strcmp(known->key, key);
        if (order < 0 || (order == 0 && known->revision <= revision)) {
            found = order == 0 ? known : found;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return found;
}

/* ---- writes ---- */

static int by_value(const void *left, const void *right)
{
    const struct known *a = *(const struct known *const *)left;
    const struct known *b = *(const struct known *const *)right;
    int order = strcmp(a->key, b->key);
    return order != 0 ? order : strcmp(a->value, b->value);
}

/* Values are written once each, so how often one is in the order says what happened. */
static size_t times_written(const struct known **values,
                            size_t count,
                            const struct chaos_record *record)
{
    struct known wanted = {0, record->key, record->value};
    const struct known *want = &wanted;
    const struct known **at = bsearch(&want, values, count, sizeof(*values), by_value);
    size_t times = 0;
    if (at == NULL) {
        return 0;
    }
    while (at > values && by_value(at - 1, &want) == 0) {
        at--;
    }
    for (; at < values + count && by_value(at, &want) == 0; at++) {
        times++;
    }
    return times;
}

static void check_writes(const struct history *history,
                         const struct witness *witness,
                         struct chaos_report *report)
{
    const struct known **values =
        calloc(witness->count + 1, sizeof(const struct known *));
    REQUIRE(values != NULL);
    for (size_t i = 0; i < witness->count; i++) {
        values[i] = &witness->by_revision[i];
    }
    sort(values, witness->count, sizeof(const struct known *), by_value);
    for (size_t i = 0; i < history->count; i++) {
        const struct chaos_record *record = &history->records[i];
        if (record->type != RECORD_WRITE) {
            continue;
        }
        size_t times = times_written(values, witness->count, record);
        if (record->outcome == RECORD_OK && times != 1) {
            fault(report,
                  "%s = %s was acknowledged at revision %" PRIu64
                  " and happened %zu times",
                  record->key, record->value, record->revision, times);
        } else if (record->outcome == RECORD_REFUSED && times != 0) {
            fault(report, "%s = %s was refused and happened", record->key, record->value);
        } else if (times > 1) {
            fault(report, "%s = %s was asked for once and happened %zu times",
                  record->key, record->value, times);
        }
    }
    free((void *)values);
}

/* ---- real time ---- */

struct moment {
    uint64_t at_ns;
    bool begins;
    struct chaos_record *record;
};

static int by_moment(const void *left, const void *right)
{
    const struct moment *a = left;
    const struct moment *b = right;
    int order = compare_u64(a->at_ns, b->at_ns);
    return order != 0 ? order
                      : (int)b->begins - (int)a->begins; /* a tie orders nothing */
}

#define KEYS_MAX 64

/* Highest revision that anybody had been told of by now, by key and of all. */
struct horizon {
    const char *keys[KEYS_MAX];
    uint64_t revisions[KEYS_MAX];
    unsigned count;
    uint64_t acknowledged;
};

static uint64_t *horizon_of(struct horizon *horizon, const char *key)
{
    for (unsigned i = 0; i < horizon->count; i++) {
        if (strcmp(horizon->keys[i], key) == 0) {
            return &horizon->revisions[i];
        }
    }
    REQUIRE(horizon->count < KEYS_MAX);
    horizon->keys[horizon->count] = key;
    horizon->revisions[horizon->count] = 0;
    return &horizon->revisions[horizon->count++];
}

/* While a request is under way, what it must at least come after is kept beside it. */
struct expected {
    uint64_t key_revision;
    uint64_t acknowledged;
};

static void check_order_of_one(const struct chaos_record *record,
                               const struct expected *expected,
                               const struct witness *witness,
                               struct chaos_report *report)
{
    if (record->type == RECORD_WRITE) {
        if (record->revision <= expected->key_revision) {
            fault(report,
                  "%s = %s got revision %" PRIu64 " though %" PRIu64
                  " was told before it was asked for",
                  record->key, record->value, record->revision, expected->key_revision);
        }
        return;
    }
    if (record->revision < expected->key_revision ||
        record->at < expected->acknowledged) {
        fault(report,
              "a stale read: %s was %s of revision %" PRIu64 " in %" PRIu64
              ", but %" PRIu64 " of it and %" PRIu64 " of all were told before",
              record->key, record->value, record->revision, record->at,
              expected->key_revision, expected->acknowledged);
    }
    const struct known *known = known_at(witness, record->key, record->at);
    uint64_t known_revision = known != NULL ? known->revision : 0;
    if (known_revision != record->revision) {
        fault(report,
              "a read of %s in %" PRIu64 " shows revision %" PRIu64
              ", others saw %" PRIu64,
              record->key, record->at, record->revision, known_revision);
    }
}

static void check_real_time(struct history *history,
                            const struct witness *witness,
                            struct chaos_report *report)
{
    struct moment *moments = calloc(2 * history->count + 1, sizeof(*moments));
    struct expected *expected = calloc(history->count + 1, sizeof(*expected));
    struct horizon horizon = {0};
    size_t count = 0;
    REQUIRE(moments != NULL && expected != NULL);
    for (size_t i = 0; i < history->count; i++) {
        struct chaos_record *record = &history->records[i];
        if ((record->type == RECORD_WRITE || record->type == RECORD_READ) &&
            record->outcome == RECORD_OK) {
            moments[count++] = (struct moment){record->begin_ns, true, record};
            moments[count++] = (struct moment){record->end_ns, false, record};
        }
    }
    sort(moments, count, sizeof(*moments), by_moment);
    for (size_t i = 0; i < count; i++) {
        struct chaos_record *record = moments[i].record;
        struct expected *of_it = &expected[record - history->records];
        uint64_t *revision = horizon_of(&horizon, record->key);
        if (moments[i].begins) {
            *of_it = (struct expected){*revision, horizon.acknowledged};
            continue;
        }
        check_order_of_one(record, of_it, witness, report);
        *revision = record->revision > *revision ? record->revision : *revision;
        if (record->type == RECORD_WRITE && record->revision > horizon.acknowledged) {
            horizon.acknowledged = record->revision;
        }
    }
    free(moments);
    free(expected);
}

/* ---- watches ---- */

struct watch {
    struct known *told; /* of the listing, or since its place */
    size_t count;
    uint64_t place;
    uint64_t last; /* the last whole revision */
    bool listing;
};

static void watch_tell(struct watch *watch, const struct chaos_record *record)
{
    if ((watch->count & (watch->count - 1)) == 0) {
        size_t room = watch->count == 0 ? 1 : watch->count * 2;
        watch->told = realloc(watch->told, room * sizeof(*watch->told));
        REQUIRE(watch->told != NULL);
    }
    watch->told[watch->count++] =
        (struct known){record->revision, record->key, record->value};
}

/* Everything that anybody was told of the span, once each. */
static void check_span(struct watch *watch,
                       unsigned actor,
                       const struct witness *witness,
                       struct chaos_report *report)
{
    sort(watch->told, watch->count, sizeof(*watch->told), by_revision);
    for (size_t i = 1; i < watch->count; i++) {
        if (by_revision(&watch->told[i - 1], &watch->told[i]) == 0) {
            fault(report, "watch %u was told revision %" PRIu64 " of %s twice", actor,
                  watch->told[i].revision, watch->told[i].key);
        }
    }
    for (size_t i = first_above(witness, watch->place);
         i < witness->count && witness->by_revision[i].revision <= watch->last; i++) {
        const struct known *known = &witness->by_revision[i];
        if (watch->count == 0 || bsearch(known, watch->told, watch->count, sizeof(*known),
                                         by_revision) == NULL) {
            fault(report,
                  "watch %u was told %" PRIu64 " to %" PRIu64 " but not %" PRIu64
                  ": %s = %s",
                  actor, watch->place, watch->last, known->revision, known->key,
                  known->value);
        }
    }
}

static bool is_gone(const struct known *known)
{
    return strcmp(known->value, "gone") == 0;
}

/* The newest of each key is what there is at the place. */
static void check_listing(struct watch *watch,
                          unsigned actor,
                          uint64_t place,
                          const struct witness *witness,
                          struct chaos_report *report)
{
    sort(watch->told, watch->count, sizeof(*watch->told), by_key);
    size_t k = 0;
    for (size_t i = 0; i < witness->count;) {
        const struct known *newest = NULL;
        const char *key = witness->by_key[i].key;
        for (; i < witness->count && strcmp(witness->by_key[i].key, key) == 0; i++) {
            newest = witness->by_key[i].revision <= place ? &witness->by_key[i] : newest;
        }
        const struct known *listed = NULL;
        while (k < watch->count && strcmp(watch->told[k].key, key) < 0) {
            k++;
        }
        for (; k < watch->count && strcmp(watch->told[k].key, key) == 0; k++) {
            listed = &watch->told[k];
        }
        if (newest != NULL && !(is_gone(newest) && listed == NULL) &&
            (listed == NULL || listed->revision != newest->revision)) {
            fault(report,
                  "watch %u: the listing of %" PRIu64 " has %s as of %" PRIu64
                  ", others saw %s at %" PRIu64,
                  actor, place, key, listed != NULL ? listed->revision : 0, newest->value,
                  newest->revision);
        }
    }
}

static void watch_take(struct watch *watch,
                       const struct chaos_record *record,
                       const struct witness *witness,
                       struct chaos_report *report)
{
    switch (record->type) {
    case RECORD_LISTING:
        if (!watch->listing) {
            check_span(watch, record->actor, witness, report);
        }
        watch->listing = true;
        watch->count = 0;
        break;
    case RECORD_LISTED:
        watch_tell(watch, record);
        break;
    case RECORD_PLACE:
        if (watch->listing) {
            check_listing(watch, record->actor, record->revision, witness, report);
            watch->listing = false;
            watch->count = 0;
            watch->place = record->revision;
            watch->last = record->revision;
        } else if (record->revision < watch->last) {
            fault(report, "watch %u: a bookmark of %" PRIu64 " after %" PRIu64,
                  record->actor, record->revision, watch->last);
        } else {
            watch->last = record->revision;
        }
        break;
    case RECORD_RESUMED:
        if (watch->listing) { /* it was cut, and another host does not begin anew */
            watch->listing = false;
            watch->count = 0;
            watch->place = record->revision;
            watch->last = record->revision;
        }
        break;
    case RECORD_SEEN:
        if (record->revision <= watch->place ||
            (watch->count > 0 &&
             record->revision < watch->told[watch->count - 1].revision)) {
            fault(report, "watch %u: revision %" PRIu64 " of %s is out of order",
                  record->actor, record->revision, record->key);
        }
        watch_tell(watch, record);
        watch->last = record->outcome == RECORD_OK && record->revision > watch->last
                          ? record->revision
                          : watch->last;
        break;
    default:
        break;
    }
}

static void check_watch(const struct history *history,
                        unsigned actor,
                        const struct witness *witness,
                        struct chaos_report *report)
{
    struct watch watch = {.listing = true};
    for (size_t i = 0; i < history->count; i++) {
        if (history->records[i].actor == actor) {
            watch_take(&watch, &history->records[i], witness, report);
        }
    }
    if (!watch.listing) {
        check_span(&watch, actor, witness, report);
    }
    free(watch.told);
}

void history_check(struct history *history, struct chaos_report *report)
{
    keep_whole_revisions(history, report);
    struct witness witness = witness_of(history, report);
    size_t counts[RECORD_COUNT] = {0};
    size_t acknowledged = 0;
    size_t unknown = 0;
    unsigned actors = 0;
    for (size_t i = 0; i < history->count; i++) {
        const struct chaos_record *record = &history->records[i];
        counts[record->type]++;
        actors = record->actor >= actors ? record->actor + 1 : actors;
        if (record->type == RECORD_WRITE) {
            acknowledged += record->outcome == RECORD_OK ? 1U : 0U;
            unknown += record->outcome == RECORD_UNKNOWN ? 1U : 0U;
        }
    }
    check_writes(history, &witness, report);
    check_real_time(history, &witness, report);
    for (unsigned actor = 0; actor < actors; actor++) {
        check_watch(history, actor, &witness, report);
    }
    (void)fprintf(report->stream,
                  "history: %zu writes (%zu acknowledged, %zu unknown), %zu reads, "
                  "%zu changes seen by watches, %zu listings, %zu resumptions; "
                  "%zu changes in one order\n",
                  counts[RECORD_WRITE], acknowledged, unknown, counts[RECORD_READ],
                  counts[RECORD_SEEN], counts[RECORD_LISTING], counts[RECORD_RESUMED],
                  witness.count);
    witness_fini(&witness);
}

/* ---- VMs ---- */

static struct vm_run *run_of(struct vm_runs *runs, const struct vm_run *wanted)
{
    for (size_t i = runs->count; i > 0; i--) { /* the newest are written to most */
        struct vm_run *run = &runs->runs[i - 1];
        if (run->uid == wanted->uid && run->epoch == wanted->epoch &&
            run->pid == wanted->pid && strcmp(run->host, wanted->host) == 0) {
            return run;
        }
    }
    if ((runs->count & (runs->count - 1)) == 0) {
        size_t room = runs->count == 0 ? 1 : runs->count * 2;
        runs->runs = realloc(runs->runs, room * sizeof(*wanted));
        REQUIRE(runs->runs != NULL);
    }
    runs->runs[runs->count] = *wanted;
    return &runs->runs[runs->count++];
}

void vm_runs_read(struct vm_runs *runs,
                  const char *path,
                  const char *host,
                  int64_t offset_ns)
{
    char line[128];
    FILE *file = fopen(path, "re");
    bool whole = true;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        struct vm_run run = {0};
        char what[16];
        runs->broken += whole ? 0 : 1;
        whole = sscanf(line, "%15s %" SCNu64 " %" SCNu64 " %d %" SCNd64, what, &run.uid,
                       &run.epoch, &run.pid, &run.first_ns) == 5 &&
                strchr(line, '\n') != NULL;
        if (!whole) {
            continue;
        }
        runs->beats += strcmp(what, "beat") == 0 ? 1 : 0;
        run.first_ns -= offset_ns;
        run.last_ns = run.first_ns;
        (void)snprintf(run.host, sizeof(run.host), "%s", host);
        struct vm_run *known = run_of(runs, &run);
        known->first_ns = run.first_ns < known->first_ns ? run.first_ns : known->first_ns;
        known->last_ns = run.last_ns > known->last_ns ? run.last_ns : known->last_ns;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static int by_vm_and_begin(const void *left, const void *right)
{
    const struct vm_run *a = left;
    const struct vm_run *b = right;
    int order = compare_u64(a->uid, b->uid);
    return order != 0                  ? order
           : a->first_ns < b->first_ns ? -1
           : a->first_ns > b->first_ns ? 1
                                       : 0;
}

static void tell_pair(struct chaos_report *report,
                      const char *what,
                      const struct vm_run *a,
                      const struct vm_run *b)
{
    fault(report,
          "VM %" PRIu64 " %s: epoch %" PRIu64 " on %s (pid %d) ran from %" PRId64
          " to %" PRId64 " ms, epoch %" PRIu64 " on %s (pid %d) from %" PRId64
          " to %" PRId64 " ms",
          a->uid, what, a->epoch, a->host, a->pid, a->first_ns / 1000000,
          a->last_ns / 1000000, b->epoch, b->host, b->pid, b->first_ns / 1000000,
          b->last_ns / 1000000);
}

void vm_runs_check(struct vm_runs *runs, struct chaos_report *report)
{
    size_t vms = 0;
    sort(runs->runs, runs->count, sizeof(*runs->runs), by_vm_and_begin);
    const struct vm_run *longest = NULL; /* of this VM so far: the one that ended last */
    for (size_t i = 0; i < runs->count; i++) {
        const struct vm_run *run = &runs->runs[i];
        const struct vm_run *before = i > 0 ? &runs->runs[i - 1] : NULL;
        if (before == NULL || before->uid != run->uid) {
            vms++;
            longest = run;
            continue;
        }
        if (run->epoch <= before->epoch) {
            tell_pair(report, "did not get a higher epoch", before, run);
        }
        if (run->first_ns <= longest->last_ns) {
            tell_pair(report, "ran twice at a time", longest, run);
        }
        longest = run->last_ns > longest->last_ns ? run : longest;
    }
    (void)fprintf(report->stream, "intervals: %zu VMs ran %zu times\n", vms, runs->count);
}

void vm_runs_fini(struct vm_runs *runs)
{
    free(runs->runs);
    *runs = (struct vm_runs){0};
}

/* ---- whether there is anything to judge ---- */

void chaos_check_matter(const struct history *history,
                        const struct vm_runs *runs,
                        struct chaos_report *report)
{
    size_t counts[RECORD_COUNT] = {0};
    for (size_t i = 0; i < history->count; i++) {
        counts[history->records[i].type]++;
    }
    const struct {
        const char *what;
        size_t count;
    } wanted[] = {
        {"writes", counts[RECORD_WRITE]},
        {"reads", counts[RECORD_READ]},
        {"changes seen by watches", counts[RECORD_SEEN]},
        {"runs of VMs", runs->count},
        {"beats of VMs", runs->beats},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (wanted[i].count == 0) {
            fault(report, "there are no %s, so nothing was checked", wanted[i].what);
        }
    }
    if (history->broken + runs->broken > 0) {
        fault(report, "%zu lines of the history and %zu of VMs cannot be read",
              history->broken, runs->broken);
    }
}
