/* Backups through the API: made whole at one revision, fetched piece by piece.
 *
 * A backup is made after a read barrier, so it holds every write that was answered before
 * it was asked for. The leader keeps it in memory under a name nobody can guess; pieces
 * are small enough for any queue on the way, so a slow client holds up nobody and a
 * forwarded one loses nothing. When the leader changes the name is gone: the client makes
 * another. */
#include "api/api_handlers.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/version.h"
#include "model/backup_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_SIZE   ((size_t)128 << 10)
#define KEEP_MS      60000 /* after it was last asked for */
#define BACKUPS_MAX  2     /* each is as large as the state */
#define ID_BYTES     16
#define ID_TEXT_SIZE (2 * ID_BYTES + 1)

struct kept {
    struct list link;
    char id[ID_TEXT_SIZE];
    uint8_t *data;
    size_t size;
    uint64_t until_ms;
};

struct api_backups {
    struct api *api;
    struct list list;
    unsigned count;
};

static void kept_free(struct api_backups *backups, struct kept *kept)
{
    list_remove(&kept->link);
    backups->count--;
    free(kept->data);
    free(kept);
}

/* ---- making ---- */

static json_t *kept_document(const struct kept *kept, uint64_t revision)
{
    struct digest digest;
    char hex[DIGEST_HEX_SIZE];
    digest_of(kept->data, kept->size, &digest);
    digest_format(&digest, hex);
    return json_pack("{s:s, s:I, s:I, s:s}", "id", kept->id, "revision",
                     (json_int_t)revision, "size", (json_int_t)kept->size, "sha256", hex);
}

void handle_backup_make(struct api_call *call, const struct state *state)
{
    struct api_backups *backups = call->api->backups;
    struct control_role role;
    uint8_t secret[ID_BYTES];
    struct err err;
    if (backups->count >= BACKUPS_MAX) {
        call_fail(call, BERTH_EFULL,
                  "two backups are being fetched already: try again in a minute");
        return;
    }
    struct kept *kept = calloc(1, sizeof(*kept));
    if (kept == NULL) {
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    call->api->control->role(call->api->control->context, &role);
    int r = backup_encode(state, call->wall_ms, BERTH_VERSION, role.host_name,
                          &kept->data, &kept->size, &err);
    if (r < 0) {
        free(kept);
        call_fail(call, r, err.text);
        return;
    }
    random_secret(secret, sizeof(secret));
    hex_format(secret, sizeof(secret), kept->id);
    kept->until_ms = uv_now(call->api->loop) + KEEP_MS;
    list_push_back(&backups->list, &kept->link);
    backups->count++;
    call_answer(call, 201, kept_document(kept, state_revision(state)), 0);
}

/* ---- fetching ---- */

static struct kept *kept_find(struct api_backups *backups, const char *id)
{
    LIST_EACH_SAFE (item, &backups->list) {
        struct kept *kept = LIST_ITEM(item, struct kept, link);
        if (strcmp(kept->id, id) == 0) {
            return kept;
        }
    }
    return NULL;
}

static void send_piece(struct api_call *call, const uint8_t *data, size_t size)
{
    static const struct exchange_header headers[] = {{"Cache-Control", "no-store"}};
    exchange_answer(call->exchange, 200, "application/octet-stream", headers, 1, data,
                    size);
    call_leave(call);
}

void handle_backup_piece(struct api_call *call, const struct state *state)
{
    struct api_backups *backups = call->api->backups;
    struct kept *kept = kept_find(backups, call->target.name);
    uint64_t offset = 0;
    struct err err;
    (void)state;
    if (query_u64(&call->query, "offset", 0, &offset, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    if (kept == NULL) {
        call_fail(call, BERTH_ENOTFOUND,
                  "the leader has no such backup: another host leads now, or it was not "
                  "asked for within a minute");
        return;
    }
    if (offset > kept->size) {
        call_fail(call, BERTH_EINVALID, "offset: behind the backup's end");
        return;
    }
    size_t left = kept->size - (size_t)offset;
    kept->until_ms = uv_now(call->api->loop) + KEEP_MS;
    send_piece(call, kept->data + offset, left < PIECE_SIZE ? left : PIECE_SIZE);
}

void handle_backup_drop(struct api_call *call, const struct state *state)
{
    struct kept *kept = kept_find(call->api->backups, call->target.name);
    (void)state;
    if (kept != NULL) {
        kept_free(call->api->backups, kept);
    }
    call_answer(call, 200, json_object(), 0); /* gone is gone */
}

/* ---- life ---- */

void backups_tick(struct api_backups *backups)
{
    uint64_t now_ms = uv_now(backups->api->loop);
    LIST_EACH_SAFE (item, &backups->list) {
        struct kept *kept = LIST_ITEM(item, struct kept, link);
        if (now_ms >= kept->until_ms) {
            kept_free(backups, kept);
        }
    }
}

struct api_backups *backups_new(struct api *api)
{
    struct api_backups *backups = calloc(1, sizeof(*backups));
    if (backups != NULL) {
        backups->api = api;
        list_init(&backups->list);
    }
    return backups;
}

struct api_backups *backups_free(struct api_backups *backups)
{
    if (backups == NULL) {
        return NULL;
    }
    LIST_EACH_SAFE (item, &backups->list) {
        kept_free(backups, LIST_ITEM(item, struct kept, link));
    }
    free(backups);
    return NULL;
}
