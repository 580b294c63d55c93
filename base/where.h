/* What a thread is at, in words, so that another thread can tell when it stays there.
 *
 * `WHERE("write the seal");` at the head of a block that may wait for a disk, a device or
 * another process: until the block is left the thread is there; blocks nest. It costs two
 * stores, and nothing else on a thread that nobody watches (base/loop_watch.h).
 * Shapes: struct where, of the thread that is watched. Threads: where_watch, WHERE and
 * where_turned are the watched thread's, of itself; the others are anybody's.
 * Ownership: words are constants. Errors: none.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct where {
    _Atomic(const char *) at;   /* NULL: nothing that has a name */
    _Atomic(uint64_t) progress; /* anything else than before: it has come on since */
};

/* This thread is watched by these from now on; NULL: by nobody. */
void where_watch(struct where *where);
/* This thread has come on: it has ended a turn of its loop. */
void where_turned(void);
/* Likewise, and what it is at from now on, outside of all blocks; NULL: nothing. */
void where_phase(const char *at);

/* Private to WHERE: what was there before. */
const char *where_enter(const char *at);
void where_leave(const char *const *before);

#define WHERE_JOIN_2(a, b) a##b
#define WHERE_JOIN(a, b)   WHERE_JOIN_2(a, b)
#define WHERE(at)                                                               \
    __attribute__((cleanup(where_leave), unused)) const char *const WHERE_JOIN( \
        where_, __LINE__) = where_enter(at)
