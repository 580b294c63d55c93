/* Frames as a guest's card would send them, byte by byte.
 *
 * frame_new, frame_udp and frame_arp write one; put_* and get_* are for what a test
 * spoils in it or asks of it, at offsets from the Ethernet header on.
 */
#pragma once

#include "support/test_main.h"

#include <netinet/in.h>
#include <stdint.h>

#define FRAME_MAX 2048
#define BROADCAST UINT64_C(0xffffffffffff)
#define TYPE_IPV4 0x0800
#define TYPE_ARP  0x0806

struct frame {
    uint8_t bytes[FRAME_MAX]; /* from the Ethernet header on */
    size_t size;
};

static inline void put_mac(uint8_t *at, uint64_t mac)
{
    for (int i = 0; i < 6; i++) {
        at[i] = (uint8_t)(mac >> (40 - 8 * i));
    }
}

static inline void put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, value >> 16);
    put_u16(at + 2, value & 0xffff);
}

static inline unsigned get_u16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static inline uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline uint64_t get_mac(const uint8_t *at)
{
    return (uint64_t)get_u32(at) << 16 | (uint64_t)at[4] << 8 | at[5];
}

static inline unsigned checksum(const uint8_t *data, size_t size)
{
    unsigned sum = 0;

    for (size_t i = 0; i < size; i += 2) {
        sum += (unsigned)data[i] << 8 | (i + 1 < size ? data[i + 1] : 0U);
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum & 0xffff;
}

static inline struct frame frame_new(uint64_t to, uint64_t from, unsigned type)
{
    struct frame frame = {.size = 60};

    put_mac(frame.bytes, to);
    put_mac(frame.bytes + 6, from);
    put_u16(frame.bytes + 12, type);
    return frame;
}

/* UDP without checksum (0 says so), 20 bytes of payload or what is given. */
static inline struct frame frame_udp(uint64_t to_mac,
                                     uint64_t from_mac,
                                     uint32_t to,
                                     uint32_t from,
                                     unsigned to_port,
                                     unsigned from_port,
                                     const void *payload,
                                     size_t payload_size)
{
    struct frame frame = frame_new(to_mac, from_mac, TYPE_IPV4);
    uint8_t *ip = frame.bytes + 14;

    ip[0] = 0x45;
    put_u16(ip + 2, (unsigned)(28 + payload_size));
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    put_u32(ip + 12, from);
    put_u32(ip + 16, to);
    put_u16(ip + 10, checksum(ip, 20));
    put_u16(ip + 20, from_port);
    put_u16(ip + 22, to_port);
    put_u16(ip + 24, (unsigned)(8 + payload_size));
    if (payload_size > 0) {
        memcpy(ip + 28, payload, payload_size);
    }
    frame.size = 14 + 28 + payload_size;
    frame.size = frame.size < 60 ? 60 : frame.size;
    return frame;
}

static inline struct frame frame_arp(uint64_t to_mac,
                                     uint64_t from_mac,
                                     unsigned operation,
                                     uint64_t sender_mac,
                                     uint32_t sender,
                                     uint32_t target)
{
    struct frame frame = frame_new(to_mac, from_mac, TYPE_ARP);
    uint8_t *arp = frame.bytes + 14;

    put_u16(arp, 1);
    put_u16(arp + 2, TYPE_IPV4);
    arp[4] = 6;
    arp[5] = 4;
    put_u16(arp + 6, operation);
    put_mac(arp + 8, sender_mac);
    put_u32(arp + 14, sender);
    put_u32(arp + 24, target);
    return frame;
}

static inline unsigned frame_type(const struct frame *frame)
{
    return get_u16(frame->bytes + 12);
}
