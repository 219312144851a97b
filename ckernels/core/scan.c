/* scan.c - one row of logits, exactly and without sorting: the entry points, and the search for a threshold.
 *
 * zl_row_cut asks: with keys in falling order, at which one does the mass so far reach an amount? Top-p, typical sampling, a count and the
 * draw itself are this one question. Most often few elements hold most of the mass: a sample of the row tells where about 4,096 elements
 * are above, these are listed, and if their mass is enough the answer is among them. Where it is not, the sample's masses tell between
 * which two keys the answer should be: one pass adds up what is above both and lists what is between. Where these two would be far apart the
 * heaviest elements are looked for first, of which a sample has too few. The bounds are only guesses, the masses are exact: a guess that was
 * wrong is widened.
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
    FEW = 4096,      /* elements that the first list is meant to hold at least                              */
    MANY = 10240,    /* and at most: handling more of them costs as much as a second pass                   */
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

/* A row whose masses, 2^ZL_MASS_BITS each at most, an int64 holds the sum of. */
static int check_summed(const char *what, int64_t n, const void *a, const void *b) {
    const int64_t most = (int64_t)1 << (62 - ZL_MASS_BITS);
    return n > most ? zl_fail(ZL_E_SHAPE, "%s: a row of %lld, masses can be summed of %lld", what, (long long)n, (long long)most) : check_row(what, n, a, b);
}

/* The row's largest element, which has to be a number. */
static int best_of(const char *what, const zl_kernels *k, int64_t n, const float *x, float *best) {
    *best = k->row_best(n, x);
    return isfinite(*best) ? ZL_OK : zl_fail(ZL_E_ARG, "%s: the largest of %lld is %g, want a finite number", what, (long long)n, (double)*best);
}

int zl_row_weights(zl_ctx *ctx, int64_t n, const float *x, float *w, zl_row_sums *out) {
    int status = check_summed("zl_row_weights", n, x, w);
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

/* The rank at which the mass of m elements, best first, reaches `target`, which is 1 to the sum of all. No rank is below `low` or above `high`.
 * Uses the elements up. */
static uint64_t reach(element *e, int64_t m, int64_t target, uint64_t low, uint64_t high) {
    enum { SORTED = 48, PARTS = 1024 };
    int64_t mass[PARTS];
    for (int turn = 0; m > SORTED; turn++) {
        if (turn) {
            low = UINT64_MAX, high = 0;
            for (int64_t i = 0; i < m; i++) {
                low = e[i].rank < low ? e[i].rank : low;
                high = e[i].rank > high ? e[i].rank : high;
            }
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
    float top, per; /* the best key, and how many buckets of a sample there are to 1 */
    float low, high; /* of the list's keys */
    int64_t above, mass, found; /* of the list's keys: the mass beyond them, theirs, and how many they are */
    element *list;
    int64_t room;
    int32_t *ids;
} search;

/* The list of keys from `low` on and below `high`, and both masses. */
static int list_between(search *s, float low, float high) {
    s->low = low, s->high = high < s->top ? high : s->top;
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
static float edge(const search *s, int b) { return s->top - ((float)b + 0.5f) / s->per; }

/* The bucket of an element, as the kernels have it but for ties */
static int near_bucket(const search *s, int32_t id) {
    const float at = (s->top - s->key[id]) * s->per + 0.5f;
    return at < ZL_BUCKETS - 1 ? (int)at : ZL_BUCKETS - 1;
}

/* A sample of the row, or with every = 1 the row, by bucket. */
typedef struct {
    int32_t number[ZL_BUCKETS];
    double mass[ZL_BUCKETS], square[ZL_BUCKETS]; /* the masses' sums, and their squares': a sum of masses m has the deviation sqrt(sum m^2) */
    double all, scale; /* the mass of all, and how many elements of the row there are to each */
} sample;
static void take_squares(sample *a) { /* those of a bucket are taken as alike */
    for (int b = 0; b < ZL_BUCKETS; b++) a->square[b] = a->number[b] > 0 ? a->mass[b] * a->mass[b] / a->number[b] : 0;
}
static void take_sample(search *s, int64_t every, sample *a) {
    s->per = s->k->row_sample(s->n, s->key, s->w, s->top, every, a->number, a->mass);
    int64_t number = 0;
    a->all = 0;
    for (int b = 0; b < ZL_BUCKETS; b++) number += a->number[b], a->all += a->mass[b];
    a->scale = (double)s->n / (double)number;
    take_squares(a);
}

/* The last bucket of the first list, or -1 where there should be none. What lies beyond a list is many elements of little mass, of which the
 * sample tells more than of the best; so a list is long enough where what is beyond it, with twice its deviation, is no more than is left over. */
static int first_list(const sample *a, int64_t target, int64_t total) {
    int32_t there = 0;
    int few = 0, need = ZL_BUCKETS - 1;
    double seen = a->mass[0], left_out = 0, square = 0;
    for (there = a->number[0]; few < ZL_BUCKETS - 1 && there < FEW / SAMPLE; there += a->number[few]) seen += a->mass[++few];
    for (; need > few; need--) {
        left_out += a->mass[need], square += a->square[need];
        if (a->scale * (left_out + 2 * sqrt(square)) > (double)(total - target)) break;
    }
    for (int b = few + 1; b <= need; b++) there += a->number[b];
    if (there <= MANY / SAMPLE) return need;
    /* It will not do alone. It is worth having where it holds a good part of what is kept: by the sample, or because the sample has missed much. */
    return seen * 4 * (double)total >= a->all * (double)target || a->scale * a->all * 2 < (double)total ? few : -1;
}

/* Buckets between which the search ends: keys from the edge of `from` on are above (-1: none are), and `to` is the last that may be below. */
typedef struct {
    int from, to;
    int64_t between; /* elements of the sample between the two */
} interval;

/* Of the sample beyond bucket `first`: the sum of its masses, and that of their squares. */
typedef struct {
    double rest, square;
} tail;
static tail beyond(const sample *a, int first) {
    tail t = {0, 0};
    for (int b = first + 1; b < ZL_BUCKETS; b++) t.rest += a->mass[b], t.square += a->square[b];
    return t;
}

/* Where `share` of the mass beyond bucket `first` is reached, so many deviations around it. Where masses are much alike a share f of n elements has
 * the deviation sqrt(f (1 - f) / n); of sizes m, n is (sum m)^2 / sum m^2. */
static interval by_share(const sample *a, int first, const tail *t, double share, double deviations) {
    const double rest = t->rest, square = t->square;
    double off = 1e-9, so_far = 0;
    if (rest > 0) off += deviations * sqrt(share * (1 - share) * square + square * square / (rest * rest)) / rest;
    interval i = {first, first + 1, 0};
    for (int b = first + 1; b < ZL_BUCKETS && so_far <= (share + off) * rest; b++) {
        so_far += a->mass[b], i.to = b;
        if (so_far < (share - off) * rest) i.from = b;
    }
    for (int b = i.from + 1; b <= i.to && b < ZL_BUCKETS; b++) i.between += a->number[b];
    return i;
}

/* The same by what is to be left beyond it: better where little is, and where the sample has missed the best. */
static interval by_rest(const sample *a, double left, double deviations) {
    double rest = 0, square = 0;
    interval i = {-1, ZL_BUCKETS - 1, 0};
    for (int b = ZL_BUCKETS - 1; b > 0; b--) {
        rest += a->mass[b], square += a->square[b];
        const double off = deviations * sqrt(square);
        if (rest + off <= left) i.to = b - 1;
        if (rest - off > left) {
            i.from = b - 1;
            break;
        }
    }
    for (int b = i.from + 1; b <= i.to; b++) i.between += a->number[b];
    return i;
}

/* Whether keys are the logits that masses are of: these then fall from bucket to bucket as exp does, and none beyond one is heavier. */
static int keys_are_logits(const search *s, const sample *a) {
    const double step = exp(-1 / (double)s->per), off = exp(2 / (double)s->per); /* those of a bucket differ by a step */
    double expected = ZL_MASS_ONE;
    for (int b = 0; b < ZL_BUCKETS - 1; b++, expected *= step) {
        if (!a->number[b]) continue;
        const double m = a->mass[b] / a->number[b];
        if (m > expected * off || m < expected / off - 1) return 0; /* masses are rounded to whole numbers */
    }
    return 1;
}

/* Other keys (typical sampling's) have heavy elements at the far end too, of which a sample has few or none: in a row of deviation 1 thirteen of 8,192
 * made nine tenths of what it did not know. So the heaviest of the whole row, by the sample some 512 at most, are listed and stand for themselves. */
static int know_heaviest(search *s, sample *a) {
    enum { HEAVIEST = 512, STEPS = 2048 /* of weights, eight to an octave: the first bits of a float */, STEP_BITS = 20 };
    int32_t steps[STEPS] = {0};
    for (int64_t b = 0; b < s->n; b += SAMPLE * ZL_SAMPLED)
        for (int64_t i = b; i < b + ZL_SAMPLED && i < s->n; i++) {
            uint32_t bits;
            memcpy(&bits, s->w + i, sizeof bits);
            steps[bits >> STEP_BITS & (STEPS - 1)]++;
        }
    uint32_t step = STEPS - 1;
    for (int64_t there = steps[step]; step && (there += steps[step - 1]) <= HEAVIEST / SAMPLE;) step--;
    float heavy;
    step <<= STEP_BITS;
    memcpy(&heavy, &step, sizeof heavy);
    if (!(heavy > 0 && heavy < INFINITY)) return 0;
    const int64_t found = s->k->row_list(s->n, s->w, NULL, heavy, s->n, INFINITY, s->ids, s->room, NULL);
    if (found > s->room) return 0;
    for (int64_t i = 0; i < found; i++) {
        const int32_t id = s->ids[i];
        if (id / ZL_SAMPLED % SAMPLE) continue;
        const int b = near_bucket(s, id);
        a->mass[b] -= (double)s->w[id], a->number[b]--;
    }
    take_squares(a);
    for (int64_t i = 0; i < found; i++) a->mass[near_bucket(s, s->ids[i])] += (double)s->w[s->ids[i]] / a->scale;
    return 1;
}

/* The one of both with fewer elements; a share only where the mass beyond the list is as the sample has it, which may have missed the best. Where
 * the interval is long, or the sample has missed much, the sample learns the heaviest first: it is changed, and s->ids with it. */
static interval between(search *s, sample *a, int first, double target, double total, double left) {
    enum { DEVIATIONS = 2, WIDE = 4096 /* elements to list, of which the heaviest may save most */ };
    for (int known = s->w == NULL;; known = 1) {
        const interval r = by_rest(a, left / a->scale, DEVIATIONS);
        const tail t = beyond(a, first);
        const int missed = fabs(a->scale * t.rest - total) > 3 * a->scale * sqrt(t.square);
        interval i = r;
        if (!missed) {
            const interval share = by_share(a, first, &t, target / total, DEVIATIONS);
            if (share.between < r.between) i = share;
        }
        if (known || (!missed && i.between <= WIDE / SAMPLE) || keys_are_logits(s, a) || !know_heaviest(s, a)) return i;
    }
}

/* The interval with about as many elements next to one, on the side of the best (-1) or the other (1). */
static interval beside(const sample *a, const interval *i, int side) {
    interval found = side < 0 ? (interval){-1, i->from, 0} : (interval){i->to, ZL_BUCKETS - 1, 0};
    const int64_t enough = i->between > FEW / SAMPLE ? i->between : FEW / SAMPLE;
    for (int b = side < 0 ? i->from : i->to + 1; b >= 0 && b < ZL_BUCKETS; b += side) {
        found.between += a->number[b];
        if (found.between < enough) continue;
        if (side < 0) found.from = b - 1;
        else found.to = b;
        break;
    }
    return found;
}

static int list_interval(search *s, const interval *i, float limit) {
    return list_between(s, i->to >= ZL_BUCKETS - 1 ? -FLT_MAX : edge(s, i->to), i->from < 0 ? limit : edge(s, i->from) < limit ? edge(s, i->from) : limit);
}

/* The list in which `target` of `total` is reached, with the masses in `s`: above < target <= above + mass, where there is so much. */
static int find_list(search *s, int64_t target, int64_t total) {
    if (s->n <= SHORT) return list_between(s, -FLT_MAX, INFINITY);
    sample a;
    take_sample(s, SAMPLE, &a);
    float limit = INFINITY;
    int status, first = first_list(&a, target, total);
    s->mass = 0;
    if (first >= 0) {
        limit = edge(s, first);
        if ((status = list_between(s, limit, INFINITY)) || s->mass >= target) return status;
    }
    interval i = between(s, &a, first, (double)(target - s->mass), (double)(total - s->mass), (double)(total - target));
    for (int retry = 1;; retry--) {
        if ((status = list_interval(s, &i, limit)) || (s->above < target && s->above + s->mass >= target)) return status;
        if (!retry) break;
        i = beside(&a, &i, s->above >= target ? -1 : 1); /* one time in twenty: then it is next to it */
    }
    /* The sample has misled: the whole row is the sample. Edges are rounded: a key at one may be in either bucket. */
    take_sample(s, 1, &a);
    const tail all = beyond(&a, -1);
    interval whole = by_share(&a, -1, &all, (double)target / (double)total, 0);
    whole.from = whole.from > 0 ? whole.from - 1 : -1, whole.to++;
    if ((status = list_interval(s, &whole, INFINITY))) return status;
    if (s->above < target && s->above + s->mass >= target) return ZL_OK;
    return list_between(s, -FLT_MAX, INFINITY); /* all that there is; the caller sees whether it is enough */
}

static int cut(search *s, int kind, int64_t total, double amount, float *least, int64_t *last) {
    int status = best_of("zl_row_cut", s->k, s->n, s->key, &s->top);
    *least = -INFINITY, *last = s->n - 1;
    if (status || total < 1) return status;
    const double wanted = kind == ZL_CUT_COUNT ? amount : amount * (double)total;
    int64_t target = wanted >= (double)total ? total : kind == ZL_CUT_DRAW ? (int64_t)floor(wanted) + 1 : (int64_t)ceil(wanted);
    target = target < 1 ? 1 : target > total ? total : target;
    s->room = 4 * FEW, s->ids = malloc((size_t)s->room * sizeof *s->ids), s->list = malloc((size_t)s->room * sizeof *s->list);
    if (!s->ids || !s->list) status = zl_fail(ZL_E_MEMORY, "zl_row_cut needs %lld bytes", (long long)s->room * (long long)(sizeof *s->ids + sizeof *s->list));
    if (!status) status = find_list(s, target, total);
    if (!status && s->above + s->mass < target) {
        if (kind == ZL_CUT_COUNT) target = s->mass; /* all: fewer are left than are wanted */
        else status = zl_fail(ZL_E_ARG, "zl_row_cut: a mass of %lld of %lld is wanted, keys above -inf have %lld", (long long)target, (long long)total,
                              (long long)(s->above + s->mass));
    }
    if (!status) {
        const uint64_t low = zl_top_rank(zl_top_key(s->low), (int32_t)s->n), high = zl_top_rank(zl_top_key(s->high), 0);
        const uint64_t rank = reach(s->list, s->found, target - s->above, low, high);
        *least = zl_top_value(zl_top_key_of(rank)), *last = zl_top_id_of(rank);
    }
    free(s->ids), free(s->list);
    return status;
}

int zl_row_cut(zl_ctx *ctx, int64_t n, const float *key, const float *w, int64_t total, int kind, double amount, float *least, int64_t *last) {
    int status = w ? check_summed("zl_row_cut", n, key, least) : check_row("zl_row_cut", n, key, least);
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
