// Tells the thread sanitizer when Swift's Mutex is taken after waiting, and given to one that waits.
//
// The fast path of Synchronization.Mutex is compiled into its users, where the sanitizer sees it. The slow path, when another
// thread holds the lock, is in libswiftSynchronization, which is not built for the sanitizer: it then takes everything behind a
// contended lock for a race. Preloaded (LD_PRELOAD) by ops/sanitize, this stands before the slow functions and adds what the
// sanitizer missed. A Mutex's methods get its address in the register for 'self', r13 on x86-64 and x20 on arm64.
#define _GNU_SOURCE
#include <dlfcn.h>

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

extern void __tsan_acquire(void *address) __attribute__((weak));
extern void __tsan_release(void *address) __attribute__((weak));

__attribute__((visibility("hidden"))) void *next_lock;
__attribute__((visibility("hidden"))) void *next_try_lock;
__attribute__((visibility("hidden"))) void *next_unlock;

__attribute__((visibility("hidden"), used)) void note_taken(void *mutex) {
    if (__tsan_acquire) __tsan_acquire(mutex);
}

__attribute__((visibility("hidden"), used)) void note_given(void *mutex) {
    if (__tsan_release) __tsan_release(mutex);
}

__attribute__((visibility("hidden"), used)) void note_nothing(void *mutex) { (void)mutex; }

__attribute__((constructor)) static void find_next(void) {
    next_lock = dlsym(RTLD_NEXT, LOCK);
    next_try_lock = dlsym(RTLD_NEXT, TRY_LOCK);
    next_unlock = dlsym(RTLD_NEXT, UNLOCK);
}

// name: calls `before` with the mutex, then the function itself with what it was given, then `after` with the mutex.
#if defined(__x86_64__)
#define STAND_IN_FOR(name, next, before, after) \
    __asm__(".globl \"" name "\"\n.type \"" name "\",@function\n\"" name "\":\n" \
            "push %rbp\nmov %rsp, %rbp\npush %r13\npush %rdi\n" \
            "mov %r13, %rdi\ncall " #before "\nmov -16(%rbp), %rdi\nmov -8(%rbp), %r13\n" \
            "call *" #next "(%rip)\n" \
            "mov %rax, -16(%rbp)\nmov -8(%rbp), %rdi\ncall " #after "\nmov -16(%rbp), %rax\nmov -8(%rbp), %r13\n" \
            "leave\nret\n")
#elif defined(__aarch64__)
#define STAND_IN_FOR(name, next, before, after) \
    __asm__(".globl \"" name "\"\n.type \"" name "\",%function\n\"" name "\":\n" \
            "stp x29, x30, [sp, #-32]!\nmov x29, sp\nstp x0, x20, [sp, #16]\n" \
            "mov x0, x20\nbl " #before "\nldp x0, x20, [sp, #16]\n" \
            "adrp x9, " #next "\nldr x9, [x9, :lo12:" #next "]\nblr x9\n" \
            "str x0, [sp, #16]\nldr x0, [sp, #24]\nbl " #after "\n" \
            "ldp x0, x20, [sp, #16]\nldp x29, x30, [sp], #32\nret\n")
#else
#error "This processor's register for 'self' is not known here."
#endif

STAND_IN_FOR(LOCK, next_lock, note_nothing, note_taken);
STAND_IN_FOR(TRY_LOCK, next_try_lock, note_nothing, note_taken);
STAND_IN_FOR(UNLOCK, next_unlock, note_given, note_nothing);
