/* What the micro guest's CPU can do that C does not say: ports, memory of devices in each
 * width, model specific registers, exceptions. Units: sizes in bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline void port_out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void port_out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void port_out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t port_in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint16_t port_in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t port_in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* `count` units of `size` bytes by one string instruction. */
static inline void
port_out_string(uint16_t port, const void *from, size_t count, unsigned size)
{
    if (size == 1) {
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
    } else if (size == 2) {
        __asm__ volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port) : "memory");
    } else {
        __asm__ volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port) : "memory");
    }
}

static inline void port_in_string(uint16_t port, void *to, size_t count, unsigned size)
{
    if (size == 1) {
        __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
    } else if (size == 2) {
        __asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(port) : "memory");
    } else {
        __asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
    }
}

/* An access of 1, 2, 4 or 8 bytes at a physical address; what comes is zero-extended. */
static inline uint64_t memory_get(uint64_t at, unsigned size)
{
    uint64_t value = 0;
    switch (size) {
    case 1:
        __asm__ volatile("movzbl (%1), %k0" : "=r"(value) : "r"(at) : "memory");
        break;
    case 2:
        __asm__ volatile("movzwl (%1), %k0" : "=r"(value) : "r"(at) : "memory");
        break;
    case 4:
        __asm__ volatile("movl (%1), %k0" : "=r"(value) : "r"(at) : "memory");
        break;
    default:
        __asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(at) : "memory");
        break;
    }
    return value;
}

static inline void memory_set(uint64_t at, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        __asm__ volatile("movb %b1, (%0)" : : "r"(at), "q"(value) : "memory");
        break;
    case 2:
        __asm__ volatile("movw %w1, (%0)" : : "r"(at), "r"(value) : "memory");
        break;
    case 4:
        __asm__ volatile("movl %k1, (%0)" : : "r"(at), "r"(value) : "memory");
        break;
    default:
        __asm__ volatile("movq %1, (%0)" : : "r"(at), "r"(value) : "memory");
        break;
    }
}

static inline uint64_t msr_get(uint32_t number)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
    return (uint64_t)high << 32 | low;
}

static inline void msr_set(uint32_t number, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

/* EAX, EBX, ECX and EDX of a leaf. */
static inline void cpu_id(uint32_t leaf, uint32_t subleaf, uint32_t ret_registers[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(ret_registers[0]), "=b"(ret_registers[1]),
                       "=c"(ret_registers[2]), "=d"(ret_registers[3])
                     : "a"(leaf), "c"(subleaf));
}

/* No access moves over it: the device looks at memory while we do. */
static inline void memory_fence(void)
{
    __asm__ volatile("lock; addl $0, (%%rsp)" : : : "memory", "cc");
}

#define FAULT_PROTECTION 13
#define FAULT_NONE       (-1)

/* Runs the act: FAULT_NONE, or the number of the exception that ended it. */
int guest_try(void (*act)(void *context), void *context);
