#include "model/command.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What a put needs around its document: envelope, field headers, numbers. */
#define PUT_ROOM 256

RECORD_DEFINE(cmd_address, CMD_ADDRESS_FIELDS)
#define COMMAND_DEFINE(NAME, number, member, record, FIELDS) RECORD_DEFINE(record, FIELDS)
COMMANDS(COMMAND_DEFINE)

struct command_row {
    const char *name;
    const struct record *record;
};

/* By type; numbers that were never given have no record. */
static const struct command_row command_rows[COMMAND_COUNT] = {
#define COMMAND_ROW(NAME, number, member, record, FIELDS) \
    [COMMAND_##NAME] = {#member, &record##_record},
    COMMANDS(COMMAND_ROW)
#undef COMMAND_ROW
};

/* Zero: the first level. */
static const uint8_t command_levels[COMMAND_COUNT] = {[COMMAND_NONE] = 0,
#define COMMAND_SINCE(NAME, level) [COMMAND_##NAME] = (level),
                                                      COMMANDS_SINCE(COMMAND_SINCE)
#undef COMMAND_SINCE
};

const char *command_name(enum command_type type)
{
    const struct record *record = command_record(type);
    return record != NULL ? command_rows[type].name : "unknown";
}

const struct record *command_record(enum command_type type)
{
    return type > COMMAND_NONE && type < COMMAND_COUNT ? command_rows[type].record : NULL;
}

unsigned command_since(enum command_type type)
{
    REQUIRE(command_record(type) != NULL);
    return command_levels[type] != 0 ? command_levels[type] : LEVEL_FIRST;
}

static int level_refuse(struct err *err,
                        const char *what,
                        const char *part,
                        unsigned needed,
                        uint32_t level)
{
    return err_set(err, BERTH_ELEVEL, "%s%s%s needs level %u, the cluster is at %" PRIu32,
                   what, part[0] != '\0' ? ": " : "", part, needed, level);
}

int command_check_level(const struct command *command, uint32_t level, struct err *err)
{
    const struct field *field = NULL;
    const char *name = command_name(command->type);
    unsigned needed = command_since(command->type);
    if (needed > level) {
        return level_refuse(err, name, "", needed, level);
    }
    needed = record_level(command_record(command->type), &command->body, &field);
    if (needed > level) {
        return level_refuse(err, name, field->name, needed, level);
    }
    void *object = NULL;
    const struct cmd_put *put = &command->body.put;
    if (command->type != COMMAND_PUT || level >= level_range_up_to(0).max) {
        return 0;
    }
    int r = command_put_object(put, level_range_up_to(0).max, &object);
    if (r < 0) {
        return r == -ENOMEM ? err_sys(err, r, "read a document")
                            : 0; /* apply refuses it */
    }
    const struct kind_info *info = kind_info((enum kind)put->kind);
    needed = record_level(info->record, object, &field);
    object_free(info->kind, object);
    return needed > level ? level_refuse(err, info->word, field->name, needed, level) : 0;
}

void command_init(struct command *command, enum command_type type)
{
    const struct record *record = command_record(type);
    REQUIRE(record != NULL);
    memset(command, 0, sizeof(*command));
    command->type = type;
    command->level = LEVEL_FIRST;
    record_init(record, &command->body);
}

void command_fini(struct command *command)
{
    const struct record *record = command_record(command->type);
    if (record != NULL) {
        record_fini(record, &command->body);
    }
    memset(command, 0, sizeof(*command));
}

void command_encode(const struct command *command, struct bytes_writer *writer)
{
    const struct record *record = command_record(command->type);
    REQUIRE(record != NULL);
    REQUIRE(level_in_range(level_range_up_to(0), command->level));
    size_t start = writer->size;
    bytes_write_u8(writer, (uint8_t)command->level);
    bytes_write_u16(writer, (uint16_t)command->type);
    bytes_write_raw(writer, command->request_id, REQUEST_ID_SIZE);
    bytes_write_u64(writer, command->wall_ms);
    bytes_write_text(writer, command->subject);
    record_encode(record, &command->body, writer);
    if (writer->error == 0 && writer->size - start > COMMAND_SIZE_MAX) {
        writer->error = BERTH_ETOOLARGE;
    }
}

/* What the others know and this release does not. */
static int level_unknown(uint32_t level, struct command *ret_command)
{
    memset(ret_command, 0, sizeof(*ret_command));
    ret_command->level = level;
    return BERTH_ELEVEL;
}

int command_decode(struct bytes_reader *reader, struct command *ret_command)
{
    memset(ret_command, 0, sizeof(*ret_command));
    if (bytes_reader_left(reader) > COMMAND_SIZE_MAX) {
        bytes_reader_fail(reader);
    }
    uint8_t level = bytes_read_u8(reader);
    uint16_t type = bytes_read_u16(reader);
    if (reader->error != 0) {
        return BERTH_EPROTO;
    }
    if (!level_in_range(level_range_up_to(0), level)) {
        return level_unknown(level, ret_command);
    }
    const struct record *record = command_record(type);
    if (record == NULL || command_since(type) > level) {
        return BERTH_EUNSUPPORTED;
    }
    bytes_read_raw(reader, ret_command->request_id, REQUEST_ID_SIZE);
    ret_command->wall_ms = bytes_read_u64(reader);
    bytes_read_text(reader, ret_command->subject, sizeof(ret_command->subject));
    int r = reader->error != 0
                ? BERTH_EPROTO
                : record_decode_level(record, reader, level, &ret_command->body);
    if (r < 0) {
        memset(ret_command, 0, sizeof(*ret_command));
        return r;
    }
    if (type == COMMAND_SET_LEVEL &&
        ret_command->body.set_level.level > level_range_up_to(0).max) {
        return level_unknown(ret_command->body.set_level.level, ret_command);
    }
    ret_command->type = (enum command_type)type;
    ret_command->level = level;
    return 0;
}

/* The document of a put as people know it; one that does not decode is only counted. */
static void print_document(const struct cmd_put *put, struct bytes_writer *writer)
{
    void *object = NULL;
    if (command_put_object(put, level_range_up_to(0).max, &object) == 0) {
        const struct kind_info *info = kind_info((enum kind)put->kind);
        bytes_write_format(writer, " %s ", info->name);
        record_print(info->record, object, writer);
        object_free(info->kind, object);
    }
}

void command_print(const struct command *command, struct bytes_writer *writer)
{
    const struct record *record = command_record(command->type);
    REQUIRE(record != NULL);
    bytes_write_format(writer, "%s by ", command_name(command->type));
    record_print_text(command->subject[0] != '\0' ? command->subject : "nobody", writer);
    bytes_write_format(writer, " at %" PRIu64 " ", command->wall_ms);
    record_print(record, &command->body, writer);
    if (command->type == COMMAND_PUT) {
        print_document(&command->body.put, writer);
    }
}

int command_set_put(struct command *command,
                    enum kind kind,
                    const void *object,
                    uint64_t expected_revision)
{
    const struct kind_info *info = kind_info(kind);
    REQUIRE(command->type == COMMAND_PUT && info != NULL);
    struct bytes_writer writer;
    uint8_t *data = NULL;
    size_t size = 0;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX - PUT_ROOM);
    record_encode(info->record, object, &writer);
    int r = bytes_writer_take(&writer, &data, &size);
    if (r < 0) {
        return r;
    }
    struct cmd_put *put = &command->body.put;
    free(put->document.data);
    put->kind = (uint32_t)kind;
    put->expected_revision = expected_revision;
    put->document = (struct blob){data, (uint32_t)size};
    return 0;
}

int command_put_object(const struct cmd_put *put, uint32_t level, void **ret_object)
{
    const struct kind_info *info = kind_info((enum kind)put->kind);
    if (info == NULL) {
        return BERTH_EPROTO;
    }
    CLEANUP_FREE void *object = malloc(info->record->size_bytes);
    if (object == NULL) {
        return -ENOMEM;
    }
    struct bytes_reader reader;
    bytes_reader_init(&reader, put->document.data, put->document.size);
    int r = record_decode_level(info->record, &reader, level, object);
    if (r == 0) {
        *ret_object = TAKE_PTR(object);
    }
    return r;
}
