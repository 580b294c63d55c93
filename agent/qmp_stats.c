#include "agent/qmp_stats.h"

#include "base/cleanup.h"

#include <string.h>

/* QEMU knows query-stats as well, but nothing of our provider. */
static const struct question {
    const char *command;
    const char *arguments; /* JSON; NULL: none */
    void (*take)(struct vm_stats *stats, const json_t *answer);
    bool ours;
    bool boot;
} questions[] = {
    {"query-blockstats", NULL, vm_stats_take_disks, false, false},
    {"x-query-device-stats", NULL, vm_stats_take_devices, true, false},
    {"query-stats",
     "{\"target\": \"vcpu\", \"providers\": [{\"provider\": \"berth\", \"names\": ["
     "\"port_exits\", \"memory_exits\", \"interrupted_exits\", \"again_exits\", "
     "\"end_exits\", \"broken_exits\", \"other_exits\"]}]}",
     vm_stats_take_exits, true, false},
    {"x-query-boot", NULL, vm_stats_take_boot, true, true},
};

static void ask_next(struct qmp_stats *stats);

static void round_end(struct qmp_stats *stats)
{
    stats->asking = false;
    stats->client = NULL;
    stats->rounds++;
}

static void
on_answer(void *context, int code, const json_t *result, const struct err *error)
{
    struct qmp_stats *stats = context;
    (void)error; /* one of another release has not the word: the rest is asked */
    if (code == BERTH_ETIMEOUT) {
        stats->skips = stats->skips_next;
        stats->skips_next = 2 * stats->skips_next + 1;
        if (stats->skips_next > QMP_STATS_SKIPS_MAX) {
            stats->skips_next = QMP_STATS_SKIPS_MAX;
        }
    }
    if (code == BERTH_ETIMEOUT || code == BERTH_ECLOSED) {
        round_end(stats);
        return;
    }
    stats->skips_next = 1;
    if (code == 0) {
        questions[stats->question].take(&stats->numbers, result);
    }
    stats->question++;
    ask_next(stats);
}

static bool is_asked(const struct qmp_stats *stats, const struct question *question)
{
    return (!question->ours || stats->ours) &&
           (!question->boot || stats->rounds < QMP_STATS_BOOT_ROUNDS);
}

static void ask_next(struct qmp_stats *stats)
{
    while (stats->question < ARRAY_COUNT(questions) &&
           !is_asked(stats, &questions[stats->question])) {
        stats->question++;
    }
    if (stats->question == ARRAY_COUNT(questions)) {
        stats->numbers.told_ms = stats->begun_ms;
        round_end(stats);
        return;
    }
    const struct question *question = &questions[stats->question];
    json_t *arguments = NULL;
    int r = question->arguments == NULL
                ? 0
                : json_parse(question->arguments, strlen(question->arguments), &arguments,
                             NULL);
    if (r != 0 || qmp_client_execute(stats->client, question->command, arguments,
                                     stats->timeout_ms, on_answer, stats, NULL) != 0) {
        round_end(stats); /* the next one asks again */
    }
}

void qmp_stats_ask(struct qmp_stats *stats,
                   struct qmp_client *client,
                   bool ours,
                   uint64_t now_ms)
{
    if (stats->asking) {
        return;
    }
    if (stats->skips > 0) {
        stats->skips--;
        return;
    }
    stats->asking = true;
    stats->client = client;
    stats->ours = ours;
    stats->question = 0;
    stats->begun_ms = now_ms;
    ask_next(stats);
}
