/* Votes, and requests for them, that outlive the channel they were sent over.
 *
 * Followers have nothing to tell each other until their leader is gone, and libraft looks
 * at a channel only when it writes: one that has ended since (the other process was
 * started anew) is found so by the first request for a vote, or by the answer, which is
 * lost with it. Who asked waits a whole election timeout then before it asks again. What
 * met such an end is sent once more, and goes out over the next channel, which libraft
 * has begun to make by then.
 * Shapes: struct raft_resends is of one io, fields private. A vote that comes late, or
 * twice, is one that was slow on the way. Threads: the loop's. Ownership: it must outlive
 * what is under way, so it goes with the io. Errors: those of the io's send.
 */
#pragma once

#include <stdbool.h>

struct raft_io;
struct raft_io_send;
struct raft_message;

struct raft_resends {
    struct raft_io *io;
    bool ended; /* nothing is sent again */
};

/* As io->send, for a request for a vote or a result of one. */
int raft_resends_send(struct raft_resends *resends,
                      struct raft_io_send *request,
                      const struct raft_message *message,
                      void (*done)(struct raft_io_send *request, int status));
