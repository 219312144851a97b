/* threadpool.c - parallel stages by claiming: own share first, then stealing.
 *
 * A stage of n chunks is cut into one contiguous share per thread. What is left of a share is one 64-bit word,
 *
 *      span = generation (32 bits) | next (16) | end (16)          units next..end-1 are unclaimed
 *
 * and claiming a unit is one compare-and-swap of that word: the owner takes from the front (it reads its memory forwards), a thief
 * from the back. A unit is one chunk, or several where a stage has more than 65,535 chunks per thread.
 *
 * Why the generation is in the word: a worker may read a span, be descheduled for a whole stage or ten, and come back. Its
 * compare-and-swap then fails, since the generation has moved on, so it can never run a chunk of a stage that is over. And while a
 * claim of stage g succeeds, stage g has unclaimed work, so the caller is still in it: the `fn` and `arg` read before the claim
 * are those of stage g.
 *
 * The caller works too. It leaves the stage when the units that all threads have finished add up to what was ever published; a
 * thread that has not woken has claimed nothing and is not waited for. On a machine shared with others this is the difference to
 * a barrier, where the slowest thread to be scheduled decides.
 *
 * What it is not: a task queue. One stage at a time, one caller at a time, no stage inside a chunk.
 */
#include "ctx.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SPINS = 2000,          /* pauses before a waiter gives its core away: about 30 to 80 us                       */
    YIELDS = 100,          /* calls of sched_yield after that, before it sleeps                                    */
    MAX_UNITS = 0xffff     /* of one thread's share: `next` and `end` have 16 bits                                  */
};

static uint64_t pack(uint32_t generation, uint32_t next, uint32_t end) { return (uint64_t)generation << 32 | next << 16 | end; }
static uint32_t generation_of(uint64_t span) { return (uint32_t)(span >> 32); }
static uint32_t next_of(uint64_t span) { return (uint32_t)(span >> 16) & 0xffff; }
static uint32_t end_of(uint64_t span) { return (uint32_t)span & 0xffff; }

static void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }
static int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

/* First unit of thread t's share when `units` are dealt to n threads: shares differ by at most one, and thread 0 (awake already) gets
 * no less than the others. */
int64_t zl_share_begin(int64_t units, int t, int n) {
    int64_t each = units / n, extra = units % n;
    return t * each + minimum(t, extra);
}

/* Claim units of any share and run them, own share first, until nothing is left to claim. Spans of other stages than the current one
 * are empty or their claim fails. */
static void work(zl_ctx *ctx, int thread) {
    zl_pool *p = &ctx->pool;
    zl_lane *mine = &p->lanes[thread];
    for (int hop = 0; hop < p->n_threads; hop++) {
        int victim = (thread + hop) % p->n_threads;
        zl_lane *lane = &p->lanes[victim];
        for (;;) {
            uint64_t span = atomic_load_explicit(&lane->span, memory_order_acquire);
            uint32_t next = next_of(span), end = end_of(span);
            if (next >= end) break;
            int stall = atomic_load_explicit(&mine->stall_us, memory_order_relaxed);
            if (stall > 0) nanosleep(&(struct timespec){stall / 1000000, stall % 1000000 * 1000L}, NULL);
            zl_chunk_fn *fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
            void *arg = atomic_load_explicit(&p->arg, memory_order_relaxed);
            int64_t n_chunks = atomic_load_explicit(&p->n_chunks, memory_order_relaxed);
            int64_t unit = atomic_load_explicit(&p->unit, memory_order_relaxed);
            uint64_t left = hop ? pack(generation_of(span), next, end - 1) : pack(generation_of(span), next + 1, end);
            if (!atomic_compare_exchange_strong_explicit(&lane->span, &span, left, memory_order_acq_rel, memory_order_relaxed)) continue;
            int64_t units = ceil_div(n_chunks, unit);
            int64_t index = zl_share_begin(units, victim, p->n_threads) + (hop ? end - 1 : next);
            int64_t from = index * unit, to = minimum(from + unit, n_chunks);
            for (int64_t c = from; c < to; c++) fn(arg, c, thread);
            /* Only this thread writes its counters, so they need no read-modify-write. `done` releases what the chunk wrote; it is
             * sequentially consistent for the sake of wait_for_others. */
            atomic_store_explicit(&mine->chunks, mine->chunks + to - from, memory_order_relaxed);
            if (hop) atomic_store_explicit(&mine->stolen, mine->stolen + to - from, memory_order_relaxed);
            atomic_store(&mine->done, mine->done + 1);
        }
    }
}

static int64_t finished_units(zl_pool *p) {
    int64_t n = 0;
    for (int t = 0; t < p->n_threads; t++) n += atomic_load(&p->lanes[t].done);
    return n;
}

/* ---- waiting: pause, then yield, then sleep -------------------------------------------------------------------------------------
 * Going to sleep and waking up are a Dekker pair: the sleeper announces itself and then looks at the condition once more, the waker
 * changes the condition and then looks for sleepers; sequentially consistent order lets neither miss the other.
 */

static void wait_for_stage(zl_pool *p, uint32_t seen) {
    for (int i = 0; i < SPINS + YIELDS; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen || atomic_load_explicit(&p->stop, memory_order_relaxed)) return;
        if (i < SPINS) pause_cpu();
        else sched_yield();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->generation) == seen && !atomic_load(&p->stop)) pthread_cond_wait(&p->work, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void wait_for_others(zl_pool *p) {
    for (int i = 0; i < SPINS + YIELDS; i++) {
        if (finished_units(p) == p->target) return;
        if (i < SPINS) pause_cpu();
        else sched_yield();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->caller_sleeps, 1);
    while (finished_units(p) != p->target) pthread_cond_wait(&p->finished, &p->mutex);
    atomic_store(&p->caller_sleeps, 0);
    pthread_mutex_unlock(&p->mutex);
}

static void *worker(void *lane_) {
    zl_lane *lane = lane_;
    zl_ctx *ctx = lane->ctx;
    zl_pool *p = &ctx->pool;
    int thread = (int)(lane - p->lanes);
    uint32_t seen = 0;
    zl_fp_enter();
    while (!atomic_load(&p->stop)) {
        wait_for_stage(p, seen);
        /* Read before the work: a stage that is published during it is then seen as new. */
        seen = atomic_load_explicit(&p->generation, memory_order_acquire);
        work(ctx, thread);
            if (atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_signal(&p->finished);
            pthread_mutex_unlock(&p->mutex);
        }
    }
    return NULL;
}

/* ---- a stage ------------------------------------------------------------------------------------------------------------------- */

void zl_parallel(zl_ctx *ctx, int64_t n_chunks, zl_chunk_fn *fn, void *arg) {
    zl_pool *p = &ctx->pool;
    zl_lane *mine = &p->lanes[0];
    int n = p->n_threads;
    if (n_chunks <= 0) return;
    if (n_chunks == 1 || n == 1) {
        for (int64_t c = 0; c < n_chunks; c++) fn(arg, c, 0);
        atomic_store_explicit(&mine->chunks, mine->chunks + n_chunks, memory_order_relaxed);
        return;
    }
    int64_t unit = ceil_div(n_chunks, (int64_t)MAX_UNITS * n), units = ceil_div(n_chunks, unit);
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&p->n_chunks, n_chunks, memory_order_relaxed);
    atomic_store_explicit(&p->unit, unit, memory_order_relaxed);
    p->target += units;
    p->stages++;
    uint32_t generation = atomic_load_explicit(&p->generation, memory_order_relaxed) + 1;
    for (int t = 0; t < n; t++) {
        int64_t share = zl_share_begin(units, t + 1, n) - zl_share_begin(units, t, n);
        atomic_store_explicit(&p->lanes[t].span, pack(generation, 0, (uint32_t)share), memory_order_release);
    }
    atomic_store(&p->generation, generation);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->mutex);
    }
    work(ctx, 0);
    wait_for_others(p);
}

/* ---- start and stop ------------------------------------------------------------------------------------------------------------ */

static int pin(pthread_t id, int thread, int cpu) {
#ifdef __linux__
    cpu_set_t *set = CPU_ALLOC((size_t)cpu + 1);
    if (!set) return zl_fail(ZL_E_MEMORY, "a CPU set needs %zu bytes", CPU_ALLOC_SIZE((size_t)cpu + 1));
    size_t size = CPU_ALLOC_SIZE((size_t)cpu + 1);
    CPU_ZERO_S(size, set);
    CPU_SET_S((size_t)cpu, size, set);
    int error = pthread_setaffinity_np(id, size, set);
    CPU_FREE(set);
    if (error) return zl_fail(ZL_E_THREAD, "thread %d cannot be pinned to CPU %d (error %d)", thread, cpu, error);
    return ZL_OK;
#else
    (void)id;
    return zl_fail(ZL_E_THREAD, "this system cannot pin thread %d to CPU %d", thread, cpu);
#endif
}

int zl_ctx_pin(zl_ctx *ctx, int thread, int cpu) {
    if (!ctx) return zl_fail(ZL_E_ARG, "zl_ctx_pin: ctx is a null pointer");
    if (thread < 1 || thread >= ctx->pool.n_threads || cpu < 0 || cpu >= ZL_MAX_CPUS)
        return zl_fail(ZL_E_ARG, "zl_ctx_pin: worker %d of %d to CPU %d", thread, ctx->pool.n_threads - 1, cpu);
    if (ctx->pid != getpid()) return zl_fail(ZL_E_FORK, "zl_ctx_pin: the context was made by process %d", (int)ctx->pid);
    return pin(ctx->pool.lanes[thread].id, thread, cpu);
}

/* A worker takes no signal that is meant for the program; those that its own instructions raise stay open (a blocked SIGBUS kills). */
static void block_signals(sigset_t *old) {
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGBUS), sigdelset(&set, SIGSEGV), sigdelset(&set, SIGFPE), sigdelset(&set, SIGILL);
    pthread_sigmask(SIG_BLOCK, &set, old);
}

int zl_pool_start(zl_ctx *ctx, int n_threads, const int *cpus) {
    zl_pool *p = &ctx->pool;
    p->n_threads = n_threads;
    p->lanes = aligned_alloc(_Alignof(zl_lane), (size_t)n_threads * sizeof(zl_lane));
    if (!p->lanes) return zl_fail(ZL_E_MEMORY, "zl_ctx_new needs %zu bytes", (size_t)n_threads * sizeof(zl_lane));
    memset(p->lanes, 0, (size_t)n_threads * sizeof(zl_lane));
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->finished, NULL);
    sigset_t old;
    block_signals(&old);
    int status = ZL_OK;
    for (int t = 1; t < n_threads && !status; t++) {
        p->lanes[t].ctx = ctx;
        int error = pthread_create(&p->lanes[t].id, NULL, worker, &p->lanes[t]);
        if (error) {
            status = zl_fail(ZL_E_THREAD, "zl_ctx_new: thread %d of %d could not be started (error %d)", t, n_threads, error);
            break;
        }
        p->n_started++;
#ifdef __linux__
        char name[24]; /* the kernel takes 15 characters; 512 threads stay below */
        snprintf(name, sizeof name, "zl-worker-%d", t);
        pthread_setname_np(p->lanes[t].id, name);
#endif
        if (cpus) status = pin(p->lanes[t].id, t, cpus[t]);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status;
}

void zl_pool_stop(zl_ctx *ctx) {
    zl_pool *p = &ctx->pool;
    if (!p->lanes) return;
    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->stop, 1);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
    for (int t = 1; t <= p->n_started; t++) pthread_join(p->lanes[t].id, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->finished);
    pthread_mutex_destroy(&p->mutex);
    free(p->lanes);
    p->lanes = NULL;
}
