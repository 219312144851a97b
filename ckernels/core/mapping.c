/* mapping.c - memory for the weights of a model, which come and go together: cut one behind the other from one mapping.
 *
 *      |<-------------------------- a mapping of SPAN bytes, aligned to 2 MiB -------------------------->|
 *      | weight 0     | weight 1  | weight 2              | ..           | untouched: no memory          |      each begins 4 KiB
 *
 * A small model has hundreds of matrices that are smaller than a huge page. In blocks of their own they lie on small pages: a fault for
 * every 4 KiB when they are packed, an address to translate for every 4 KiB when they are read. Behind each other they fill huge pages.
 *
 * Where address space is rationed (ulimit -v, or a system that counts what is reserved) and SPAN is refused, a weight has a mapping of its own.
 *
 * The system gives memory when it is first written, a page at a time, and zeroes it. What is known to be needed soon can be asked for by a thread
 * of its own while there is nothing to pack yet (zl_memory_ready): a mapping for a context to cut from, once it is there.
 *
 * The mapping is given back when the last of its weights and the context have let go of it, all at once: so this is not for weights that
 * come and go one by one.
 */
#include "core.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

enum { PAGE = 4096 };
enum { DONE, TOUCHING, ENOUGH }; /* the thread that makes a mapping ready: none or over, at it, told to end */
static const int64_t SPAN = (int64_t)1 << 30;

struct zl_mapping {
    _Atomic int64_t users; /* the context, while it cuts from it, each weight, and a thread that makes it ready */
    _Atomic int touching;
    int64_t bytes, used, ready;
    uint8_t *memory;
    pid_t pid;
};

static zl_mapping *map(int64_t need) {
    zl_mapping *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    /* Where address space is rationed, what is asked for now is enough. */
    for (m->bytes = need > SPAN ? need : SPAN; zl_alloc(m->bytes, (void **)&m->memory); m->bytes = need)
        if (m->bytes == need) {
            free(m);
            return NULL;
        }
    m->users = 1;
    return m;
}

void zl_mapping_drop(zl_mapping *m) {
    if (!m || atomic_fetch_sub(&m->users, 1) > 1) return;
    zl_release(m->memory, m->bytes);
    free(m);
}

/* ---- made ready ahead ------------------------------------------------------------------------------------------------------------------ */

/* Page by page, for the system serves a fault without keeping others from theirs; whoever takes the mapping ends it first. */
static void *touch(void *arg) {
    zl_mapping *m = arg;
#ifdef __linux__
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19); /* of this thread alone: what waits for nothing else goes first */
#endif
    for (int64_t at = 0; at < m->ready && atomic_load(&m->touching) == TOUCHING; at += PAGE) ((volatile uint8_t *)m->memory)[at] = 0;
    atomic_store(&m->touching, DONE);
    zl_mapping_drop(m);
    return NULL;
}

static void start(zl_mapping *m) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attributes)) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's handlers run in its own threads */
    atomic_fetch_add(&m->users, 1);
    atomic_store(&m->touching, TOUCHING);
    if (pthread_create(&thread, &attributes, touch, m)) atomic_fetch_sub(&m->users, 1), atomic_store(&m->touching, DONE);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}
static void end_touching(zl_mapping *m) {
    int so = TOUCHING;
    if (m->pid != getpid()) { /* after a fork the thread is not here, nor will it let go */
        if (atomic_exchange(&m->touching, DONE) != DONE) atomic_fetch_sub(&m->users, 1);
        return;
    }
    atomic_compare_exchange_strong(&m->touching, &so, ENOUGH);
    const struct timespec moment = {0, 50000};
    for (int n = 0; atomic_load(&m->touching) == ENOUGH; n++) /* a huge page at most */
        if (n < 20) sched_yield();
        else nanosleep(&moment, NULL);
}

int zl_memory_ready(int64_t bytes, zl_mapping **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_memory_ready: out is a null pointer");
    *out = NULL;
    if (bytes < 1) return zl_fail(ZL_E_ARG, "zl_memory_ready: %lld bytes", (long long)bytes);
    zl_mapping *m = *out = map(bytes);
    if (!m) return ZL_OK;
    m->ready = bytes, m->pid = getpid();
    start(m);
    return ZL_OK;
}

void zl_memory_drop(zl_mapping *m) {
    if (m) end_touching(m);
    zl_mapping_drop(m);
}

int zl_ctx_give_memory(zl_ctx *ctx, zl_mapping *m) {
    zl_entry entry;
    if (!m) return zl_fail(ZL_E_ARG, "zl_ctx_give_memory: a null pointer");
    int status = zl_enter(ctx, "zl_ctx_give_memory", &entry);
    if (status) return status;
    end_touching(m);
    zl_mapping_drop(*zl_ctx_weights(ctx));
    *zl_ctx_weights(ctx) = m;
    return zl_leave(&entry, ZL_OK);
}

int zl_ctx_spare_memory(zl_ctx *ctx) {
    zl_entry entry;
    int status = zl_enter(ctx, "zl_ctx_spare_memory", &entry);
    if (status) return status;
    zl_mapping *m = *zl_ctx_weights(ctx);
    if (m && m->ready > m->used) {
        madvise(m->memory + m->used, (size_t)((m->ready - m->used + PAGE - 1) / PAGE * PAGE), MADV_DONTNEED);
        m->ready = m->used;
    }
    return zl_leave(&entry, ZL_OK);
}

int64_t zl_mapping_ready(const zl_mapping *m) { return m->ready; }

/* ---- cutting --------------------------------------------------------------------------------------------------------------------------- */

int zl_mapping_take(zl_mapping **current, int64_t bytes, uint8_t **out, zl_mapping **from) {
    const int64_t need = (bytes + PAGE - 1) / PAGE * PAGE;
    zl_mapping *m = *current;
    if (!m || need > m->bytes - m->used) {
        m = map(need);
        if (!m) return zl_fail(ZL_E_MEMORY, "memory for a weight needs %lld bytes", (long long)bytes);
        zl_mapping_drop(*current);
        *current = m;
    }
    atomic_fetch_add(&m->users, 1);
    *out = m->memory + m->used;
    *from = m;
    m->used += need;
    return ZL_OK;
}
