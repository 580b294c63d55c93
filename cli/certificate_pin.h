/* The pin of a certificate: "sha256//BASE64" of its public key, as curl compares it.
 *
 * Threads: pure. Errors: BERTH_EINVALID when the text holds no certificate.
 */
#pragma once

#include <stddef.h>

#define PIN_TEXT_SIZE 64

/* Of the first certificate in a PEM text. */
int certificate_pin(const char *pem, char ret_pin[PIN_TEXT_SIZE]);
