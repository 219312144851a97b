/* numa.c - on a machine with several memory nodes: which bytes of a weight's panels belong on which node, and asking the kernel for it.
 *
 * A thread reads the panels of its own share (threadpool.c deals them), and reading a far node's memory takes about twice as long. So a
 * weight is cut as its panels are dealt, and the pages of a thread's share are bound to the thread's node:
 *
 *      panels    | 0  1  2  3 | 4  5  6  7 | 8  9 10 11 | 12 13 14 15 |       dealt to 4 threads
 *      node      |     0             0     |     1             1      |       of these threads: neighbours on a node are one span
 *      bytes     | span 0, whole pages     | span 1, whole pages      |       a page on a border goes to the later span
 *
 * The wish is MPOL_PREFERRED: a node that is full lends from another instead of failing. It is made before the first touch, so it holds
 * whoever packs a panel. The system call is made by hand: libnuma would be a dependency for one number. On one node nothing of this runs.
 *
 * What it is not: detection. Which CPU belongs to which node is read in Python (foundation/topology.py), where a test can present another
 * machine; what is handed to the kernel can be seen through zl_ctx_set_mbind.
 */
#include "ctx.h"
#include <errno.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

enum { MASK_WORDS = ZL_MAX_NODES / 64, MPOL_PREFERRED_ = 1 /* of <numaif.h>, which is libnuma's */ };
enum { HUGE_PAGE = 2 << 20, HUGE_FROM = 16 /* huge pages per thread: below that a border on one would move too much */ };

static int system_mbind(void *arg, void *start, int64_t bytes, int mode, const uint64_t *mask, int64_t max_node) {
    (void)arg;
#if defined(__linux__) && defined(SYS_mbind)
    /* the kernel reads max_node - 1 bits */
    return syscall(SYS_mbind, start, (unsigned long)bytes, mode, mask, (unsigned long)max_node + 1, 0) ? errno : 0;
#else
    (void)start, (void)bytes, (void)mode, (void)mask, (void)max_node;
    return ENOSYS;
#endif
}

/* ---- the plan --------------------------------------------------------------------------------------------------------------------- */

int zl_numa_plan(const int *nodes, int n_threads, int64_t n_panels, int64_t panel_bytes, int64_t page, zl_node_span *out, int *n_out) {
    if (!nodes || !out || !n_out) return zl_fail(ZL_E_ARG, "zl_numa_plan: a null pointer");
    if (n_threads < 1 || n_threads > ZL_MAX_THREADS || n_panels < 0 || panel_bytes < 1 || page < 1 || (page & (page - 1)) ||
        n_panels > ((int64_t)1 << 60) / panel_bytes)
        return zl_fail(ZL_E_ARG, "zl_numa_plan: %d threads, %lld panels of %lld bytes, pages of %lld", n_threads, (long long)n_panels,
                       (long long)panel_bytes, (long long)page);
    const int64_t end = (n_panels * panel_bytes + page - 1) & -page;
    *n_out = 0;
    for (int t = 0; t < n_threads; t++) {
        int last = t;
        while (last + 1 < n_threads && nodes[last + 1] == nodes[t]) last++;
        /* rounded down: the page on a border goes to the thread that reads its end, and on from there */
        int64_t from = (zl_share_begin(n_panels, t, n_threads) * panel_bytes) & -page;
        int64_t to = last + 1 == n_threads ? end : (zl_share_begin(n_panels, last + 1, n_threads) * panel_bytes) & -page;
        if (to > from) out[(*n_out)++] = (zl_node_span){.node = nodes[t], .first_thread = t, .n_threads = last + 1 - t, .begin = from, .end = to};
        t = last;
    }
    return ZL_OK;
}

/* ---- the context ------------------------------------------------------------------------------------------------------------------- */

int zl_ctx_set_nodes(zl_ctx *ctx, const int *nodes) {
    if (!ctx) return zl_fail(ZL_E_ARG, "zl_ctx_set_nodes: ctx is a null pointer");
    const int n = ctx->pool.n_threads;
    int several = 0;
    for (int t = 0; nodes && t < n; t++) {
        if (nodes[t] < 0 || nodes[t] >= ZL_MAX_NODES)
            return zl_fail(ZL_E_ARG, "zl_ctx_set_nodes: thread %d on node %d, want 0 to %d", t, nodes[t], ZL_MAX_NODES - 1);
        several |= nodes[t] != nodes[0];
    }
    zl_entry entry;
    int status = zl_enter(ctx, "zl_ctx_set_nodes", &entry);
    if (status) return status;
    for (int t = 0; several && t < n; t++) ctx->node[t] = nodes[t];
    ctx->several_nodes = several;
    return zl_leave(&entry, ZL_OK);
}

int zl_ctx_set_mbind(zl_ctx *ctx, zl_mbind fn, void *arg) {
    zl_entry entry;
    int status = zl_enter(ctx, "zl_ctx_set_mbind", &entry);
    if (status) return status;
    ctx->mbind = fn, ctx->mbind_arg = arg;
    return zl_leave(&entry, ZL_OK);
}

int zl_ctx_several_nodes(const zl_ctx *ctx) { return ctx->several_nodes; }

void zl_numa_bind(zl_ctx *ctx, uint8_t *panels, int64_t n_panels, int64_t panel_bytes) {
    if (!ctx->several_nodes) return;
    const int64_t small = sysconf(_SC_PAGESIZE), bytes = n_panels * panel_bytes;
    /* Memory that shares pages with other blocks is left where it is: it is little, and not ours alone. */
    if (!zl_alloc_is_mapping(bytes) || (uintptr_t)panels % (uintptr_t)small) return;
    zl_node_span spans[ZL_MAX_THREADS];
    int n = 0;
    const int64_t page = bytes / ctx->pool.n_threads >= (int64_t)HUGE_FROM * HUGE_PAGE ? HUGE_PAGE : small;
    if (zl_numa_plan(ctx->node, ctx->pool.n_threads, n_panels, panel_bytes, page, spans, &n)) return;
    for (int i = 0; i < n; i++) {
        uint64_t mask[MASK_WORDS] = {0};
        mask[spans[i].node / 64] = (uint64_t)1 << spans[i].node % 64;
        /* Whole huge pages may end behind the mapping: what is handed over ends with it. */
        const int64_t most = (bytes + small - 1) / small * small, end = spans[i].end < most ? spans[i].end : most;
        const zl_mbind bind = ctx->mbind ? ctx->mbind : system_mbind;
        const int error = bind(ctx->mbind_arg, panels + spans[i].begin, end - spans[i].begin, MPOL_PREFERRED_, mask, ZL_MAX_NODES);
        /* A container may forbid it. The memory is good all the same, so this is no error; but it is counted, and `doctor` tells. */
        atomic_fetch_add_explicit(error ? &ctx->bind_failures : &ctx->bound_ranges, 1, memory_order_relaxed);
    }
}
