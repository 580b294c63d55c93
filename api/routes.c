#include "api/routes.h"

#include "api/api_handlers.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>

#define SEGMENT_SIZE 128

/* method, pattern, handler, place, access, verb, kind, stream, body, query */
static const struct route routes[] = {
    {"GET", "/healthz", handle_health, ROUTE_LOCAL, ROUTE_OPEN, ACCESS_READ, KIND_NONE,
     false, false, NULL},
    {"GET", "/metrics", handle_metrics, ROUTE_LOCAL, ROUTE_OPEN, ACCESS_READ, KIND_NONE,
     false, false, NULL},
    {"GET", "/v1/version", handle_version, ROUTE_LOCAL, ROUTE_OPEN, ACCESS_READ,
     KIND_NONE, false, false, NULL},
    {"GET", "/v1/level", handle_level, ROUTE_LEADER, ROUTE_ANY, ACCESS_READ, KIND_NONE,
     false, false, NULL},
    {"GET", "/v1/self", handle_self, ROUTE_LEADER, ROUTE_ANY, ACCESS_READ, KIND_NONE,
     false, false, NULL},
    {"GET", "/v1/blobs/{sha256}", handle_blob_head, ROUTE_LOCAL, ROUTE_OPEN, ACCESS_READ,
     KIND_NONE, false, false, NULL},
    {"POST", "/v1/blobs", handle_blob_fetch, ROUTE_LOCAL, ROUTE_OPEN, ACCESS_WRITE,
     KIND_NONE, false, false, "url sha256"},
    {"POST", "/v1/apply", handle_apply, ROUTE_LEADER, ROUTE_ANY, ACCESS_WRITE, KIND_NONE,
     false, true, "dryRun"},
    {"GET", "/v1/events", handle_events, ROUTE_LEADER, ROUTE_ANY, ACCESS_READ, KIND_NONE,
     false, false, "since tenant kind name limit"},
    {"GET", "/v1/watch", handle_watch, ROUTE_VOTER, ROUTE_ANY, ACCESS_READ, KIND_NONE,
     true, false, "kinds tenant since"},
    {"POST", "/v1/join-tokens", handle_join_token, ROUTE_LEADER, ROUTE_CLUSTER_ADMIN,
     ACCESS_WRITE, KIND_TOKEN, false, true, NULL},
    {"POST", "/v1/tokens", handle_token, ROUTE_LEADER, ROUTE_CLUSTER_ADMIN, ACCESS_WRITE,
     KIND_TOKEN, false, true, NULL},
    {"POST", "/v1/backups", handle_backup_make, ROUTE_LEADER, ROUTE_CLUSTER_ADMIN,
     ACCESS_READ, KIND_NONE, false, false, NULL},
    {"GET", "/v1/backups/{name}", handle_backup_piece, ROUTE_LEADER, ROUTE_CLUSTER_ADMIN,
     ACCESS_READ, KIND_NONE, true, false, "offset"},
    {"DELETE", "/v1/backups/{name}", handle_backup_drop, ROUTE_LEADER,
     ROUTE_CLUSTER_ADMIN, ACCESS_READ, KIND_NONE, false, false, NULL},
    {"POST", "/v1/hosts/{name}:drain", handle_drain, ROUTE_LOG, ROUTE_HOST, ACCESS_WRITE,
     KIND_HOST, false, true, NULL},
    {"POST", "/v1/hosts/{name}:undrain", handle_undrain, ROUTE_LOG, ROUTE_HOST,
     ACCESS_WRITE, KIND_HOST, false, true, NULL},
    /* Not root of the host: placements trust what a label says of it. */
    {"POST", "/v1/hosts/{name}:label", handle_host_label, ROUTE_LOG, ROUTE_CLUSTER_ADMIN,
     ACCESS_WRITE, KIND_HOST, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/groups/{name}:scale", handle_scale, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_GROUP, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:start", handle_vm_start, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:stop", handle_vm_stop, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:restart", handle_vm_restart, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:pause", handle_vm_pause, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:resume", handle_vm_resume, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:snapshot", handle_vm_snapshot, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"POST", "/v1/tenants/{tenant}/vms/{name}:restore", handle_vm_restore, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_VM, false, true, NULL},
    {"GET", "/v1/tenants/{tenant}/groups/{name}/explain", handle_explain, ROUTE_LEADER,
     ROUTE_OBJECT, ACCESS_READ, KIND_GROUP, false, false, NULL},
    {"GET", "/v1/tenants/{tenant}/vms/{name}/explain", handle_explain, ROUTE_LEADER,
     ROUTE_OBJECT, ACCESS_READ, KIND_VM, false, false, NULL},
    {"GET", "/v1/tenants/{tenant}/vms/{name}/console", handle_console, ROUTE_LEADER,
     ROUTE_CONSOLE, ACCESS_WRITE, KIND_VM, true, false, NULL},
    {"GET", "/v1/tenants/{tenant}/{plural}/{name}", handle_get, ROUTE_LEADER,
     ROUTE_OBJECT, ACCESS_READ, KIND_NONE, false, false, "full fields"},
    {"PUT", "/v1/tenants/{tenant}/{plural}/{name}", handle_put, ROUTE_LOG, ROUTE_OBJECT,
     ACCESS_WRITE, KIND_NONE, false, true, NULL},
    {"DELETE", "/v1/tenants/{tenant}/{plural}/{name}", handle_delete, ROUTE_LOG,
     ROUTE_OBJECT, ACCESS_WRITE, KIND_NONE, false, false, NULL},
    {"GET", "/v1/tenants/{tenant}/{plural}", handle_list, ROUTE_LEADER, ROUTE_ANY,
     ACCESS_READ, KIND_NONE, false, false, "tenant label group limit page full fields"},
    {"GET", "/v1/{plural}/{name}", handle_get, ROUTE_LEADER, ROUTE_OBJECT, ACCESS_READ,
     KIND_NONE, false, false, "full fields"},
    {"PUT", "/v1/{plural}/{name}", handle_put, ROUTE_LOG, ROUTE_OBJECT, ACCESS_WRITE,
     KIND_NONE, false, true, NULL},
    {"DELETE", "/v1/{plural}/{name}", handle_delete, ROUTE_LOG, ROUTE_OBJECT,
     ACCESS_WRITE, KIND_NONE, false, false, "force surelyOff"},
    {"GET", "/v1/{plural}", handle_list, ROUTE_LEADER, ROUTE_ANY, ACCESS_READ, KIND_NONE,
     false, false, "tenant label group limit page full fields"},
};

const struct route *routes_table(unsigned *ret_count)
{
    *ret_count = ARRAY_COUNT(routes);
    return routes;
}

/* ---- matching
 * ---------------------------------------------------------------------------------------------
 */

/* Cuts the next segment off; false at the end or when it is too long to be any of ours.
 */
static bool segment_next(const char **at, char segment[SEGMENT_SIZE])
{
    if (**at != '/') {
        return false;
    }
    size_t size = strcspn(*at + 1, "/");
    if (size >= SEGMENT_SIZE) {
        return false;
    }
    memcpy(segment, *at + 1, size);
    segment[size] = '\0';
    *at += size + 1;
    return true;
}

static bool take_name(const char *text, char ret_name[NAME_SIZE])
{
    size_t size = strlen(text);
    if (size == 0 || size >= NAME_SIZE) {
        return false;
    }
    memcpy(ret_name, text, size + 1);
    return true;
}

/* Placeholders with what may follow them (":scale") in the pattern. */
static bool segment_fits(const char *pattern, char *segment, struct route_target *target)
{
    const struct kind_info *info;
    const char *suffix = strchr(pattern, '}');
    if (pattern[0] != '{' || suffix == NULL) {
        return strcmp(pattern, segment) == 0;
    }
    suffix++;
    size_t size = strlen(segment);
    size_t suffix_size = strlen(suffix);
    if (size <= suffix_size || strcmp(segment + size - suffix_size, suffix) != 0) {
        return false;
    }
    segment[size - suffix_size] = '\0';
    if (suffix_size == 0 && strchr(segment, ':') != NULL) {
        return false; /* an action, which names never look like */
    }
    if (strncmp(pattern, "{name}", 6) == 0) {
        return take_name(segment, target->name);
    }
    if (strncmp(pattern, "{tenant}", 8) == 0) {
        return take_name(segment, target->tenant);
    }
    if (strncmp(pattern, "{sha256}", 8) == 0) {
        return digest_parse(segment, &target->sha256) == 0;
    }
    info = kind_info_by_name(segment);
    if (info == NULL || strcmp(info->plural, segment) != 0) {
        return false;
    }
    target->kind = info->kind;
    return true;
}

static bool
path_fits(const struct route *route, const char *path, struct route_target *ret_target)
{
    struct route_target target = {.kind = route->kind};
    const char *pattern = route->pattern;
    char wanted[SEGMENT_SIZE];
    char segment[SEGMENT_SIZE];
    while (*pattern != '\0' && *path != '\0') {
        if (!segment_next(&pattern, wanted) || !segment_next(&path, segment) ||
            !segment_fits(wanted, segment, &target)) {
            return false;
        }
    }
    if (*pattern != '\0' || *path != '\0') {
        return false;
    }
    const struct kind_info *info = kind_info(target.kind);
    bool in_tenant = strstr(route->pattern, "{tenant}") != NULL;
    bool single = strstr(route->pattern, "{name}") != NULL;
    if (route->kind == KIND_NONE && info != NULL && single &&
        ((info->scope == SCOPE_TENANT && !in_tenant) ||
         (info->scope == SCOPE_CLUSTER && in_tenant))) {
        return false;
    }
    *ret_target = target;
    return true;
}

static bool method_fits(const struct route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0 &&
            !route->stream);
}

static const struct route *
match(const char *method, const char *path, struct route_target *ret_target)
{
    for (unsigned i = 0; i < ARRAY_COUNT(routes); i++) {
        if (method_fits(&routes[i], method) && path_fits(&routes[i], path, ret_target)) {
            return &routes[i];
        }
    }
    return NULL;
}

/* Which methods the path knows; false: none. */
static bool allowed(const char *path, char ret_allow[ROUTE_ALLOW_SIZE])
{
    struct route_target target;
    bool known = false;
    for (unsigned i = 0; i < ARRAY_COUNT(routes); i++) {
        if (!path_fits(&routes[i], path, &target)) {
            continue;
        }
        known = true;
        if (strstr(ret_allow, routes[i].method) == NULL) {
            size_t used = strlen(ret_allow);
            (void)snprintf(ret_allow + used, ROUTE_ALLOW_SIZE - used, "%s%s",
                           used > 0 ? ", " : "", routes[i].method);
        }
    }
    return known;
}

/* By the method first: most rows are of another one, and each request comes through here.
 */
int routes_match(const char *method,
                 const char *path,
                 const struct route **ret_route,
                 struct route_target *ret_target,
                 char ret_allow[ROUTE_ALLOW_SIZE])
{
    const struct route *route = match(method, path, ret_target);
    ret_allow[0] = '\0';
    if (route != NULL) {
        *ret_route = route;
        return 0;
    }
    return allowed(path, ret_allow) ? BERTH_EUNSUPPORTED : BERTH_ENOTFOUND;
}
