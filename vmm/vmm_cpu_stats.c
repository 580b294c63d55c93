#include "vmm/vmm_cpu_stats.h"

#include "base/cleanup.h"
#include "vmm/kvm_stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 32u

/* ---- who counts ---- */

static int
kvm_of_vm(const struct machine *machine, struct kvm_stats *ret, struct err *err)
{
    return kvm_stats_read(machine_stats_fd(machine), ret, err);
}

static int kvm_of_cpu(const struct vcpu *vcpu, struct kvm_stats *ret, struct err *err)
{
    return kvm_stats_read(vcpu->stats_fd, ret, err);
}

/* In KVM's shape: of each reason how often, and how long. */
static int own_of_cpu(const struct vcpu *vcpu, struct kvm_stats *ret, struct err *err)
{
    struct kvm_stats own = {.stats = calloc(2 * VCPU_EXIT_COUNT, sizeof(*own.stats)),
                            .count = 2 * VCPU_EXIT_COUNT,
                            .values = calloc(2 * VCPU_EXIT_COUNT, sizeof(*own.values))};
    if (own.stats == NULL || own.values == NULL) {
        kvm_stats_fini(&own);
        return err_sys(err, -ENOMEM, "count exits");
    }
    for (unsigned i = 0; i < own.count; i++) {
        const enum vcpu_exit kind = (enum vcpu_exit)(i / 2);
        const bool is_time = i % 2 == 1;
        own.stats[i] = (struct kvm_stat){.type = KVM_STATS_TYPE_CUMULATIVE,
                                         .unit = is_time ? KVM_STATS_UNIT_SECONDS
                                                         : KVM_STATS_UNIT_NONE,
                                         .exponent = is_time ? -9 : 0,
                                         .first = i,
                                         .value_count = 1};
        (void)snprintf(own.stats[i].name, sizeof(own.stats[i].name), "%s_exits%s",
                       vcpu_exit_name(kind), is_time ? "_ns" : ""); /* fits */
        own.values[i] =
            is_time ? vcpu_exit_ns(vcpu, kind) : counter_read(&vcpu->exits[kind].count);
    }
    *ret = own;
    return 0;
}

static const struct provider {
    const char *name;
    int (*vm)(const struct machine *machine, struct kvm_stats *ret, struct err *err);
    int (*cpu)(const struct vcpu *vcpu, struct kvm_stats *ret, struct err *err);
} providers[] = {
    {"kvm", kvm_of_vm, kvm_of_cpu},
    {"berth", NULL, own_of_cpu},
};

static const char *const targets[] = {"vm", "vcpu"};
enum { TARGET_VM = 0, TARGET_CPU };

/* ---- what is asked for ---- */

/* Whether the list has the text; no list has all. */
static bool has(const json_t *list, const char *text)
{
    bool is_there = list == NULL;
    for (size_t i = 0; !is_there && i < json_array_size(list); i++) {
        const char *one = json_string_value(json_array_get(list, i));
        is_there = one != NULL && strcmp(one, text) == 0;
    }
    return is_there;
}

/* A member that is a list, or is not there. */
static int list_take(const json_t *object,
                     const char *name,
                     const json_t **ret_list,
                     struct err *err)
{
    *ret_list = json_object_get(object, name);
    return *ret_list == NULL || json_is_array(*ret_list)
               ? 0
               : err_set(err, BERTH_EINVALID,
                         "Invalid parameter type for '%s', expected: array", name);
}

/* The row of a word in its table. */
static int word_take(const json_t *object,
                     const char *name,
                     const void *table,
                     size_t row_size,
                     unsigned count,
                     struct err *err)
{
    const char *word = json_string_value(json_object_get(object, name));
    if (word == NULL) {
        return err_set(err, BERTH_EINVALID, "Parameter '%s' is missing", name);
    }
    for (unsigned i = 0; i < count; i++) {
        const char *known; /* the first member of each row */
        memcpy(&known, (const char *)table + i * row_size, sizeof(known));
        if (strcmp(word, known) == 0) {
            return (int)i;
        }
    }
    return err_set(err, BERTH_EINVALID, "Parameter '%s' does not accept value '%.40s'",
                   name, word);
}

struct wish {
    bool is_wanted[ARRAY_COUNT(providers)];
    const json_t *names[ARRAY_COUNT(providers)]; /* NULL: all; borrowed */
    const json_t *cpus;                          /* the same, by path */
    int target;
};

static int provider_take(const json_t *object, struct wish *wish, struct err *err)
{
    const int i = word_take(object, "provider", providers, sizeof(providers[0]),
                            ARRAY_COUNT(providers), err);
    if (i < 0) {
        return i;
    }
    if (wish->is_wanted[i]) {
        return err_set(err, BERTH_EINVALID, "Parameter 'provider' has '%s' twice",
                       providers[i].name);
    }
    wish->is_wanted[i] = true;
    return list_take(object, "names", &wish->names[i], err);
}

static int wish_take(const json_t *arguments, struct wish *wish, struct err *err)
{
    const json_t *list = NULL;
    *wish =
        (struct wish){.target = word_take(arguments, "target", targets,
                                          sizeof(targets[0]), ARRAY_COUNT(targets), err)};
    int r =
        wish->target < 0 ? wish->target : list_take(arguments, "vcpus", &wish->cpus, err);
    if (r == 0 && wish->cpus != NULL && wish->target != TARGET_CPU) {
        r = err_set(err, BERTH_EINVALID, "Parameter 'vcpus' is unexpected");
    }
    if (r == 0) {
        r = list_take(arguments, "providers", &list, err);
    }
    for (unsigned i = 0; r == 0 && list == NULL && i < ARRAY_COUNT(providers); i++) {
        wish->is_wanted[i] = true;
    }
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        r = provider_take(json_array_get(list, i), wish, err);
    }
    return r;
}

/* ---- numbers ---- */

static json_t *number_pack(uint64_t number)
{
    return json_integer((json_int_t)(number & INT64_MAX));
}

static json_t *value_pack(const struct kvm_stat *stat, const uint64_t *values)
{
    const bool is_list =
        stat->type == KVM_STATS_TYPE_LINEAR_HIST || stat->type == KVM_STATS_TYPE_LOG_HIST;
    if (stat->unit == KVM_STATS_UNIT_BOOLEAN) {
        return json_boolean(values[stat->first] != 0);
    }
    if (!is_list) {
        return number_pack(values[stat->first]);
    }
    json_t *list = json_array();
    for (unsigned i = 0; i < stat->value_count; i++) {
        if (json_array_append_new(list, number_pack(values[stat->first + i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* What is asked for of one object, if there is any of it. */
static int result_add(json_t *results,
                      const char *provider,
                      const char *path,
                      const json_t *names,
                      const struct kvm_stats *stats)
{
    json_t *list = json_array();
    bool is_good = list != NULL;
    for (unsigned i = 0; is_good && i < stats->count; i++) {
        const struct kvm_stat *stat = &stats->stats[i];
        if (has(names, stat->name)) {
            is_good = json_array_append_new(
                          list, json_pack("{s:s, s:o}", "name", stat->name, "value",
                                          value_pack(stat, stats->values))) == 0;
        }
    }
    if (!is_good || json_array_size(list) == 0) {
        json_decref(list);
        return is_good ? 0 : -ENOMEM;
    }
    json_t *result = path == NULL
                         ? json_pack("{s:s, s:o}", "provider", provider, "stats", list)
                         : json_pack("{s:s, s:s, s:o}", "provider", provider, "qom-path",
                                     path, "stats", list);
    return json_array_append_new(results, result) == 0 ? 0 : -ENOMEM;
}

static int vm_add(const struct machine *machine,
                  const struct provider *provider,
                  const json_t *names,
                  json_t *results,
                  struct err *err)
{
    struct kvm_stats stats = {0};
    int r = provider->vm == NULL ? 0 : provider->vm(machine, &stats, err);
    if (r == 0) {
        r = result_add(results, provider->name, NULL, names, &stats);
    }
    kvm_stats_fini(&stats);
    return r;
}

static int cpus_add(const struct machine *machine,
                    const struct provider *provider,
                    const json_t *names,
                    const json_t *paths,
                    json_t *results,
                    struct err *err)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < machine_cpu_count(machine); i++) {
        struct kvm_stats stats = {0};
        char path[PATH_SIZE];
        (void)snprintf(path, sizeof(path), "/machine/cpus/%u", i); /* fits */
        if (!machine_cpu_is_plugged(machine, i) || !has(paths, path)) {
            continue;
        }
        r = provider->cpu(machine_vcpu(machine, i), &stats, err);
        if (r == 0) {
            r = result_add(results, provider->name, path, names, &stats);
        }
        kvm_stats_fini(&stats);
    }
    return r;
}

int vmm_cpu_stats_query(const struct machine *machine,
                        const json_t *arguments,
                        json_t **ret_result,
                        struct err *err)
{
    struct wish wish;
    int r = wish_take(arguments, &wish, err);
    if (r < 0) {
        return r;
    }
    json_t *results = json_array();
    for (unsigned i = 0; r == 0 && i < ARRAY_COUNT(providers); i++) {
        if (wish.is_wanted[i] && wish.target == TARGET_VM) {
            r = vm_add(machine, &providers[i], wish.names[i], results, err);
        } else if (wish.is_wanted[i]) {
            r = cpus_add(machine, &providers[i], wish.names[i], wish.cpus, results, err);
        }
    }
    if (r < 0 || results == NULL) {
        json_decref(results);
        return r < 0 ? r : -ENOMEM;
    }
    *ret_result = results;
    return 0;
}

/* ---- what numbers there are ---- */

/* By KVM's number, as it is in the flags. */
static const char *const types[] = {"cumulative", "instant", "peak", "linear-histogram",
                                    "log2-histogram"};
static const char *const units[] = {NULL, "bytes", "seconds", "cycles", "boolean"};

/* A stat of a kind that is newer than we are has no schema. */
static bool is_known(const struct kvm_stat *stat)
{
    return stat->type >> KVM_STATS_TYPE_SHIFT < ARRAY_COUNT(types) &&
           stat->unit >> KVM_STATS_UNIT_SHIFT < ARRAY_COUNT(units);
}

static json_t *schema_row_pack(const struct kvm_stat *stat)
{
    const char *unit = units[stat->unit >> KVM_STATS_UNIT_SHIFT];
    json_t *row = json_pack("{s:s, s:s, s:i}", "name", stat->name, "type",
                            types[stat->type >> KVM_STATS_TYPE_SHIFT], "exponent",
                            (int)stat->exponent);
    bool is_good =
        unit == NULL || json_object_set_new(row, "unit", json_string(unit)) == 0;
    if (stat->exponent != 0) {
        const int base = stat->base == KVM_STATS_BASE_POW10 ? 10 : 2;
        is_good = is_good && json_object_set_new(row, "base", json_integer(base)) == 0;
    }
    if (stat->type == KVM_STATS_TYPE_LINEAR_HIST) {
        is_good = is_good && json_object_set_new(row, "bucket-size",
                                                 json_integer(stat->bucket_size)) == 0;
    }
    if (!is_good) {
        json_decref(row);
        return NULL;
    }
    return row;
}

static int schema_add(json_t *schemas,
                      const char *provider,
                      int target,
                      const struct kvm_stats *stats)
{
    json_t *rows = json_array();
    bool is_good = rows != NULL;
    for (unsigned i = 0; is_good && i < stats->count; i++) {
        is_good = !is_known(&stats->stats[i]) ||
                  json_array_append_new(rows, schema_row_pack(&stats->stats[i])) == 0;
    }
    if (!is_good || json_array_size(rows) == 0) {
        json_decref(rows);
        return is_good ? 0 : -ENOMEM;
    }
    json_t *schema = json_pack("{s:s, s:s, s:o}", "provider", provider, "target",
                               targets[target], "stats", rows);
    return json_array_append_new(schemas, schema) == 0 ? 0 : -ENOMEM;
}

static int provider_describe(const struct machine *machine,
                             const struct provider *provider,
                             json_t *schemas,
                             struct err *err)
{
    struct kvm_stats stats = {0};
    int r = provider->vm == NULL ? 0 : provider->vm(machine, &stats, err);
    if (r == 0) {
        r = schema_add(schemas, provider->name, TARGET_VM, &stats);
    }
    kvm_stats_fini(&stats);
    if (r == 0) {
        r = provider->cpu(machine_vcpu(machine, 0), &stats, err);
    }
    if (r == 0) {
        r = schema_add(schemas, provider->name, TARGET_CPU, &stats);
    }
    kvm_stats_fini(&stats);
    return r;
}

int vmm_cpu_stats_schemas(const struct machine *machine,
                          const json_t *arguments,
                          json_t **ret_result,
                          struct err *err)
{
    const bool has_one = json_object_get(arguments, "provider") != NULL;
    const int one = has_one ? word_take(arguments, "provider", providers,
                                        sizeof(providers[0]), ARRAY_COUNT(providers), err)
                            : 0;
    if (one < 0) {
        return one;
    }
    json_t *schemas = json_array();
    int r = schemas == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; r == 0 && i < ARRAY_COUNT(providers); i++) {
        if (!has_one || (int)i == one) {
            r = provider_describe(machine, &providers[i], schemas, err);
        }
    }
    if (r < 0) {
        json_decref(schemas);
        return r;
    }
    *ret_result = schemas;
    return 0;
}
