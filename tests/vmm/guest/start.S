/* The micro guest's beginning: from where PVH leaves it (32 bits, no paging, EBX at the
 * start info) to long mode, and what its C code cannot say: exceptions. Its page tables
 * map the first 6 GiB as they are; they are data, for each instruction costs on a KVM
 * that interprets. */

#define PAGE_BITS   3          /* present, writable */
#define LARGE_BITS  0x83       /* the same, of 2 MiB */
#define DIRECTORIES 6

        .section .note.pvh, "a", @note
        .long   4, 4, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   guest_start

        .section .text.start, "ax"
        .code32
        .globl  guest_start
guest_start:
        cld
        movl    %ebx, guest_start_info
        movl    $stack_top, %esp
        movl    $page_top, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x20, %eax             /* PAE */
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       /* EFER: long mode */
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax       /* paging */
        movl    %eax, %cr0
        lgdt    gdt_place
        ljmp    $0x08, $guest_long

        .code64
guest_long:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $stack_top, %esp
        call    guest_main
1:      hlt
        jmp     1b

/* The second CPU begins in real mode in a page below 1 MiB, where this is copied to; it
 * goes to long mode at once. */
        .code16
        .globl  second_start, second_end
second_start:
        cli
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $page_top, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        lgdtl   %cs:second_gdt - second_start
        movl    %cr0, %eax
        orl     $0x80000001, %eax
        movl    %eax, %cr0
        ljmpl   $0x08, $second_long
second_gdt:
        .word   gdt_place - gdt - 1
        .long   gdt
second_end:

        .code64
second_long:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $second_stack_top, %esp
        call    second_main
1:      hlt
        jmp     1b

/* int guest_try(void (*act)(void *), void *context): -1, or the exception that ended it.
 * The stack and what C keeps in registers are as they were. */
        .globl  guest_try
guest_try:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, fault_stack
        movq    %rdi, %rax
        movq    %rsi, %rdi
        call    *%rax
        movl    $-1, %eax
        jmp     2f
fault_resume:
        movl    fault_vector, %eax
2:      movq    $0, fault_stack
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

/* An exception: back into guest_try, or told. Nothing is returned from: that costs less
 * than a KVM that interprets may be able to. */
fault_common:
        cld
        movq    %rsp, %rsi
        movq    fault_stack, %rax
        testq   %rax, %rax
        jz      3f
        movq    %rax, %rsp
        jmp     fault_resume
3:      movl    fault_vector, %edi
        call    guest_lost
1:      hlt
        jmp     1b

        .set    vector, 0
        .balign 16
        .globl  fault_stubs
fault_stubs:
        .rept   32
        .balign 16
        movl    $vector, fault_vector
        jmp     fault_common
        .set    vector, vector + 1
        .endr

        .data
        .balign 4096
page_top:
        .quad   page_middle + PAGE_BITS
        .fill   511, 8, 0
page_middle:
        .set    number, 0
        .rept   DIRECTORIES
        .quad   page_directories + number * 4096 + PAGE_BITS
        .set    number, number + 1
        .endr
        .fill   512 - DIRECTORIES, 8, 0
page_directories:
        .set    number, 0
        .rept   DIRECTORIES * 512
        .quad   number * 0x200000 + LARGE_BITS
        .set    number, number + 1
        .endr

gdt:    .quad   0
        .quad   0x00af9b000000ffff      /* code, 64 bits */
        .quad   0x00cf93000000ffff      /* data */
gdt_place:
        .word   . - gdt - 1
        .long   gdt
        .long   0

        .globl  guest_start_info
        .balign 8
guest_start_info:
        .quad   0
fault_stack:
        .quad   0
fault_vector:
        .quad   0

        .bss
        .balign 16
        .skip   16384
stack_top:
        .skip   16384
second_stack_top:

        .section .note.GNU-stack, "", @progbits
