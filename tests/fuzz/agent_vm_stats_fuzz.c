/* Whatever a VM's program answers when it is asked what it has counted: lines, each of
 * which begins with a letter for the question, and goes on with what it has returned. A
 * reader fills in nothing but its own part, takes nothing back, and takes the same twice
 * as once; and what the numbers are for, metrics and rates, can be made of them. */
#include "agent/vm_metrics.h"
#include "agent/vm_rates.h"
#include "agent/vm_stats.h"
#include "base/require.h"
#include "vm_stats_sane.h"

#include <string.h>

#define HOST    1
#define VM      7
#define EPOCH   3
#define TURN_MS 10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PART(member) \
    offsetof(struct vm_stats, member), sizeof(((struct vm_stats *)NULL)->member)

/* What each may change. */
static const struct question {
    char letter;
    void (*take)(struct vm_stats *stats, const json_t *answer);
    struct {
        size_t offset;
        size_t size;
    } parts[2];
} questions[] = {
    {'d', vm_stats_take_disks, {{PART(disks)}, {0, 0}}},
    {'n', vm_stats_take_devices, {{PART(nics)}, {0, 0}}},
    {'c', vm_stats_take_exits, {{PART(exits_told)}, {PART(exits)}}},
    {'b', vm_stats_take_boot, {{PART(boot_told)}, {PART(boot_ns)}}},
};

static void took_nothing_back(const struct vm_stats *before, const struct vm_stats *stats)
{
    for (uint32_t i = 0; i < DISKS_MAX; i++) {
        REQUIRE(strcmp(before->disks[i].name, stats->disks[i].name) == 0);
        for (unsigned verb = 0; verb < VM_DISK_VERB_COUNT; verb++) {
            const struct vm_disk_verb_stats *was = &before->disks[i].verbs[verb];
            const struct vm_disk_verb_stats *is = &stats->disks[i].verbs[verb];
            REQUIRE((was->told & ~is->told) == 0);
            REQUIRE_IF(was->has_bins, is->has_bins);
        }
    }
    for (uint32_t i = 0; i < NICS_MAX; i++) {
        REQUIRE((before->nics[i].told & ~stats->nics[i].told) == 0);
    }
    REQUIRE((before->exits_told & ~stats->exits_told) == 0);
    REQUIRE((before->boot_told & ~stats->boot_told) == 0);
}

static void
take(struct vm_stats *stats, const struct question *question, const json_t *answer)
{
    struct vm_stats before;
    struct vm_stats after;
    memcpy(&before, stats, sizeof(before));
    question->take(stats, answer);
    memcpy(&after, stats, sizeof(after));
    question->take(stats, answer);
    REQUIRE(memcmp(&after, stats, sizeof(after)) == 0);
    vm_stats_sane(stats);
    took_nothing_back(&before, stats);
    for (unsigned i = 0; i < ARRAY_COUNT(question->parts); i++) {
        memcpy((char *)&after + question->parts[i].offset,
               (const char *)&before + question->parts[i].offset,
               question->parts[i].size);
    }
    REQUIRE(memcmp(&after, &before, sizeof(after)) == 0);
    REQUIRE_IF(answer == NULL, memcmp(&before, stats, sizeof(before)) == 0);
}

static void take_line(struct vm_stats *stats, const char *line, size_t size)
{
    for (unsigned i = 0; size > 0 && i < ARRAY_COUNT(questions); i++) {
        json_t *answer = NULL;
        if (questions[i].letter == line[0]) {
            (void)json_parse(line + 1, size - 1, &answer, NULL); /* else nothing came */
            take(stats, &questions[i], answer);
            json_decref(answer);
        }
    }
}

/* ---- what comes of them ---- */

static void metrics_are_made(const struct vm_stats *stats)
{
    struct vm_metrics metrics = {.rows = NULL};
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, VM_METRICS_SIZE_MAX);
    vm_metrics_add(&metrics, "web", "shop", stats);
    vm_metrics_write(&metrics, &writer, VM_METRICS_SIZE_MAX);
    REQUIRE(metrics.left_out == 0);
    REQUIRE(bytes_writer_take_text(&writer, &text) == 0);
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        REQUIRE(strncmp(line, "# HELP berth_vm_", 16) == 0 ||
                strncmp(line, "# TYPE berth_vm_", 16) == 0 ||
                strncmp(line, "berth_vm_", 9) == 0);
        REQUIRE(strchr(line, '\n') != NULL);
    }
    free(text);
    vm_metrics_fini(&metrics);
}

static void rates_are_told(const struct vm_rates *rates)
{
    json_t *live = json_object();
    const char *part;
    json_t *rows;
    const char *name;
    json_t *value;
    REQUIRE(live != NULL);
    (void)vm_rates_tell(rates, VM, EPOCH, 0, live);
    json_object_foreach(live, part, rows)
    {
        json_object_foreach(rows, name, value)
        {
            REQUIRE(json_integer_value(value) >= 0);
        }
    }
    json_decref(live);
}

/* A host's heartbeat, and its leader. */
static void
rates_take(struct vm_rates *rates, struct u64_map *told, const struct vm_stats *stats)
{
    struct msg_vm_seen seen = {.vm = VM, .epoch = EPOCH};
    unsigned room = 1;
    vm_rates_fill_news(told, &room, stats, &seen);
    REQUIRE(room == 0 && seen.counted_ms == stats->told_ms);
    vm_rates_take(rates, HOST, &seen, 0);
    rates_are_told(rates);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct engine_vm vm = {
        .disks = {{.name = "root"}, {.name = "data"}}, .disk_count = 2, .nic_count = 2};
    struct vm_stats stats;
    struct vm_rates *rates = vm_rates_new();
    struct u64_map *told = u64_map_new();
    const char *line = (const char *)data;
    const char *end = line + size;
    REQUIRE(rates != NULL && told != NULL);
    vm_stats_init(&stats, &vm);
    vm_stats_sane(&stats);
    while (line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop == NULL ? end : stop;
        take_line(&stats, line, (size_t)(stop - line));
        stats.told_ms += TURN_MS;
        rates_take(rates, told, &stats);
        line = stop < end ? stop + 1 : end;
    }
    metrics_are_made(&stats);
    u64_map_free(told);
    vm_rates_free(rates);
    return 0;
}
