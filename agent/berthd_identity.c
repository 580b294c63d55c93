#include "agent/berthd_identity.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LABELS_MAX 64

/* The address from which this machine would reach the world; nothing is sent. */
static int address_default(uint32_t *ret_address, struct err *err)
{
    struct sockaddr_in out = {.sin_family = AF_INET,
                              .sin_port = htons(9),
                              .sin_addr.s_addr =
                                  htonl(0xC6336401)}; /* 198.51.100.1, RFC 5737 */
    struct sockaddr_in own = {0};
    socklen_t size = sizeof(own);
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)(void *)&out, sizeof(out)) < 0 ||
        getsockname(fd, (struct sockaddr *)(void *)&own, &size) < 0) {
        return err_set(
            err, BERTH_EINVALID,
            "this machine has no default route: say which address the other hosts "
            "reach it by (--address)");
    }
    *ret_address = ntohl(own.sin_addr.s_addr);
    return 0;
}

static int
labels_parse(struct identity *identity, const char *const *labels, struct err *err)
{
    for (; labels != NULL && *labels != NULL; labels++) {
        const char *equals = strchr(*labels, '=');
        size_t key_size = equals != NULL ? (size_t)(equals - *labels) : 0;
        if (key_size == 0 || key_size >= NAME_SIZE ||
            identity->labels.count >= LABELS_MAX) {
            return err_set(err, BERTH_EINVALID, "label \"%s\": wanted KEY=VALUE",
                           *labels);
        }
        struct label *items = realloc(identity->labels.items,
                                      (identity->labels.count + 1) * sizeof(*items));
        if (items == NULL) {
            return err_sys(err, -ENOMEM, "labels");
        }
        identity->labels.items = items; /* the old ones have moved */
        char *value = strdup(equals + 1);
        if (value == NULL) {
            return err_sys(err, -ENOMEM, "labels");
        }
        items[identity->labels.count] = (struct label){.value = value};
        memcpy(items[identity->labels.count++].key, *labels, key_size);
    }
    return 0;
}

static void name_default(char name[NAME_SIZE])
{
    char host[NAME_SIZE] = "";
    (void)gethostname(host, sizeof(host) - 1); /* "" is refused below */
    host[strcspn(host, ".")] = '\0';
    memcpy(name, host, NAME_SIZE);
}

int berthd_identity_complete(struct identity *identity,
                             const struct berthd_config *config,
                             struct err *err)
{
    bool fresh = identity->name[0] == '\0';
    bool member = identity->uid != 0; /* a name that no cluster took may still change */
    if (member && config->name != NULL && strcmp(config->name, identity->name) != 0) {
        return err_set(err, BERTH_EINVALID,
                       "this host is %s already; a host keeps its name", identity->name);
    }
    if (!member && config->name != NULL) {
        (void)snprintf(identity->name, NAME_SIZE, "%s", config->name);
    } else if (fresh) {
        name_default(identity->name);
    }
    if (!name_valid(identity->name)) {
        return err_set(
            err, BERTH_EINVALID,
            "host name \"%s\": wanted 1-63 of a-z, 0-9 and -, starting with a letter "
            "(--name)",
            identity->name);
    }
    if (config->address != 0) {
        identity->address = config->address;
    } else if (identity->address == 0) {
        int r = address_default(&identity->address, err);
        if (r < 0) {
            return r;
        }
    }
    const struct {
        uint32_t *port;
        uint32_t wanted;
        uint32_t fallback;
    } ports[] = {
        {&identity->mesh_port, config->mesh_port, BERTHD_MESH_PORT},
        {&identity->raft_port, config->raft_port, BERTHD_RAFT_PORT},
        {&identity->api_port, config->api_port, BERTHD_API_PORT},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(ports); i++) {
        if (ports[i].wanted != 0) {
            *ports[i].port = ports[i].wanted;
        } else if (*ports[i].port == 0 && fresh) {
            *ports[i].port = ports[i].fallback;
        }
    }
    if (config->no_https) {
        identity->api_port = 0;
    }
    return fresh ? labels_parse(identity, config->labels, err) : 0;
}
