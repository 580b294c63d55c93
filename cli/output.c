#include "cli/output.h"

#include "base/cleanup.h"
#include "config/yaml_emit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define SENTENCE_SIZE 8192 /* paths in it are as long as they can be */

bool output_is_document(const struct cli *cli)
{
    return cli->format >= FORMAT_JSON;
}

void output_name(struct cli *cli, const json_t *object, char *ret_text, size_t capacity)
{
    const json_t *meta = json_object_get(object, "metadata");
    const char *kind = json_member_text(object, "kind", "");
    const struct kind_info *info = kind_info_by_name(kind);
    char label[OBJECT_LABEL_SIZE];
    object_label(cli, info != NULL ? info->word : kind,
                 json_member_text(meta, "tenant", ""), json_member_text(meta, "name", ""),
                 label);
    (void)snprintf(ret_text, capacity, "%s", label);
}

static void print_name(struct cli *cli, const json_t *object)
{
    char text[OBJECT_LABEL_SIZE];
    output_name(cli, object, text, sizeof(text));
    fprintf(cli->out, "%s\n", text);
}

void output_json(struct cli *cli, const char *text)
{
    for (const char *at = strchr(text, '\xc2'); at != NULL; at = strchr(at + 1, '\xc2')) {
        unsigned char second = (unsigned char)at[1];
        if (second >= 0x80 && second <= 0x9f) {
            (void)fwrite(text, 1, (size_t)(at - text), cli->out);
            fprintf(cli->out, "\\u00%02x", second);
            text = at + 2;
        }
    }
    fputs(text, cli->out);
}

int output_document(struct cli *cli, const json_t *document)
{
    const json_t *items = json_object_get(document, "items");
    size_t index;
    json_t *item;
    if (cli->format == FORMAT_NAME && items == NULL) {
        print_name(cli, document);
        return EXIT_OK;
    }
    if (cli->format == FORMAT_NAME) {
        json_array_foreach(items, index, item)
        {
            print_name(cli, item);
        }
        return EXIT_OK;
    }
    CLEANUP_FREE char *text =
        cli->format == FORMAT_YAML ? yaml_emit(document) : json_text_pretty(document);
    if (text == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    if (cli->format == FORMAT_YAML) {
        fputs(text, cli->out); /* written with them escaped */
    } else {
        output_json(cli, text);
    }
    size_t length = strlen(text);
    if (length == 0 || text[length - 1] != '\n') {
        fputc('\n', cli->out);
    }
    return EXIT_OK;
}

int output_objects(struct cli *cli,
                   const struct object_name *names,
                   unsigned count,
                   bool many)
{
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP_JSON json_t *list = json_pack("{s:O?}", "items", items);
    for (unsigned i = 0; i < count; i++) {
        json_t *object = NULL;
        int code = object_get(cli, &names[i], &object);
        if (code != EXIT_OK) {
            return code;
        }
        (void)json_array_append_new(items, object); /* seen below */
    }
    return json_array_size(items) != count
               ? cli_fail(cli, EXIT_FAILED, "out of memory")
               : output_document(cli, many ? list : json_array_get(items, 0));
}

void output_tell(struct cli *cli, const char *format, ...)
{
    char text[SENTENCE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (output_is_document(cli)) {
        cli_note(cli, "%s", text);
        return;
    }
    fprintf(cli->out, "%s\n", text);
    (void)fflush(cli->out); /* before what is waited for; cli_main sees faults */
}

void span_format(uint64_t ms, char text[SPAN_TEXT_SIZE])
{
    static const struct {
        uint64_t below_ms;
        uint64_t unit_ms;
        const char *unit;
    } rows[] = {
        {UINT64_C(120000), 1000, "s"},
        {UINT64_C(7200000), 60000, "min"},
        {UINT64_C(172800000), 3600000, "h"},
        {UINT64_MAX, 86400000, "d"},
    };
    if (ms < 1000) {
        (void)snprintf(text, SPAN_TEXT_SIZE, "%" PRIu64 " ms", ms);
        return;
    }
    if (ms < 10000) {
        (void)snprintf(text, SPAN_TEXT_SIZE, "%" PRIu64 ".%" PRIu64 " s", ms / 1000,
                       ms % 1000 / 100);
        return;
    }
    unsigned i = 0;
    while (i + 1 < ARRAY_COUNT(rows) && ms >= rows[i].below_ms) {
        i++;
    }
    (void)snprintf(text, SPAN_TEXT_SIZE, "%" PRIu64 " %s", ms / rows[i].unit_ms,
                   rows[i].unit);
}

uint64_t instant_parse(const char *text)
{
    struct tm tm = {0};
    uint64_t ms = 0;
    const char *rest = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (rest == NULL) {
        return 0;
    }
    if (*rest == '.') {
        uint64_t unit = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            ms += (uint64_t)(*rest - '0') * unit;
            unit /= 10;
        }
    }
    time_t seconds = timegm(&tm);
    return *rest == 'Z' && seconds >= 0 ? (uint64_t)seconds * 1000 + ms : 0;
}

void instant_format_local(uint64_t wall_ms, char text[INSTANT_TEXT_SIZE])
{
    struct tm tm;
    time_t seconds = (time_t)(wall_ms / 1000);
    char date[32] = "";
    if (localtime_r(&seconds, &tm) != NULL) {
        (void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    }
    (void)snprintf(text, INSTANT_TEXT_SIZE, "%s.%03u", date, (unsigned)(wall_ms % 1000));
}
