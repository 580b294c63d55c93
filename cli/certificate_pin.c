#include "cli/certificate_pin.h"

#include "base/digest.h"
#include "base/err.h"

#include <sodium.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DER_SIZE_MAX 16384
#define DER_SEQUENCE 0x30
#define DER_VERSION  0xa0

/* One DER element: where it begins, its tag, where its content is. */
struct der {
    const uint8_t *start;
    uint8_t tag;
    const uint8_t *content;
    size_t size;
};

/* Takes the next element of [*at, end); false when it does not fit. */
static bool der_next(const uint8_t **at, const uint8_t *end, struct der *ret_element)
{
    const uint8_t *p = *at;
    if (end - p < 2) {
        return false;
    }
    ret_element->start = p;
    ret_element->tag = *p++;
    size_t size = *p++;
    if (size >= 0x80) {
        unsigned bytes = (unsigned)size & 0x7f;
        size = 0;
        if (bytes == 0 || bytes > 3 || end - p < (ptrdiff_t)bytes) {
            return false;
        }
        while (bytes-- > 0) {
            size = size << 8 | *p++;
        }
    }
    if ((size_t)(end - p) < size) {
        return false;
    }
    ret_element->content = p;
    ret_element->size = size;
    *at = p + size;
    return true;
}

/* Certificate { tbs { [0] version?, serial, algorithm, issuer, validity, subject, KEY. */
static bool public_key(const uint8_t *der, size_t size, struct der *ret_key)
{
    const uint8_t *at = der;
    struct der outer;
    struct der part;
    if (!der_next(&at, der + size, &outer) || outer.tag != DER_SEQUENCE) {
        return false;
    }
    at = outer.content;
    if (!der_next(&at, outer.content + outer.size, &part) || part.tag != DER_SEQUENCE) {
        return false;
    }
    const uint8_t *end = part.content + part.size;
    at = part.content;
    unsigned before = 5;
    if (at < end && *at == DER_VERSION) {
        before++;
    }
    for (unsigned i = 0; i < before; i++) {
        if (!der_next(&at, end, &part)) {
            return false;
        }
    }
    return der_next(&at, end, ret_key) && ret_key->tag == DER_SEQUENCE;
}

int certificate_pin(const char *pem, char ret_pin[PIN_TEXT_SIZE])
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    uint8_t der[DER_SIZE_MAX];
    size_t size = 0;
    struct der key;
    struct digest digest;
    char text[PIN_TEXT_SIZE];
    const char *start = strstr(pem, begin);
    const char *end = start != NULL ? strstr(start, "-----END") : NULL;
    if (end == NULL) {
        return BERTH_EINVALID;
    }
    start += sizeof(begin) - 1;
    if (sodium_base642bin(der, sizeof(der), start, (size_t)(end - start), " \r\n", &size,
                          NULL, sodium_base64_VARIANT_ORIGINAL) != 0 ||
        !public_key(der, size, &key)) {
        return BERTH_EINVALID;
    }
    digest_of(key.start, (size_t)(key.content - key.start) + key.size, &digest);
    (void)sodium_bin2base64(text, sizeof(text), digest.bytes, sizeof(digest.bytes),
                            sodium_base64_VARIANT_ORIGINAL);
    (void)snprintf(ret_pin, PIN_TEXT_SIZE, "sha256//%.50s", text);
    return 0;
}
