#include "rack_save.h"

#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LINE_MAX_SIZE 4096
#define HEAD_MAX_SIZE 1024
#define LINE_RUNS_MAX 10000
#define PROGRAM       "/proc/self/exe"

_Static_assert(RACK_TOTALS_COUNT * 21 + 64 < LINE_MAX_SIZE, "a line holds all sums");

struct rack_save {
    FILE *file;
    uint64_t seed, count;
    uint64_t next; /* to be given; an offset from seed, as below */
    bool *through;
};

static bool refuse(const char *path, const char *why)
{
    fprintf(stderr, "rack: %s: %s\n", path, why);
    return false;
}

/* ---- which build ---- */

static bool digest_of_program(struct digest *ret_digest)
{
    struct digest_stream stream;
    uint8_t piece[65536];
    size_t size = 0;
    FILE *file = fopen(PROGRAM, "re");
    if (file == NULL) {
        return refuse(PROGRAM, strerror(errno));
    }
    digest_start(&stream);
    while ((size = fread(piece, 1, sizeof(piece), file)) > 0) {
        digest_update(&stream, piece, size);
    }
    bool good = ferror(file) == 0;
    (void)fclose(file);
    digest_finish(&stream, ret_digest);
    return good ? true : refuse(PROGRAM, "cannot be read");
}

static bool make_head(const char *runs, uint64_t seed, char head[HEAD_MAX_SIZE])
{
    struct digest build;
    char text[DIGEST_HEX_SIZE];
    if (!digest_of_program(&build)) {
        return false;
    }
    digest_format(&build, text);
    int size =
        snprintf(head, HEAD_MAX_SIZE,
                 "rack --save, form 1, %zu numbers a line\nbuild %s\nruns from seed "
                 "%llu on:%s\n",
                 RACK_TOTALS_COUNT, text, (unsigned long long)seed, runs);
    return size > 0 && size < HEAD_MAX_SIZE;
}

/* ---- reading ---- */

static bool read_number(const char **at, uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    *ret_number = strtoull(*at, &end, 10);
    bool good = end != *at && errno == 0 && **at == ' ' && (*at)[1] != '-';
    *at = end;
    return good;
}

/* A line of seeds that are through. */
static bool read_done(struct rack_save *save, const char *at, struct rack_totals *totals)
{
    struct rack_totals sums = {0};
    uint64_t *numbers = (uint64_t *)&sums;
    uint64_t first = 0;
    uint64_t count = 0;
    if (!read_number(&at, &first) || !read_number(&at, &count) || first < save->seed ||
        count > LINE_RUNS_MAX) {
        return false;
    }
    for (size_t i = 0; i < RACK_TOTALS_COUNT; i++) {
        if (!read_number(&at, &numbers[i])) {
            return false;
        }
    }
    if (*at != '\n' || sums.runs != count) {
        return false;
    }
    for (uint64_t i = first - save->seed; i < first - save->seed + count; i++) {
        if (i < save->count && save->through[i]) {
            return false; /* twice */
        }
        if (i < save->count) {
            save->through[i] = true;
        }
    }
    rack_totals_add(totals, &sums);
    return true;
}

static bool
read_lines(struct rack_save *save, const char *path, struct rack_totals *totals)
{
    char line[LINE_MAX_SIZE];
    long good_until = ftell(save->file);
    while (fgets(line, sizeof(line), save->file) != NULL) {
        if (strchr(line, '\n') == NULL) {
            break; /* torn: its seeds are run again */
        }
        if (strncmp(line, "failed ", 7) != 0 &&
            (strncmp(line, "done ", 5) != 0 || !read_done(save, line + 4, totals))) {
            return refuse(path, "a line of it cannot be read");
        }
        good_until = ftell(save->file);
    }
    if (ftruncate(fileno(save->file), good_until) < 0) {
        return refuse(path, strerror(errno));
    }
    return true;
}

static bool take_up(struct rack_save *save,
                    const char *path,
                    const char *head,
                    struct rack_totals *totals)
{
    char found[HEAD_MAX_SIZE] = "";
    size_t size = fread(found, 1, strlen(head), save->file);
    if (ferror(save->file) != 0) {
        return refuse(path, strerror(errno));
    }
    if (size == 0) {
        return fputs(head, save->file) >= 0 && fflush(save->file) == 0
                   ? true
                   : refuse(path, strerror(errno));
    }
    if (strcmp(found, head) != 0) {
        refuse(path, "another build or other runs are in it: begin another file. It has");
        fprintf(stderr, "%s\nand this would be\n%s", found, head);
        return false;
    }
    return read_lines(save, path, totals);
}

/* ---- public ---- */

struct rack_save *rack_save_open(const char *path,
                                 const char *runs,
                                 uint64_t seed,
                                 uint64_t count,
                                 struct rack_totals *totals)
{
    char head[HEAD_MAX_SIZE];
    struct rack_save *save = calloc(1, sizeof(*save));
    if (save == NULL || !make_head(runs, seed, head)) {
        free(save);
        return NULL;
    }
    save->seed = seed;
    save->count = count;
    save->through = calloc(count, sizeof(*save->through));
    save->file = fopen(path, "a+e");
    if (save->through == NULL || save->file == NULL) {
        refuse(path, strerror(errno));
        return rack_save_close(save);
    }
    rewind(save->file);
    if (flock(fileno(save->file), LOCK_EX | LOCK_NB) < 0) {
        refuse(path, "another rack is at it");
        return rack_save_close(save);
    }
    return take_up(save, path, head, totals) ? save : rack_save_close(save);
}

struct rack_save *rack_save_close(struct rack_save *save)
{
    if (save != NULL) {
        if (save->file != NULL) {
            (void)fclose(save->file); /* each line was flushed */
        }
        free(save->through);
        free(save);
    }
    return NULL;
}

uint64_t rack_save_next(struct rack_save *save, uint64_t max, uint64_t *ret_first)
{
    while (save->next < save->count && save->through[save->next]) {
        save->next++;
    }
    uint64_t first = save->next;
    while (save->next < save->count && save->next - first < max &&
           !save->through[save->next]) {
        save->next++;
    }
    *ret_first = save->seed + first;
    return save->next - first;
}

/* On the disk as far as the system is asked: what a power cut takes is run again. */
static bool append(struct rack_save *save, const char *line, size_t size)
{
    bool good = fwrite(line, 1, size, save->file) == size && fflush(save->file) == 0;
    return good ? true : refuse("the saved runs", strerror(errno));
}

bool rack_save_done(struct rack_save *save,
                    uint64_t first,
                    uint64_t count,
                    const struct rack_totals *totals)
{
    char line[LINE_MAX_SIZE];
    const uint64_t *numbers = (const uint64_t *)totals;
    int size = snprintf(line, sizeof(line), "done %llu %llu", (unsigned long long)first,
                        (unsigned long long)count);
    for (size_t i = 0; i < RACK_TOTALS_COUNT;
         i++) { /* 21 characters each: there is room */
        size += snprintf(line + size, sizeof(line) - (size_t)size, " %llu",
                         (unsigned long long)numbers[i]);
    }
    line[size++] = '\n';
    return append(save, line, (size_t)size);
}

bool rack_save_failed(struct rack_save *save, uint64_t seed, const char *why)
{
    char line[WORLD_FAILURE_MAX + 64];
    int size =
        snprintf(line, sizeof(line), "failed %llu %s", (unsigned long long)seed, why);
    for (int i = 0; i < size; i++) {
        line[i] = line[i] == '\n' ? ' ' : line[i];
    }
    line[size++] = '\n';
    return append(save, line, (size_t)size);
}
