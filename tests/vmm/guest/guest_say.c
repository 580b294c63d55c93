#include "guest_say.h"

#include "guest_cpu.h"

#define LINE_STATUS 5u
#define LINE_READY  1u
#define SLEEP_PORT  0x600u
#define SLEEP_OFF   0x34u
#define WRONG_MAX   120u

static size_t text_length(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

bool text_same(const char *left, const char *right)
{
    while (*left == *right && *left != '\0') {
        left++;
        right++;
    }
    return *left == *right;
}

void say(const char *text)
{
    port_out_string(GUEST_SERIAL, text, text_length(text), 1);
}

/* As "0x" and digits, from the end of the room; what is left is where it begins. */
static char *hex(uint64_t number, char room[19])
{
    static const char digits[] = "0123456789abcdef";
    char *at = room + 18;
    *at = '\0';
    do {
        *--at = digits[number & 15];
        number >>= 4;
    } while (number != 0);
    *--at = 'x';
    *--at = '0';
    return at;
}

void say_number(uint64_t number)
{
    char room[19];
    say(hex(number, room));
}

bool heard(uint8_t *ret_byte)
{
    if ((port_in8(GUEST_SERIAL + LINE_STATUS) & LINE_READY) == 0) {
        return false;
    }
    *ret_byte = port_in8(GUEST_SERIAL);
    return true;
}

uint8_t ask(const char *word)
{
    uint8_t byte;
    say("ask ");
    say(word);
    say("\n");
    while (!heard(&byte)) {
    }
    return byte;
}

const char *wrong(const char *text, uint64_t number)
{
    static char reason[WRONG_MAX];
    char room[19];
    size_t at = 0;
    const char *parts[] = {text, " ", hex(number, room)};
    for (unsigned i = 0; i < ARRAY_COUNT(parts); i++) {
        for (const char *from = parts[i]; *from != '\0' && at < WRONG_MAX - 1; from++) {
            reason[at++] = *from;
        }
    }
    reason[at] = '\0';
    return reason;
}

void guest_off(void)
{
    for (;;) {
        port_out8(SLEEP_PORT, SLEEP_OFF);
    }
}
