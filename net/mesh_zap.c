#include "net/mesh_zap.h"

#include "base/list.h"
#include "base/log.h"
#include "base/require.h"
#include "net/mesh_socket.h"

#include <czmq.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define ZAP_ENDPOINT "inproc://zeromq.zap.01" /* fixed by RFC 27 */

struct mesh_zap {
    struct list link; /* in doors */
    char member_domain[MESH_ZAP_DOMAIN_SIZE];
    char guest_domain[MESH_ZAP_DOMAIN_SIZE];
    /* Below: under doors_lock. */
    struct mesh_key *members; /* sorted */
    size_t member_count;
    bool guests_allowed;
    struct mesh_zap_counts counts;
};

/* The doors of the process and the thread behind them, because the endpoint is one per
 * process. handler_lock is held over the thread's start and end, doors_lock over the
 * table alone, since the thread itself takes it. */
static pthread_mutex_t handler_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t doors_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list doors = {&doors, &doors};
static zactor_t *handler;
static unsigned handler_users;
static uint64_t domain_counter;

struct zap_answer {
    bool admitted;
    char user_id[MESH_KEY_HEX_SIZE];
};

static int key_compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct mesh_key));
}

static bool door_has_member(const struct mesh_zap *zap, const struct mesh_key *key)
{
    return zap->member_count > 0 &&
           bsearch(key, zap->members, zap->member_count, sizeof(*key), key_compare);
}

static bool
door_admits(struct mesh_zap *zap, const char *domain, const struct mesh_key *key)
{
    const bool admitted = strcmp(domain, zap->guest_domain) == 0
                              ? zap->guests_allowed
                              : door_has_member(zap, key);
    if (admitted) {
        zap->counts.admitted++;
    } else {
        zap->counts.refused++;
    }
    return admitted;
}

static bool doors_admit(const char *domain, const struct mesh_key *key)
{
    bool admitted = false;
    pthread_mutex_lock(&doors_lock);
    LIST_EACH (link, &doors) {
        struct mesh_zap *zap = LIST_ITEM(link, struct mesh_zap, link);
        if (strcmp(domain, zap->member_domain) == 0 ||
            strcmp(domain, zap->guest_domain) == 0) {
            admitted = door_admits(zap, domain, key);
            break;
        }
    }
    pthread_mutex_unlock(&doors_lock);
    return admitted;
}

/* A request is: version, request id, domain, address, routing id, mechanism, credentials.
 */
static struct zap_answer request_judge(zmsg_t *request)
{
    struct zap_answer answer = {0};
    zframe_t *version = zmsg_first(request);
    (void)zmsg_next(request); /* request id: echoed by the caller */
    zframe_t *domain = zmsg_next(request);
    (void)zmsg_next(request); /* address */
    (void)zmsg_next(request); /* routing id: the peer's own claim */
    zframe_t *mechanism = zmsg_next(request);
    zframe_t *credentials = zmsg_next(request);
    struct mesh_key key;
    if (!credentials || !zframe_streq(version, "1.0") ||
        !zframe_streq(mechanism, "CURVE") ||
        zframe_size(credentials) != sizeof(key.bytes) ||
        zframe_size(domain) >= MESH_ZAP_DOMAIN_SIZE) {
        return answer;
    }
    memcpy(key.bytes, zframe_data(credentials), sizeof(key.bytes));
    char domain_text[MESH_ZAP_DOMAIN_SIZE] = "";
    memcpy(domain_text, zframe_data(domain), zframe_size(domain));
    answer.admitted = doors_admit(domain_text, &key);
    mesh_key_format(&key, answer.user_id);
    return answer;
}

/* 400 and not 300: a temporary error makes the client's handshake hang instead of end. */
static void request_answer(zsock_t *socket)
{
    zmsg_t *request = zmsg_recv(socket);
    if (!request) {
        return;
    }
    const struct zap_answer answer = request_judge(request);
    (void)zmsg_first(request);
    zframe_t *id = zmsg_next(request);
    zmsg_t *reply = zmsg_new();
    zmsg_addstr(reply, "1.0");
    zmsg_addmem(reply, id ? zframe_data(id) : NULL, id ? zframe_size(id) : 0);
    zmsg_addstr(reply, answer.admitted ? "200" : "400");
    zmsg_addstr(reply, answer.admitted ? "OK" : "not a member");
    zmsg_addstr(reply, answer.admitted ? answer.user_id : "");
    zmsg_addmem(reply, NULL, 0); /* no metadata */
    if (zmsg_send(&reply, socket)) {
        zmsg_destroy(&reply); /* the asker is gone; its handshake ends by its own timer */
    }
    zmsg_destroy(&request);
}

static void handler_main(zsock_t *pipe, void *args)
{
    zsock_t *socket = args;
    mesh_socket_block_signals();
    zpoller_t *poller = zpoller_new(pipe, socket, NULL);
    REQUIRE(poller);
    zsock_signal(pipe, 0);
    for (;;) {
        void *ready = zpoller_wait(poller, -1);
        if (ready == socket) {
            request_answer(socket);
        } else if (ready == pipe || zpoller_terminated(poller)) {
            break; /* the only thing ever said to it is to end */
        }
    }
    zpoller_destroy(&poller);
    /* Closing gives the endpoint back some time later; the next handler wants it now. */
    (void)zsock_unbind(socket, "%s", ZAP_ENDPOINT); /* it is bound */
    zsock_destroy(&socket);
}

static int handler_use(struct err *err)
{
    int r = 0;
    pthread_mutex_lock(&handler_lock);
    if (handler_users == 0) {
        mesh_socket_setup();
        zsock_t *socket = zsock_new_rep("@" ZAP_ENDPOINT);
        handler = socket ? zactor_new(handler_main, socket) : NULL;
        if (!handler) {
            r = err_set(err, -ENOMEM, "start the mesh's authentication thread: %s",
                        socket ? "no thread" : "no socket, or " ZAP_ENDPOINT " is taken");
            zsock_destroy(&socket);
        }
    }
    handler_users += r ? 0 : 1;
    pthread_mutex_unlock(&handler_lock);
    return r;
}

static void handler_leave(void)
{
    pthread_mutex_lock(&handler_lock);
    REQUIRE(handler_users > 0);
    if (--handler_users == 0) {
        zactor_destroy(&handler);
    }
    pthread_mutex_unlock(&handler_lock);
}

struct mesh_zap *mesh_zap_open(struct err *err)
{
    struct mesh_zap *zap = calloc(1, sizeof(*zap));
    if (!zap) {
        (void)err_set(err, -ENOMEM, "open the mesh's door");
        return NULL;
    }
    if (handler_use(err)) {
        free(zap);
        return NULL;
    }
    pthread_mutex_lock(&doors_lock);
    const unsigned long long number = ++domain_counter;
    (void)snprintf(zap->member_domain, sizeof(zap->member_domain), "berth.%llu.member",
                   number);
    (void)snprintf(zap->guest_domain, sizeof(zap->guest_domain), "berth.%llu.join",
                   number);
    list_push_back(&doors, &zap->link);
    pthread_mutex_unlock(&doors_lock);
    return zap;
}

struct mesh_zap *mesh_zap_close(struct mesh_zap *zap)
{
    if (!zap) {
        return NULL;
    }
    pthread_mutex_lock(&doors_lock);
    list_remove(&zap->link);
    pthread_mutex_unlock(&doors_lock);
    handler_leave();
    free(zap->members);
    free(zap);
    return NULL;
}

const char *mesh_zap_member_domain(const struct mesh_zap *zap)
{
    return zap->member_domain;
}

const char *mesh_zap_guest_domain(const struct mesh_zap *zap)
{
    return zap->guest_domain;
}

int mesh_zap_members_set(struct mesh_zap *zap,
                         const struct mesh_key *keys,
                         size_t count,
                         struct err *err)
{
    if (count > MESH_MEMBERS_MAX) {
        return err_set(err, BERTH_ETOOLARGE, "%zu member keys are over the limit of %d",
                       count, MESH_MEMBERS_MAX);
    }
    struct mesh_key *sorted = NULL;
    if (count > 0) {
        sorted = malloc(count * sizeof(*sorted));
        if (!sorted) {
            return err_set(err, -ENOMEM, "store %zu member keys", count);
        }
        memcpy(sorted, keys, count * sizeof(*sorted));
        qsort(sorted, count, sizeof(*sorted), key_compare);
    }
    pthread_mutex_lock(&doors_lock);
    struct mesh_key *old = zap->members;
    zap->members = sorted;
    zap->member_count = count;
    pthread_mutex_unlock(&doors_lock);
    free(old);
    return 0;
}

bool mesh_zap_is_member(struct mesh_zap *zap, const struct mesh_key *key)
{
    pthread_mutex_lock(&doors_lock);
    const bool is_member = door_has_member(zap, key);
    pthread_mutex_unlock(&doors_lock);
    return is_member;
}

void mesh_zap_guests_allow(struct mesh_zap *zap, bool allow)
{
    pthread_mutex_lock(&doors_lock);
    zap->guests_allowed = allow;
    pthread_mutex_unlock(&doors_lock);
}

bool mesh_zap_guests_allowed(struct mesh_zap *zap)
{
    pthread_mutex_lock(&doors_lock);
    const bool allowed = zap->guests_allowed;
    pthread_mutex_unlock(&doors_lock);
    return allowed;
}

struct mesh_zap_counts mesh_zap_counts(struct mesh_zap *zap)
{
    pthread_mutex_lock(&doors_lock);
    const struct mesh_zap_counts counts = zap->counts;
    pthread_mutex_unlock(&doors_lock);
    return counts;
}
