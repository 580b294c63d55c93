/* DHCP and DNS of one tenant network on one host: a dnsmasq of its own, bound to the
 * network's bridge.
 *
 * Shapes: dhcp_dns_render makes the three texts (configuration, leases to give, names to
 * answer) from checked values; nothing in them is free text. The rest minds the process
 * by its files in <state folder>/networks/<vni>/: it daemonises, so it outlives berthd,
 * and is found again by what the `instance` file says: pid and start time (a pid alone
 * may be someone else's by now), and the hashes of what it was started with. Signals go
 * through a pidfd, so they cannot hit a stranger. Only VMs with a port on this host get
 * leases here; names are answered for the whole network. Threads: the caller's; the
 * functions that touch files or processes take microseconds and never wait, except
 * dhcp_dns_stop_now. Ownership: texts by dhcp_dns_texts_fini. Errors: -errno with text,
 * -ENOMEM, BERTH_ETOOLARGE.
 */
#pragma once

#include "base/err.h"
#include "net/network_plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DHCP_DNS_TEXT_MAX   (4u << 20) /* names and leases at their limits, with room */
#define DHCP_DNS_PATH_SIZE  512
#define DHCP_DNS_LEASE_TEXT "1h"

struct dhcp_dns_texts {
    char *config;
    char *hosts; /* leases: "mac,address,name" */
    char *names; /* "address name.zone" */
    uint64_t config_hash;
    uint64_t
        hosts_hash; /* of hosts and names together: a change of either needs one reload */
};

struct dhcp_dns_instance {
    pid_t pid; /* 0: none */
    uint64_t start_ticks;
    uint64_t config_hash;
    uint64_t hosts_hash;
};

/* Renders the texts for a checked want. `user` is whom dnsmasq runs as ("root" or
 * "nobody"). */
int dhcp_dns_render(const struct network_host *host,
                    const struct network_want *want,
                    const char *user,
                    struct dhcp_dns_texts *ret_texts,
                    struct err *err);
void dhcp_dns_texts_fini(struct dhcp_dns_texts *texts);

/* Whether a lease in dnsmasq's lease text gives an address of the want's ports to another
 * MAC: then the lease must be forgotten (a restart), or the address's new owner waits for
 * its end. */
bool dhcp_dns_lease_conflict(const char *leases, const struct network_want *want);

/* <state folder>/networks/<vni>[/<file>]; file may be NULL. */
void dhcp_dns_path(const struct network_host *host,
                   uint32_t vni,
                   const char *file,
                   char path[DHCP_DNS_PATH_SIZE]);

/* "nobody" when it can reach the state folder, else "root". Dropping root needs every
 * folder above to be passable (mode o+x). */
const char *dhcp_dns_user(const struct network_host *host);

/* Writes the files that a running instance reads again on SIGHUP, or (all) all of them,
 * making the folder. */
int dhcp_dns_write(const struct network_host *host,
                   uint32_t vni,
                   const struct dhcp_dns_texts *texts,
                   bool all,
                   struct err *err);

/* Lists the networks that have a folder; at most max. The count or -errno. */
int dhcp_dns_list(const struct network_host *host,
                  uint32_t *ret_vnis,
                  size_t max,
                  struct err *err);

/* The running instance with its hashes; pid 0 when none runs. One that runs without a
 * valid instance file (berthd died between two steps) is found by its pid file and
 * command line, with hashes 0. */
void dhcp_dns_find(const struct network_host *host,
                   uint32_t vni,
                   struct dhcp_dns_instance *ret_instance);

/* After the start (or reload) of an instance: notes who runs with what. */
int dhcp_dns_note(const struct network_host *host,
                  uint32_t vni,
                  const struct dhcp_dns_texts *texts,
                  struct err *err);

/* A pidfd of the instance (checked after opening), or -1 when it is gone. */
int dhcp_dns_open(const struct network_host *host,
                  uint32_t vni,
                  const struct dhcp_dns_instance *instance);

/* Ends the instance with SIGTERM, then SIGKILL, waiting up to about two seconds: for
 * shutdown only. */
void dhcp_dns_stop_now(const struct network_host *host, uint32_t vni);

/* Removes the network's folder with its files (not those of others). */
int dhcp_dns_remove(const struct network_host *host, uint32_t vni, struct err *err);
