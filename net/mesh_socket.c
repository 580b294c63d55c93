#include "net/mesh_socket.h"

#include "base/cleanup.h"
#include "base/require.h"
#include "net/mesh_frame.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* A CURVE message command: name, nonce, box and flags, rounded up. */
#define CURVE_OVERHEAD_BYTES 64
#define ENDPOINT_SIZE        (MESH_ADDRESS_SIZE + 8)
#define UNLISTEN_WAIT_MS     1000
/* Debian's header hides it with the draft API; the library knows it. */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

/* Bit masks for ZMQ_AFFINITY. */
#define IO_THREAD_CONTROL UINT64_C(1)
#define IO_THREAD_BULK    UINT64_C(2)

static void setup_once(void)
{
    zsys_handler_set(NULL);
    zsys_set_logstream(NULL);
    zsys_set_logsystem(false);
    zsys_set_max_sockets(MESH_SOCKETS_MAX);
    zsys_set_io_threads(2);
}

void mesh_socket_setup(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, setup_once); /* fails only for an invalid control */
}

void mesh_socket_block_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL); /* cannot fail with these arguments */
}

static void option_set_int(zsock_t *socket, int option, int value)
{
    REQUIRE(zmq_setsockopt(zsock_resolve(socket), option, &value, sizeof(value)) == 0);
}

static void option_set_key(zsock_t *socket, int option, const struct mesh_key *key)
{
    REQUIRE(zmq_setsockopt(zsock_resolve(socket), option, key->bytes,
                           sizeof(key->bytes)) == 0);
}

static void options_set(zsock_t *socket,
                        const struct mesh_socket_config *config,
                        const struct mesh_address *address)
{
    const int64_t message_size_max =
        (int64_t)config->body_size_max + MESH_FRAME_HEADER_SIZE + CURVE_OVERHEAD_BYTES;
    REQUIRE(zmq_setsockopt(zsock_resolve(socket), ZMQ_MAXMSGSIZE, &message_size_max,
                           sizeof(message_size_max)) == 0);
    const uint64_t io_threads = config->bulk ? IO_THREAD_BULK : IO_THREAD_CONTROL;
    REQUIRE(zmq_setsockopt(zsock_resolve(socket), ZMQ_AFFINITY, &io_threads,
                           sizeof(io_threads)) == 0);
    const int hwm = config->bulk ? MESH_SOCKET_BULK_HWM : MESH_SOCKET_HWM;
    const struct {
        int option;
        int value;
    } options[] = {
        {ZMQ_SNDHWM, hwm},
        {ZMQ_RCVHWM, hwm},
        {ZMQ_HEARTBEAT_IVL, 2000},
        {ZMQ_HEARTBEAT_TIMEOUT, 4000},
        {ZMQ_HEARTBEAT_TTL, 6000},
        {ZMQ_HANDSHAKE_IVL, 5000},
        {ZMQ_LINGER, 0},
        {ZMQ_BACKLOG, 1024},
        {ZMQ_IPV6, address->is_ipv6},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_CONNECT_TIMEOUT, 2000},
        {ZMQ_RECONNECT_IVL_MAX, 5000},
        {ZMQ_RECONNECT_IVL, 200 + config->reconnect_jitter_ms},
        {ZMQ_RCVTIMEO, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        option_set_int(socket, options[i].option, options[i].value);
    }
    option_set_key(socket, ZMQ_CURVE_SECRETKEY, config->secret_key);
    option_set_key(socket, ZMQ_CURVE_PUBLICKEY, config->public_key);
}

static int monitor_open(struct mesh_socket *socket, int events)
{
    static atomic_uint_fast64_t counter;
    char endpoint[64];
    (void)snprintf(endpoint, sizeof(endpoint), "inproc://berth.mesh.%" PRIuFAST64,
                   atomic_fetch_add(&counter, 1));
    if (zmq_socket_monitor(zsock_resolve(socket->socket), endpoint, events)) {
        return -zmq_errno();
    }
    socket->monitor = zsock_new(ZMQ_PAIR);
    if (!socket->monitor) {
        return -ENOMEM;
    }
    /* libzmq's I/O thread waits, for ever, when it cannot hand over an event: so the
     * monitor has no high-water mark, is read whenever it signals, and goes only after
     * its sender. */
    option_set_int(socket->monitor, ZMQ_RCVHWM, 0);
    return zmq_connect(zsock_resolve(socket->monitor), endpoint) ? -ENOMEM : 0;
}

static void endpoint_format(const struct mesh_address *address, char text[ENDPOINT_SIZE])
{
    char host[MESH_ADDRESS_SIZE];
    mesh_address_format(address, host);
    (void)snprintf(text, ENDPOINT_SIZE, "tcp://%s", host);
}

/* Binds and learns the port; 0 or -errno. */
static int endpoint_bind(struct mesh_socket *socket, struct mesh_address *address)
{
    char endpoint[ENDPOINT_SIZE];
    endpoint_format(address, endpoint);
    if (zmq_bind(zsock_resolve(socket->socket), endpoint)) {
        return -zmq_errno();
    }
    char bound[256] = "";
    size_t size = sizeof(bound);
    REQUIRE(zmq_getsockopt(zsock_resolve(socket->socket), ZMQ_LAST_ENDPOINT, bound,
                           &size) == 0);
    const char *colon = strrchr(bound, ':');
    REQUIRE(colon);
    address->port = (uint16_t)strtoul(colon + 1, NULL, 10);
    return 0;
}

int mesh_socket_listen(struct mesh_socket *socket,
                       const struct mesh_socket_config *config,
                       struct mesh_address *address,
                       struct err *err)
{
    char text[MESH_ADDRESS_SIZE];
    mesh_address_format(address, text);
    struct mesh_socket opened = {.socket = zsock_new(ZMQ_ROUTER)};
    if (!opened.socket) {
        return err_set(err, -ENOMEM, "listen on %s: no more sockets", text);
    }
    options_set(opened.socket, config, address);
    option_set_int(opened.socket, ZMQ_ROUTER_MANDATORY, 1);
    option_set_int(opened.socket, ZMQ_CURVE_SERVER, 1);
    REQUIRE(zmq_setsockopt(zsock_resolve(opened.socket), ZMQ_ZAP_DOMAIN,
                           config->zap_domain, strlen(config->zap_domain)) == 0);
    const int enforce = 1;
    /* A library that does not know it refuses: messages without a User-Id are dropped
     * anyway. */
    (void)zmq_setsockopt(zsock_resolve(opened.socket), ZMQ_ZAP_ENFORCE_DOMAIN, &enforce,
                         sizeof(enforce));
    int r = monitor_open(&opened, ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
    r = r ? r : endpoint_bind(&opened, address);
    if (r) {
        mesh_socket_close(&opened);
        return err_sys(err, r, "listen on %s", text);
    }
    *socket = opened;
    return 0;
}

int mesh_socket_dial(struct mesh_socket *socket,
                     const struct mesh_socket_config *config,
                     const struct mesh_address *address)
{
    struct mesh_socket opened = {.socket = zsock_new(ZMQ_DEALER)};
    if (!opened.socket) {
        return -ENOMEM;
    }
    options_set(opened.socket, config, address);
    option_set_key(opened.socket, ZMQ_CURVE_SERVERKEY, config->server_key);
    char endpoint[ENDPOINT_SIZE];
    endpoint_format(address, endpoint);
    if (monitor_open(&opened, ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                                  ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                  ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) ||
        zmq_connect(zsock_resolve(opened.socket), endpoint)) {
        mesh_socket_close(&opened);
        return -ENOMEM;
    }
    *socket = opened;
    return 0;
}

int mesh_socket_watch(struct mesh_socket *socket, int set)
{
    const int r = mesh_watch_start(&socket->watch, set, socket->socket);
    return r ? r : mesh_watch_start(&socket->monitor_watch, set, socket->monitor);
}

static enum mesh_socket_event event_meaning(unsigned event)
{
    switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        return MESH_SOCKET_CONNECTED;
    case ZMQ_EVENT_DISCONNECTED:
        return MESH_SOCKET_DISCONNECTED;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return MESH_SOCKET_REFUSED;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return MESH_SOCKET_BROKEN;
    case ZMQ_EVENT_CLOSED:
        return MESH_SOCKET_CLOSED;
    default:
        return MESH_SOCKET_OTHER;
    }
}

/* An event is two parts: u16 number and u32 value in host order, then the endpoint's
 * text. */
enum mesh_socket_event mesh_socket_event_take(struct mesh_socket *socket)
{
    zmq_msg_t part;
    uint16_t event = 0;
    for (unsigned index = 0;; index++) {
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, zsock_resolve(socket->monitor), ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            socket->monitor_watch.due = false;
            return MESH_SOCKET_NOTHING;
        }
        if (index == 0 && zmq_msg_size(&part) >= sizeof(event)) {
            memcpy(&event, zmq_msg_data(&part), sizeof(event));
        }
        const bool more = zmq_msg_more(&part);
        zmq_msg_close(&part);
        if (!more) {
            return event_meaning(event);
        }
    }
}

void mesh_socket_unlisten(struct mesh_socket *socket)
{
    if (!socket->socket) {
        return;
    }
    char endpoint[256] = "";
    size_t size = sizeof(endpoint);
    void *raw = zsock_resolve(socket->socket);
    if (zmq_getsockopt(raw, ZMQ_LAST_ENDPOINT, endpoint, &size) ||
        zmq_unbind(raw, endpoint)) {
        return; /* closing will give the port back, only later */
    }
    const int64_t until_ms = zclock_mono() + UNLISTEN_WAIT_MS;
    for (;;) {
        enum mesh_socket_event event = mesh_socket_event_take(socket);
        const int64_t left_ms = until_ms - zclock_mono();
        if (event == MESH_SOCKET_CLOSED || left_ms <= 0) {
            return;
        }
        if (event == MESH_SOCKET_NOTHING) {
            zmq_pollitem_t item = {zsock_resolve(socket->monitor), 0, ZMQ_POLLIN, 0};
            (void)zmq_poll(&item, 1, left_ms); /* the clock above ends the wait */
        }
    }
}

void mesh_socket_close(struct mesh_socket *socket)
{
    mesh_watch_stop(&socket->watch);
    mesh_watch_stop(&socket->monitor_watch);
    if (socket->socket) {
        /* No events from here on: closing takes place in other threads, after this, and
         * would report to a monitor that is gone. */
        (void)zmq_socket_monitor(zsock_resolve(socket->socket), NULL,
                                 0); /* cannot fail */
    }
    zsock_destroy(&socket->socket);
    zsock_destroy(&socket->monitor);
}
