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
 * of its own while there is nothing to pack yet (zl_memory_ready): a mapping that waits for the context that will cut from it.
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
static _Atomic(zl_mapping *) waiting; /* made ready, and not taken yet */

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
    if (m->pid != getpid()) return; /* after a fork the thread is not here */
    atomic_compare_exchange_strong(&m->touching, &so, ENOUGH);
    while (atomic_load(&m->touching) == ENOUGH) sched_yield(); /* one page at most */
}

int zl_memory_ready(int64_t bytes) {
    if (bytes < 0) return zl_fail(ZL_E_ARG, "zl_memory_ready: %lld bytes", (long long)bytes);
    if (!bytes || atomic_load(&waiting)) return ZL_OK;
    zl_mapping *m = map(bytes), *nobody = NULL;
    if (!m) return ZL_OK;
    m->ready = bytes, m->pid = getpid();
    start(m);
    if (!atomic_compare_exchange_strong(&waiting, &nobody, m)) end_touching(m), zl_mapping_drop(m);
    return ZL_OK;
}

int64_t zl_mapping_ready(const zl_mapping *m) { return m->ready; }

void zl_memory_drop(void) {
    zl_mapping *m = atomic_exchange(&waiting, NULL);
    if (m) end_touching(m);
    zl_mapping_drop(m);
}

/* What waits, where it has room for so much. */
static zl_mapping *take_waiting(int64_t need) {
    zl_mapping *m = atomic_exchange(&waiting, NULL);
    if (m) end_touching(m);
    if (!m || m->bytes >= need) return m;
    zl_mapping_drop(m);
    return NULL;
}

/* ---- cutting --------------------------------------------------------------------------------------------------------------------------- */

int zl_mapping_take(zl_mapping **current, int64_t bytes, uint8_t **out, zl_mapping **from) {
    const int64_t need = (bytes + PAGE - 1) / PAGE * PAGE;
    zl_mapping *m = *current;
    if (!m || need > m->bytes - m->used) {
        m = take_waiting(need);
        if (!m) m = map(need);
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
