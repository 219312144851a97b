/* guard.c - mapped files that change under us: SIGBUS inside a registered range becomes an error instead of the end of the process.
 *
 * Reading a mapped page that the file no longer has (it was truncated, its disk failed) raises SIGBUS in the reading thread. The
 * handler here acts only on registered ranges: it maps one page of zeros over the fault, so that the read can go on, and counts the
 * fault in the range. Whoever read then asks zl_guard_check and gets ZL_E_FAULT. The range stays bad: once a byte is gone, nothing
 * that is read from it later is trusted, because later reads see the zeros silently.
 *
 *      thread reading        handler                                   zl_guard_check(p, n)
 *      ------ SIGBUS ------> which range? map zeros, range.faults++    is p in a range with faults? -> ZL_E_FAULT
 *                            none: the handler that was there before
 *
 * The handler takes no lock and calls no function but sigaction, raise and mmap (a plain system call on Linux). It walks the ranges by atomic loads: writers
 * fill a free entry's size before its base and clear the base first. Tables are linked and never freed, so a walk never meets freed
 * memory. Installing happens once, at the first registration; a program that never maps a file keeps its handlers.
 */
#include "core.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    _Atomic uintptr_t base; /* 0 = free */
    _Atomic uintptr_t size;
    _Atomic int64_t faults;
} range;

enum { RANGES = 64 };
typedef struct table {
    range entries[RANGES];
    _Atomic(struct table *) next;
} table;

static table first;
static _Atomic int64_t bad_ranges; /* registered ranges with faults: 0 makes zl_guard_check one load */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* among writers */
static struct sigaction previous;
static int installed;
static uintptr_t page_size;

static range *find(uintptr_t address) {
    for (table *t = &first; t; t = atomic_load(&t->next)) {
        for (int i = 0; i < RANGES; i++) {
            range *r = &t->entries[i];
            uintptr_t base = atomic_load(&r->base), size = atomic_load(&r->size);
            if (base && address - base < size && atomic_load(&r->base) == base) return r; /* below base wraps to a huge number */
        }
    }
    return NULL;
}

static void chain(int signal_number, siginfo_t *info, void *context) {
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signal_number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal_number);
    } else if (previous.sa_handler == SIG_DFL || info->si_code > 0) {
        /* Nobody was there. With the default action back, returning repeats the fault and ends the process as it would have without
         * us; a SIGBUS that was sent by kill() does not repeat and is sent again. (A fault cannot be ignored: same end.) */
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigaction(signal_number, &standard, NULL);
        if (info->si_code <= 0) raise(signal_number);
    }
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context) {
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    range *r = info->si_code > 0 ? find(address) : NULL; /* <= 0: sent by a program, si_addr says nothing */
    void *page = (void *)(address & ~(page_size - 1));
    if (r && mmap(page, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
        if (atomic_fetch_add(&r->faults, 1) == 0) atomic_fetch_add(&bad_ranges, 1);
    } else {
        chain(signal_number, info, context);
    }
    errno = saved;
}

static int install(void) {
    if (installed) return ZL_OK;
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    /* The old handler must be in place before ours can run: read it first, then exchange. */
    if (sigaction(SIGBUS, NULL, &previous) || sigaction(SIGBUS, &action, NULL))
        return zl_fail(ZL_E_FAULT, "zl_guard_add: no SIGBUS handler can be installed (error %d)", errno);
    installed = 1;
    return ZL_OK;
}

static int add(uintptr_t base, uintptr_t bytes) {
    int status = install();
    if (status) return status;
    range *free_entry = NULL;
    for (table *t = &first;; t = atomic_load(&t->next)) {
        for (int i = 0; i < RANGES; i++) {
            range *r = &t->entries[i];
            uintptr_t at = atomic_load(&r->base), size = atomic_load(&r->size);
            if (!at && !free_entry) free_entry = r;
            if (at && at < base + bytes && base < at + size)
                return zl_fail(ZL_E_ARG, "zl_guard_add: %zu bytes at %p overlap a range of %zu bytes that is guarded already", (size_t)bytes,
                               (void *)base, (size_t)size);
        }
        if (!atomic_load(&t->next)) {
            if (free_entry) break;
            table *more = calloc(1, sizeof *more);
            if (!more) return zl_fail(ZL_E_MEMORY, "zl_guard_add needs %zu bytes", sizeof *more);
            atomic_store(&t->next, more);
        }
    }
    atomic_store(&free_entry->faults, 0);
    atomic_store(&free_entry->size, bytes);
    atomic_store(&free_entry->base, base);
    return ZL_OK;
}

int zl_guard_add(const void *base, int64_t bytes) {
    if (!base || bytes <= 0 || (uintptr_t)bytes > UINTPTR_MAX - (uintptr_t)base)
        return zl_fail(ZL_E_ARG, "zl_guard_add: %lld bytes at %p", (long long)bytes, base);
    pthread_mutex_lock(&mutex);
    int status = add((uintptr_t)base, (uintptr_t)bytes);
    pthread_mutex_unlock(&mutex);
    return status;
}

int zl_guard_remove(const void *base) {
    if (!base) return zl_fail(ZL_E_ARG, "zl_guard_remove: a null pointer");
    pthread_mutex_lock(&mutex);
    int status = ZL_E_ARG;
    for (table *t = &first; t && status; t = atomic_load(&t->next)) {
        for (int i = 0; i < RANGES && status; i++) {
            range *r = &t->entries[i];
            if (atomic_load(&r->base) != (uintptr_t)base) continue;
            atomic_store(&r->base, 0);
            if (atomic_load(&r->faults)) atomic_fetch_sub(&bad_ranges, 1);
            status = ZL_OK;
        }
    }
    pthread_mutex_unlock(&mutex);
    return status ? zl_fail(status, "zl_guard_remove: no guarded range begins at %p", base) : ZL_OK;
}

int64_t zl_guard_faults(const void *base) {
    range *r = base ? find((uintptr_t)base) : NULL;
    return r ? atomic_load(&r->faults) : 0;
}

int zl_guarded(const void *p, int64_t bytes) {
    range *r = bytes > 0 ? find((uintptr_t)p) : NULL;
    return r && (uintptr_t)p - atomic_load(&r->base) <= atomic_load(&r->size) - (uintptr_t)bytes && (uintptr_t)bytes <= atomic_load(&r->size);
}

void zl_guard_let_go(const void *p, int64_t bytes) {
    const uintptr_t page = 4096, from = ((uintptr_t)p + page - 1) & ~(page - 1), to = ((uintptr_t)p + (uintptr_t)bytes) & ~(page - 1);
    if (zl_guarded(p, bytes) && to > from) madvise((void *)from, to - from, MADV_DONTNEED); /* a wish: where pages are larger the kernel refuses */
}

int zl_any_fault(void) { return atomic_load(&bad_ranges) != 0; }

int zl_guard_check(const void *p, int64_t bytes) {
    if (!zl_any_fault() || bytes <= 0) return ZL_OK;
    uintptr_t from = (uintptr_t)p, to = from + (uintptr_t)bytes;
    for (table *t = &first; t; t = atomic_load(&t->next)) {
        for (int i = 0; i < RANGES; i++) {
            range *r = &t->entries[i];
            uintptr_t base = atomic_load(&r->base), size = atomic_load(&r->size);
            if (base && base < to && from < base + size && atomic_load(&r->faults))
                return zl_fail(ZL_E_FAULT, "a mapped file changed while it was in use: %lld of its pages could not be read",
                               (long long)atomic_load(&r->faults));
        }
    }
    return ZL_OK;
}

int zl_copy(void *dst, const void *src, int64_t bytes) {
    if (bytes < 0 || (bytes > 0 && (!dst || !src))) return zl_fail(ZL_E_ARG, "zl_copy: %lld bytes from %p to %p", (long long)bytes, src, dst);
    if (bytes) memcpy(dst, src, (size_t)bytes);
    return zl_guard_check(src, bytes);
}
