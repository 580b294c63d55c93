#include "agent/disk_format.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define TO_RAW "convert it first: qemu-img convert -O raw"

/* ---- other programs' formats ---- */

static const struct foreign {
    const char *name;
    size_t offset;
    size_t size;
    const char *magic;
} foreign[] = {
    {"VMDK", 0, 4, "KDMV"},
    {"VMDK", 0, 4, "COWD"},
    {"VHDX", 0, 8, "vhdxfile"},
    {"VHD", 0, 8, "conectix"},
    {"VDI", 64, 4, "\x7f\x10\xda\xbe"},
    {"QED", 0, 4, "QED\0"},
    {"LUKS", 0, 6, "LUKS\xba\xbe"},
};

static const struct foreign *foreign_of(const uint8_t *head, size_t size)
{
    for (size_t i = 0; i < ARRAY_COUNT(foreign); i++) {
        const struct foreign *one = &foreign[i];
        if (size >= one->offset + one->size &&
            memcmp(head + one->offset, one->magic, one->size) == 0) {
            return one;
        }
    }
    return NULL;
}

/* ---- qcow2: numbers are big endian ---- */

#define QCOW_MAGIC        "QFI\xfb"
#define QCOW2_SIZE_V2     72
#define QCOW2_SIZE_V3     104
#define QCOW2_DISK_MAX    (UINT64_C(64) << 40) /* as any disk of ours */
#define QCOW2_CLUSTER_MIN 9
#define QCOW2_CLUSTER_MAX 21
#define QCOW2_ZSTD        1 /* compression type; bit 3 below says that there is one */
#define QCOW2_COMPRESSION UINT64_C(8)
#define QCOW2_SUBCLUSTERS UINT64_C(16)
#define QCOW2_UNDERSTOOD  (QCOW2_COMPRESSION | QCOW2_SUBCLUSTERS)

struct qcow2 {
    uint32_t version;
    uint64_t backing_offset;
    uint32_t backing_size;
    uint32_t cluster_bits;
    uint64_t disk_bytes;
    uint32_t encryption;
    uint32_t snapshots;
    uint64_t incompatible;
    uint32_t header_size;
    uint8_t compression;
};

static uint64_t number(const uint8_t *head, size_t offset, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        value = value << 8 | head[offset + i];
    }
    return value;
}

static bool qcow2_decode(const uint8_t *head, size_t size, struct qcow2 *ret_header)
{
    if (size < QCOW2_SIZE_V2) {
        return false;
    }
    *ret_header = (struct qcow2){
        .version = (uint32_t)number(head, 4, 4),
        .backing_offset = number(head, 8, 8),
        .backing_size = (uint32_t)number(head, 16, 4),
        .cluster_bits = (uint32_t)number(head, 20, 4),
        .disk_bytes = number(head, 24, 8),
        .encryption = (uint32_t)number(head, 32, 4),
        .snapshots = (uint32_t)number(head, 60, 4),
        .header_size = QCOW2_SIZE_V2,
    };
    if (ret_header->version < 3) {
        return true;
    }
    if (size < QCOW2_SIZE_V3) {
        return false;
    }
    ret_header->incompatible = number(head, 72, 8);
    ret_header->header_size = (uint32_t)number(head, 100, 4);
    if (ret_header->header_size > QCOW2_SIZE_V3 && size > QCOW2_SIZE_V3) {
        ret_header->compression = head[QCOW2_SIZE_V3];
    }
    return true;
}

/* The features that a reader must understand, by bit; what is not named is not known. */
static const char *const qcow2_features[] = {
    "it was not closed cleanly: repair it first with qemu-img check -r all",
    "it is marked as damaged: repair it first with qemu-img check -r all",
    ("its data is in another file: " TO_RAW),
};

static const char *qcow2_feature_fault(const struct qcow2 *header)
{
    for (size_t i = 0; i < ARRAY_COUNT(qcow2_features); i++) {
        if ((header->incompatible & UINT64_C(1) << i) != 0) {
            return qcow2_features[i];
        }
    }
    if ((header->incompatible & ~QCOW2_UNDERSTOOD) != 0) {
        return "it uses a feature that is not known here: " TO_RAW;
    }
    uint8_t compression =
        (header->incompatible & QCOW2_COMPRESSION) != 0 ? QCOW2_ZSTD : 0;
    return header->compression != compression
               ? "it uses a compression that is not known here: " TO_RAW
               : NULL;
}

static const char *qcow2_fault(const struct qcow2 *header)
{
    if (header->version != 2 && header->version != 3) {
        return "its version is not 2 or 3: " TO_RAW;
    }
    if (header->backing_offset != 0 || header->backing_size != 0) {
        return "it has a backing file: " TO_RAW;
    }
    if (header->encryption != 0) {
        return "it is encrypted: " TO_RAW;
    }
    if (header->snapshots != 0) {
        return "it holds snapshots: " TO_RAW;
    }
    if (header->cluster_bits < QCOW2_CLUSTER_MIN ||
        header->cluster_bits > QCOW2_CLUSTER_MAX || header->disk_bytes == 0 ||
        header->disk_bytes > QCOW2_DISK_MAX ||
        (header->version == 3 && (header->header_size < QCOW2_SIZE_V3 ||
                                  header->header_size > 1U << header->cluster_bits))) {
        return "its header makes no sense";
    }
    return qcow2_feature_fault(header);
}

/* ---- either ---- */

int disk_format_of(const void *head,
                   size_t size,
                   enum disk_format *ret_format,
                   struct err *err)
{
    struct qcow2 header;
    const struct foreign *other = foreign_of(head, size);
    if (other != NULL) {
        return err_set(err, BERTH_EINVALID, "a disk image of format %s: " TO_RAW,
                       other->name);
    }
    if (size < strlen(QCOW_MAGIC) || memcmp(head, QCOW_MAGIC, strlen(QCOW_MAGIC)) != 0) {
        *ret_format = DISK_FORMAT_RAW;
        return 0;
    }
    const char *fault = qcow2_decode(head, size, &header) ? qcow2_fault(&header)
                                                          : "it ends in its header";
    if (fault != NULL) {
        return err_set(err, BERTH_EINVALID, "a qcow2 image that is not taken: %s", fault);
    }
    *ret_format = DISK_FORMAT_QCOW2;
    return 0;
}

int disk_format_read(int fd, enum disk_format *ret_format, struct err *err)
{
    uint8_t head[DISK_FORMAT_HEAD];
    ssize_t size = pread(fd, head, sizeof(head), 0); /* whole, of a regular file */
    if (size < 0) {
        return err_sys(err, -errno, "look at a disk image");
    }
    return disk_format_of(head, (size_t)size, ret_format, err);
}
