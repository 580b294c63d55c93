#include "chaos_history.h"

#include "base/require.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const types[RECORD_COUNT] = {
    [RECORD_WRITE] = "write",     [RECORD_READ] = "read",   [RECORD_LISTING] = "listing",
    [RECORD_LISTED] = "listed",   [RECORD_PLACE] = "place", [RECORD_SEEN] = "seen",
    [RECORD_RESUMED] = "resumed",
};

static const char *const outcomes[RECORD_OUTCOME_COUNT] = {
    [RECORD_OK] = "ok",
    [RECORD_UNKNOWN] = "unknown",
    [RECORD_REFUSED] = "refused",
    [RECORD_MORE] = "more",
};

static int index_of(const char *const *names, int count, const char *name)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return 0;
}

static const char *text_or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

void history_note(FILE *file, const struct chaos_record *record)
{
    char line[512];
    int length =
        snprintf(line, sizeof(line),
                 "%s %u %" PRIu64 " %" PRIu64 " %s %" PRIu64 " %" PRIu64 " %s %s\n",
                 types[record->type], record->actor, record->begin_ns, record->end_ns,
                 outcomes[record->outcome], record->revision, record->at,
                 text_or_dash(record->key), text_or_dash(record->value));
    REQUIRE(length > 0 && (size_t)length < sizeof(line));
    REQUIRE(fwrite(line, 1, (size_t)length, file) == (size_t)length);
    REQUIRE(fflush(file) == 0);
}

bool history_parse(const char *line, struct chaos_record *ret_record)
{
    char type[16];
    char outcome[16];
    struct chaos_record record = {0};
    int length = 0;
    int fields = sscanf(
        line, "%15s %u %" SCNu64 " %" SCNu64 " %15s %" SCNu64 " %" SCNu64 " %95s %95s%n",
        type, &record.actor, &record.begin_ns, &record.end_ns, outcome, &record.revision,
        &record.at, record.key, record.value, &length);
    if (fields != 9 || line[length] != '\n') {
        return false;
    }
    record.type = (enum record_type)index_of(types, RECORD_COUNT, type);
    record.outcome =
        (enum record_outcome)index_of(outcomes, RECORD_OUTCOME_COUNT, outcome);
    *ret_record = record;
    return record.type != 0 && record.outcome != 0;
}

void history_add(struct history *history, const struct chaos_record *record)
{
    if ((history->count & (history->count - 1)) == 0) { /* none, or a power of two */
        size_t room = history->count == 0 ? 1 : history->count * 2;
        history->records = realloc(history->records, room * sizeof(*record));
        REQUIRE(history->records != NULL);
    }
    history->records[history->count++] = *record;
}

void history_read(struct history *history, const char *path)
{
    char line[512];
    struct chaos_record record;
    FILE *file = fopen(path, "re");
    REQUIRE(file != NULL);
    bool whole = true;
    while (fgets(line, sizeof(line), file) != NULL) {
        history->broken += whole ? 0 : 1;
        whole = history_parse(line, &record);
        if (whole) {
            history_add(history, &record);
        }
    }
    (void)fclose(file);
}

void history_fini(struct history *history)
{
    free(history->records);
    *history = (struct history){0};
}
