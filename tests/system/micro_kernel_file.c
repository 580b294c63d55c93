/* For scripts: writes a kernel of a few bytes into a file, whose guest counts for ever
 * what it has in its RAM, and says each number as a byte on its serial port.
 *
 * usage: micro_kernel_file FILE */
#include "micro_kernel.h"

#include <fcntl.h>
#include <stdio.h>

int main(int argc, char *argv[])
{
    /* inc byte [0x200000]; mov al, [0x200000]; out 0x3f8, al; for ever */
    static const uint8_t counting[] = {0x66, 0xba, 0xf8, 0x03,             /* mov dx */
                                       0xfe, 0x05, 0x00, 0x00, 0x20, 0x00, /* 1: inc */
                                       0xa0, 0x00, 0x00, 0x20, 0x00,       /* mov al */
                                       0xee, 0xeb, 0xf2}; /* out ; jmp 1b */
    uint8_t bytes[2 * MICRO_CODE_AT];
    if (argc != 2) {
        (void)fprintf(stderr, "usage: micro_kernel_file FILE\n");
        return 2;
    }
    const int from = micro_kernel(counting, sizeof(counting));
    const ssize_t size = pread(from, bytes, sizeof(bytes), 0);
    const int to = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0 || size < 0 || write(to, bytes, (size_t)size) != size) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}
