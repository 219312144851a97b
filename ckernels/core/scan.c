/* scan.c - one row of logits, exactly and without sorting: the entry points, and the search for a threshold.
 *
 * zl_row_cut asks: with keys in falling order, at which one does the mass so far reach an amount? Top-p, typical sampling, a count and the
 * draw itself are this one question. Most often few elements hold most of the mass: a sample of the row tells where about 4,096 elements
 * are above, these are listed, and if their mass is enough the answer is among them. Where it is not, the sample's masses tell between
 * which two keys the answer should be: one pass adds up what is above both and lists what is between. The bounds are only guesses, the
 * masses are exact: a guess that was wrong is widened.
 *
 *      keys   | above: added up | between: listed | below |          amount   ------------------->|
 *
 * Of a list the element is found as of rank words (rows_top_k.h), in buckets, until few are left, which are sorted. Masses are integers,
 * so the answer is the same however they are added.
 */
#include "../kernels/rows_scan.h"
#include "../kernels/rows_top_k.h"
#include "core.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

#define ZL_MASS_ONE ((double)((int64_t)1 << ZL_MASS_BITS))
enum {
    FEW = 4096,      /* elements that the first list is meant to hold                                       */
    SAMPLE = 32,     /* one block in so many is looked at                                                   */
    SHORT = 8192     /* elements of a row that is listed as a whole                                         */
};

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
    status = best_of("zl_row_weights", k, n, x, &best);
    if (!status) {
        int64_t mass;
        double first;
        k->row_weights(n, x, best, w, &mass, &first);
        if (mass < 0) status = zl_fail(ZL_E_ARG, "zl_row_weights: the row of %lld holds a NaN", (long long)n);
        else *out = (zl_row_sums){.mass = mass, .total = (double)mass / ZL_MASS_ONE, .mean = (double)best + first / (double)mass, .best = best};
    }
    return zl_leave(&entry, status);
}

int zl_row_near(zl_ctx *ctx, int64_t n, const float *x, float middle, float *out) {
    int status = check_row("zl_row_near", n, x, out);
    if (!status && !isfinite(middle)) status = zl_fail(ZL_E_ARG, "zl_row_near: the middle is %g, want a finite number", (double)middle);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_near", &entry))) return status;
    zl_ctx_kernels(ctx)->row_near(n, x, middle, out);
    return zl_leave(&entry, ZL_OK);
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
    enum { SORTED = 48, PARTS = 1024 };
    int64_t mass[PARTS];
    while (m > SORTED) {
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

/* A row to cut, and the list that was made of it last. */
typedef struct {
    const zl_kernels *k;
    int64_t n;
    const float *key, *w;
    int64_t above, mass, found; /* of the list's keys: the mass beyond them, theirs, and how many they are */
    element *list;
    int64_t room;
    int32_t *ids;
} search;

/* The list of keys from `low` on and below `high`, and both masses. */
static int list_between(search *s, float low, float high) {
    for (;;) {
        s->above = 0;
        s->found = s->k->row_list(s->n, s->key, s->w, low, s->n, high, s->ids, s->room, high < INFINITY ? &s->above : NULL);
        if (s->found <= s->room) break;
        free(s->ids), free(s->list);
        s->room = s->n;
        s->ids = malloc((size_t)s->room * sizeof *s->ids), s->list = malloc((size_t)s->room * sizeof *s->list);
        if (!s->ids || !s->list) return zl_fail(ZL_E_MEMORY, "zl_row_cut needs %lld bytes", (long long)s->room * (long long)(sizeof *s->ids + sizeof *s->list));
    }
    s->mass = 0;
    for (int64_t i = 0; i < s->found; i++) {
        const int32_t id = s->ids[i];
        const float w = s->w ? s->w[id] : 1;
        if (!(w >= 0 && w <= (float)ZL_MASS_ONE)) return zl_fail(ZL_E_ARG, "zl_row_cut: the mass of element %d is %g, want 0 to 2^%d", id, (double)w, ZL_MASS_BITS);
        s->list[i] = (element){zl_top_rank(zl_top_key(s->key[id]), id), (int64_t)w};
        s->mass += s->list[i].mass;
    }
    return s->above < 0 ? zl_fail(ZL_E_ARG, "zl_row_cut: a mass is no number") : ZL_OK;
}

/* Where the key of bucket b begins, seen from the best */
static float edge(float top, int b) { return top - ((float)b + 0.5f) / ZL_PER; }

/* The list in which `target` of `total` is reached, with the masses in `s`: above < target <= above + mass, where there is so much. */
static int find_list(search *s, float top, int64_t target, int64_t total) {
    if (s->n <= SHORT) return list_between(s, -FLT_MAX, INFINITY);
    int32_t number[ZL_BUCKETS];
    double mass[ZL_BUCKETS];
    s->k->row_sample(s->n, s->key, s->w, top, SAMPLE, number, mass);
    int first = 0;
    double seen = mass[0], all = 0;
    for (int64_t there = number[0]; first < ZL_BUCKETS - 1 && there < FEW / SAMPLE; there += number[first]) seen += mass[++first];
    for (int b = 0; b < ZL_BUCKETS; b++) all += mass[b];
    float limit = INFINITY;
    int status;
    s->mass = 0;
    if (seen * 4 * (double)total >= all * (double)target) { /* the list might do, and not only be a part of what is kept */
        limit = edge(top, first);
        if ((status = list_between(s, limit, INFINITY)) || s->mass >= target) return status;
    } else {
        first = -1;
    }
    const double share = (double)(target - s->mass) / (double)(total - s->mass); /* of what is beyond the list */
    for (int sampled = 1; sampled >= 0; sampled--) {
        /* Beyond the list masses are most often much alike, and their sums in the sample near those of the row: n of them, of sizes m, give a
         * share f with a deviation of sqrt(f (1 - f) / n), n = (sum m)^2 / sum m^2. Where that was wrong the whole row is the sample. */
        double rest = 0, square = 0, off = 1e-9, so_far = 0;
        if (!sampled) s->k->row_sample(s->n, s->key, s->w, top, 1, number, mass);
        for (int b = first + 1; b < ZL_BUCKETS; b++)
            if (number[b]) rest += mass[b], square += mass[b] * mass[b] / number[b];
        if (sampled && rest > 0) off = 3 * sqrt(share * (1 - share) * square + square * square / (rest * rest)) / rest;
        int from = first, to = first + 1;
        for (int b = first + 1; b < ZL_BUCKETS && so_far <= (share + off) * rest; b++) {
            so_far += mass[b], to = b;
            if (so_far < (share - off) * rest) from = b;
        }
        if (!sampled) from = from > first + 1 ? from - 1 : first, to++; /* edges are rounded: a key at one may be in either bucket */
        status = list_between(s, to >= ZL_BUCKETS - 1 ? -FLT_MAX : edge(top, to), from == first ? limit : edge(top, from));
        if (status || (s->above < target && s->above + s->mass >= target)) return status;
    }
    return list_between(s, -FLT_MAX, INFINITY); /* all that there is; the caller sees whether it is enough */
}

static int cut(search *s, int kind, int64_t total, double amount, float *least, int64_t *last) {
    float top;
    int status = best_of("zl_row_cut", s->k, s->n, s->key, &top);
    *least = -INFINITY, *last = s->n - 1;
    if (status || total < 1) return status;
    const double wanted = kind == ZL_CUT_COUNT ? amount : amount * (double)total;
    int64_t target = wanted >= (double)total ? total : kind == ZL_CUT_DRAW ? (int64_t)floor(wanted) + 1 : (int64_t)ceil(wanted);
    target = target < 1 ? 1 : target > total ? total : target;
    s->room = 4 * FEW, s->ids = malloc((size_t)s->room * sizeof *s->ids), s->list = malloc((size_t)s->room * sizeof *s->list);
    if (!s->ids || !s->list) status = zl_fail(ZL_E_MEMORY, "zl_row_cut needs %lld bytes", (long long)s->room * (long long)(sizeof *s->ids + sizeof *s->list));
    if (!status) status = find_list(s, top, target, total);
    if (!status && s->above + s->mass < target) {
        if (kind == ZL_CUT_COUNT) target = s->mass; /* all: fewer are left than are wanted */
        else status = zl_fail(ZL_E_ARG, "zl_row_cut: a mass of %lld of %lld is wanted, keys above -inf have %lld", (long long)target, (long long)total,
                              (long long)(s->above + s->mass));
    }
    if (!status) {
        const uint64_t rank = reach(s->list, s->found, target - s->above);
        *least = zl_top_value(zl_top_key_of(rank)), *last = zl_top_id_of(rank);
    }
    free(s->ids), free(s->list);
    return status;
}

int zl_row_cut(zl_ctx *ctx, int64_t n, const float *key, const float *w, int64_t total, int kind, double amount, float *least, int64_t *last) {
    int status = check_row("zl_row_cut", n, key, least);
    if (!status && (!last || !w != (kind == ZL_CUT_COUNT))) status = zl_fail(ZL_E_ARG, "zl_row_cut: no room for the id, or weights that do not fit the kind %d", kind);
    if (!status && (kind < ZL_CUT_MASS || kind > ZL_CUT_COUNT || !(amount >= 0 && amount <= (kind == ZL_CUT_COUNT ? (double)ZL_MOST : 1))))
        status = zl_fail(ZL_E_ARG, "zl_row_cut: kind %d, amount %g", kind, amount);
    if (!status && w && (total < 0 || total > n << ZL_MASS_BITS)) status = zl_fail(ZL_E_ARG, "zl_row_cut: a mass of %lld in a row of %lld", (long long)total, (long long)n);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_cut", &entry))) return status;
    search s = {.k = zl_ctx_kernels(ctx), .n = n, .key = key, .w = w};
    return zl_leave(&entry, cut(&s, kind, w ? total : n, amount, least, last));
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

int zl_row_gather(zl_ctx *ctx, int64_t n, const float *x, float least, int64_t last, int32_t *ids, int64_t room, int64_t *found) {
    int status = check_row("zl_row_gather", n, x, found);
    if (!status && (room < 0 || (room && !ids) || last < -1)) status = zl_fail(ZL_E_ARG, "zl_row_gather: last id %lld, room for %lld, or a null pointer", (long long)last, (long long)room);
    zl_entry entry;
    if (status || (status = zl_enter(ctx, "zl_row_gather", &entry))) return status;
    *found = zl_ctx_kernels(ctx)->row_list(n, x, NULL, least, last, INFINITY, ids, room, NULL);
    return zl_leave(&entry, ZL_OK);
}
