#include "agent/identity.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/json.h"
#include "base/parse_number.h"
#include "base/state_file.h"
#include "base/state_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SIZE_MAX 65536

void identity_path(const struct identity *identity,
                   const char *name,
                   char *ret_path,
                   size_t capacity)
{
    (void)snprintf(ret_path, capacity, "%s/%s", identity->folder, name);
}

/* "PID START": START is field 22 of /proc/self/stat, so a reused pid is told apart. */
static int pid_write(const struct identity *identity, struct err *err)
{
    CLEANUP_FREE
    uint8_t *stat = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, "/proc/self/stat", FILE_SIZE_MAX, &stat, &size, err);
    if (r < 0) {
        return r;
    }
    const char *field = strrchr((const char *)stat, ')');
    for (int skip = 0; skip < 20 && field != NULL; skip++) {
        field = strchr(field + 1, ' ');
    }
    char text[64];
    int length = snprintf(text, sizeof(text), "%d %llu\n", (int)getpid(),
                          field != NULL ? strtoull(field, NULL, 10) : 0ULL);
    char path[PATH_MAX];
    identity_path(identity, STATE_FILE_PID, path, sizeof(path));
    return file_atomic_write(path, text, (size_t)length, 0644, err);
}

static int folder_lock(struct identity *identity, int flags, struct err *err)
{
    identity->lock_fd = state_lock_take(identity->folder, flags, STATE_LOCK_WAIT_MS, err);
    return identity->lock_fd < 0 ? identity->lock_fd : 0;
}

static int key_make(void *context, uint8_t **ret_data, size_t *ret_size, struct err *err)
{
    struct mesh_key secret;
    char *hex = malloc(MESH_KEY_HEX_SIZE);
    (void)context;
    if (hex == NULL) {
        return err_sys(err, -ENOMEM, "make the host key");
    }
    mesh_key_generate(&secret);
    mesh_key_format(&secret, hex);
    explicit_bzero(&secret, sizeof(secret));
    *ret_data = (uint8_t *)hex;
    *ret_size = MESH_KEY_HEX_SIZE - 1;
    return 0;
}

static int key_load(struct identity *identity, bool make, struct err *err)
{
    char path[PATH_MAX];
    identity_path(identity, STATE_FILE_KEY, path, sizeof(path));
    CLEANUP_FREE
    uint8_t *text = NULL;
    size_t size = 0;
    int r = make ? file_atomic_read_or_make(path, MESH_KEY_HEX_SIZE + 1, 0600, key_make,
                                            NULL, &text, &size, err)
                 : fd_read_file(AT_FDCWD, path, MESH_KEY_HEX_SIZE + 1, &text, &size, err);
    if (r < 0) {
        return r;
    }
    text[strcspn((char *)text, "\n")] = '\0';
    r = mesh_key_parse((char *)text, &identity->secret);
    explicit_bzero(text, size);
    if (r < 0) {
        return err_set(err, BERTH_ECORRUPT, "%s is not a host key (64 hex digits)", path);
    }
    mesh_key_public(&identity->secret, &identity->key);
    return 0;
}

static int labels_load(struct identity *identity, const json_t *labels)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)labels, key, value)
    {
        const char *text = json_string_value(value);
        struct label *items = realloc(
            identity->labels.items, (identity->labels.count + 1) * sizeof(struct label));
        if (items == NULL) {
            return -ENOMEM;
        }
        identity->labels.items = items;
        struct label *label = &items[identity->labels.count];
        (void)snprintf(label->key, sizeof(label->key), "%s", key);
        label->value = strdup(text != NULL ? text : "");
        if (label->value == NULL) {
            return -ENOMEM;
        }
        identity->labels.count++;
    }
    return 0;
}

static int host_load(struct identity *identity, struct err *err)
{
    char path[PATH_MAX];
    identity_path(identity, STATE_FILE_HOST, path, sizeof(path));
    CLEANUP_FREE
    uint8_t *text = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, err);
    if (r == -ENOENT) {
        return 0;
    }
    json_t *document = NULL;
    if (r < 0) {
        return r;
    }
    struct err why;
    if (json_parse((char *)text, size, &document, &why) < 0) {
        return err_set(err, BERTH_ECORRUPT, "%s: %.300s", path, why.text);
    }
    uint32_t address = 0;
    (void)snprintf(identity->name, sizeof(identity->name), "%s",
                   json_member_text(document, "name", ""));
    identity->uid = json_member_u64(document, "uid", 0);
    identity->cluster_id = strtoull(json_member_text(document, "cluster", "0"), NULL, 16);
    identity->founder = json_is_true(json_object_get(document, "founder"));
    identity->mesh_port = (uint32_t)json_member_u64(document, "meshPort", 0);
    identity->raft_port = (uint32_t)json_member_u64(document, "raftPort", 0);
    identity->api_port = (uint32_t)json_member_u64(document, "apiPort", 0);
    r = labels_load(identity, json_object_get(document, "labels"));
    if (r == 0 &&
        (!name_valid(identity->name) ||
         parse_ipv4(json_member_text(document, "address", ""), &address, NULL) < 0)) {
        r = err_set(err, BERTH_ECORRUPT, "%s: name or address is missing or not valid",
                    path);
    }
    identity->address = address;
    json_decref(document);
    return r;
}

int identity_open(const char *folder, struct identity *ret_identity, struct err *err)
{
    struct identity identity = {.lock_fd = -1};
    int r = fd_make_folders(folder, err);
    if (r == 0) {
        identity.folder = realpath(folder, NULL);
        /* Passable, not readable: dnsmasq runs as nobody and reaches its own files below.
         */
        r = identity.folder == NULL || chmod(identity.folder, 0711) < 0
                ? err_sys(err, -errno, "state folder %s", folder)
                : 0;
    }
    if (r == 0 && identity.folder != NULL &&
        strlen(identity.folder) > IDENTITY_FOLDER_MAX) {
        r = err_set(err, BERTH_EINVALID,
                    "state folder %s: the path is longer than %d bytes", identity.folder,
                    IDENTITY_FOLDER_MAX);
    }
    if (r == 0) {
        r = folder_lock(&identity, O_RDWR | O_CREAT, err);
    }
    if (r >= 0) {
        identity.pid_written = true; /* whatever is left of it */
        r = pid_write(&identity, err);
    }
    if (r >= 0) {
        r = key_load(&identity, true, err);
    }
    if (r >= 0) {
        r = host_load(&identity, err);
    }
    if (r < 0) {
        identity_fini(&identity);
        return r;
    }
    *ret_identity = identity;
    return 0;
}

static bool is_file(const char *folder, const char *name)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof(path) && access(path, F_OK) == 0;
}

int identity_find(const char *folder, struct err *err)
{
    return is_file(folder, STATE_FILE_HOST) || is_file(folder, STATE_FILE_KEY)
               ? 0
               : err_set(err, BERTH_ENOTFOUND,
                         "%s is no host's state folder: it has neither " STATE_FILE_HOST
                         " nor " STATE_FILE_KEY
                         ". Is the path right, and its disk mounted?",
                         folder);
}

int identity_look(const char *folder, struct identity *ret_identity, struct err *err)
{
    struct identity identity = {.lock_fd = -1};
    int r = identity_find(folder, err);
    if (r == 0) {
        identity.folder = realpath(folder, NULL);
        r = identity.folder == NULL ? err_sys(err, -errno, "state folder %s", folder) : 0;
    }
    r = r == 0 ? folder_lock(&identity, O_RDONLY, err) : r;
    r = r == -ENOENT ? 0 : r; /* nobody has it */
    r = r == 0 ? host_load(&identity, err) : r;
    if (r == 0 && identity.uid != 0) {
        r = key_load(&identity, false, err);
    }
    if (r < 0) {
        identity_fini(&identity);
        return r;
    }
    *ret_identity = identity;
    return 0;
}

int identity_save(const struct identity *identity, struct err *err)
{
    char address[IPV4_TEXT_SIZE];
    char cluster[17];
    format_ipv4(identity->address, address);
    (void)snprintf(cluster, sizeof(cluster), "%016llx",
                   (unsigned long long)identity->cluster_id);
    json_t *labels = json_object();
    for (uint32_t i = 0; i < identity->labels.count; i++) {
        json_object_set_new(labels, identity->labels.items[i].key,
                            json_string(identity->labels.items[i].value));
    }
    json_t *document = json_pack(
        "{s:s, s:I, s:s, s:b, s:s, s:I, s:I, s:I, s:o}", "name", identity->name, "uid",
        (json_int_t)identity->uid, "cluster", cluster, "founder", identity->founder,
        "address", address, "meshPort", (json_int_t)identity->mesh_port, "raftPort",
        (json_int_t)identity->raft_port, "apiPort", (json_int_t)identity->api_port,
        "labels", labels);
    CLEANUP_FREE
    char *text = document != NULL ? json_text_pretty(document) : NULL;
    json_decref(document);
    if (text == NULL) {
        return err_sys(err, -ENOMEM, "write host.json");
    }
    char path[PATH_MAX];
    identity_path(identity, STATE_FILE_HOST, path, sizeof(path));
    return file_atomic_write(path, text, strlen(text), 0644, err);
}

void identity_fini(struct identity *identity)
{
    if (identity->folder != NULL && identity->lock_fd >= 0 && identity->pid_written) {
        char path[PATH_MAX];
        identity_path(identity, STATE_FILE_PID, path, sizeof(path));
        (void)unlink(path); /* a stale one is told by its start time */
    }
    for (uint32_t i = 0; i < identity->labels.count; i++) {
        free(identity->labels.items[i].value);
    }
    free(identity->labels.items);
    free(identity->folder);
    fd_close(&identity->lock_fd);
    mesh_key_wipe(&identity->secret);
    *identity = (struct identity){.lock_fd = -1};
}

uint64_t identity_raft_id(const struct mesh_key *key)
{
    static const char domain[] = "berth raft id";
    struct digest_stream stream;
    struct digest digest;
    digest_start(&stream);
    digest_update(&stream, domain, sizeof(domain));
    digest_update(&stream, key->bytes, sizeof(key->bytes));
    digest_finish(&stream, &digest);
    uint64_t id = 0;
    memcpy(&id, digest.bytes, sizeof(id));
    return id != 0 ? id : 1;
}

void identity_address_text(uint32_t address, uint32_t port, char text[MESH_ADDRESS_SIZE])
{
    char ip[IPV4_TEXT_SIZE];
    format_ipv4(address, ip);
    (void)snprintf(text, MESH_ADDRESS_SIZE, "%s:%u", ip, port);
}
