/* A guest of a few bytes that wakes each CPU that comes. It says which CPUs it has in the
 * beginning ('@' plus the first byte of the set), and then looks for news until it ends;
 * a CPU that is woken says its number ('0' plus its APIC id) for ever. */
#pragma once

#include <stdint.h>
#include <string.h>

#define PLUG_GUEST_EARLY 0x1cu /* where it may do something first: ten bytes of nop */

static const uint8_t plug_guest[] = {
    /* 32 bits: the CPUs' code goes to 0x8000, the local APIC on */
    0xfc,                                                       /* cld */
    0xbe, 0x6c, 0x10, 0x10, 0x00,                               /* mov esi, 0x10106c */
    0xbf, 0x00, 0x80, 0x00, 0x00,                               /* mov edi, 0x8000 */
    0xb9, 0x16, 0x00, 0x00, 0x00,                               /* mov ecx, 22 */
    0xf3, 0xa4,                                                 /* rep movsb */
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, /* [SVR] = 0x1ff */
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, /* 1c */
    0x66, 0xba, 0x10, 0x06, 0xec,                               /* 26: in al, 0x610 */
    0x04, 0x40,                                                 /* add al, '@' */
    0x66, 0xba, 0xf8, 0x03, 0xee,                               /* out 0x3f8, al */
    0x66, 0xba, 0x18, 0x06, 0x31, 0xc0, 0xec,                   /* 32: eax = in 0x618 */
    0x84, 0xc0, 0x74, 0xf5,                                     /* test al, al ; jz 32 */
    0x0f, 0xbc, 0xc8,                                           /* 3d: bsf ecx, eax */
    0xe8, 0x09, 0x00, 0x00, 0x00,                               /* call 4e */
    0x8d, 0x50, 0xff, 0x21, 0xd0,                               /* its bit is done */
    0x75, 0xf1, 0xeb, 0xe4,                                     /* jnz 3d ; jmp 32 */
    0xc1, 0xe1, 0x18,                                           /* 4e: shl ecx, 24 */
    0x89, 0x0d, 0x10, 0x03, 0xe0, 0xfe, /* [ICR, upper half] = ecx */
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00, /* [ICR] = INIT */
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x00, 0x00, /* [ICR] = start 0x8000 */
    0xc3,                                                       /* ret */
    /* 6c, 16 bits: a CPU that was woken */
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, /* mov eax, 1 */
    0x0f, 0xa2,                         /* cpuid */
    0x66, 0xc1, 0xeb, 0x18, 0x88, 0xd8, /* al = ebx >> 24 */
    0x04, 0x30,                         /* add al, '0' */
    0xba, 0xf8, 0x03,                   /* mov dx, 0x3f8 */
    0xee, 0xeb, 0xfd,                   /* 1: out dx, al ; jmp 1b */
};

/* The same, but it begins by trying to wake CPU 1, which may not be there. */
static inline void plug_guest_hasty(uint8_t ret_code[sizeof(plug_guest)])
{
    static const uint8_t wake[] = {0xb9, 0x01, 0x00, 0x00, 0x00,  /* mov ecx, 1 */
                                   0xe8, 0x28, 0x00, 0x00, 0x00}; /* call 4e */
    memcpy(ret_code, plug_guest, sizeof(plug_guest));
    memcpy(ret_code + PLUG_GUEST_EARLY, wake, sizeof(wake));
}
