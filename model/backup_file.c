#include "model/backup_file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC      "BERTHBK1"
#define MAGIC_SIZE 8
#define INFO_MAX   4096

RECORD_DEFINE(backup_info, BACKUP_INFO_FIELDS)

/* ---- writing ---- */

static void write_info(const struct backup_info *info, struct bytes_writer *writer)
{
    size_t hole = bytes_write_length_hole(writer);
    record_encode(&backup_info_record, info, writer);
    bytes_writer_patch_length(writer, hole);
}

static void seal(struct bytes_writer *writer)
{
    struct digest digest;
    if (writer->error == 0) {
        digest_of(writer->data, writer->size, &digest);
        bytes_write_raw(writer, digest.bytes, sizeof(digest.bytes));
    }
}

int backup_encode(const struct state *state,
                  uint64_t saved_wall_ms,
                  const char *version,
                  const char *host,
                  uint8_t **ret_data,
                  size_t *ret_size,
                  struct err *err)
{
    CLEANUP_FREE uint8_t *content = NULL;
    size_t content_size = 0;
    uint8_t id[REQUEST_ID_SIZE];
    char cluster[2 * REQUEST_ID_SIZE + 1];
    struct bytes_writer writer;
    struct backup_info info = {.saved_wall_ms = saved_wall_ms,
                               .revision = state_revision(state),
                               .version = (char *)(uintptr_t)version,
                               .cluster = cluster};
    state_cluster_id(state, id);
    hex_format(id, sizeof(id), cluster);
    (void)snprintf(info.host, sizeof(info.host), "%s", host);
    int r = state_encode(state, &content, &content_size);
    if (r == 0) {
        bytes_writer_init(&writer, BACKUP_SIZE_MAX);
        bytes_write_raw(&writer, MAGIC, MAGIC_SIZE);
        bytes_write_u16(&writer, BACKUP_FORMAT);
        bytes_write_u16(&writer, (uint16_t)state_level(state));
        write_info(&info, &writer);
        bytes_write_u64(&writer, content_size);
        bytes_write_raw(&writer, content, content_size);
        seal(&writer);
        r = bytes_writer_take(&writer, ret_data, ret_size);
    }
    return r == 0 ? 0
                  : err_sys(err, r, "write a backup of revision %" PRIu64, info.revision);
}

/* ---- reading ---- */

static int corrupt(struct err *err, const char *what)
{
    return err_set(err, BERTH_ECORRUPT, "the backup is damaged: %s", what);
}

/* The end first: damage anywhere is told before anything is believed. */
static int check_seal(const void *data, size_t size, struct err *err)
{
    struct digest digest;
    if (size < MAGIC_SIZE || memcmp(data, MAGIC, MAGIC_SIZE) != 0) {
        return err_set(err, BERTH_EUNSUPPORTED, "this is no backup of Berth's");
    }
    if (size < MAGIC_SIZE + DIGEST_SIZE) {
        return corrupt(err, "it is cut short");
    }
    size_t body = size - DIGEST_SIZE;
    digest_of(data, body, &digest);
    return memcmp(digest.bytes, (const uint8_t *)data + body, DIGEST_SIZE) == 0
               ? 0
               : corrupt(err, "its checksum does not fit");
}

static int check_level(uint16_t format, uint16_t level, struct err *err)
{
    if (format != BACKUP_FORMAT) {
        return err_set(
            err, BERTH_EUNSUPPORTED,
            "the backup is of format %u, this release reads format %d: use the "
            "release that wrote it",
            format, BACKUP_FORMAT);
    }
    const struct level_range known = level_range_up_to(0);
    if (!level_in_range(known, level)) {
        return err_set(
            err, BERTH_ELEVEL,
            "the backup is of level %u, this release reads levels %u to %u: use "
            "the release that wrote it",
            level, known.min, known.max);
    }
    return 0;
}

int backup_decode(const void *data,
                  size_t size,
                  struct backup_info *ret_info,
                  uint32_t *ret_level,
                  const void **ret_state,
                  size_t *ret_state_size,
                  struct err *err)
{
    struct bytes_reader reader;
    int r = check_seal(data, size, err);
    if (r < 0) {
        return r;
    }
    bytes_reader_init(&reader, data, size - DIGEST_SIZE);
    (void)bytes_read_view(&reader, MAGIC_SIZE);
    uint16_t format = bytes_read_u16(&reader);
    uint16_t level = bytes_read_u16(&reader);
    r = reader.error == 0 ? check_level(format, level, err) : 0;
    if (r < 0) {
        return r;
    }
    size_t info_size = 0;
    const void *info_bytes = bytes_read_block(&reader, INFO_MAX, &info_size);
    uint64_t state_size = bytes_read_u64(&reader);
    const void *state_bytes = state_size <= BACKUP_SIZE_MAX
                                  ? bytes_read_view(&reader, (size_t)state_size)
                                  : NULL;
    struct bytes_reader info_reader;
    if (state_bytes == NULL || bytes_reader_end(&reader) != 0) {
        return corrupt(err, "its parts do not fit");
    }
    bytes_reader_init(&info_reader, info_bytes, info_size);
    r = record_decode(&backup_info_record, &info_reader, ret_info);
    if (r < 0) {
        return r == -ENOMEM ? err_sys(err, r, "read a backup")
                            : corrupt(err, "what it says of itself cannot be read");
    }
    *ret_level = level;
    *ret_state = state_bytes;
    *ret_state_size = (size_t)state_size;
    return 0;
}

int backup_load(const void *data,
                size_t size,
                struct backup_info *ret_info,
                uint32_t *ret_level,
                struct state *state,
                struct err *err)
{
    const void *content = NULL;
    size_t content_size = 0;
    int r = backup_decode(data, size, ret_info, ret_level, &content, &content_size, err);
    if (r < 0) {
        return r;
    }
    r = state_decode(state, content, content_size, err);
    if (r == 0 && state_revision(state) != ret_info->revision) {
        r = corrupt(err, "it is of another revision than it says");
    } else if (r == 0 && state_level(state) != *ret_level) {
        r = corrupt(err, "it is of another level than it says");
    }
    if (r < 0) {
        record_fini(&backup_info_record, ret_info);
    }
    return r;
}
