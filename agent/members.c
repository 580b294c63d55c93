#include "agent/members.h"

#include "agent/identity.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM "agent"

/* The file is an encoded msg_orders with nothing but members and their term (which files
 * of earlier releases lack), and its SHA-256 behind it. */
static int members_load(struct members *members, struct err *err)
{
    CLEANUP_FREE
    uint8_t *data = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, members->path, MESSAGE_SIZE_MAX, &data, &size, err);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return r;
    }
    struct digest digest;
    struct msg_orders orders;
    if (size < DIGEST_SIZE) {
        return err_set(err, BERTH_ECORRUPT, "%s is cut", members->path);
    }
    digest_of(data, size - DIGEST_SIZE, &digest);
    if (memcmp(digest.bytes, data + size - DIGEST_SIZE, DIGEST_SIZE) != 0 ||
        message_decode(&msg_orders_record, data, size - DIGEST_SIZE, &orders) < 0) {
        return err_set(err, BERTH_ECORRUPT, "%s is damaged", members->path);
    }
    members->list = orders.members;
    members->term = orders.term;
    orders.members = (struct msg_member_list){0};
    record_fini(&msg_orders_record, &orders);
    return 0;
}

int members_open(const char *folder, struct members *ret_members, struct err *err)
{
    struct members members = {0};
    if (asprintf(&members.path, "%s/members.bin", folder) < 0) {
        return err_sys(err, -ENOMEM, "open members");
    }
    int r = members_load(&members, err);
    if (r < 0) {
        members_fini(&members);
        return r;
    }
    *ret_members = members;
    return 0;
}

void members_fini(struct members *members)
{
    free(members->list.items); /* members own no further memory */
    free(members->path);
    *members = (struct members){0};
}

/* What the file is to hold. */
static int members_encode(const struct members *members,
                          uint8_t **ret_data,
                          size_t *ret_size,
                          struct err *err)
{
    struct msg_orders orders = {.members = members->list, .term = members->term};
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = message_encode(&msg_orders_record, &orders, &data, &size);
    if (r < 0) {
        return err_sys(err, r, "store members");
    }
    uint8_t *sealed = cleanup_new(size + DIGEST_SIZE, 1);
    if (sealed == NULL) {
        return err_sys(err, -ENOMEM, "store members");
    }
    struct digest digest;
    digest_of(data, size, &digest);
    if (size > 0) {
        memcpy(sealed, data, size);
    }
    memcpy(sealed + size, digest.bytes, DIGEST_SIZE);
    *ret_data = sealed;
    *ret_size = size + DIGEST_SIZE;
    return 0;
}

int members_write_begin(const struct members *members,
                        struct members_write *ret_write,
                        struct err *err)
{
    struct members_write write = {.version = members->version};
    write.path = strdup(members->path);
    if (write.path == NULL) {
        return err_sys(err, -ENOMEM, "store members");
    }
    int r = members_encode(members, &write.data, &write.size, err);
    if (r < 0) {
        free(write.path);
        return r;
    }
    *ret_write = write;
    return 0;
}

void members_write_run(struct members_write *write)
{
    write->code =
        file_atomic_write(write->path, write->data, write->size, 0600, &write->err);
}

int members_write_end(struct members *members,
                      struct members_write *write,
                      struct err *err)
{
    int r = write->code;
    if (r < 0 && err != NULL) {
        *err = write->err;
    }
    if (write->version == members->version) { /* else there is a newer one */
        members->unsaved = r < 0;
    }
    free(write->path);
    free(write->data);
    return r;
}

int members_save(struct members *members, struct err *err)
{
    struct members_write write;
    if (!members->unsaved) {
        return 0;
    }
    int r = members_write_begin(members, &write, err);
    if (r < 0) {
        return r;
    }
    members_write_run(&write);
    return members_write_end(members, &write, err);
}

/* Whose words no longer count here: what is refused of them afterwards has this reason.
 */
static void tell_removed(const struct members *members,
                         const struct msg_member_list *list)
{
    for (uint32_t i = 0; i < members->list.count; i++) {
        const struct msg_member *member = &members->list.items[i];
        bool stays = false;
        for (uint32_t at = 0; at < list->count && !stays; at++) {
            stays = list->items[at].uid == member->uid;
        }
        if (!stays) {
            log_info(ROOM, "host is no member any more", KV_STR("host", member->name),
                     KV_U64("uid", member->uid));
        }
    }
}

int members_replace(struct members *members,
                    const struct msg_member_list *list,
                    bool *ret_changed,
                    struct err *err)
{
    struct msg_orders old = {.members = members->list};
    struct msg_orders new = {.members = *list};
    struct msg_orders copy;
    *ret_changed = !record_equal(&msg_orders_record, &old, &new);
    if (members->learned > 0) { /* now it is from orders: the file is to have it */
        members->learned = 0;
        members->unsaved = true;
        members->version++;
    }
    if (*ret_changed) {
        int r = record_copy(&msg_orders_record, &new, &copy);
        if (r < 0) {
            *ret_changed = false;
            return err_sys(err, r, "store members");
        }
        tell_removed(members, &copy.members);
        free(members->list.items);
        members->list = copy.members;
        members->unsaved = true;
        members->version++;
    }
    return 0;
}

int members_set(struct members *members,
                const struct msg_member_list *list,
                bool *ret_changed,
                struct err *err)
{
    int r = members_replace(members, list, ret_changed, err);
    return r == 0 ? members_save(members, err) : r;
}

static int learn_check(const struct members *members,
                       const struct msg_member *leader,
                       uint64_t term,
                       struct err *err)
{
    const struct msg_member *by_uid = members_by_uid(members, leader->uid);
    const struct msg_member *by_key = members_by_key(members, &leader->key);
    if (term < members->term) {
        return err_set(err, BERTH_ESTALE,
                       "%s led in term %llu, and the members known are of term %llu",
                       leader->name, (unsigned long long)term,
                       (unsigned long long)members->term);
    }
    if (leader->uid == 0 || digest_is_zero(&leader->key) || leader->voter == VOTER_NONE) {
        return err_set(err, BERTH_EINVALID, "%s cannot lead", leader->name);
    }
    if (by_uid != by_key) {
        return err_set(err, BERTH_EINVALID,
                       "%s is known with another key, or its key as another host's",
                       leader->name);
    }
    return 0;
}

int members_learn(struct members *members,
                  const struct msg_member *leader,
                  uint64_t term,
                  bool *ret_changed,
                  struct err *err)
{
    *ret_changed = false;
    int r = learn_check(members, leader, term, err);
    const struct msg_member *known = members_by_uid(members, leader->uid);
    if (r < 0 || (known != NULL && known->voter != VOTER_NONE)) {
        return r;
    }
    if (members->learned == MEMBERS_LEARNED_MAX ||
        (known == NULL && members->list.count == MEMBERS_MAX)) {
        return err_set(err, BERTH_EFULL, "%s: too many new leaders without orders",
                       leader->name);
    }
    if (known == NULL) {
        struct msg_member *grown = reallocarray(
            members->list.items, (size_t)members->list.count + 1, sizeof(*grown));
        if (grown == NULL) {
            return err_sys(err, -ENOMEM, "learn who leads");
        }
        members->list.items = grown;
        known = &grown[members->list.count++];
    }
    members->list.items[known - members->list.items] = *leader;
    members->learned++;
    *ret_changed = true;
    return 0;
}

const struct msg_member *members_by_uid(const struct members *members, uint64_t uid)
{
    for (uint32_t i = 0; i < members->list.count; i++) {
        if (members->list.items[i].uid == uid) {
            return &members->list.items[i];
        }
    }
    return NULL;
}

const struct msg_member *members_by_key(const struct members *members,
                                        const struct digest *key)
{
    for (uint32_t i = 0; i < members->list.count; i++) {
        if (digest_equal(&members->list.items[i].key, key)) {
            return &members->list.items[i];
        }
    }
    return NULL;
}

const struct msg_member *members_by_raft_id(const struct members *members,
                                            uint64_t raft_id)
{
    for (uint32_t i = 0; i < members->list.count; i++) {
        if (identity_raft_id_of(&members->list.items[i].key) == raft_id) {
            return &members->list.items[i];
        }
    }
    return NULL;
}
