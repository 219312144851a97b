/* scan.c - one row of logits, exactly and without sorting: the entry points, and the search for a threshold.
 *
 * zl_row_cut asks: with keys in falling order, at which one does the mass so far reach an amount? Top-p, typical sampling, a count and the
 * draw itself are this one question. One pass adds up masses in buckets of keys; the bucket in which the amount is reached is looked at
 * closer: its elements as rank words (rows_top_k.h), again in buckets, until few are left, which are sorted. Masses are integers, so the
 * answer is the same however they are added.
 *
 *      buckets   | 0: best |   1   |   2   | ...            mass   | 7 | 3 | 5 | ...      amount 9: in bucket 1, 2 of its 3
 */
#include "../kernels/rows_scan.h"
#include "../kernels/rows_top_k.h"
#include "core.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    uint64_t rank;
    int64_t mass;
} element;

static int check_row(const char *what, int64_t n, const void *a, const void *b) {
    if (n < 1 || n >= ZL_MOST) return zl_fail(ZL_E_SHAPE, "%s: a row of %lld", what, (long long)n);
    return a && b ? ZL_OK : zl_fail(ZL_E_ARG, "%s: a null pointer", what);
}

/* The row's largest element, which has to be a number. */
static int best_of(const char *what, const zl_kernels *k, int64_t n, const float *x, float *best) {
    *best = k->row_best(n, x);
    return isfinite(*best) ? ZL_OK : zl_fail(ZL_E_ARG, "%s: the largest of %lld is %g, want a finite number", what, (long long)n, (double)*best);
}

int zl_row_weights(zl_ctx *ctx, int64_t n, const float *x, float *w, zl_row_sums *out) {
    int status = check_row("zl_row_weights", n, x, w);
    if (!status && !out) status = zl_fail(ZL_E_ARG, "zl_row_weights: a null pointer");
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_weights", &entry))) return status;
    const zl_kernels *k = zl_ctx_kernels(ctx);
    float best;
    double sums[2];
    status = best_of("zl_row_weights", k, n, x, &best);
    if (!status) {
        k->row_weights(n, x, best, w, sums);
        *out = (zl_row_sums){.total = sums[0], .mean = (double)best + sums[1] / sums[0], .best = best};
    }
    return zl_leave(&entry, status);
}

int zl_row_moments(zl_ctx *ctx, int64_t n, const float *x, zl_row_spread *out) {
    int status = check_row("zl_row_moments", n, x, out);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_moments", &entry))) return status;
    const zl_kernels *k = zl_ctx_kernels(ctx);
    float best;
    status = best_of("zl_row_moments", k, n, x, &best);
    if (!status) {
        double about[3], around[3];
        k->row_moments(n, x, best, about);
        const float near = (float)((double)best + about[1] / about[0]); /* squares around the mean itself cancel nothing */
        k->row_moments(n, x, near, around);
        const double off = around[1] / around[0], square = around[2] / around[0] - off * off;
        *out = (zl_row_spread){.mean = (double)near + off, .deviation = sqrt(square > 0 ? square : 0), .n = (int64_t)around[0], .best = best};
    }
    return zl_leave(&entry, status);
}

/* ---- the cut ------------------------------------------------------------------------------------------------------------------------ */

static int falling(const void *a, const void *b) {
    const uint64_t x = ((const element *)a)->rank, y = ((const element *)b)->rank;
    return (x < y) - (x > y);
}

/* The rank at which the mass of m elements, best first, reaches `target`, which is 1 to the sum of all. Uses the elements up. */
static uint64_t reach(element *e, int64_t m, int64_t target) {
    enum { FEW = 48, PARTS = 1024 };
    int64_t mass[PARTS];
    while (m > FEW) {
        uint64_t low = UINT64_MAX, high = 0;
        for (int64_t i = 0; i < m; i++) {
            low = e[i].rank < low ? e[i].rank : low;
            high = e[i].rank > high ? e[i].rank : high;
        }
        int shift = 0;
        while ((high - low) >> shift >= PARTS) shift++;
        memset(mass, 0, sizeof mass);
        for (int64_t i = 0; i < m; i++) mass[(high - e[i].rank) >> shift] += e[i].mass;
        uint64_t part = 0;
        while (mass[part] < target) target -= mass[part++];
        int64_t left = 0;
        for (int64_t i = 0; i < m; i++)
            if ((high - e[i].rank) >> shift == part) e[left++] = e[i];
        m = left;
    }
    qsort(e, (size_t)m, sizeof *e, falling);
    int64_t i = 0;
    while (e[i].mass < target) target -= e[i++].mass;
    return e[i].rank;
}

static int cut(const zl_kernels *k, int64_t n, const float *key, const float *w, int kind, double amount, float *least, int64_t *last) {
    int64_t mass[ZL_BUCKETS], total = 0, target;
    float top;
    int status = best_of("zl_row_cut", k, n, key, &top);
    if (status) return status;
    k->row_masses(n, key, w, top, mass);
    for (int b = 0; b < ZL_BUCKETS; b++) total += mass[b];
    *least = -INFINITY, *last = n - 1;
    if (total < 1) return ZL_OK;
    const double wanted = kind == ZL_CUT_COUNT ? amount : amount * (double)total;
    target = wanted >= (double)total ? total : kind == ZL_CUT_DRAW ? (int64_t)floor(wanted) + 1 : (int64_t)ceil(wanted);
    target = target < 1 ? 1 : target > total ? total : target;
    int which = 0;
    while (mass[which] < target) target -= mass[which++];
    const int64_t m = k->row_bucket(n, key, top, which, NULL);
    int32_t *ids = malloc((size_t)m * sizeof *ids);
    element *e = malloc((size_t)m * sizeof *e);
    if (ids && e) {
        int64_t there = 0;
        k->row_bucket(n, key, top, which, ids);
        for (int64_t i = 0; i < m; i++) {
            const int32_t id = ids[i];
            if (!(key[id] > -INFINITY)) continue;
            e[there].rank = zl_top_rank(zl_top_key(key[id]), id);
            e[there++].mass = w ? (int64_t)w[id] : 1;
        }
        const uint64_t rank = reach(e, there, target);
        *least = zl_top_value(zl_top_key_of(rank)), *last = zl_top_id_of(rank);
    } else {
        status = zl_fail(ZL_E_MEMORY, "zl_row_cut needs %lld bytes", (long long)m * (long long)(sizeof *ids + sizeof *e));
    }
    free(ids), free(e);
    return status;
}

int zl_row_cut(zl_ctx *ctx, int64_t n, const float *key, const float *w, int kind, double amount, float *least, int64_t *last) {
    int status = check_row("zl_row_cut", n, key, least);
    if (!status && (!last || !w != (kind == ZL_CUT_COUNT))) status = zl_fail(ZL_E_ARG, "zl_row_cut: no room for the id, or weights that do not fit the kind %d", kind);
    if (!status && (kind < ZL_CUT_MASS || kind > ZL_CUT_COUNT || !(amount >= 0 && amount <= (kind == ZL_CUT_COUNT ? (double)ZL_MOST : 1))))
        status = zl_fail(ZL_E_ARG, "zl_row_cut: kind %d, amount %g", kind, amount);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_cut", &entry))) return status;
    return zl_leave(&entry, cut(zl_ctx_kernels(ctx), n, key, w, kind, amount, least, last));
}

/* ---- what is left ------------------------------------------------------------------------------------------------------------------- */

int zl_row_keep(zl_ctx *ctx, int64_t n, const float *x, float least, int64_t last, float *out, int64_t *kept) {
    int status = check_row("zl_row_keep", n, x, out);
    if (!status && (!kept || last < -1)) status = zl_fail(ZL_E_ARG, "zl_row_keep: last id %lld, or a null pointer", (long long)last);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_keep", &entry))) return status;
    *kept = zl_ctx_kernels(ctx)->row_keep(n, x, least, last, out);
    return zl_leave(&entry, ZL_OK);
}

int zl_row_gather(zl_ctx *ctx, int64_t n, const float *x, int32_t *ids, int64_t room, int64_t *found) {
    int status = check_row("zl_row_gather", n, x, found);
    if (!status && (room < 0 || (room && !ids))) status = zl_fail(ZL_E_ARG, "zl_row_gather: room for %lld, or a null pointer", (long long)room);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_gather", &entry))) return status;
    *found = zl_ctx_kernels(ctx)->row_gather(n, x, ids, room);
    return zl_leave(&entry, ZL_OK);
}
