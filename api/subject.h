/* Who asks, and what they may do: the one place where the API decides that.
 *
 * Shapes: struct subject is a value made by subject_authenticate from credentials and the
 * replicated state. Roles: a token without a tenant has its role in the whole cluster,
 * one with a tenant in that tenant; a tenant's `members` add roles to tokens by name.
 * Rules: viewer reads, operator also writes in the tenant; tenants, hosts, tokens,
 * operations and images of the cluster are written by cluster admins only; hosts and
 * operations are read with a cluster role, tokens by cluster admins, images of the
 * cluster by everybody. What a subject may not even read is BERTH_ENOTFOUND, so that
 * names do not leak. Root of a host that has a part in the log may all, for it could
 * rewrite the log; root of another host may what that machine shows or can do anyway:
 * read hosts and the VMs on its own, use their consoles, drain and undrain it; the rest
 * is BERTH_EFORBIDDEN, whether it is there or not (docs/security.md). Threads: pure.
 * Errors: BERTH_EAUTH, BERTH_ENOTFOUND, BERTH_EFORBIDDEN.
 */
#pragma once

#include "api/exchange.h"
#include "model/state.h"

enum access_verb { ACCESS_READ = 0, ACCESS_WRITE };

struct subject {
    char name[SUBJECT_SIZE];  /* "root", "root:h4", "token:ci" */
    enum role cluster_role;   /* ROLE_NONE when bound to a tenant */
    enum role tenant_role;    /* in `tenant` */
    char tenant[NAME_SIZE];   /* "" when not bound */
    uint64_t expires_wall_ms; /* 0: never */
    uint64_t host;            /* not 0: root of that host, which has no part in the log */
};

/* now_wall_ms judges expiry. */
int subject_authenticate(const struct state *state,
                         const struct exchange_credentials *credentials,
                         uint64_t now_wall_ms,
                         struct subject *ret_subject);
/* The strongest role in that tenant, by token, cluster or membership. */
enum role subject_role_in(const struct state *state,
                          const struct subject *subject,
                          const char *tenant);
/* May the subject do this to objects of the kind in the tenant ("" for the cluster's)?
 * `name` matters for tenants only and may be NULL for the kind as a whole. */
int subject_may(const struct state *state,
                const struct subject *subject,
                enum access_verb verb,
                enum kind kind,
                const char *tenant,
                const char *name);
/* May the subject ask for lists of the kind (of the cluster's: BERTH_EFORBIDDEN;
 * KIND_NONE: of several) and of the tenant (NULL: of all; BERTH_ENOTFOUND)? */
int subject_may_list(const struct state *state,
                     const struct subject *subject,
                     enum kind kind,
                     const char *tenant);
/* What range a network may have. Nobody takes one that covers the address of a host:
 * BERTH_EINVALID. Who is no admin of the cluster takes a private one, for hosts have a
 * route into it; and who is no operator either no large part of all addresses:
 * BERTH_EFORBIDDEN. Said in err. there: the network as it is, whose range may stay, or
 * NULL. Asked before the log is: a rule inside of it would change what old entries did.
 */
int subject_may_take(const struct state *state,
                     const struct subject *subject,
                     const struct network *there,
                     const struct network *wanted,
                     struct err *err);
/* Nor many parts: whether it may make one more network beside `more`, where the tenant's
 * quota does not say how many; BERTH_EQUOTA, said in err. */
int subject_may_make_network(const struct state *state,
                             const struct subject *subject,
                             const char *tenant,
                             uint32_t more,
                             struct err *err);
/* Root of a host with a part in the log: bound by no share of what all use. */
bool subject_is_root(const struct subject *subject);
/* Is the subject root of that host, or of the one that this VM is on? NULL: no. */
bool subject_is_root_of(const struct subject *subject, const struct host *host);
bool subject_is_root_under(const struct subject *subject, const struct vm *vm);
/* An operator somewhere: may bring boot material into a host. */
bool subject_may_upload(const struct state *state, const struct subject *subject);
/* May these credentials bring boot material into this host? Root of it may without the
 * state (NULL); a token, whoever shows it, is judged by the state: BERTH_ENOTLEADER on a
 * host that has none. */
int subject_check_upload(const struct state *state,
                         const struct exchange_credentials *credentials,
                         uint64_t now_wall_ms);
