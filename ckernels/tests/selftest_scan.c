/* selftest_scan.c - passes over a row of logits (kernels/rows_scan.c, core/scan.c) against plain loops and a full sort.
 *
 * Rows end in every place of a vector, stand against a page that faults, and hold equal values and -inf. Masses are whole numbers, so
 * cuts have to be exactly those of the sort.
 */
#include "selftest.h"
#include "../kernels/rows_scan.h"
#include "guarded.h"
#include <math.h>

static int failures;
static uint32_t seed = 12345;
static float normal(void) { /* sum of four uniform numbers: near enough */
    float s = 0;
    for (int i = 0; i < 4; i++) seed = seed * 1664525u + 1013904223u, s += (float)(seed >> 8) / 16777216.0f;
    return (s - 2) * 1.7f;
}

enum { MOST = 9001 };
/* 0 plain; 1 whole numbers, so many are equal; 2 a few are -inf; 3 all equal; 4 a best far above; 5 nearly equal; 6 NaN-free but wide */
static void fill(float *x, int n, int kind) {
    for (int i = 0; i < n; i++) {
        float v = 3 * normal();
        x[i] = kind == 1 ? rintf(v) : kind == 3 ? 1.5f : kind == 5 ? 7 + 1e-6f * v : kind == 6 ? 40 * v : v;
        if (kind == 2 && i % 3) x[i] = -INFINITY;
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
    CHECK(zl_row_weights(ctx, n, x, w, &sums) == ZL_OK && zl_row_moments(ctx, n, x, &spread) == ZL_OK, "a row of %d", n);
    for (int i = 0; i < n; i++) best = x[i] > best ? (double)x[i] : best;
    for (int i = 0; i < n; i++) {
        const double e = exp((double)x[i] - best);
        total += e, first += e > 0 ? e * ((double)x[i] - best) : 0;
        CHECK(fabs((double)w[i] / 1099511627776.0 - e) <= 4e-6 * e + 1e-37, "weight %d of %d: %g, want %g", i, n, (double)w[i] / 1099511627776.0, e);
        if (x[i] > -INFINITY) there++, mean += (double)x[i];
    }
    mean /= there;
    for (int i = 0; i < n; i++) square += x[i] > -INFINITY ? ((double)x[i] - mean) * ((double)x[i] - mean) : 0;
    const double deviation = sqrt(square / there);
    CHECK(sums.best == (float)best && spread.best == (float)best, "best of %d: %g, want %g", n, (double)sums.best, best);
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
    CHECK(zl_row_gather(ctx, n, x, least, last, ids, room, &found) == ZL_OK && found == want, "gather of %d: %d, want %d", n, (int)found, (int)want);
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
    CHECK(zl_row_gather(ctx, 4, x, 0, 3, ids, -1, &n) == ZL_E_ARG && zl_row_gather(ctx, 4, x, 0, 3, NULL, 1, &n) == ZL_E_ARG && zl_row_gather(ctx, 4, x, 0, 3, NULL, 0, &n) == ZL_OK && n == 4,
          "gather took a bad argument");
    for (int i = 0; i < 4; i++) w[i] = 0.25f;
    CHECK(zl_row_cut(ctx, 4, x, w, 0, ZL_CUT_MASS, 0.5, &least, &last) == ZL_OK && least == -INFINITY && last == 3, "a row without mass was cut at %g", (double)least);
    const float bad[] = {INFINITY, -INFINITY};
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 4; j++) x[j] = bad[i];
        CHECK(zl_row_weights(ctx, 4, x, w, &sums) == ZL_E_ARG && zl_row_moments(ctx, 4, x, &spread) == ZL_E_ARG, "a row of %g was weighed", (double)x[0]);
        CHECK(zl_row_cut(ctx, 4, x, NULL, 0, ZL_CUT_COUNT, 2, &least, &last) == ZL_E_ARG, "a row of %g was cut", (double)x[0]);
    }
}

int selftest_scan(zl_ctx *ctx);
int selftest_scan(zl_ctx *ctx) {
    static const int sizes[] = {1, 2, 5, 15, 16, 17, 33, 64, 100, 511, 512, 513, 2050, MOST};
    static int order[MOST];
    failures = 0;
    test_refusals(ctx);
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int n = sizes[s];
        guarded gx = guard(4 * n), gw = guard(4 * n), go = guard(4 * n), gi = guard(4 * n);
        float *x = gx.p, *w = gw.p, *out = go.p;
        for (int kind = 0; kind < 7; kind++) {
            fill(x, n, kind);
            test_sums(ctx, x, w, n);
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
