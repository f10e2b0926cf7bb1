/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From reset, or from the IPI that starts a further CPU, to guest_main(id) in
 * 64-bit mode with all of the first 4 GiB mapped to themselves.
 *
 * Both begin in 16-bit mode and go on in the image as it is seen at 0xf0000.
 * %bx tells them apart: 0 is the first CPU, which alone prepares memory.
 */
#define PAGE            4096
#define STACK           8192            /* a power of 2 */
#define CODE32          0x08
#define DATA            0x10
#define CODE64          0x18

#define PRESENT_WRITE   0x003
#define LARGE           0x080
#define UNCACHED        0x018
#define IO_BEGIN        (3 * 512)       /* large pages below 3 GiB */

#define CR0_PE_PG       0x80000001
#define CR0_CACHE_OFF   0x60000000
#define CR4_PAE         0x20
#define EFER            0xc0000080
#define EFER_LME        0x100

    .section .ap, "ax"
    .code16
    mov     $1, %bx
    ljmpw   $0xf000, $start16 - 0xffff0000

    .section .reset, "ax"
    .code16
    .globl  reset
reset:
    xor     %bx, %bx
    ljmpw   $0xf000, $start16 - 0xffff0000

    .section .rom, "ax"
    .code16
start16:
    cli
    lgdtl   %cs:gdt_pointer - 0xffff0000
    mov     %cr0, %eax
    and     $~CR0_CACHE_OFF, %eax
    or      $1, %eax
    mov     %eax, %cr0
    ljmpl   $CODE32, $start32

    .code32
start32:
    mov     $DATA, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    test    %bx, %bx
    jnz     long_mode

    mov     $rom_ram, %esi
    mov     $0x100000, %edi
    mov     $ram_copied, %ecx
    sub     %edi, %ecx
    cld
    rep movsb
    mov     $ram_end, %ecx
    sub     %edi, %ecx
    xor     %eax, %eax
    rep stosb

    movl    $directories + PRESENT_WRITE, top
    mov     $tables + PRESENT_WRITE, %eax
    xor     %ecx, %ecx
1:  mov     %eax, directories(, %ecx, 8)
    add     $PAGE, %eax
    inc     %ecx
    cmp     $4, %ecx
    jne     1b

    mov     $PRESENT_WRITE | LARGE, %eax
    xor     %ecx, %ecx
2:  cmp     $IO_BEGIN, %ecx
    jne     3f
    or      $UNCACHED, %eax
3:  mov     %eax, tables(, %ecx, 8)
    add     $0x200000, %eax
    inc     %ecx
    cmp     $2048, %ecx
    jne     2b

long_mode:
    mov     $CR4_PAE, %eax
    mov     %eax, %cr4
    mov     $top, %eax
    mov     %eax, %cr3
    mov     $EFER, %ecx
    rdmsr
    or      $EFER_LME, %eax
    wrmsr
    mov     %cr0, %eax
    or      $CR0_PE_PG, %eax
    mov     %eax, %cr0
    ljmpl   $CODE64, $start64

    .balign 8
    /* With "accessed" set, or the CPU would write it to the ROM. */
gdt:
    .quad   0
    .quad   0x00cf9b000000ffff
    .quad   0x00cf93000000ffff
    .quad   0x00af9b000000ffff
gdt_pointer:
    .word   . - gdt - 1
    .long   gdt

    .section .text64, "ax"
    .code64
start64:
    mov     $1, %edi
    lock xadd %edi, next_id
    lea     1(%rdi), %eax
    imul    $STACK, %eax, %eax
    lea     stacks(%rax), %rsp
    xor     %ebp, %ebp
    call    guest_main
4:  hlt
    jmp     4b

    .bss
    .balign PAGE
top:
    .skip   PAGE
directories:
    .skip   PAGE
tables:
    .skip   4 * PAGE
stacks:
    .skip   64 * STACK
next_id:
    .skip   4

    .section .note.GNU-stack, "", @progbits
