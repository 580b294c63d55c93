/* Files of the state folder that more than one program knows by name: berthd keeps them,
 * the CLI looks at them (agent/identity.h, agent/rebirth.h say what is in them).
 */
#pragma once

#define STATE_FILE_HOST "host.json" /* who this host is */
#define STATE_FILE_KEY  "host.key"  /* by which the cluster knows it */
#define STATE_FILE_FORGETTING                                                            \
    "forgetting"                             /* there while a cluster is being forgotten \
                                              */
#define STATE_FILE_FLAGS           "up.json" /* what the last `berth up` or `join` was given */
#define STATE_FILE_PID             "berthd.pid"  /* who has the folder */
#define STATE_FILE_SOCKET          "berthd.sock" /* the API for root */
#define STATE_FILE_LOG             "berthd.log"  /* of a berthd that `berth up` started */
#define STATE_FILE_LOCK            "lock" /* who has the folder: base/state_lock.h */
#define STATE_FILE_TLS_KEY         "tls.key"
#define STATE_FILE_TLS_CERTIFICATE "tls.crt"
#define STATE_FOLDER_IMAGES        "images"
#define STATE_FOLDER_IMAGES_TMP    "tmp"      /* in it: what is being fetched */
#define STATE_FOLDER_UNPACKED      "unpacked" /* in it: kernels within kernels */

/* Initialisers: all that a host which was not let in has made in its state folder, files
 * and the folders within that of images; those are empty until something else is done
 * than to join. A join that comes to nothing removes these and no others, so whoever has
 * berthd make a file before it is let in adds it here (tests/system/outsider_test.sh sees
 * what was forgotten). The lock is the last. */
#define STATE_FILES_OF_JOIN                                                \
    {                                                                      \
        STATE_FILE_HOST, STATE_FILE_KEY, STATE_FILE_FLAGS, STATE_FILE_PID, \
            STATE_FILE_SOCKET, STATE_FILE_LOG, STATE_FILE_TLS_KEY,         \
            STATE_FILE_TLS_CERTIFICATE, STATE_FILE_LOCK                    \
    }
#define STATE_IMAGE_FOLDERS_OF_JOIN                    \
    {                                                  \
        STATE_FOLDER_IMAGES_TMP, STATE_FOLDER_UNPACKED \
    }
