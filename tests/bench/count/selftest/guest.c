/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program without a system for which it is known what plugin.c must count.
 *
 * It plays threads by calling switch_to(), which is hooked, with pieces of
 * memory that stand for task_struct; each thread does one thing.  "Kernel" code
 * is run at addresses whose highest bit is set; what has run at others once is
 * known to the emulator by these.
 * tests/bench/count/check knows the numbers.
 */
#include <stdint.h>

#define HIGH            0xffffff8000000000ull   /* where the first 512 GiB are, too */
#define EXIT_PORT       0x501
#define TASK_BYTES      0x1800
#define PID             0x500           /* offset in what stands for task_struct */
#define FIRST_PID       100

/* As in plugin.c and decode.h */
enum { HOOK = 1, CALIBRATE, START, STOP };
enum { SWITCH = 1, IRQ_ENTER, IRQ_EXIT, TIMER, RELEASE, ACQUIRE = 16 };
enum { SPIN, MUTEX = 3 };
enum { ALWAYS, IF_ZERO, IF_NONZERO };

#define ACQUIRES(type, condition) (ACQUIRE + (type) * 4 + (condition))

typedef void piece(void);

void mark(uint64_t command, uint64_t first, uint64_t second);
void run_in(void *task, piece *what);
piece switch_to, take, try_in_vain, try_well, give, enter_irq, leave_irq, timer,
      loop, kernel_loop, repeated, atomics, spinlock, mutex, no_lock, tried, interrupt, tick;

uint8_t tasks[16][TASK_BYTES];
uint8_t buffer[128];
uint32_t line[16] __attribute__((aligned(64)));
uint32_t lock[16] __attribute__((aligned(64)));

__asm__(
    "mark: .byte 0x0f, 0x1f, 0x80\n"
    "      .long 0x74636b75\n"
    "      ret\n"
    "switch_to: ret\n"
    "run_in: push %rbx\n"
    "        mov  %rsi, %rbx\n"
    "        mov  %rdi, %rsi\n"
    "        call switch_to\n"
    "        call *%rbx\n"
    "        mov  $tasks, %esi\n"
    "        call switch_to\n"
    "        pop  %rbx\n"
    "        ret\n"
    "take:   ret\n"
    "try_in_vain: xor %eax, %eax\n"
    "             ret\n"
    "try_well:    mov $1, %eax\n"
    "             ret\n"
    "give:   ret\n"
    "enter_irq: ret\n"
    "leave_irq: nop\n"
    "           ret\n"
    "timer:  jmp interrupt\n"

    "loop:   mov  $1000, %ecx\n"
    "1:      dec  %ecx\n"
    "        jnz  1b\n"
    "        ret\n"
    "kernel_loop: mov $1000, %ecx\n"
    "1:      dec  %ecx\n"
    "        jnz  1b\n"
    "        ret\n"
    "repeated: mov $buffer, %edi\n"
    "          mov $100, %ecx\n"
    "          rep stosb\n"
    "          ret\n"
    "atomics: mov $line, %edi\n"
    "         lock incl (%rdi)\n"
    "         lock incl 4(%rdi)\n"
    "         xchg %eax, 8(%rdi)\n"
    "         xchg %rax, %rcx\n"
    "         ret\n"
    /* The store of zero ends it. */
    "spinlock: mov $lock, %edi\n"
    "          call take\n"
    "          nop\n"
    "          nop\n"
    "          movb $0, 4(%rdi)\n"
    "          movb $0, (%rdi)\n"
    "          jmp 2f\n"
    "2:        nop\n"
    "          ret\n"
    "mutex:  mov $lock, %edi\n"
    "        call try_well\n"
    "        nop\n"
    "        call give\n"
    "        nop\n"
    "        ret\n"
    "no_lock: mov $lock, %edi\n"
    "         call try_in_vain\n"
    "         nop\n"
    "         ret\n"
    "interrupt: call enter_irq\n"
    "           nop\n"
    "           call leave_irq\n"
    "           nop\n"
    "           ret\n"
    "tick:   jmp timer\n");

static piece *high(piece *what)
{
    return (piece *)((uint64_t)what + HIGH);
}

static void hook(piece *what, uint64_t how)
{
    mark(HOOK, (uint64_t)what, how);
    mark(HOOK, (uint64_t)high(what), how);
}

static void make_tasks(void)
{
    for (unsigned i = 0; i < 16; i++) {
        *(uint32_t *)&tasks[i][PID] = FIRST_PID + i;
    }
    hook(switch_to, SWITCH);
    for (unsigned i = 1; i < 4; i++) {
        /* Each of them has the number elsewhere as well. */
        *(uint32_t *)&tasks[i][i * 8] = FIRST_PID + i;
        __asm__ volatile("call switch_to" : : "S"(tasks[i]) : "memory");
        mark(CALIBRATE, FIRST_PID + i, 0);
    }
    __asm__ volatile("call switch_to" : : "S"(tasks[0]) : "memory");
}

void guest_main(unsigned id)
{
    uint64_t *top;              /* the page tables' root */

    (void)id;
    __asm__("mov %%cr3, %0" : "=r"(top));
    top[511] = top[0];
    make_tasks();
    hook(take, ACQUIRES(SPIN, ALWAYS));
    hook(try_in_vain, ACQUIRES(MUTEX, IF_NONZERO));
    hook(try_well, ACQUIRES(MUTEX, IF_NONZERO));
    hook(give, RELEASE);
    hook(enter_irq, IRQ_ENTER);
    hook(leave_irq, IRQ_EXIT);
    hook(timer, TIMER);
    run_in(tasks[1], loop);             /* before the window: not counted */
    mark(START, 0, 0);
    run_in(tasks[1], loop);
    run_in(tasks[2], high(kernel_loop));
    run_in(tasks[3], high(repeated));
    run_in(tasks[4], atomics);
    run_in(tasks[5], high(spinlock));
    run_in(tasks[6], mutex);
    run_in(tasks[7], no_lock);
    run_in(tasks[8], high(interrupt));
    run_in(tasks[9], high(tick));
    run_in(tasks[1], loop);
    mark(STOP, 0, 0);
    __asm__ volatile("outb %%al, %%dx" : : "a"(0), "d"(EXIT_PORT));
}
