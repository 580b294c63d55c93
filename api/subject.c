#include "api/subject.h"

#include "base/cleanup.h"
#include "base/parse_number.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SUBJECT_ROOT "root" /* tokens have "token:" before their name */

/* What a host says of its root is as good as that host: one with a part in the log could
 * write there what it likes; another one is not to gain by what it says. */
static int authenticate_root(const struct state *state,
                             uint64_t forwarder,
                             struct subject *ret_subject)
{
    struct subject subject = {0};
    const struct host *host = forwarder != 0 ? state_host(state, forwarder) : NULL;
    if (forwarder != 0 && host == NULL) {
        return BERTH_EAUTH;
    }
    if (host == NULL || host->status.voter != VOTER_NONE) {
        (void)snprintf(subject.name, sizeof(subject.name), SUBJECT_ROOT);
        subject.cluster_role = ROLE_ADMIN;
    } else {
        (void)snprintf(subject.name, sizeof(subject.name), "root:%s", host->meta.name);
        subject.host = forwarder;
    }
    *ret_subject = subject;
    return 0;
}

int subject_authenticate(const struct state *state,
                         const struct exchange_credentials *credentials,
                         uint64_t now_wall_ms,
                         struct subject *ret_subject)
{
    struct subject subject = {0};
    if (credentials->local_root && !credentials->has_token) {
        return authenticate_root(state, credentials->forwarder, ret_subject);
    }
    const struct token *token = credentials->has_token
                                    ? state_token_by_hash(state, &credentials->token_hash)
                                    : NULL;
    if (token == NULL || token->spec.role == ROLE_JOIN || token->spec.role == ROLE_NONE ||
        (token->spec.expires_wall_ms != 0 &&
         now_wall_ms >= token->spec.expires_wall_ms)) {
        return BERTH_EAUTH;
    }
    (void)snprintf(subject.name, sizeof(subject.name), "token:%s", token->meta.name);
    memcpy(subject.tenant, token->spec.tenant, NAME_SIZE);
    subject.expires_wall_ms = token->spec.expires_wall_ms;
    if (subject.tenant[0] == '\0') {
        subject.cluster_role = token->spec.role;
    } else {
        subject.tenant_role = token->spec.role;
    }
    *ret_subject = subject;
    return 0;
}

static enum role stronger(enum role a, enum role b)
{
    return a > b ? a : b; /* viewer < operator < admin */
}

static enum role member_role(const struct state *state,
                             const struct subject *subject,
                             const char *tenant_name)
{
    const struct tenant *tenant = state_get(state, KIND_TENANT, "", tenant_name);
    enum role role = ROLE_NONE;
    for (uint32_t i = 0; tenant != NULL && i < tenant->spec.members.count; i++) {
        const struct member *member = &tenant->spec.members.items[i];
        if (member->subject != NULL && strcmp(member->subject, subject->name) == 0 &&
            member->role <= ROLE_ADMIN) {
            role = stronger(role, member->role);
        }
    }
    return role;
}

enum role subject_role_in(const struct state *state,
                          const struct subject *subject,
                          const char *tenant)
{
    enum role role = subject->cluster_role;
    if (subject->tenant[0] != '\0' && strcmp(subject->tenant, tenant) == 0) {
        role = stronger(role, subject->tenant_role);
    }
    return role == ROLE_ADMIN ? role
                              : stronger(role, member_role(state, subject, tenant));
}

static int
judge_tenants(enum access_verb verb, enum role role_in, const struct subject *subject)
{
    if (subject->cluster_role == ROLE_ADMIN) {
        return 0;
    }
    if (role_in == ROLE_NONE) {
        return BERTH_ENOTFOUND;
    }
    return verb == ACCESS_READ ? 0 : BERTH_EFORBIDDEN;
}

/* Kinds of the cluster: the least cluster role to read; writing is for admins. */
static int judge_cluster(const struct subject *subject,
                         enum access_verb verb,
                         enum role least_reader)
{
    enum role least = verb == ACCESS_WRITE ? ROLE_ADMIN : least_reader;
    return subject->cluster_role >= least ? 0 : BERTH_EFORBIDDEN;
}

bool subject_is_root(const struct subject *subject)
{
    return strcmp(subject->name, SUBJECT_ROOT) == 0;
}

bool subject_is_root_of(const struct subject *subject, const struct host *host)
{
    return subject->host != 0 && host != NULL && host->meta.uid == subject->host;
}

bool subject_is_root_under(const struct subject *subject, const struct vm *vm)
{
    return subject->host != 0 && vm != NULL && vm->status.host == subject->host;
}

/* The same answer for what is not there: names do not leak. */
static int judge_host_root(const struct state *state,
                           const struct subject *subject,
                           enum access_verb verb,
                           enum kind kind,
                           const char *tenant,
                           const char *name)
{
    bool sees = kind == KIND_HOST ||
                (kind == KIND_VM && name != NULL &&
                 subject_is_root_under(subject, state_get(state, kind, tenant, name)));
    return sees && verb == ACCESS_READ ? 0 : BERTH_EFORBIDDEN;
}

int subject_may(const struct state *state,
                const struct subject *subject,
                enum access_verb verb,
                enum kind kind,
                const char *tenant,
                const char *name)
{
    if (subject->host != 0) {
        return judge_host_root(state, subject, verb, kind, tenant, name);
    }
    if (tenant[0] != '\0') {
        enum role role = subject_role_in(state, subject, tenant);
        if (role == ROLE_NONE) {
            return BERTH_ENOTFOUND;
        }
        enum role least = verb == ACCESS_READ ? ROLE_VIEWER : ROLE_OPERATOR;
        return role >= least ? 0 : BERTH_EFORBIDDEN;
    }
    switch (kind) {
    case KIND_TENANT:
        if (name == NULL && verb == ACCESS_READ) {
            return 0; /* lists are filtered one by one */
        }
        return judge_tenants(
            verb, name != NULL ? subject_role_in(state, subject, name) : ROLE_VIEWER,
            subject);
    case KIND_IMAGE:
        return judge_cluster(subject, verb, ROLE_NONE);
    case KIND_TOKEN:
        return judge_cluster(subject, verb, ROLE_ADMIN);
    default:
        return judge_cluster(subject, verb, ROLE_VIEWER);
    }
}

int subject_may_list(const struct state *state,
                     const struct subject *subject,
                     enum kind kind,
                     const char *tenant)
{
    const struct kind_info *info = kind_info(kind);
    if (info != NULL && info->scope == SCOPE_CLUSTER &&
        subject_may(state, subject, ACCESS_READ, kind, "", NULL) < 0) {
        return BERTH_EFORBIDDEN;
    }
    /* Root of a host sees its own VMs, whoever owns them; names do not leak to it. */
    bool hidden = tenant != NULL && subject->host == 0 &&
                  (state_get(state, KIND_TENANT, "", tenant) == NULL ||
                   subject_role_in(state, subject, tenant) == ROLE_NONE);
    return hidden ? BERTH_ENOTFOUND : 0;
}

/* Ranges that no host needs to reach anything of the world in: RFC 1918, the shared
 * addresses of RFC 6598 and those for benchmarks of RFC 2544. A host that carries a
 * network has a route into it, and would look for what really is there among its VMs. */
static const struct range {
    uint32_t address;
    uint32_t prefix_bits;
} tenant_ranges[] = {
    {UINT32_C(0x0a000000), 8},  /* 10.0.0.0 */
    {UINT32_C(0xac100000), 12}, /* 172.16.0.0 */
    {UINT32_C(0xc0a80000), 16}, /* 192.168.0.0 */
    {UINT32_C(0x64400000), 10}, /* 100.64.0.0 */
    {UINT32_C(0xc6120000), 15}, /* 198.18.0.0 */
};

#define RANGES_TEXT_SIZE ((CIDR_TEXT_SIZE + 2) * ARRAY_COUNT(tenant_ranges))

static void ranges_text(char text[RANGES_TEXT_SIZE])
{
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_COUNT(tenant_ranges); i++) {
        char range[CIDR_TEXT_SIZE];
        format_cidr(tenant_ranges[i].address, tenant_ranges[i].prefix_bits, range);
        used += (size_t)snprintf(text + used, RANGES_TEXT_SIZE - used, "%s%s",
                                 i > 0 ? ", " : "", range);
    }
}

static bool is_for_tenants(uint64_t cidr)
{
    for (size_t i = 0; i < ARRAY_COUNT(tenant_ranges); i++) {
        const struct range *range = &tenant_ranges[i];
        uint64_t all = (uint64_t)range->address << 8 | range->prefix_bits;
        if (cidr_prefix(cidr) >= range->prefix_bits &&
            cidr_contains(all, cidr_address(cidr))) {
            return true;
        }
    }
    return false;
}

/* A host of the cell whose address is within the range, or NULL. */
static const struct host *host_within(const struct state *state, uint64_t cidr)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        if (host->status.address != 0 && cidr_contains(cidr, host->status.address)) {
            return host;
        }
    }
    return NULL;
}

/* Tenants do not see hosts, so these have no names for them. */
static int refuse_hosts(const struct subject *subject,
                        const struct host *host,
                        const char *cidr,
                        struct err *err)
{
    char address[IPV4_TEXT_SIZE];
    if (subject->cluster_role == ROLE_NONE) {
        return err_set(err, BERTH_EINVALID,
                       "spec.ipv4.cidr: %s covers addresses of the cluster's hosts: take "
                       "another range",
                       cidr);
    }
    format_ipv4(host->status.address, address);
    return err_set(err, BERTH_EINVALID,
                   "spec.ipv4.cidr: %s covers %s, the address of host %s: take another "
                   "range",
                   cidr, address, host->meta.name);
}

int subject_may_take(const struct state *state,
                     const struct subject *subject,
                     const struct network *there,
                     const struct network *wanted,
                     struct err *err)
{
    uint64_t cidr = wanted->spec.ipv4.cidr;
    char text[CIDR_TEXT_SIZE];
    if (there != NULL && there->spec.ipv4.cidr == cidr) {
        return 0;
    }
    format_cidr(cidr_address(cidr), cidr_prefix(cidr), text);
    const struct host *host = host_within(state, cidr);
    if (host != NULL) {
        return refuse_hosts(subject, host, text, err);
    }
    if (subject->cluster_role < ROLE_ADMIN && !is_for_tenants(cidr)) {
        char ranges[RANGES_TEXT_SIZE];
        ranges_text(ranges);
        return err_set(
            err, BERTH_EFORBIDDEN,
            "spec.ipv4.cidr: %s is not private: take a range within one of %s, "
            "or ask an administrator of the cluster",
            text, ranges);
    }
    if (subject->cluster_role < ROLE_OPERATOR &&
        cidr_prefix(cidr) < NETWORK_TENANT_PREFIX_MIN) {
        return err_set(err, BERTH_EFORBIDDEN,
                       "spec.ipv4.cidr: /%" PRIu32 " is larger than /%d, the largest "
                       "that a tenant may take: ask an administrator of the cluster",
                       cidr_prefix(cidr), NETWORK_TENANT_PREFIX_MIN);
    }
    return 0;
}

int subject_may_make_network(const struct state *state,
                             const struct subject *subject,
                             const char *tenant,
                             uint32_t more,
                             struct err *err)
{
    const struct tenant *there = state_get(state, KIND_TENANT, "", tenant);
    if (there == NULL || subject->cluster_role >= ROLE_OPERATOR ||
        there->spec.quota.networks != UNLIMITED32 ||
        there->status.used.networks + more < NETWORK_TENANT_COUNT_MAX) {
        return 0;
    }
    return err_set(
        err, BERTH_EQUOTA,
        "tenant %s would have %" PRIu32
        " networks with this one, and its own tokens make "
        "%d while its quota does not say how many: ask an administrator of the cluster "
        "for a quota.networks",
        tenant, there->status.used.networks + more + 1, NETWORK_TENANT_COUNT_MAX);
}

bool subject_may_upload(const struct state *state, const struct subject *subject)
{
    if (subject->cluster_role >= ROLE_OPERATOR || subject->tenant_role >= ROLE_OPERATOR) {
        return true;
    }
    size_t cursor = 0;
    const struct tenant *tenant;
    while ((tenant = state_next(state, KIND_TENANT, &cursor)) != NULL) {
        if (subject_role_in(state, subject, tenant->meta.name) >= ROLE_OPERATOR) {
            return true;
        }
    }
    return false;
}

int subject_check_upload(const struct state *state,
                         const struct exchange_credentials *credentials,
                         uint64_t now_wall_ms)
{
    struct subject subject;
    if (credentials->local_root && !credentials->has_token) {
        return credentials->forwarder == 0 ? 0 : BERTH_EFORBIDDEN;
    }
    if (state == NULL) {
        return BERTH_ENOTLEADER;
    }
    int r = subject_authenticate(state, credentials, now_wall_ms, &subject);
    return r == 0 && !subject_may_upload(state, &subject) ? BERTH_EFORBIDDEN : r;
}
