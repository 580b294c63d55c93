#include "cli/upload.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/plural.h"
#include "cli/connection.h"
#include "cli/remote.h"
#include "cli/waiting.h"
#include "config/yaml_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK_SIZE    (1u << 20)
#define ATTEMPTS      4
#define BAR_COLUMNS   20
#define BAR_PERIOD_MS 100
#define LOG_PERIOD_MS 5000

struct bar {
    struct cli *cli;
    const char *what;
    uint64_t size;
    uint64_t shown_ms;
};

static void bar_show(void *context, uint64_t sent)
{
    struct bar *bar = context;
    uint64_t now_ms = clock_now_ms(clock_system());
    char total[NUMBER_TEXT_SIZE];
    unsigned percent = bar->size == 0 ? 100 : (unsigned)(sent * 100 / bar->size);
    int filled = (int)(percent * BAR_COLUMNS / 100);
    if (now_ms - bar->shown_ms < (bar->cli->err_tty ? BAR_PERIOD_MS : LOG_PERIOD_MS)) {
        return;
    }
    bar->shown_ms = now_ms;
    format_bytes_human(bar->size, total);
    if (bar->cli->err_tty) {
        progress_show(bar->cli, "%s [%.*s%*s] %u%% of %s", bar->what, filled,
                      "####################", BAR_COLUMNS - filled, "", percent, total);
    } else {
        cli_note(bar->cli, "%s: %u%% of %s", bar->what, percent, total);
    }
}

/* ---- hashing ---- */

static void path_beside(const char *yaml, const char *file, char *ret_path, size_t size)
{
    const char *slash = file[0] != '/' ? strrchr(yaml, '/') : NULL;
    int length = slash != NULL ? (int)(slash - yaml) + 1 : 0;
    (void)snprintf(ret_path, size, "%.*s%s", length, yaml, file);
}

/* The descriptor of a regular file, or -errno. Links are followed: it is the user's file.
 */
static int file_open(const char *path, uint64_t *ret_size)
{
    char real[PATH_MAX];
    struct stat status;
    if (realpath(path, real) == NULL) {
        return -errno;
    }
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, real, O_RDONLY, 0, NULL);
    if (fd < 0) {
        return fd;
    }
    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode)) {
        return -EISDIR;
    }
    *ret_size = (uint64_t)status.st_size;
    return TAKE_FD(fd);
}

static int file_hash(int fd, struct digest *ret_digest)
{
    CLEANUP_FREE char *block = malloc(BLOCK_SIZE);
    struct digest_stream stream;
    ssize_t size = block != NULL ? 0 : -ENOMEM;
    digest_start(&stream);
    while (size >= 0 && (size = fd_read_full(fd, block, BLOCK_SIZE)) > 0) {
        digest_update(&stream, block, (size_t)size);
    }
    digest_finish(&stream, ret_digest);
    return size < 0 ? (int)size : 0;
}

/* One file of an image, and where its file says so. */
struct artifact_place {
    struct manifest *manifest;
    const struct config *config;
    unsigned object;
    unsigned index;
};

static int artifact_fault(struct cli *cli,
                          const struct artifact_place *place,
                          const char *field,
                          const char *format,
                          ...) __attribute__((format(printf, 4, 5)));
static int artifact_fault(struct cli *cli,
                          const struct artifact_place *place,
                          const char *field,
                          const char *format,
                          ...)
{
    struct config_fault fault = {.code = config_code_text(CONFIG_FILE)};
    char path[64];
    va_list arguments;
    (void)snprintf(path, sizeof(path), "spec.artifacts[%u].%s", place->index, field);
    int used = snprintf(fault.message, sizeof(fault.message), "%s: ", path);
    va_start(arguments, format);
    (void)vsnprintf(fault.message + used, sizeof(fault.message) - (size_t)used, format,
                    arguments);
    va_end(arguments);
    manifest_tell_at(cli, place->manifest, place->config, place->object, path, &fault);
    return EXIT_USAGE;
}

static int artifact_hash(struct cli *cli,
                         const struct artifact_place *place,
                         struct artifact *artifact)
{
    char path[PATH_MAX];
    char hex[DIGEST_HEX_SIZE];
    struct digest digest;
    uint64_t size = 0;
    path_beside(place->config->name, artifact->file, path, sizeof(path));
    CLEANUP_FD int fd = file_open(path, &size);
    int r = fd < 0 ? fd : file_hash(fd, &digest);
    if (r < 0) {
        return artifact_fault(cli, place, "file", "%s: %s", path,
                              strerror(-r)); // NOLINT(concurrency-mt-unsafe)
    }
    digest_format(&digest, hex);
    if (!digest_is_zero(&artifact->sha256) && !digest_equal(&artifact->sha256, &digest)) {
        return artifact_fault(cli, place, "sha256",
                              "%s is not what this says: its sha256 is %s", path, hex);
    }
    artifact->sha256 = digest;
    artifact->size_bytes = size;
    return EXIT_OK;
}

/* The number of files that are missing or wrong, each told at its place. */
static unsigned image_hash(struct cli *cli, struct artifact_place *place)
{
    struct image *image = place->config->objects[place->object].object;
    unsigned faults = 0;
    for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
        place->index = i;
        if (image->spec.artifacts.items[i].file != NULL) {
            faults +=
                artifact_hash(cli, place, &image->spec.artifacts.items[i]) == EXIT_OK
                    ? 0U
                    : 1U;
        }
    }
    return faults;
}

/* ---- sending ---- */

static int blob_is_there(struct cli *cli, const char *sha256, bool *ret_there)
{
    struct http_answer answer;
    char path[REMOTE_PATH_SIZE];
    (void)snprintf(path, sizeof(path), "/v1/blobs/%s", sha256);
    int code = remote_answer(cli, "HEAD", path, NULL, &answer);
    *ret_there = code == EXIT_OK && answer.status == 200;
    if (code == EXIT_OK && answer.status >= 300 && answer.status != 404) {
        code = remote_problem(cli, &answer);
    }
    http_answer_fini(&answer);
    return code;
}

/* The content is named by its hash, so a repeated upload is harmless. */
static int file_send(struct cli *cli, struct bar *bar, int fd, const char *sha256)
{
    struct http *http = connection_http(cli);
    struct http_answer answer = {0};
    int code = EXIT_UNREACHABLE;
    for (unsigned i = 0; http != NULL && i < ATTEMPTS; i++) {
        http_answer_fini(&answer);
        if (lseek(fd, 0, SEEK_SET) < 0) {
            break;
        }
        int r =
            http_upload(http, "/v1/blobs", fd, bar->size, sha256, bar_show, bar, &answer);
        code = r < 0 ? (int)EXIT_UNREACHABLE : EXIT_OK;
        if (code == EXIT_OK && answer.status != 503 && answer.status != 429) {
            break;
        }
        pause_ms(UINT64_C(200) << i);
    }
    progress_clear(cli);
    if (code != EXIT_OK) {
        cli_note(cli, "%s: the upload did not work", bar->what);
        code = remote_unreachable(cli, &answer);
    } else if (answer.status >= 300) {
        code = remote_problem(cli, &answer);
    }
    http_answer_fini(&answer);
    return code;
}

static int
file_bring(struct cli *cli, const char *what, int fd, uint64_t size, const char *sha)
{
    struct bar bar = {.cli = cli, .what = what, .size = size};
    char total[NUMBER_TEXT_SIZE];
    bool there = false;
    int code = blob_is_there(cli, sha, &there);
    if (code != EXIT_OK || there) {
        return code;
    }
    format_bytes_human(size, total);
    bar.shown_ms = clock_now_ms(clock_system());
    code = file_send(cli, &bar, fd, sha);
    if (code == EXIT_OK) {
        cli_note(cli, "%s: uploaded %s", what, total);
    }
    return code;
}

static int artifact_file(struct cli *cli,
                         const struct config *config,
                         const struct image *image,
                         const struct artifact *artifact)
{
    char path[PATH_MAX];
    char what[256];
    char hex[DIGEST_HEX_SIZE];
    uint64_t size = 0;
    path_beside(config->name, artifact->file, path, sizeof(path));
    (void)snprintf(what, sizeof(what), "image/%s %s", image->meta.name,
                   artifact_role_names[artifact->role]);
    digest_format(&artifact->sha256, hex);
    CLEANUP_FD int fd = file_open(path, &size);
    return fd >= 0 ? file_bring(cli, what, fd, size, hex)
                   : cli_fail(cli, EXIT_USAGE, "%s: %s: %s", what, path,
                              strerror(-fd)); // NOLINT(concurrency-mt-unsafe)
}

/* The server fetches it, which may take minutes. */
static int
artifact_url(struct cli *cli, const struct image *image, struct artifact *artifact)
{
    char hex[DIGEST_HEX_SIZE];
    char url[3 * 1024];
    char path[sizeof(url) + 128];
    bool there = false;
    digest_format(&artifact->sha256, hex);
    int code = blob_is_there(cli, hex, &there);
    if (code != EXIT_OK || there) {
        return code;
    }
    cli_note(cli, "image/%s %s: the server fetches %s", image->meta.name,
             artifact_role_names[artifact->role], artifact->url);
    remote_escape(artifact->url, url, sizeof(url));
    (void)snprintf(path, sizeof(path), "/v1/blobs?url=%s&sha256=%s", url, hex);
    CLEANUP_JSON json_t *answer = NULL;
    code = remote_call_long(cli, "POST", path, NULL, &answer);
    artifact->size_bytes = json_member_u64(answer, "size", artifact->size_bytes);
    return code;
}

/* Brings its files in (with `send`), after which they mean nothing to the server. */
static int
image_bring(struct cli *cli, const struct config *config, struct image *image, bool send)
{
    int code = EXIT_OK;
    for (uint32_t i = 0; i < image->spec.artifacts.count && code == EXIT_OK; i++) {
        struct artifact *artifact = &image->spec.artifacts.items[i];
        if (artifact->file != NULL && send) {
            code = artifact_file(cli, config, image, artifact);
        } else if (artifact->url != NULL && send) {
            code = artifact_url(cli, image, artifact);
        }
        if (code == EXIT_OK && artifact->file != NULL &&
            record_set_text(&artifact->file, NULL) < 0) {
            code = cli_fail(cli, EXIT_FAILED, "out of memory");
        }
    }
    return code;
}

int upload_check(struct cli *cli, struct manifest *manifest)
{
    struct artifact_place place = {.manifest = manifest};
    unsigned faults = 0;
    for (unsigned i = 0; i < manifest->count; i++) {
        place.config = &manifest->configs[i];
        for (place.object = 0; place.object < place.config->object_count;
             place.object++) {
            if (place.config->objects[place.object].kind == KIND_IMAGE) {
                faults += image_hash(cli, &place);
            }
        }
    }
    return faults == 0 ? EXIT_OK
                       : cli_fail(cli, EXIT_USAGE, "%u error%s; nothing was changed",
                                  faults, plural_s(faults));
}

static bool image_has_content(const struct image *image)
{
    bool any = false;
    for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
        const struct artifact *artifact = &image->spec.artifacts.items[i];
        any = any || artifact->file != NULL || artifact->url != NULL;
    }
    return any;
}

bool upload_any(const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->count; i++) {
        const struct config *config = &manifest->configs[i];
        for (unsigned j = 0; j < config->object_count; j++) {
            if (config->objects[j].kind == KIND_IMAGE &&
                image_has_content(config->objects[j].object)) {
                return true;
            }
        }
    }
    return false;
}

int upload_images(struct cli *cli, struct manifest *manifest, bool send)
{
    int code = EXIT_OK;
    for (unsigned i = 0; i < manifest->count && code == EXIT_OK; i++) {
        const struct config *config = &manifest->configs[i];
        for (unsigned j = 0; j < config->object_count && code == EXIT_OK; j++) {
            if (config->objects[j].kind == KIND_IMAGE) {
                code = image_bring(cli, config, config->objects[j].object, send);
            }
        }
    }
    return code;
}
