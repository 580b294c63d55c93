/* Cleanup attributes: function-local resources that free themselves on every way out.
 *
 * `CLEANUP_FREE char *text = NULL;` is freed, `CLEANUP_FD int fd = -1;` is closed when
 * the scope ends. TAKE_PTR and TAKE_FD hand the resource on: they yield the value and
 * leave NULL / -1 behind.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_pointer(void *pointer_to_pointer)
{
    free(*(void **)pointer_to_pointer);
}

static inline void cleanup_close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* nothing can be done about it here */
    }
}

#define CLEANUP_FREE       __attribute__((cleanup(cleanup_free_pointer)))
#define CLEANUP_FD         __attribute__((cleanup(cleanup_close_fd)))
#define CLEANUP_WITH(func) __attribute__((cleanup(func)))

#define TAKE_PTR(pointer)                      \
    __extension__({                            \
        __auto_type taken_pointer = (pointer); \
        (pointer) = NULL;                      \
        taken_pointer;                         \
    })
#define TAKE_FD(fd)          \
    __extension__({          \
        int taken_fd = (fd); \
        (fd) = -1;           \
        taken_fd;            \
    })

/* Zeroed memory for a CLEANUP_FREE pointer: `count` items of `size` bytes, never NULL for
 * want of items; NULL: there is no memory. An analyser that does not know cleanup
 * attributes takes what it sees allocated for leaked, and this it does not see. */
void *cleanup_new(size_t count, size_t size);

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))
