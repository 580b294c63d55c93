/* validate, plan, apply: files to the cluster. */
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "cli/connection.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/waiting.h"
#include "model/document.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_CHUNK (1u << 20)

/* ---- images
 * ----------------------------------------------------------------------------------------------
 */

static int hash_file(struct cli *cli, int fd, const char *path, struct digest *ret_digest)
{
    CLEANUP_FREE uint8_t *chunk = malloc(HASH_CHUNK);
    struct digest_stream stream;
    ssize_t size = 0;
    digest_start(&stream);
    while (chunk != NULL && (size = fd_read_full(fd, chunk, HASH_CHUNK)) > 0) {
        digest_update(&stream, chunk, (size_t)size);
    }
    digest_finish(&stream, ret_digest);
    if (chunk == NULL || size < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s: cannot be read", path);
    }
    return EXIT_OK;
}

struct progress {
    struct cli *cli;
    const char *name;
    uint64_t size;
    uint64_t said_percent;
};

static void on_progress(void *context, uint64_t sent)
{
    struct progress *progress = context;
    uint64_t percent = progress->size > 0 ? sent * 100 / progress->size : 100;
    if (percent != progress->said_percent) {
        progress->said_percent = percent;
        progress_show(progress->cli, "uploading %s: %llu %%", progress->name,
                      (unsigned long long)percent);
    }
}

static bool server_has(struct cli *cli, const char *sha256)
{
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *answer = NULL;
    (void)snprintf(path, sizeof(path), "/v1/blobs/%s", sha256);
    return remote_call_quiet(cli, "GET", path, NULL, &answer) == EXIT_OK;
}

static int
upload(struct cli *cli, int fd, const char *path, uint64_t size, const char *sha256)
{
    struct progress progress = {
        .cli = cli, .name = path, .size = size, .said_percent = 101};
    struct http *http = connection_http(cli);
    struct http_answer answer;
    char text[NUMBER_TEXT_SIZE];
    int code = EXIT_OK;
    if (http == NULL) {
        return EXIT_UNREACHABLE;
    }
    if (lseek(fd, 0, SEEK_SET) < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s: cannot be read again", path);
    }
    if (http_upload(http, "/v1/blobs", fd, size, sha256, on_progress, &progress,
                    &answer) < 0) {
        code = cli_fail(cli, EXIT_UNREACHABLE, "upload %s: %s", path, answer.text);
    } else if (answer.status >= 300) {
        code = remote_problem(cli, &answer);
    }
    http_answer_fini(&answer);
    progress_clear(cli);
    if (code == EXIT_OK) {
        format_bytes_human(size, text);
        cli_note(cli, "uploaded %s (%s)", path, text);
    }
    return code;
}

/* Fills in the artifact's content address; uploads the file unless the host has it. */
static int
artifact_file(struct cli *cli, const char *folder, struct artifact *artifact, bool send)
{
    char path[4096];
    char hex[DIGEST_HEX_SIZE];
    struct digest digest;
    struct stat info;
    bool absolute = artifact->file[0] == '/';
    (void)snprintf(path, sizeof(path), "%s%s%s", absolute ? "" : folder,
                   absolute ? "" : "/", artifact->file);
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    if (fd < 0 || fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        return cli_fail(cli, EXIT_USAGE, "image file %s: %s", path,
                        fd < 0 ? err_sentence(fd) : "not a regular file");
    }
    int code = hash_file(cli, fd, path, &digest);
    if (code != EXIT_OK) {
        return code;
    }
    digest_format(&digest, hex);
    if (!digest_is_zero(&artifact->sha256) && !digest_equal(&artifact->sha256, &digest)) {
        return cli_fail(cli, EXIT_USAGE,
                        "image file %s: its SHA-256 is %s, not what the YAML says", path,
                        hex);
    }
    artifact->sha256 = digest;
    artifact->size_bytes = (uint64_t)info.st_size;
    return send && !server_has(cli, hex)
               ? upload(cli, fd, path, artifact->size_bytes, hex)
               : EXIT_OK;
}

static int artifact_url(struct cli *cli, const struct artifact *artifact)
{
    char hex[DIGEST_HEX_SIZE];
    char url[3 * 1024];
    char path[4096];
    CLEANUP_JSON json_t *answer = NULL;
    if (digest_is_zero(&artifact->sha256)) {
        return cli_fail(cli, EXIT_USAGE, "image %s: a url needs sha256", artifact->url);
    }
    digest_format(&artifact->sha256, hex);
    if (server_has(cli, hex)) {
        return EXIT_OK;
    }
    cli_note(cli, "the host fetches %s", artifact->url);
    remote_escape(artifact->url, url, sizeof(url));
    (void)snprintf(path, sizeof(path), "/v1/blobs?url=%s&sha256=%s", url, hex);
    return remote_call(cli, "POST", path, NULL, &answer);
}

static int images_prepare(struct cli *cli, struct files *files, bool send)
{
    for (unsigned i = 0; i < files->count; i++) {
        struct image *image = files->items[i].object;
        if (files->items[i].kind != KIND_IMAGE) {
            continue;
        }
        for (uint32_t k = 0; k < image->spec.artifacts.count; k++) {
            struct artifact *artifact = &image->spec.artifacts.items[k];
            int code = artifact->file != NULL
                           ? artifact_file(cli, files->items[i].folder, artifact, send)
                       : artifact->url != NULL && send ? artifact_url(cli, artifact)
                                                       : EXIT_OK;
            if (code != EXIT_OK) {
                return code;
            }
            (void)record_set_text(&artifact->file,
                                  NULL); /* a path of this machine only */
        }
    }
    return EXIT_OK;
}

/* ---- sending
 * ----------------------------------------------------------------------------------------------
 */

static json_t *body_of(struct cli *cli, const struct files *files)
{
    json_t *objects = json_array();
    for (unsigned i = 0; i < files->count; i++) {
        struct metadata *meta = object_meta(files->items[i].object);
        if (cli->tenant != NULL && strcmp(meta->tenant, DEFAULT_TENANT) == 0) {
            (void)snprintf(meta->tenant, sizeof(meta->tenant), "%s", cli->tenant);
        }
        json_array_append_new(
            objects, document_of(files->items[i].kind, files->items[i].object, false));
    }
    return json_pack("{s:o}", "objects", objects);
}

static void print_row(struct cli *cli, const json_t *row)
{
    const char *action = json_member_text(row, "action", "");
    const char *tenant = json_member_text(row, "tenant", "");
    const struct kind_info *info = kind_info_by_name(json_member_text(row, "kind", ""));
    size_t index;
    json_t *change;
    fprintf(cli->out, "%-10s %s/%s%s%s\n", action, info != NULL ? info->word : "?",
            json_member_text(row, "name", ""), tenant[0] != '\0' ? " of " : "", tenant);
    json_array_foreach(json_object_get(row, "changes"), index, change)
    {
        CLEANUP_FREE char *from =
            json_dumps(json_object_get(change, "from"), JSON_ENCODE_ANY);
        CLEANUP_FREE char *to =
            json_dumps(json_object_get(change, "to"), JSON_ENCODE_ANY);
        if (strcmp(action, "changed") == 0) {
            fprintf(cli->out, "             %s: %s -> %s\n",
                    json_member_text(change, "path", ""), from != NULL ? from : "(none)",
                    to != NULL ? to : "(none)");
        }
    }
}

static void print_forecast(struct cli *cli, const json_t *answer)
{
    size_t index;
    json_t *row;
    json_array_foreach(json_object_get(answer, "forecast"), index, row)
    {
        size_t at;
        json_t *place;
        fprintf(cli->out, "group/%s: new VMs would go to",
                json_member_text(row, "group", ""));
        json_array_foreach(json_object_get(row, "placed"), at, place)
        {
            fprintf(cli->out, " %s", json_member_text(place, "host", ""));
        }
        uint64_t unplaced = json_member_u64(row, "unplaced", 0);
        if (unplaced > 0) {
            fprintf(cli->out, "; %llu would find no place", (unsigned long long)unplaced);
        }
        fputc('\n', cli->out);
    }
}

static unsigned changes_in(const json_t *answer)
{
    unsigned count = 0;
    size_t index;
    json_t *row;
    json_array_foreach(json_object_get(answer, "results"), index, row)
    {
        count += strcmp(json_member_text(row, "action", ""), "unchanged") != 0 ? 1U : 0U;
    }
    return count;
}

static int print_answer(struct cli *cli, const json_t *answer)
{
    size_t index;
    json_t *row;
    if (output_is_document(cli)) {
        return output_document(cli, answer);
    }
    json_array_foreach(json_object_get(answer, "results"), index, row)
    {
        print_row(cli, row);
    }
    print_forecast(cli, answer);
    return EXIT_OK;
}

static int ask(struct cli *cli,
               const char *path,
               bool send_images,
               json_t **ret_answer,
               struct files *files)
{
    int code = files_read(cli, cli->words, cli->word_count, files);
    code = code == EXIT_OK ? images_prepare(cli, files, send_images) : code;
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = body_of(cli, files);
    return remote_call(cli, "POST", path, body, ret_answer);
}

int run_validate(struct cli *cli)
{
    struct files files;
    CLEANUP_JSON json_t *answer = NULL;
    bool local = cli_flag(cli, "local") != NULL;
    int code = local ? files_read(cli, cli->words, cli->word_count, &files)
                     : ask(cli, "/v1/apply?dryRun=validate", false, &answer, &files);
    if (code == EXIT_OK) {
        cli_note(cli, "%u object%s, no fault", files.count, files.count == 1 ? "" : "s");
    }
    files_fini(&files);
    return code;
}

int run_plan(struct cli *cli)
{
    struct files files;
    CLEANUP_JSON json_t *answer = NULL;
    int code = ask(cli, "/v1/apply?dryRun=plan", false, &answer, &files);
    files_fini(&files);
    if (code != EXIT_OK) {
        return code;
    }
    code = print_answer(cli, answer);
    unsigned changes = changes_in(answer);
    cli_note(cli, "%u change%s. Nothing was changed yet.", changes,
             changes == 1 ? "" : "s");
    return code == EXIT_OK && changes > 0 && cli_flag(cli, "exit-code") != NULL
               ? EXIT_CHANGES
               : code;
}

static int wait_for_files(struct cli *cli, const struct files *files)
{
    struct waiting_subject *subjects = calloc(files->count + 1, sizeof(*subjects));
    unsigned count = 0;
    if (subjects == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < files->count; i++) {
        const struct metadata *meta = object_meta(files->items[i].object);
        if (files->items[i].kind == KIND_GROUP || files->items[i].kind == KIND_VM) {
            struct object_name *name = &subjects[count++].name;
            name->info = kind_info(files->items[i].kind);
            memcpy(name->tenant, meta->tenant, sizeof(name->tenant));
            memcpy(name->name, meta->name, sizeof(name->name));
        }
    }
    int code = count > 0 ? waiting_run_flags(cli, subjects, count) : EXIT_OK;
    free(subjects);
    return code;
}

int run_apply(struct cli *cli)
{
    struct files files;
    CLEANUP_JSON json_t *answer = NULL;
    int code = ask(cli, "/v1/apply", true, &answer, &files);
    code = code == EXIT_OK ? print_answer(cli, answer) : code;
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL) {
        code = wait_for_files(cli, &files);
    }
    files_fini(&files);
    return code;
}
