#include "agent/tls_identity.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/log.h"
#include "base/random.h"
#include "base/state_file.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sodium.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PEM_SIZE_MAX   65536
#define LIFE_S         (10L * 365 * 24 * 3600)
#define RENEW_BEFORE_S (30L * 24 * 3600)
#define PIN_PREFIX     "sha256//"

static int gnutls_failed(struct err *err, int code, const char *what)
{
    return err_set(err, BERTH_EBUG, "%s: %s", what, gnutls_strerror(code));
}

/* ---- making
 * -----------------------------------------------------------------------------------------
 */

static int
pem_of(int r, gnutls_datum_t *datum, char **ret_text, struct err *err, const char *what)
{
    if (r < 0) {
        return gnutls_failed(err, r, what);
    }
    *ret_text = strndup((const char *)datum->data, datum->size);
    gnutls_memset(datum->data, 0, datum->size);
    gnutls_free(datum->data);
    return *ret_text != NULL ? 0 : err_sys(err, -ENOMEM, "%s", what);
}

static int certificate_fill(gnutls_x509_crt_t certificate,
                            gnutls_x509_privkey_t key,
                            const char *name,
                            uint32_t address,
                            uint64_t wall_ms)
{
    uint8_t serial[16];
    uint32_t in = htonl(address);
    time_t now = (time_t)(wall_ms / 1000);
    random_secret(serial, sizeof(serial));
    serial[0] &= 0x7f; /* positive */
    int r = gnutls_x509_crt_set_version(certificate, 3);
    r = r < 0 ? r : gnutls_x509_crt_set_serial(certificate, serial, sizeof(serial));
    r = r < 0 ? r : gnutls_x509_crt_set_activation_time(certificate, now - 3600);
    r = r < 0 ? r : gnutls_x509_crt_set_expiration_time(certificate, now + LIFE_S);
    r = r < 0 ? r
              : gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0,
                                              name, (unsigned)strlen(name));
    r = r < 0 ? r
              : gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME,
                                                     name, (unsigned)strlen(name),
                                                     GNUTLS_FSAN_SET);
    r = r < 0 ? r
              : gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME,
                                                     "localhost", 9, GNUTLS_FSAN_APPEND);
    r = r < 0 ? r
              : gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS,
                                                     &in, sizeof(in), GNUTLS_FSAN_APPEND);
    r = r < 0 ? r : gnutls_x509_crt_set_basic_constraints(certificate, 0, -1);
    r = r < 0 ? r : gnutls_x509_crt_set_key(certificate, key);
    return r < 0 ? r
                 : gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256,
                                         0);
}

static int key_make(void *context, uint8_t **ret_data, size_t *ret_size, struct err *err)
{
    gnutls_x509_privkey_t key = context;
    gnutls_datum_t datum = {0};
    char *pem = NULL;
    int r = gnutls_x509_privkey_generate(
        key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (r < 0) {
        return gnutls_failed(err, r, "make a TLS key");
    }
    r = pem_of(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &datum), &datum,
               &pem, err, "write the TLS key");
    if (pem != NULL) {
        *ret_data = (uint8_t *)pem;
        *ret_size = strlen(pem);
    }
    return r;
}

/* For this key: what clients pinned stays true. */
static int certificate_make(gnutls_x509_privkey_t key,
                            const char *name,
                            uint32_t address,
                            uint64_t wall_ms,
                            struct tls_identity *identity,
                            struct err *err)
{
    gnutls_x509_crt_t certificate = NULL;
    gnutls_datum_t datum = {0};
    int r = gnutls_x509_crt_init(&certificate);
    r = r < 0 ? r : certificate_fill(certificate, key, name, address, wall_ms);
    if (r < 0) {
        r = gnutls_failed(err, r, "make a TLS certificate");
    } else {
        r = pem_of(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &datum),
                   &datum, &identity->certificate_pem, err, "write the TLS certificate");
    }
    gnutls_x509_crt_deinit(certificate);
    return r;
}

/* ---- loading
 * ----------------------------------------------------------------------------------------
 */

static int file_load(const char *path, char **ret_text, struct err *err)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, path, PEM_SIZE_MAX, &data, &size, err);
    *ret_text = (char *)data;
    return r;
}

static int
key_parse(const char *pem, const char *path, gnutls_x509_privkey_t key, struct err *err)
{
    const gnutls_datum_t datum = {.data = (unsigned char *)(uintptr_t)pem,
                                  .size = (unsigned)strlen(pem)};
    int r = gnutls_x509_privkey_import2(key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0);
    return r < 0 ? err_set(err, BERTH_ECORRUPT,
                           "%s is not a private key (%s): put it back from a backup; or "
                           "remove it for a new one, and log in to this host anew",
                           path, gnutls_strerror(r))
                 : 0;
}

static int certificate_parse(const char *pem,
                             const char *path,
                             gnutls_x509_crt_t *ret_certificate,
                             struct err *err)
{
    const gnutls_datum_t datum = {.data = (unsigned char *)(uintptr_t)pem,
                                  .size = (unsigned)strlen(pem)};
    gnutls_x509_crt_t certificate = NULL;
    int r = gnutls_x509_crt_init(&certificate);
    r = r < 0 ? r : gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM);
    if (r < 0) {
        gnutls_x509_crt_deinit(certificate);
        return err_set(err, BERTH_ECORRUPT, "%s is not a certificate: %s", path,
                       gnutls_strerror(r));
    }
    *ret_certificate = certificate;
    return 0;
}

/* For this name and address, and for a while yet? */
static bool still_fits(gnutls_x509_crt_t certificate,
                       const char *name,
                       uint32_t address,
                       uint64_t wall_ms)
{
    struct in_addr in = {.s_addr = htonl(address)};
    char text[INET_ADDRSTRLEN];
    return inet_ntop(AF_INET, &in, text, sizeof(text)) != NULL &&
           gnutls_x509_crt_check_hostname(certificate, name) != 0 &&
           gnutls_x509_crt_check_ip(certificate, (const unsigned char *)&in, sizeof(in),
                                    0) != 0 &&
           gnutls_x509_crt_get_expiration_time(certificate) >
               (time_t)(wall_ms / 1000) + RENEW_BEFORE_S;
}

static int pin_fill(struct tls_identity *identity, const char *path, struct err *err)
{
    gnutls_x509_crt_t certificate = NULL;
    gnutls_pubkey_t key = NULL;
    gnutls_datum_t spki = {0};
    uint8_t hash[crypto_hash_sha256_BYTES];
    if (identity->certificate_pem == NULL) {
        return err_set(err, BERTH_EBUG, "%s: neither read nor made", path);
    }
    int r = certificate_parse(identity->certificate_pem, path, &certificate, err);
    if (r < 0) {
        return r;
    }
    r = gnutls_pubkey_init(&key);
    r = r < 0 ? r : gnutls_pubkey_import_x509(key, certificate, 0);
    r = r < 0 ? r : gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &spki);
    if (r >= 0) {
        crypto_hash_sha256(hash, spki.data, spki.size);
        memcpy(identity->pin, PIN_PREFIX, sizeof(PIN_PREFIX));
        sodium_bin2base64(identity->pin + strlen(PIN_PREFIX),
                          sizeof(identity->pin) - strlen(PIN_PREFIX), hash, sizeof(hash),
                          sodium_base64_VARIANT_ORIGINAL);
        gnutls_free(spki.data);
    }
    gnutls_pubkey_deinit(key);
    gnutls_x509_crt_deinit(certificate);
    return r < 0 ? gnutls_failed(err, r, "pin the TLS key") : 0;
}

/* The key id is a hash of the public key, of either. */
static bool belongs(gnutls_x509_crt_t certificate, gnutls_x509_privkey_t key)
{
    uint8_t of_key[64] = {0};
    uint8_t of_certificate[64] = {0};
    size_t key_size = sizeof(of_key);
    size_t certificate_size = sizeof(of_certificate);
    return gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, of_key,
                                          &key_size) >= 0 &&
           gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256,
                                      of_certificate, &certificate_size) >= 0 &&
           key_size == certificate_size && memcmp(of_key, of_certificate, key_size) == 0;
}

/* Loads the key, or makes and stores one when there is none. */
static int key_open(const char *path,
                    gnutls_x509_privkey_t key,
                    struct tls_identity *identity,
                    struct err *err)
{
    gnutls_x509_privkey_t fresh = NULL;
    uint8_t *pem = NULL;
    size_t size = 0;
    int r = gnutls_x509_privkey_init(&fresh);
    if (r < 0) {
        return gnutls_failed(err, r, "open the TLS key");
    }
    r = file_atomic_read_or_make(path, PEM_SIZE_MAX, 0600, key_make, fresh, &pem, &size,
                                 err);
    gnutls_x509_privkey_deinit(fresh);
    identity->key_pem = (char *)pem;
    return r < 0 ? r : key_parse(identity->key_pem, path, key, err);
}

/* It is ours, made of key, name and address, and is so again: clients pin the key. What
 * stood there is kept, in case somebody put it there. */
static int certificate_set_aside(const char *path, struct err *err)
{
    char aside[PATH_MAX];
    int length = snprintf(aside, sizeof(aside), "%s.damaged", path);
    if (length < 0 || (size_t)length >= sizeof(aside) || rename(path, aside) != 0) {
        return err_sys(
            err, length < 0 || (size_t)length >= sizeof(aside) ? -ENAMETOOLONG : -errno,
            "set %s aside", path);
    }
    log_warn("tls", "certificate cannot be read: it is set aside and made anew",
             KV_STR("file", path), KV_STR("aside", aside));
    return 0;
}

/* 1: loaded and good; 0: to be made; negative: an error. */
static int certificate_load(const char *path,
                            gnutls_x509_privkey_t key,
                            const char *name,
                            uint32_t address,
                            uint64_t wall_ms,
                            struct tls_identity *identity,
                            struct err *err)
{
    CLEANUP_FREE char *pem = NULL;
    gnutls_x509_crt_t certificate = NULL;
    int r = file_load(path, &pem, err);
    r = r < 0 ? r : certificate_parse(pem, path, &certificate, err);
    if (r == BERTH_ECORRUPT) {
        r = certificate_set_aside(path, err);
        return r < 0 ? r : 0;
    }
    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    bool ours = belongs(certificate, key);
    bool good = ours && still_fits(certificate, name, address, wall_ms);
    gnutls_x509_crt_deinit(certificate);
    if (!ours) { /* the key was replaced, or a crash came between the two files */
        log_warn("tls", "certificate is not of this host's key and is made anew",
                 KV_STR("file", path));
    } else if (!good) {
        log_info("tls", "certificate is made anew for another name, address or time",
                 KV_STR("file", path));
    }
    identity->certificate_pem = good ? TAKE_PTR(pem) : NULL;
    return good ? 1 : 0;
}

static int certificate_open(const char *path,
                            gnutls_x509_privkey_t key,
                            const char *name,
                            uint32_t address,
                            uint64_t wall_ms,
                            struct tls_identity *identity,
                            struct err *err)
{
    int r = certificate_load(path, key, name, address, wall_ms, identity, err);
    if (r != 0) {
        return r < 0 ? r : 0;
    }
    r = certificate_make(key, name, address, wall_ms, identity, err);
    return r < 0 || identity->certificate_pem == NULL
               ? r
               : file_atomic_write(path, identity->certificate_pem,
                                   strlen(identity->certificate_pem), 0644, err);
}

int tls_identity_open(const char *folder,
                      const char *name,
                      uint32_t address,
                      uint64_t wall_ms,
                      struct tls_identity *ret_identity,
                      struct err *err)
{
    struct tls_identity identity = {0};
    gnutls_x509_privkey_t key = NULL;
    char key_path[PATH_MAX];
    char certificate_path[PATH_MAX];
    (void)snprintf(key_path, sizeof(key_path), "%s/" STATE_FILE_TLS_KEY,
                   folder); /* cut paths fail to open */
    (void)snprintf(certificate_path, sizeof(certificate_path),
                   "%s/" STATE_FILE_TLS_CERTIFICATE, folder);
    int r = gnutls_x509_privkey_init(&key);
    r = r < 0 ? gnutls_failed(err, r, "open the TLS key")
              : key_open(key_path, key, &identity, err);
    r = r < 0 ? r
              : certificate_open(certificate_path, key, name, address, wall_ms, &identity,
                                 err);
    r = r < 0 ? r : pin_fill(&identity, certificate_path, err);
    gnutls_x509_privkey_deinit(key);
    if (r < 0) {
        tls_identity_fini(&identity);
        return r;
    }
    *ret_identity = identity;
    return 0;
}

void tls_identity_fini(struct tls_identity *identity)
{
    if (identity->key_pem != NULL) {
        explicit_bzero(identity->key_pem, strlen(identity->key_pem));
    }
    free(identity->key_pem);
    free(identity->certificate_pem);
    *identity = (struct tls_identity){0};
}
