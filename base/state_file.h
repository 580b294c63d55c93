/* Files of the state folder that more than one program knows by name: berthd keeps them,
 * the CLI looks at them (agent/identity.h, agent/rebirth.h say what is in them).
 */
#pragma once

#define STATE_FILE_HOST "host.json" /* who this host is */
#define STATE_FILE_KEY  "host.key"  /* by which the cluster knows it */
#define STATE_FILE_FORGETTING                                                       \
    "forgetting"                        /* there while a cluster is being forgotten \
                                         */
#define STATE_FILE_FLAGS  "up.json"     /* what the last `berth up` or `join` was given */
#define STATE_FILE_PID    "berthd.pid"  /* who has the folder */
#define STATE_FILE_SOCKET "berthd.sock" /* the API for root */
#define STATE_FILE_LOG    "berthd.log"  /* of a berthd that `berth up` started */
