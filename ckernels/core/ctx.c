/* ctx.c - the context: birth, death, who may enter it, the float environment, and counters. */
#include "ctx.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

/* ---- the float environment -----------------------------------------------------------------------------------------------------
 * Whatever the calling program set (other libraries switch denormals off for a whole process), kernels run with the IEEE defaults,
 * and the caller gets its own word back. The word is only written when it differs: writing it stalls the pipeline.
 */
#if defined(__x86_64__)
enum { MXCSR_DEFAULT = 0x1f80 }; /* all exceptions masked, round to nearest even, neither FTZ nor DAZ */
enum { MXCSR_FLAGS = 0x3f };     /* sticky exception flags: not part of the mode                    */
uint64_t zl_fp_enter(void) {
    unsigned saved = _mm_getcsr();
    if ((saved & ~(unsigned)MXCSR_FLAGS) != MXCSR_DEFAULT) _mm_setcsr(MXCSR_DEFAULT);
    return saved;
}
void zl_fp_leave(uint64_t saved) {
    if (((unsigned)saved & ~(unsigned)MXCSR_FLAGS) != MXCSR_DEFAULT) _mm_setcsr((unsigned)saved);
}
#elif defined(__aarch64__)
uint64_t zl_fp_enter(void) {
    uint64_t saved;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved));
    if (saved) __asm__ __volatile__("msr fpcr, %0" : : "r"((uint64_t)0)); /* 0: to nearest even, FZ off, no traps */
    return saved;
}
void zl_fp_leave(uint64_t saved) {
    if (saved) __asm__ __volatile__("msr fpcr, %0" : : "r"(saved));
}
#else
uint64_t zl_fp_enter(void) {
    int saved = fegetround();
    fesetround(FE_TONEAREST);
    return (uint64_t)saved;
}
void zl_fp_leave(uint64_t saved) { fesetround((int)saved); }
#endif

/* ---- entering ------------------------------------------------------------------------------------------------------------------- */

int zl_enter(zl_ctx *ctx, const char *what, zl_entry *entry) {
    if (!ctx) return zl_fail(ZL_E_ARG, "%s: ctx is a null pointer", what);
    pid_t pid = getpid();
    if (pid != ctx->pid)
        return zl_fail(ZL_E_FORK, "%s: the context was made by process %d and is used in process %d; make a new one after fork()", what,
                       (int)ctx->pid, (int)pid);
    uintptr_t nobody = 0, self = (uintptr_t)pthread_self();
    if (!atomic_compare_exchange_strong(&ctx->owner, &nobody, self))
        return zl_fail(ZL_E_BUSY, "%s: %s is inside this context", what, nobody == self ? "this thread itself" : "another thread");
    entry->ctx = ctx;
    entry->fp = zl_fp_enter();
    return ZL_OK;
}

int zl_leave(zl_entry *entry, int status) {
    zl_fp_leave(entry->fp);
    atomic_store(&entry->ctx->owner, 0);
    return status;
}

/* ---- birth and death ------------------------------------------------------------------------------------------------------------ */

int zl_ctx_new(int n_threads, const char *isa, const int *cpus, zl_ctx **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_ctx_new: out is a null pointer");
    *out = NULL;
    if (n_threads < 1 || n_threads > ZL_MAX_THREADS)
        return zl_fail(ZL_E_ARG, "zl_ctx_new: %d threads; 1 to %d are possible", n_threads, ZL_MAX_THREADS);
    for (int t = 0; cpus && t < n_threads; t++)
        if (cpus[t] < 0 || cpus[t] >= ZL_MAX_CPUS) return zl_fail(ZL_E_ARG, "zl_ctx_new: thread %d on CPU %d", t, cpus[t]);
    const zl_kernels *kernels;
    int status = zl_find_variant(isa, &kernels);
    if (status) return status;
    zl_ctx *ctx = aligned_alloc(_Alignof(zl_ctx), sizeof(zl_ctx));
    if (!ctx) return zl_fail(ZL_E_MEMORY, "zl_ctx_new needs %zu bytes", sizeof(zl_ctx));
    memset(ctx, 0, sizeof *ctx);
    ctx->kernels = kernels;
    ctx->pid = getpid();
    status = zl_pool_start(ctx, n_threads, cpus);
    if (status) {
        zl_pool_stop(ctx);
        free(ctx);
        return status;
    }
    *out = ctx;
    return ZL_OK;
}

void zl_ctx_free(zl_ctx *ctx) {
    if (!ctx) return;
    zl_release(ctx->scratch, ctx->scratch_bytes);
    zl_mapping_drop(ctx->weights);
    if (ctx->pid != getpid()) {
        /* In a forked child there are no workers to join, and a lock may be held by a thread that does not exist here. */
        free(ctx->pool.lanes);
    } else {
        zl_pool_stop(ctx);
    }
    free(ctx);
}

/* ---- what it is and what it has done ---------------------------------------------------------------------------------------------- */

const zl_kernels *zl_ctx_kernels(const zl_ctx *ctx) { return ctx->kernels; }
zl_mapping **zl_ctx_weights(zl_ctx *ctx) { return &ctx->weights; }
void zl_ctx_count_experts(zl_ctx *ctx, int64_t bytes) { atomic_fetch_add_explicit(&ctx->expert_bytes, bytes, memory_order_relaxed); }
int zl_ctx_has_blas(const zl_ctx *ctx) { return ctx->blas != NULL; }
const char *zl_ctx_isa(const zl_ctx *ctx) { return ctx ? ctx->kernels->isa : NULL; }
int zl_ctx_threads(const zl_ctx *ctx) { return ctx ? ctx->pool.n_threads : 0; }

int zl_ctx_counters(const zl_ctx *ctx, zl_counters *out) {
    if (!ctx || !out) return zl_fail(ZL_E_ARG, "zl_ctx_counters: a null pointer");
    *out = (zl_counters){.runs = ctx->runs, .program_runs = ctx->program_runs, .ops = ctx->ops, .stages = ctx->pool.stages, .blas_calls = ctx->blas_calls,
                         .bound_ranges = ctx->bound_ranges, .bind_failures = ctx->bind_failures, .expert_bytes = ctx->expert_bytes};
    for (int t = 0; t < ctx->pool.n_threads; t++) out->chunks += ctx->pool.lanes[t].chunks, out->stolen += ctx->pool.lanes[t].stolen;
    return ZL_OK;
}

int zl_ctx_stall(zl_ctx *ctx, int thread, int microseconds) {
    if (!ctx) return zl_fail(ZL_E_ARG, "zl_ctx_stall: ctx is a null pointer");
    if (thread < 0 || thread >= ctx->pool.n_threads || microseconds < 0)
        return zl_fail(ZL_E_ARG, "zl_ctx_stall: thread %d of %d, %d us", thread, ctx->pool.n_threads, microseconds);
    atomic_store(&ctx->pool.lanes[thread].stall_us, microseconds);
    return ZL_OK;
}

int zl_ctx_time_ops(zl_ctx *ctx, int on) {
    if (!ctx) return zl_fail(ZL_E_ARG, "zl_ctx_time_ops: ctx is a null pointer");
    atomic_store_explicit(&ctx->time_ops, on != 0, memory_order_relaxed);
    return ZL_OK;
}

int zl_ctx_scratch(zl_ctx *ctx, int64_t shared, int64_t private_) {
    int64_t n = ctx->pool.n_threads, limit = (int64_t)1 << 46;
    if (shared < 0 || private_ < 0 || shared > limit || private_ > limit / n) /* no machine has it, and the sum could overflow */
        return zl_fail(ZL_E_MEMORY, "scratch of %lld bytes and, for each of %lld threads, another needs %lld bytes", (long long)shared,
                       (long long)n, (long long)private_);
    shared = (shared + 127) & -128; /* two cache lines: threads never share one */
    private_ = (private_ + 127) & -128;
    int64_t need = shared + n * private_;
    if (need > ctx->scratch_bytes) {
        zl_release(ctx->scratch, ctx->scratch_bytes);
        ctx->scratch_bytes = 0;
        int status = zl_alloc(need, (void **)&ctx->scratch);
        if (status) return status;
        ctx->scratch_bytes = need;
    }
    for (int t = 0; t < n; t++) ctx->private_[t] = ctx->scratch + shared + t * private_;
    return ZL_OK;
}
