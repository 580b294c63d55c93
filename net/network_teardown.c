/* Removing all tenant networks of a host, for network_apply_teardown_all. */
#include "base/cleanup.h"
#include "net/dhcp_dns.h"
#include "net/forwarding.h"
#include "net/netlink.h"
#include "net/network_apply.h"
#include "net/network_observe.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICE_LIST_MAX (UINT32_C(4) * NETWORK_WANTS_MAX)

extern char **environ;

/* Runs nft with one command and waits; for shutdown, where blocking is fine. */
static int nft_now(const char *command, struct err *err)
{
    char program[] = "nft";
    CLEANUP_FREE char *text = strdup(command);
    char *const argv[] = {program, text, NULL};
    pid_t pid = 0;
    int status = 0;

    if (text == NULL) {
        return err_set(err, -ENOMEM, "run nft: out of memory");
    }
    int r = posix_spawnp(&pid, program, NULL, NULL, argv, environ);
    if (r != 0) {
        return err_sys(err, -r, "run nft");
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return err_sys(err, -errno, "wait for nft");
        }
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : err_set(err, BERTH_ECHILD, "nft %s: failed", command);
}

static int teardown_services(const struct network_host *host, struct err *err)
{
    CLEANUP_FREE uint32_t *vnis = calloc(SERVICE_LIST_MAX, sizeof(*vnis));
    char folder[DHCP_DNS_PATH_SIZE];

    if (vnis == NULL) {
        return err_set(err, -ENOMEM, "stop network services: out of memory");
    }
    int first = 0;
    int count = dhcp_dns_list(host, vnis, SERVICE_LIST_MAX, err);
    for (int i = 0; i < count; i++) {
        dhcp_dns_stop_now(host, vnis[i]);
        int r = dhcp_dns_remove(host, vnis[i], first == 0 ? err : NULL);
        first = first != 0 ? first : r;
    }
    (void)snprintf(folder, sizeof(folder), "%s/networks", host->state_folder);
    (void)rmdir(folder); /* someone else's files may keep it */
    return count < 0 ? count : first;
}

static int teardown_links(const struct network_host *host, struct err *err)
{
    static const enum network_link_kind order[] = {NETWORK_LINK_TAP, NETWORK_LINK_VXLAN,
                                                   NETWORK_LINK_BRIDGE};
    struct network_observed observed = {0};
    struct netlink *netlink = NULL;
    int first = netlink_open(&netlink, err);

    if (first != 0) {
        return first;
    }
    first = network_observe(netlink, host, &observed, err);
    for (size_t k = 0; k < ARRAY_COUNT(order); k++) {
        for (size_t i = 0; i < observed.link_count; i++) {
            if (observed.links[i].kind == order[k]) {
                int r = netlink_link_remove(netlink, observed.links[i].name,
                                            first == 0 ? err : NULL);
                first = first != 0 ? first : r;
            }
        }
    }
    network_observed_fini(&observed);
    (void)netlink_close(netlink);
    return first;
}

int network_apply_teardown_all(const struct network_host *host, struct err *err)
{
    int first = network_wants_check(host, NULL, 0, err);

    if (first != 0) {
        return first;
    }
    first = teardown_services(host, err);
    int r = teardown_links(host, first == 0 ? err : NULL);
    first = first != 0 ? first : r;
    /* Last, so that nothing passes unfiltered meanwhile. Adding first makes deleting
     * always possible. */
    r = nft_now("add table bridge berth; delete table bridge berth; add table ip berth; "
                "delete table ip berth",
                first == 0 ? err : NULL);
    first = first != 0 ? first : r;
    r = forwarding_switch_back(host->state_folder, first == 0 ? err : NULL);
    return first != 0 ? first : r;
}
