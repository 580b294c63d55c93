/* The command line of berth-vmm, as a plain value.
 *
 * Shapes: `struct vmm_options`; texts point into argv. Disks and NICs are lists of
 * key=value, parted by commas (a place with a comma in its name is handed over as
 * descriptor). Places are vmm_open.h's. Tables in vmm_options.c give parser and --help.
 * Errors: BERTH_EINVALID with what is wrong; the caller prints it. Limits: VMM_DISKS_MAX,
 * VMM_NICS_MAX, VMM_WHERE_SIZE.
 */
#pragma once

#include "base/digest.h"
#include "base/err.h"
#include "model/objects.h"
#include "vmm/cpu_model.h"
#include "vmm/device.h"
#include "vmm/pci_plug.h"
#include "vmm/ram_backing.h"
#include "vmm/rate_limit.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* With what may come into the slots of pci_plug.h, one kind or the other. */
#define VMM_DISKS_MAX  (DISKS_MAX + PCI_PLUG_SLOTS)
#define VMM_NICS_MAX   (NICS_MAX + PCI_PLUG_SLOTS)
#define VMM_WHERE_SIZE 256u

struct vmm_disk_option {
    char name[NAME_SIZE];         /* virtio_block_serial makes its serial number */
    char id[DEVICE_NAME_SIZE];    /* what QMP calls it; "": as it is named */
    char node[DEVICE_NAME_SIZE];  /* what is behind it; "": it is called the same */
    uint64_t slot;                /* that it may leave; 0: it is there for good */
    char raw[VMM_WHERE_SIZE];     /* this, or the next one */
    char overlay[VMM_WHERE_SIZE]; /* "": it is a raw disk */
    char base[VMM_WHERE_SIZE];    /* of the overlay; "": zeros */
    struct digest digest;         /* what the overlay calls its base */
    bool is_read_only;            /* a raw disk alone can be */
    struct rate_specs limits;
};

struct vmm_nic_option {
    char tap[VMM_WHERE_SIZE];
    char id[DEVICE_NAME_SIZE]; /* of one in a slot */
    uint64_t slot;             /* that it may leave; 0: it is there for good */
    uint64_t mac;
    uint64_t mtu;
    uint64_t queues; /* 1..VIRTIO_NET_PAIRS_MAX; descriptors follow each other */
    char vhost[VMM_WHERE_SIZE];  /* "": the kernel does not serve it */
    struct rate_specs limits[2]; /* by enum virtio_net_queue */
};

struct vmm_vsock_option {
    uint64_t cid; /* 0: there is no vsock */
    char listen[VMM_WHERE_SIZE];
    char dial[VMM_WHERE_SIZE];
};

/* An overlay to be made. */
struct vmm_overlay_option {
    char file[VMM_WHERE_SIZE]; /* "": none is to be made */
    char base[VMM_WHERE_SIZE];
    struct digest digest;
    uint64_t size_bytes; /* 0: the base's */
};

/* A disk whose content is to be written into a file. */
struct vmm_export_option {
    char file[VMM_WHERE_SIZE]; /* "": none is */
    char overlay[VMM_WHERE_SIZE];
    char base[VMM_WHERE_SIZE];
    struct digest digest;
};

struct vmm_options {
    const char *name;
    const char *kvm;
    const char *kernel;
    const char *initrd; /* NULL: none */
    const char *cmdline;
    const char *serial;   /* "stdio", "none" or a listener */
    const char *console;  /* a stream for the virtio console; NULL: none */
    const char *qmp;      /* a listener; NULL: none */
    const char *incoming; /* a saved machine; NULL: it boots */
    struct vmm_disk_option disks[VMM_DISKS_MAX];
    struct vmm_nic_option nics[VMM_NICS_MAX];
    struct vmm_vsock_option vsock;
    unsigned disk_count;
    unsigned nic_count;
    struct vmm_overlay_option make_overlay; /* --make-overlay: does that and ends */
    struct vmm_export_option export_disk;   /* --export-disk: likewise */
    uint64_t memory_bytes;
    uint64_t plug_bytes;      /* what may be plugged */
    uint64_t plug_disk_bytes; /* the largest file of a disk that may be plugged */
    struct ram_backing backing;
    uint64_t cpu_count;
    uint64_t plug_cpus; /* how many may be plugged */
    enum cpu_level cpu_level;
    bool is_lazy;       /* --lazy: RAM of the saved machine is read while it runs */
    bool is_mapped;     /* --mapped: RAM of the saved machine is its file's */
    bool is_held;       /* --hold: waits for cont */
    bool keeps_end;     /* --keep-end: a guest that ended is kept until quit */
    uint64_t first_uid; /* 0: it stays who it is */
    bool has_no_jail;   /* --no-jail: for debuggers */
    bool wants_help;
    bool wants_probe; /* --probe: says what KVM is worth here */
};

/* Whether a device may be called that: QEMU's rule for ids, and short enough. */
bool vmm_id_valid(const char *id);
/* What is wrong with the name of a disk, beside another's (NULL: it is alone); or NULL.
 * Their serial numbers are made of names: a guest has to tell disks apart. */
const char *vmm_disk_name_fault(const char *name, const char *other);
int vmm_options_parse(int argc,
                      char *const argv[],
                      struct vmm_options *ret_options,
                      struct err *err);
void vmm_options_help(FILE *out);
