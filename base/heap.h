/* The C library's heap, kept small in a daemon that runs for months.
 *
 * Left alone it takes a place of its own for each thread, of which only the first is ever
 * given back whole; lets what it keeps grow to the largest buffer that was ever freed;
 * and gives back only what lies at its end: what an image passed through, or a hundred
 * VMs lived in, stays because something small came after it. So whoever ends something
 * large says so (heap_freed), and when nobody has said so for a while, so that what was
 * under way has gone as well, the pages between what lives are given back
 * (heap_give_back), once for all that ended meanwhile: it locks the heap that all threads
 * share. Threads: heap_freed any; the others one, heap_keep_small before there is a
 * second. Errors: none. Limits: HEAP_LOOKS_MAX.
 */
#pragma once

#include <stdbool.h>

#define HEAP_FREED_MIN                                              \
    (256u << 10) /* less is taken again soon, and not worth telling \
                  */

#define HEAP_LOOKS_MAX \
    6 /* in a row that find something told: an end that never comes is not waited for */

/* At the start of the program. */
void heap_keep_small(void);
/* Something is over that had HEAP_FREED_MIN or more, by itself or together with others of
 * its kind. Costs nothing. */
void heap_freed(void);
/* A look, now and then: gives back what can be, if anything was told before the last look
 * and nothing since; true when it did. Some milliseconds, when there is much. */
bool heap_give_back(void);
