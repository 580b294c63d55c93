/* Which sockets have news: what a thread with many ZeroMQ sockets sleeps on. Internal to
 * net's mesh files.
 *
 * zmq_poll asks every socket at every wake, two system calls each and twice around. Here
 * the kernel says whose mailbox was written to, and only those are looked at.
 * Shapes: struct mesh_watch goes with one socket; the set is an epoll descriptor.
 * What libzmq asks of its users: the descriptor of a socket signals once per batch of
 * commands, for reading and writing alike, and any call on the socket may take the signal
 * away. So `due` is set by a signal and by whoever uses the socket for anything but
 * reading, and cleared only by a read that found nothing: that read has seen all
 * commands, and what comes later signals again. Who waits to write asks
 * mesh_watch_writable after the last other call of the turn.
 * Threads: one at a time, as the socket.
 * Ownership: the descriptor is the socket's; stop before the socket is closed. A watch
 * does not move while it is in a set.
 * Errors: -errno of epoll_ctl.
 */
#pragma once

#include <czmq.h>

#include <stdbool.h>

struct mesh_watch {
    bool due; /* look at the socket before sleeping */
    bool started;
    int set;
    int fd;
};

/* A new set, close() ends it; -errno. */
int mesh_watch_set_open(void);
/* Begins due: nobody knows what happened before. */
int mesh_watch_start(struct mesh_watch *watch, int set, zsock_t *socket);
/* The same for a descriptor that is written to and never read, such as an eventfd. */
int mesh_watch_start_fd(struct mesh_watch *watch, int set, int fd);
/* A watch that was not started is fine. */
void mesh_watch_stop(struct mesh_watch *watch);
/* Sleeps until a socket signals or the time is over, and sets `due` of those that did. */
void mesh_watch_wait(int set, int timeout_ms);
/* True when the socket takes a message. Sets `due` when it also has one. */
bool mesh_watch_writable(struct mesh_watch *watch, zsock_t *socket);
