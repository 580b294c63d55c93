/* The book of orders: whose orders a change concerns, and the orders of each host.
 *
 * What has changed is only noted; a refresh then looks at the state as it is now and puts
 * those hosts on a list whose orders are not what they were: level-triggered, so nothing
 * depends on the order of notes or on how many there were. A VM concerns its host and,
 * by its addresses, the hosts of its networks; a network its hosts; an image, a host's
 * address or name all of them, for each is told of all. So a change costs as much as what
 * it touches, not hosts times VMs. What a host gets is complete, whatever it was told
 * before, and equal to what a new book over the same state would say.
 *
 * Shapes: struct orders_book over one state. Life of a round: orders_book_refresh, then
 * orders_book_take and orders_book_write for each host on the list. Threads: the loop's;
 * the state must not change between refresh and write. Ownership: borrows the state.
 * Errors: -ENOMEM (after which the next refresh begins from nothing), BERTH_EFULL: a list
 * of that host's orders is too long, which placement keeps from happening. Limits:
 * ORDERS_BOOK_BLOBS of the images' contents are offered; what a host's VMs boot from
 * comes first.
 */
#pragma once

#include "agent/blob_holders.h"
#include "agent/image_lack.h"
#include "agent/messages.h"
#include "model/state.h"

#include <stdbool.h>
#include <stdint.h>

#define ORDERS_BOOK_BLOBS 256   /* of msg_orders.blobs */
#define ORDERS_BOOK_NOTES 65536 /* more of them, and all is looked at anew */

struct orders_book;

/* reachable (may be NULL: all are) is asked in refresh and write. NULL when out of
 * memory. */
struct orders_book *orders_book_new(const struct state *state,
                                    blob_holders_reachable *reachable,
                                    void *context);
struct orders_book *orders_book_free(struct orders_book *book);

/* Forgets all, holders too: for a new leadership, or another state in the same place. */
void orders_book_reset(struct orders_book *book);
/* Something of the object is not as it was; called from the state's observer, too. */
void orders_book_note(struct orders_book *book, enum kind kind, uint64_t uid);
/* What the host's image store holds, whole. */
void orders_book_holds(struct orders_book *book,
                       uint64_t host,
                       const struct msg_blob *blobs,
                       uint32_t count);
/* Puts the host on the list, whether or not its orders are others. */
void orders_book_touch(struct orders_book *book, uint64_t host);

/* Looks at all that was noted. 0 or -ENOMEM. */
int orders_book_refresh(struct orders_book *book);
/* Takes a host off the list; 0: it is empty. */
uint64_t orders_book_take(struct orders_book *book);
/* The host's orders, after a refresh. Fills *ret_orders (record_fini afterwards; term is
 * the caller's to set). 0, BERTH_ENOTFOUND, BERTH_EFULL, -ENOMEM. */
int orders_book_write(struct orders_book *book,
                      uint64_t host,
                      struct msg_orders *ret_orders);

/* What the host (0: any that is up) lacks of an image, as agent/image_lack.h says. */
bool orders_book_lacks(const struct orders_book *book,
                       const char *tenant,
                       const char *image_name,
                       uint64_t host,
                       struct image_lack *ret_lack);

/* Is there anything to do for anyone? */
bool orders_book_pending(const struct orders_book *book);
/* Is nothing left that may change this host's orders since they were written? */
bool orders_book_settled(const struct orders_book *book, uint64_t host);
