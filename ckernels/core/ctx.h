/* ctx.h - what a context is made of. Seen by core/ only; op files and kernels go through core.h. */
#ifndef ZL_CTX_H
#define ZL_CTX_H
#include "core.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum { ZL_MAX_THREADS = 512, ZL_MAX_CPUS = 1 << 20, ZL_MAX_NODES = 1024 /* the kernel's own limit */ };

/* ---- the pool (threadpool.c) -------------------------------------------------------------------------------------------------- */

/* One thread's corner of the pool, on cache lines of its own: the owner writes to it all the time, thieves now and then. */
typedef struct {
    _Alignas(128) _Atomic uint64_t span; /* its unclaimed units of the current stage: generation << 32 | next << 16 | end */
    _Atomic int64_t done;                /* units this thread has finished since it was started, its own and stolen ones  */
    _Atomic int64_t chunks, stolen;      /* for zl_counters                                                               */
    _Atomic int stall_us;                /* zl_ctx_stall                                                                  */
    pthread_t id;
    zl_ctx *ctx;
} zl_lane;

typedef struct {
    int n_threads;             /* lanes in use; lane 0 is whoever calls, lanes 1.. are workers                  */
    int n_started;             /* workers that really run (fewer only while a failed start is undone)           */
    zl_lane *lanes;
    /* The stage. Relaxed atomics: a late worker may read them while the next stage is being written, and then its claim fails. */
    _Alignas(128) _Atomic uint32_t generation; /* number of the stage, odd or even alike; workers wait for it to change */
    _Atomic(zl_chunk_fn *) fn;
    _Atomic(void *) arg;
    _Atomic int64_t n_chunks, unit; /* a unit is what one claim takes: `unit` chunks                             */
    int64_t target;                 /* what all lanes' `done` sum up to when the stage is over (caller only)     */
    int64_t stages;                 /* for zl_counters (caller only)                                            */
    /* Sleeping. */
    _Alignas(128) _Atomic int sleepers; /* workers asleep, or about to be */
    _Atomic int caller_sleeps;
    _Atomic int stop;
    pthread_mutex_t mutex;
    pthread_cond_t work, finished;
} zl_pool;

int zl_pool_start(zl_ctx *ctx, int n_threads, const int *cpus);
void zl_pool_stop(zl_ctx *ctx);

/* ---- the context (ctx.c) ------------------------------------------------------------------------------------------------------ */

struct zl_ctx {
    zl_pool pool;
    const zl_kernels *kernels;
    pid_t pid;                 /* the process that made it: threads do not survive fork()        */
    _Atomic uintptr_t owner;   /* the thread that is inside a call, 0 = nobody                   */
    _Atomic int64_t runs, program_runs, ops, blas_calls, expert_bytes;
    _Atomic int time_ops;      /* zl_ctx_time_ops                                                */
    zl_mapping *weights;       /* what the next weight that shares a mapping is cut from, or NULL */
    zl_blas *blas;             /* what float products with many rows go through, or NULL         */
    int several_nodes;         /* threads are on more than one NUMA node: node[] says where (numa.c)   */
    int node[ZL_MAX_THREADS];
    zl_mbind mbind;            /* in place of the system's, or NULL                              */
    void *mbind_arg;
    _Atomic int64_t bound_ranges, bind_failures;
    int blas_thread;           /* between zl_blas_begin and zl_blas_end: what the caller's own knob stood at */
    /* Scratch of runs, grown on demand and kept: a run after the first of its size allocates nothing. */
    uint8_t *scratch;
    int64_t scratch_bytes;
    uint8_t *private_[ZL_MAX_THREADS];
};

/* Room for `shared` bytes and for `private_` bytes per thread in ctx->scratch. */
int zl_ctx_scratch(zl_ctx *ctx, int64_t shared, int64_t private_);

/* The float environment of every kernel: round to nearest even, denormals kept, no traps. Both return or take the raw word. */
uint64_t zl_fp_enter(void);
void zl_fp_leave(uint64_t saved);

int zl_find_variant(const char *isa, const zl_kernels **out); /* dispatch.c; NULL or "auto" = the best */
#endif
