#include "consensus/raft_resends.h"

#include "base/require.h"
#include "consensus/consensus.h"

#include <raft.h>

#include <stdio.h>
#include <stdlib.h>

/* One message, until it has been sent or given up. */
struct letter {
    struct raft_io_send inner; /* data: the letter */
    struct raft_resends *resends;
    struct raft_io_send *outer;
    raft_io_send_cb done;
    struct raft_message message; /* with nothing of its own but the address */
    char address[CONSENSUS_ADDRESS_SIZE];
    bool again;
};

static void on_sent(struct raft_io_send *inner, int status)
{
    struct letter *letter = inner->data;
    struct raft_resends *resends = letter->resends;
    if (status == RAFT_IOERR && !letter->again && !resends->ended) {
        letter->again = true;
        status = resends->io->send(resends->io, inner, &letter->message, on_sent);
        if (status == 0) {
            return;
        }
    }
    struct raft_io_send *outer = letter->outer;
    raft_io_send_cb done = letter->done;
    free(letter);
    if (done != NULL) {
        done(outer, status);
    }
}

int raft_resends_send(struct raft_resends *resends,
                      struct raft_io_send *request,
                      const struct raft_message *message,
                      raft_io_send_cb done)
{
    REQUIRE(message->type == RAFT_IO_REQUEST_VOTE ||
            message->type == RAFT_IO_REQUEST_VOTE_RESULT);
    struct letter *letter = calloc(1, sizeof(*letter));
    if (letter == NULL) {
        return RAFT_NOMEM;
    }
    letter->inner.data = letter;
    letter->resends = resends;
    letter->outer = request;
    letter->done = done;
    letter->message = *message;
    (void)snprintf(letter->address, sizeof(letter->address), "%s",
                   message->server_address);
    letter->message.server_address = letter->address;
    int r = resends->io->send(resends->io, &letter->inner, &letter->message, on_sent);
    if (r != 0) {
        free(letter);
    }
    return r;
}
