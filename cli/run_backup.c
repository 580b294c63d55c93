/* backup save, backup verify. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file_atomic.h"
#include "base/parse_number.h"
#include "cli/backup_input.h"
#include "cli/output.h"
#include "cli/passphrase.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ATTEMPTS 3 /* the leader may change while a backup is fetched */

/* ---- save ---- */

struct saved {
    char id[64];
    uint64_t revision;
    uint64_t size_bytes;
    struct digest sha256;
    uint8_t *data;
};

static int fetch_piece(struct cli *cli, struct saved *saved, uint64_t *at)
{
    struct http_answer answer;
    char path[REMOTE_PATH_SIZE];
    (void)snprintf(path, sizeof(path), "/v1/backups/%s?offset=%" PRIu64, saved->id, *at);
    int code = remote_answer(cli, "GET", path, NULL, &answer);
    if (code == EXIT_OK && answer.status == 404) {
        code = EXIT_NOT_FOUND;
    } else if (code == EXIT_OK && answer.status != 200) {
        code = remote_problem(cli, &answer);
    } else if (code == EXIT_OK &&
               (answer.size == 0 || answer.size > saved->size_bytes - *at)) {
        code = cli_fail(cli, EXIT_FAILED, "the server sent another size than it said");
    } else if (code == EXIT_OK) {
        memcpy(saved->data + *at, answer.body, answer.size);
        *at += answer.size;
    }
    http_answer_fini(&answer);
    return code;
}

static int fetch_all(struct cli *cli, struct saved *saved)
{
    uint64_t at = 0;
    int code = EXIT_OK;
    struct digest digest;
    saved->data = malloc(saved->size_bytes + 1);
    if (saved->data == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    while (code == EXIT_OK && at < saved->size_bytes) {
        progress_show(cli, "fetching the backup: %u%%",
                      (unsigned)(at * 100 / saved->size_bytes));
        code = fetch_piece(cli, saved, &at);
    }
    progress_clear(cli);
    if (code != EXIT_OK) {
        return code;
    }
    digest_of(saved->data, saved->size_bytes, &digest);
    return digest_equal(&digest, &saved->sha256)
               ? EXIT_OK
               : cli_fail(cli, EXIT_FAILED, "the backup was damaged on its way");
}

static int fetch(struct cli *cli, struct saved *saved)
{
    CLEANUP_JSON json_t *made = NULL;
    char path[REMOTE_PATH_SIZE];
    int code = remote_call(cli, "POST", "/v1/backups", NULL, &made);
    if (code != EXIT_OK) {
        return code;
    }
    (void)snprintf(saved->id, sizeof(saved->id), "%s", json_member_text(made, "id", ""));
    saved->revision = json_member_u64(made, "revision", 0);
    saved->size_bytes = json_member_u64(made, "size", 0);
    if (saved->id[0] == '\0' || saved->size_bytes == 0 ||
        saved->size_bytes > BACKUP_SIZE_MAX ||
        digest_parse(json_member_text(made, "sha256", ""), &saved->sha256) < 0) {
        return cli_fail(cli, EXIT_FAILED, "the server does not say what it has made");
    }
    code = fetch_all(cli, saved);
    (void)snprintf(path, sizeof(path), "/v1/backups/%s", saved->id);
    (void)remote_call_quiet(cli, "DELETE", path, NULL, NULL); /* else in a minute */
    return code;
}

/* In place of the plain bytes the box with them. */
static int put_in_box(struct cli *cli, struct saved *saved, const char *passphrase)
{
    const struct secret_box_cost cost = secret_box_cost_default();
    uint8_t *box = NULL;
    size_t size = 0;
    struct err err;
    if (secret_box_seal(passphrase, &cost, saved->data, saved->size_bytes, &box, &size,
                        &err) < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s", err.text);
    }
    free(saved->data);
    saved->data = box;
    saved->size_bytes = size;
    return EXIT_OK;
}

static int write_out(struct cli *cli, const struct saved *saved, bool encrypted)
{
    const char *path = cli->words[0];
    char size[NUMBER_TEXT_SIZE];
    struct err err;
    if (file_atomic_write(path, saved->data, saved->size_bytes, 0600, &err) < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s", err.text);
    }
    if (output_is_document(cli)) {
        CLEANUP_JSON json_t *document = json_pack(
            "{s:s, s:I, s:I, s:b}", "file", path, "revision", (json_int_t)saved->revision,
            "sizeBytes", (json_int_t)saved->size_bytes, "encrypted", encrypted ? 1 : 0);
        return document != NULL ? output_document(cli, document)
                                : cli_fail(cli, EXIT_FAILED,
                                           "%s is written; its name is not UTF-8", path);
    }
    format_bytes_human(saved->size_bytes, size);
    fprintf(cli->out, "%s: revision %" PRIu64 ", %s, %s\n", path, saved->revision, size,
            encrypted ? "encrypted" : "not encrypted");
    return EXIT_OK;
}

/* The older one may be the only one: whoever means to replace it says so. A device
 * (/dev/stdout) is no file that could be lost. */
static int check_target(struct cli *cli)
{
    struct stat status;
    const char *path = cli->words[0];
    return cli_flag(cli, "force") == NULL && stat(path, &status) == 0 &&
                   S_ISREG(status.st_mode)
               ? cli_fail(cli, EXIT_CONFLICT,
                          "%s is there already; nothing was saved\n"
                          "hint: another name, or --force to replace it",
                          path)
               : EXIT_OK;
}

int run_backup_save(struct cli *cli)
{
    struct saved saved = {0};
    char passphrase[PASSPHRASE_SIZE_MAX] = "";
    bool encrypted =
        cli_flag(cli, "encrypt") != NULL || cli_flag(cli, "passphrase-file") != NULL;
    int code = check_target(cli);
    /* Asked first: who has to think about it holds up nothing. */
    code = code == EXIT_OK && encrypted ? passphrase_get(cli, true, passphrase) : code;
    if (code != EXIT_OK) {
        return code;
    }
    code = EXIT_NOT_FOUND;
    for (unsigned i = 0; i < ATTEMPTS && code == EXIT_NOT_FOUND; i++) {
        free(saved.data);
        saved = (struct saved){0};
        code = fetch(cli, &saved);
    }
    if (code == EXIT_NOT_FOUND) {
        code = cli_fail(cli, EXIT_FAILED,
                        "the leader changed again and again; try once more");
    }
    if (code == EXIT_OK && encrypted) {
        code = put_in_box(cli, &saved, passphrase);
    }
    secret_wipe(passphrase, sizeof(passphrase));
    if (code == EXIT_OK) {
        code = write_out(cli, &saved, encrypted);
    }
    free(saved.data);
    return code;
}

/* ---- verify ---- */

static const enum kind counted[] = {KIND_TENANT, KIND_HOST, KIND_TEMPLATE,
                                    KIND_GROUP,  KIND_VM,   KIND_NETWORK,
                                    KIND_IMAGE,  KIND_DISK, KIND_TOKEN};

static json_t *counts_document(const struct state *state)
{
    json_t *counts = json_object();
    for (size_t i = 0; i < ARRAY_COUNT(counted); i++) {
        json_object_set_new(counts, kind_info(counted[i])->plural,
                            json_integer((json_int_t)state_count(state, counted[i])));
    }
    return counts;
}

/* What a restored cluster has to be given again, unless its hosts have it. */
static json_t *images_document(const struct state *state)
{
    json_t *images = json_array();
    size_t cursor = 0;
    const struct image *image;
    while ((image = state_next(state, KIND_IMAGE, &cursor)) != NULL) {
        for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
            const struct artifact *artifact = &image->spec.artifacts.items[i];
            char hex[DIGEST_HEX_SIZE];
            digest_format(&artifact->sha256, hex);
            json_array_append_new(
                images, json_pack("{s:s, s:s, s:s, s:I, s:s}", "tenant",
                                  image->meta.tenant, "name", image->meta.name, "role",
                                  artifact_role_names[artifact->role], "size",
                                  (json_int_t)artifact->size_bytes, "sha256", hex));
        }
    }
    return images;
}

static json_t *verify_document(const struct backup_input *input)
{
    char when[CLOCK_TEXT_SIZE];
    clock_format(input->info.saved_wall_ms, when);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:b, s:I, s:o, s:o}", "saved",
                     when, "host", input->info.host, "version",
                     input->info.version != NULL ? input->info.version : "", "cluster",
                     input->info.cluster != NULL ? input->info.cluster : "", "revision",
                     (json_int_t)input->info.revision, "format", BACKUP_FORMAT, "level",
                     (int)input->level, "encrypted", input->encrypted, "size",
                     (json_int_t)input->size_bytes, "objects",
                     counts_document(input->state), "images",
                     images_document(input->state));
}

/* "3 hosts", "1 VM"; those that there are none of are left out. */
static void print_counts(struct cli *cli, const struct state *state)
{
    const char *before = "  holds     ";
    for (size_t i = 0; i < ARRAY_COUNT(counted); i++) {
        const struct kind_info *info = kind_info(counted[i]);
        size_t count = state_count(state, counted[i]);
        if (count > 0) {
            fprintf(cli->out, "%s %zu %s", before, count,
                    count == 1 ? info->word : info->plural);
            before = ",";
        }
    }
    fputs(before[0] == ',' ? "\n" : "  holds      nothing\n", cli->out);
}

/* What a restored cluster has to be given again, unless its hosts have it. */
static void print_images(struct cli *cli, const struct state *state)
{
    size_t cursor = 0;
    const struct image *image;
    while ((image = state_next(state, KIND_IMAGE, &cursor)) != NULL) {
        for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
            const struct artifact *artifact = &image->spec.artifacts.items[i];
            char hex[DIGEST_HEX_SIZE];
            char size[NUMBER_TEXT_SIZE];
            digest_format(&artifact->sha256, hex);
            format_bytes_human(artifact->size_bytes, size);
            fprintf(cli->out, "  image      %s%s%s, %s of %s, sha256 %s\n",
                    image->meta.tenant, image->meta.tenant[0] != '\0' ? "/" : "",
                    image->meta.name, artifact_role_names[artifact->role], size, hex);
        }
    }
}

static void print_verified(struct cli *cli, const struct backup_input *input)
{
    char when[INSTANT_TEXT_SIZE];
    char size[NUMBER_TEXT_SIZE];
    const struct backup_info *info = &input->info;
    instant_format_local(info->saved_wall_ms, when);
    format_bytes_human(input->size_bytes, size);
    fprintf(cli->out, "%s is intact\n", cli->words[0]);
    fprintf(cli->out, "  saved      %s on %s, by berth %s\n", when, info->host,
            info->version != NULL ? info->version : "?");
    fprintf(cli->out, "  cluster    %s\n", info->cluster != NULL ? info->cluster : "?");
    fprintf(cli->out, "  revision   %" PRIu64 "\n", info->revision);
    fprintf(cli->out, "  file       format %d, level %" PRIu32 ", %s, %s\n",
            BACKUP_FORMAT, input->level, size,
            input->encrypted ? "encrypted" : "not encrypted");
    print_counts(cli, input->state);
    print_images(cli, input->state);
}

int run_backup_verify(struct cli *cli)
{
    struct backup_input input;
    int code = backup_input_read(cli, cli->words[0], &input);
    if (code != EXIT_OK) {
        return code;
    }
    if (output_is_document(cli)) {
        CLEANUP_JSON json_t *document = verify_document(&input);
        code = output_document(cli, document);
    } else {
        print_verified(cli, &input);
    }
    backup_input_fini(&input);
    return code;
}
