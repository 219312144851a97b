/* selftest_scan.c - passes over a row of logits (kernels/rows_scan.c, rows_top_k.c, core/scan.c) against plain loops and a full sort.
 *
 * Rows end in every place of a vector, stand against a page that faults, and hold equal values and -inf. Masses are whole numbers, so
 * cuts have to be exactly those of the sort.
 */
#include "selftest.h"
#include "../core/core.h"
#include "../kernels/rows_scan.h"
#include "../kernels/rows_top_k.h"
#include "guarded.h"
#include <math.h>

static int failures;
static uint32_t seed = 12345;
static uint32_t draw(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
static float normal(void) { /* sum of four uniform numbers: near enough */
    float s = 0;
    for (int i = 0; i < 4; i++) s += (float)draw() / 16777216.0f;
    return (s - 2) * 1.7f;
}

enum { MOST = 20011 }; /* with 8,193 the rows that are not listed as a whole */
/* 0 plain; 1 whole numbers, so many are equal; 2 a few are -inf; 3 all equal; 4 a best far above; 5 nearly equal; 6 NaN-free but wide; 7 is 1 and 2 */
static void fill(float *x, int n, int kind) {
    for (int i = 0; i < n; i++) {
        float v = 3 * normal();
        x[i] = kind == 1 || kind == 7 ? rintf(v) : kind == 3 ? 1.5f : kind == 5 ? 7 + 1e-6f * v : kind == 6 ? 40 * v : v;
        if ((kind == 2 || kind == 7) && i % 3) x[i] = -INFINITY;
    }
    if (kind == 4) x[n / 2] = 60;
    if (kind == 2) x[n - 1] = 1;
}

static const float *sorted_by;
static int better_first(const void *a, const void *b) {
    const int i = *(const int *)a, j = *(const int *)b;
    if (sorted_by[i] != sorted_by[j]) return sorted_by[i] > sorted_by[j] ? -1 : 1;
    return i - j;
}

static void test_sums(zl_ctx *ctx, const float *x, float *w, int n) {
    zl_row_sums sums;
    zl_row_spread spread;
    double total = 0, first = 0, best = -INFINITY, mean = 0, square = 0, there = 0;
    int64_t mass = 0;
    CHECK(zl_row_weights(ctx, n, x, w, &sums) == ZL_OK && zl_row_moments(ctx, n, x, &spread) == ZL_OK, "a row of %d", n);
    for (int i = 0; i < n; i++) best = x[i] > best ? (double)x[i] : best;
    for (int i = 0; i < n; i++) {
        const double e = exp((double)x[i] - best);
        total += e, first += e > 0 ? e * ((double)x[i] - best) : 0;
        mass += (int64_t)w[i];
        CHECK(w[i] == rintf(w[i]) && fabs((double)w[i] / 1099511627776.0 - e) <= 2e-6 * e + 0.5 / 1099511627776.0 && (x[i] < (float)best || w[i] == 1099511627776.0f),
              "weight %d of %d: %g, want %g", i, n, (double)w[i] / 1099511627776.0, e);
        if (x[i] > -INFINITY) there++, mean += (double)x[i];
    }
    mean /= there;
    for (int i = 0; i < n; i++) square += x[i] > -INFINITY ? ((double)x[i] - mean) * ((double)x[i] - mean) : 0;
    const double deviation = sqrt(square / there);
    CHECK(sums.best == (float)best && spread.best == (float)best, "best of %d: %g, want %g", n, (double)sums.best, best);
    CHECK(sums.mass == mass && sums.total == (double)mass / 1099511627776.0, "mass of %d: %lld, want %lld", n, (long long)sums.mass, (long long)mass);
    CHECK(fabs(sums.total - total) <= 1e-5 * total, "total of %d: %.9g, want %.9g", n, sums.total, total);
    CHECK(fabs(sums.mean - best - first / total) <= 2e-5 * (1 + fabs(first / total)), "mean of %d: %.9g, want %.9g", n, sums.mean, best + first / total);
    CHECK(spread.n == (int64_t)there, "%d elements above -inf, want %g", (int)spread.n, there);
    CHECK(fabs(spread.mean - mean) <= 1e-6 * (1 + fabs(best)), "mean logit of %d: %.9g, want %.9g", n, spread.mean, mean);
    CHECK(fabs(spread.deviation - deviation) <= 4e-6 * deviation + 3e-7 * fabs(best), "deviation of %d: %.9g, want %.9g", n, spread.deviation, deviation);
}

static void test_kept(zl_ctx *ctx, const float *x, float *out, int32_t *ids, int n, float least, int64_t last) {
    int64_t kept = -1, found = -1, want = 0;
    CHECK(zl_row_keep(ctx, n, x, least, last, out, &kept) == ZL_OK, "keep of %d", n);
    for (int i = 0; i < n; i++) {
        const int in = x[i] > -INFINITY && (x[i] > least || (x[i] == least && i <= last));
        want += in;
        CHECK(in ? out[i] == x[i] : out[i] == -INFINITY, "keep of %d: element %d is %g", n, i, (double)out[i]);
    }
    CHECK(kept == want, "keep of %d: %d left, want %d", n, (int)kept, (int)want);
    const int64_t room = want - want / 4;
    CHECK(zl_row_gather(ctx, n, x, least, last, ids, room, &found) == ZL_OK && found == (want <= room ? want : room + 1), "gather of %d: %d, want %d", n, (int)found, (int)want);
    int64_t at = 0;
    for (int i = 0; i < n && at < room; i++) {
        if (!(out[i] > -INFINITY)) continue;
        CHECK(ids[at] == i, "gather of %d: place %d has %d, want %d", n, (int)at, ids[at], i);
        at++;
    }
}

static void test_cut(zl_ctx *ctx, const float *x, const float *w, int n, int *order, int kind, double amount) {
    int64_t total = 0, so_far = 0;
    int there = 0, at = 0;
    for (int i = 0; i < n; i++)
        if (x[i] > -INFINITY) order[there++] = i, total += w ? (int64_t)w[i] : 1;
    sorted_by = x;
    qsort(order, (size_t)there, sizeof *order, better_first);
    const double wanted = kind == ZL_CUT_COUNT ? amount : amount * (double)total;
    int64_t target = wanted >= (double)total ? total : kind == ZL_CUT_DRAW ? (int64_t)floor(wanted) + 1 : (int64_t)ceil(wanted);
    if (target < 1) target = 1;
    while ((so_far += w ? (int64_t)w[order[at]] : 1) < target) at++;
    float least = 99;
    int64_t last = 99;
    CHECK(zl_row_cut(ctx, n, x, w, w ? total : 0, kind, amount, &least, &last) == ZL_OK, "cut of %d", n);
    CHECK(least == x[order[at]] && last == order[at], "cut of %d, kind %d, at %g: (%g, %d), want (%g, %d)", n, kind, amount, (double)least, (int)last,
          (double)x[order[at]], order[at]);
}

static void test_refusals(zl_ctx *ctx) {
    float x[4] = {1, 2, 3, 4}, w[4], least;
    int64_t last, n;
    int32_t ids[4];
    zl_row_sums sums;
    zl_row_spread spread;
    CHECK(zl_row_weights(ctx, 0, x, w, &sums) == ZL_E_SHAPE && zl_row_weights(ctx, 4, x, NULL, &sums) == ZL_E_ARG, "weights took a bad row");
    CHECK(zl_row_weights(ctx, 4, x, w, NULL) == ZL_E_ARG && zl_row_moments(ctx, 4, x, NULL) == ZL_E_ARG, "no room was taken");
    CHECK(zl_row_cut(ctx, 4, x, NULL, 0, ZL_CUT_MASS, 0.5, &least, &last) == ZL_E_ARG && zl_row_cut(ctx, 4, x, x, 10, ZL_CUT_COUNT, 2, &least, &last) == ZL_E_ARG, "cut took weights that do not fit");
    CHECK(zl_row_cut(ctx, 4, x, x, 10, 3, 0.5, &least, &last) == ZL_E_ARG && zl_row_cut(ctx, 4, x, x, 10, -1, 0.5, &least, &last) == ZL_E_ARG, "cut took a kind that is none");
    CHECK(zl_row_cut(ctx, 4, x, x, 10, ZL_CUT_DRAW, 1.5, &least, &last) == ZL_E_ARG && zl_row_cut(ctx, 4, x, x, 10, ZL_CUT_MASS, -0.5, &least, &last) == ZL_E_ARG &&
              zl_row_cut(ctx, 4, x, x, 10, ZL_CUT_MASS, NAN, &least, &last) == ZL_E_ARG, "cut took an amount out of range");
    CHECK(zl_row_cut(ctx, 4, x, x, 10, ZL_CUT_DRAW, 0.5, &least, NULL) == ZL_E_ARG, "cut took no room");
    CHECK(zl_row_keep(ctx, 4, x, 1, -2, w, &n) == ZL_E_ARG && zl_row_keep(ctx, 4, x, 1, 0, w, NULL) == ZL_E_ARG, "keep took a bad argument");
    CHECK(zl_row_gather(ctx, 4, x, 0, 3, ids, -1, &n) == ZL_E_ARG && zl_row_gather(ctx, 4, x, 0, 3, NULL, 1, &n) == ZL_E_ARG && zl_row_gather(ctx, 4, x, 0, 3, NULL, 0, &n) == ZL_OK && n == 1,
          "gather took a bad argument");
    CHECK(zl_row_gather(ctx, 4, x, 0, -2, ids, 4, &n) == ZL_E_ARG, "gather took an id below -1");
    CHECK(zl_row_near(ctx, 4, x, NAN, w) == ZL_E_ARG && zl_row_near(ctx, 4, x, INFINITY, w) == ZL_E_ARG && zl_row_near(ctx, 0, x, 1, w) == ZL_E_SHAPE, "near took a bad argument");
    CHECK(zl_row_weights(ctx, 4194305, x, w, &sums) == ZL_E_SHAPE && strstr(zl_error(), "4194305"), "weights took a row whose masses have no sum");
    CHECK(zl_row_cut(ctx, 4194305, x, x, 10, ZL_CUT_MASS, 0.5, &least, &last) == ZL_E_SHAPE, "cut took a row whose masses have no sum");
    CHECK(zl_row_cut(ctx, 4, x, x, -1, ZL_CUT_MASS, 0.5, &least, &last) == ZL_E_ARG && zl_row_cut(ctx, 4, x, x, INT64_MAX, ZL_CUT_MASS, 0.5, &least, &last) == ZL_E_ARG && strstr(zl_error(), "in a row of 4"), "cut took a mass that cannot be");
    for (int i = 0; i < 4; i++) w[i] = 0.25f;
    CHECK(zl_row_cut(ctx, 4, x, w, 0, ZL_CUT_MASS, 0.5, &least, &last) == ZL_OK && least == -INFINITY && last == 3, "a row without mass was cut at %g", (double)least);
    const float bad[] = {INFINITY, -INFINITY};
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 4; j++) x[j] = bad[i];
        CHECK(zl_row_weights(ctx, 4, x, w, &sums) == ZL_E_ARG && zl_row_moments(ctx, 4, x, &spread) == ZL_E_ARG, "a row of %g was weighed", (double)x[0]);
        CHECK(zl_row_cut(ctx, 4, x, NULL, 0, ZL_CUT_COUNT, 2, &least, &last) == ZL_E_ARG, "a row of %g was cut", (double)x[0]);
    }
}

/* Mass where there is no key, and masses that are none: an error, and nothing is read or written past the row (which stands at a page that
 * faults). */
static void test_masses(zl_ctx *ctx) {
    static const int sizes[] = {1, 7, 4096, MOST};
    static const float none[] = {-INFINITY, NAN}, wrong[] = {-1, NAN, INFINITY, 2199023255552.0f};
    zl_row_sums sums;
    float least;
    int64_t last;
    for (int s = 0; s < 4; s++) {
        const int n = sizes[s];
        guarded gx = guard(4 * n), gw = guard(4 * n);
        float *x = gx.p, *w = gw.p;
        for (int j = 0; j < 2; j++) {
            for (int i = 0; i < n; i++) x[i] = none[j], w[i] = 3;
            x[n / 2] = 1;
            for (int kind = ZL_CUT_MASS; kind <= ZL_CUT_DRAW; kind++) {
                const int status = zl_row_cut(ctx, n, x, w, 3 * n, kind, 1, &least, &last);
                CHECK(n == 1 ? status == ZL_OK && last == 0 : status == ZL_E_ARG && strstr(zl_error(), "keys above -inf have 3"), "mass at keys of %g was cut", (double)none[j]);
                CHECK(zl_row_cut(ctx, n, x, w, 3, kind, 0.5, &least, &last) == ZL_OK && least == 1 && last == n / 2, "a row with one key was cut at %g", (double)least);
            }
            CHECK(zl_row_cut(ctx, n, x, NULL, 0, ZL_CUT_COUNT, n, &least, &last) == ZL_OK && last == n / 2, "a count among keys of %g", (double)none[j]);
            if (n > 1) CHECK((zl_row_weights(ctx, n, x, w, &sums) == ZL_OK) == !j, "a row with %g was weighed", (double)none[j]);
        }
        for (int j = 0; j < 4; j++) {
            for (int i = 0; i < n; i++) x[i] = (float)i, w[i] = n > 600 && i >= n - 600 ? 0 : 3; /* so that the sums are right without the last */
            const int64_t all = 3 * (int64_t)(n > 600 ? n - 600 : n);
            w[n - 1] = wrong[j]; /* of a long row it is among what is added up and not listed */
            CHECK(zl_row_cut(ctx, n, x, w, all, ZL_CUT_MASS, 1, &least, &last) == ZL_E_ARG && zl_row_cut(ctx, n, x, w, all, ZL_CUT_MASS, 0.9, &least, &last) == ZL_E_ARG,
                  "a mass of %g was taken", (double)wrong[j]);
        }
        release(&gx), release(&gw);
    }
}

/* A row whose sample tells nothing: all that the sample sees is far from the best and has next to no mass. */
static void test_misled(zl_ctx *ctx, float *x, float *w, int *order) {
    for (int i = 0; i < MOST; i++) {
        const int seen = i / ZL_SAMPLED % 32 == 0;
        x[i] = seen ? -5 - normal() * 0.1f : -fabsf(normal()), w[i] = seen ? 1 : 1000;
    }
    for (double amount = 0.05; amount < 1; amount += 0.15) test_cut(ctx, x, w, MOST, order, ZL_CUT_MASS, amount);
}

/* Typical sampling: the keys are nearness to the mean, and some of the heaviest elements, or one with much of all mass, are the farthest. */
static void test_far_and_heavy(zl_ctx *ctx) {
    enum { N = 70001 };
    static float x[N], w[N], key[N];
    static int order[N];
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < N; i++) x[i] = kind == 1 ? normal() / 4 : normal();
        if (kind == 1) x[N / 3] = 10.5f;                /* a third of the mass, and the sample does not see it */
        if (kind == 2) x[2 * ZL_SAMPLED * 32 + 1] = 10; /* one that it sees                                       */
        zl_row_sums sums;
        CHECK(zl_row_weights(ctx, N, x, w, &sums) == ZL_OK && zl_row_near(ctx, N, x, (float)sums.mean, key) == ZL_OK, "a row with heavy elements");
        for (double amount = 0.1; amount < 1; amount += 0.17) test_cut(ctx, key, w, N, order, ZL_CUT_MASS, amount);
    }
}

static void test_near(zl_ctx *ctx, const float *x, float *out, int n) {
    CHECK(zl_row_near(ctx, n, x, 0.75f, out) == ZL_OK, "near of %d", n);
    for (int i = 0; i < n; i++) CHECK(out[i] == -fabsf(x[i] - 0.75f), "near of %d: element %d is %g", n, i, (double)out[i]);
}

/* Rows that are read for the maxima of groups: from groups of 16 vectors up to those whose maxima there is just room for, and with a few
 * elements more than whole groups. */
static void test_top_k(const zl_kernels *k) {
    enum { N = 300000 };
    static float x[N];
    static uint32_t mask[N / 32 + 1];
    static uint64_t heap[300], want[300];
    for (int round = 0; round < 10; round++) {
        const int n = round < 8 ? 2000 + (int)(draw() % 20000) : N - 7, begin = round % 4 ? 32 * (int)(draw() % 40) : 0, kk = round == 9 ? 300 : 1 + (int)(draw() % 40);
        const int masked = round % 3 == 1;
        for (int i = 0; i < n; i++) x[i] = round % 2 ? normal() : (float)(int)(draw() % 500);
        for (int i = 0; i <= N / 32; i++) mask[i] = (draw() ^ draw() << 9) | draw() << 20;
        if (round == 2) x[begin + 500] = NAN; /* once in the groups, once behind them */
        if (round == 3) x[n - 1] = NAN;
        if (round == 5) for (int i = 0; i < n; i++) if (i % 1000 != 7) x[i] = -INFINITY;
        if (round == 6) x[n - 2] = 1000, x[begin] = 1000;
        int there = 0;
        for (int i = begin; i < n; i++) { /* the reference: the heap, fed one by one */
            const uint64_t rank = zl_top_rank(masked && !(mask[i / 32] >> (i % 32) & 1) ? ZL_KEY_MINUS_INF : zl_top_key(x[i]), i);
            if (there < kk && (want[there++] = rank, there == kk)) zl_top_heapify(want, kk);
            else if (there == kk && rank > want[0]) zl_top_sink(want, kk, 0, rank);
        }
        const int64_t got = k->top_k(x, masked ? mask : NULL, begin, n, kk, heap);
        CHECK(got == kk, "top_k found %d of %d", (int)got, kk);
        zl_top_sort(heap, kk), zl_top_sort(want, kk);
        for (int i = 0; i < kk; i++) CHECK(heap[i] == want[i], "top_k %d of %d, round %d: place %d is id %d, want %d", kk, n, round, i, zl_top_id_of(heap[i]), zl_top_id_of(want[i]));
    }
}

int selftest_scan(zl_ctx *ctx);
int selftest_scan(zl_ctx *ctx) {
    static const int sizes[] = {1, 2, 5, 15, 16, 17, 33, 64, 100, 511, 512, 513, 2050, 8193, MOST};
    static int order[MOST];
    failures = 0;
    test_refusals(ctx), test_masses(ctx), test_top_k(zl_ctx_kernels(ctx));
    static float misled[2][MOST];
    test_misled(ctx, misled[0], misled[1], order), test_far_and_heavy(ctx);
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int n = sizes[s];
        guarded gx = guard(4 * n), gw = guard(4 * n), go = guard(4 * n), gi = guard(4 * n);
        float *x = gx.p, *w = gw.p, *out = go.p;
        for (int kind = 0; kind < 8; kind++) {
            fill(x, n, kind);
            test_near(ctx, x, w, n), test_sums(ctx, x, w, n);
            const double amounts[] = {0, 0.001, 0.3, 0.5, 0.9, 0.95, 0.999999, 1};
            for (int a = 0; a < 8; a++) test_cut(ctx, x, w, n, order, ZL_CUT_MASS, amounts[a]), test_cut(ctx, x, w, n, order, ZL_CUT_DRAW, amounts[a]);
            for (int k = 1; k <= n; k += 1 + k * 2) test_cut(ctx, x, NULL, n, order, ZL_CUT_COUNT, k);
            test_cut(ctx, x, NULL, n, order, ZL_CUT_COUNT, n + 1);
            test_kept(ctx, x, out, gi.p, n, x[n / 3], n / 3), test_kept(ctx, x, out, gi.p, n, x[n / 2], -1);
            test_kept(ctx, x, out, gi.p, n, -INFINITY, n), test_kept(ctx, x, out, gi.p, n, 1, n - 1);
        }
        release(&gx), release(&gw), release(&go), release(&gi);
    }
    return failures;
}
