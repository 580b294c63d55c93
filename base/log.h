/* The log: one constant sentence and key/values per line, on stderr, as text or JSON.
 *
 * `log_info("agent", "vm started", KV_STR("vm", name), KV_U64("boot_ms", t));`
 * The first argument names the room. Values are escaped: guest or wire text cannot forge
 * a line. Threads: any; a line is one write(2). Errors: none reach the caller. Limits: a
 * line over LOG_LINE_MAX is cut and marked. The clock is real time, read here; nothing
 * decides by it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX 4096

enum log_level { LOG_LEVEL_DEBUG = 0, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

struct log_kv {
    const char *key;
    enum { LOG_KV_STR = 1, LOG_KV_U64, LOG_KV_I64, LOG_KV_BOOL, LOG_KV_HEX } kind;
    union {
        const char *str; /* NULL prints as "-" */
        uint64_t u64;
        int64_t i64;
        bool flag;
    } value;
};

#define KV_STR(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_STR, .value.str = (v)})
#define KV_U64(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_U64, .value.u64 = (v)})
#define KV_I64(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_I64, .value.i64 = (v)})
#define KV_BOOL(k, v) \
    ((struct log_kv){.key = (k), .kind = LOG_KV_BOOL, .value.flag = (v)})
#define KV_HEX(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_HEX, .value.u64 = (v)})

/* Lines below level are dropped; json chooses one JSON object per line. Call before
 * threads start. */
void log_setup(enum log_level level, bool json);
/* Fixed field on every line (the host's name); borrowed for ever; NULL to remove. From
 * any thread. */
void log_set_host(const char *host);
bool log_enabled(enum log_level level);
void log_line(enum log_level level,
              const char *room,
              const char *sentence,
              unsigned kv_count,
              const struct log_kv *kvs);

/* Never call with an empty KV list and a run-time sentence: the sentence is a constant.
 */
#define LOG_AT(level, room, sentence, ...)                                               \
    do {                                                                                 \
        if (log_enabled(level)) {                                                        \
            const struct log_kv log_kvs[] = {{0}, ##__VA_ARGS__};                        \
            log_line(level, room, sentence,                                              \
                     (unsigned)(sizeof(log_kvs) / sizeof(log_kvs[0])) - 1, log_kvs + 1); \
        }                                                                                \
    } while (0)
#define log_debug(room, ...) LOG_AT(LOG_LEVEL_DEBUG, room, __VA_ARGS__)
#define log_info(room, ...)  LOG_AT(LOG_LEVEL_INFO, room, __VA_ARGS__)
#define log_warn(room, ...)  LOG_AT(LOG_LEVEL_WARN, room, __VA_ARGS__)
#define log_error(room, ...) LOG_AT(LOG_LEVEL_ERROR, room, __VA_ARGS__)
