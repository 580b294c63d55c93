/* What the micro guest says to its host, by the serial port, a line each:
 *
 *     begin ROW          it begins a row of the group
 *     ok ROW             nothing was wrong
 *     bad ROW: WHY       something was
 *     ask WORD           the host does what the word means, and then says a byte
 *     done GROUP         that is all
 *
 * Nothing here waits with a bound: a host that hears no more has a limit of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GUEST_SERIAL 0x3f8u

void say(const char *text);
void say_number(uint64_t number);
/* Whether the host has said something; takes it. */
bool heard(uint8_t *ret_byte);
/* Asks the host for something, and waits until it is done: the byte it says. */
uint8_t ask(const char *word);
/* The reason of a row that went wrong: the text, and a number behind it. */
const char *wrong(const char *text, uint64_t number);
/* Powers the machine off. */
void guest_off(void) __attribute__((noreturn));

bool text_same(const char *left, const char *right);
