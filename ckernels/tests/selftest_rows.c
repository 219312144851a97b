/* selftest_rows.c - the row-wise kernels and ops against plain double-precision loops, with no Python: natively, under sanitizers, and
 * under qemu for the ISA variants of other machines.
 *
 * Every check states its bound; u = 2^-24. What must be the same bits (tails, places in an array, threads) is compared as bits.
 */
#include "../core/core.h"
#include "../kernels/rows_top_k.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define U 5.9604644775390625e-08 /* 2^-24 */
#define TINY 1.1754943508222875e-38

void selftest_failed(void); /* selftest.c */

static int failures;
#define CHECK(ok, ...)                                                                              \
    do {                                                                                            \
        if (!(ok) && failures++ < 20) {                                                             \
            fprintf(stderr, "selftest_rows %s:%d: ", k->isa, __LINE__), fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr);                                                                    \
            selftest_failed();                                                                      \
        }                                                                                           \
    } while (0)

static uint64_t seed = 88172645463325252u;
static uint32_t next(void) { /* xorshift64: the tests need variety, not quality */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static float uniform(float lo, float hi) { return lo + (hi - lo) * ((float)(next() >> 8) / 16777216.0f); }
static void fill(float *x, int64_t n, float lo, float hi) { for (int64_t i = 0; i < n; i++) x[i] = uniform(lo, hi); }
static int same_bits(const float *a, const float *b, int64_t n) { return n == 0 || memcmp(a, b, (size_t)n * sizeof *a) == 0; }
static float from_bits(uint32_t b) { float f; memcpy(&f, &b, 4); return f; }

/* ---- activations ------------------------------------------------------------------------------------------------------------- */

static double sigmoid_(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double exact(int fn, double x) {
    switch (fn) {
    case ZL_RELU: return x > 0 ? x : 0;
    case ZL_GELU_ERF: return 0.5 * x * erfc(-x * 0.70710678118654752440);
    case ZL_GELU_TANH: return x * sigmoid_(2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x));
    case ZL_SILU: return x * sigmoid_(x);
    case ZL_TANH: return tanh(x);
    case ZL_SIGMOID: return sigmoid_(x);
    case ZL_GELU_QUICK: return x * sigmoid_(1.702 * x);
    case ZL_RELU_SQUARED: return x > 0 ? x * x : 0;
    default: return exp(x);
    }
}
/* bound in u: for ZL_TANH, ZL_SIGMOID, ZL_EXP and ZL_RELU_SQUARED of the result, for the x * gate(x) functions of |x|; those of rows_math.h */
static const double bound[] = {0, 0, 5, 6, 5, 4, 6, 6, 3, 1};
static int of_result(int fn) { return fn == ZL_TANH || fn == ZL_SIGMOID || fn == ZL_EXP || fn == ZL_RELU_SQUARED; }

static void test_unary(const zl_kernels *k) {
    static float x[4096], y[4096], z[4096];
    double worst[10] = {0};
    for (int fn = ZL_RELU; fn <= ZL_RELU_SQUARED; fn++) {
        /* all exponents from subnormal to 104, both signs, mantissas at a stride that no power of two divides */
        for (uint32_t b = 0; b <= 0x42d00000u;) {
            int n = 0;
            for (; n < 4096 && b <= 0x42d00000u; b += 10007) x[n++] = from_bits(b | (next() & 0x80000000u));
            k->unary(fn, n, x, y);
            for (int i = 0; i < n; i++) {
                double want = exact(fn, x[i]), size = fabs(of_result(fn) ? want : (double)x[i]);
                if (fn == ZL_SIGMOID && x[i] < -80) size = TINY / U; /* e^-x is about to overflow: absolute */
                double error = fabs(y[i] - want);
                if (want > 3.4028234663852886e38 && isinf(y[i])) error = 0;
                if (error > TINY && error / size / U > worst[fn]) worst[fn] = error / size / U;
                CHECK(error <= bound[fn] * U * size + TINY, "activation %d at %a: %a, want %a (%.2f u)", fn, (double)x[i],
                      (double)y[i], want, error / size / U);
            }
        }
        /* a tail, an element alone and an element in a full vector have the same bits */
        fill(x, 67, -9, 9);
        k->unary(fn, 67, x, y);
        for (int i = 0; i < 67; i++) {
            k->unary(fn, 1, x + i, z + i);
            CHECK(same_bits(y + i, z + i, 1), "activation %d: element %d alone differs", fn, i);
        }
        k->unary(fn, 67, x, x);
        CHECK(same_bits(x, y, 67), "activation %d in place differs", fn);
        const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 0.0f, -0.0f};
        k->unary(fn, 7, odd, y);
        CHECK(isnan(y[0]), "activation %d of NaN is %g", fn, (double)y[0]);
        for (int i = 3; i < 7; i++) CHECK(!isnan(y[i]), "activation %d of %g is NaN", fn, (double)odd[i]);
        CHECK(fn == ZL_TANH || fn == ZL_SIGMOID ? y[1] == 1 : y[1] == INFINITY, "activation %d of inf is %g", fn, (double)y[1]);
        fill(z, 67, -5, 5);
        fill(x, 67, -9, 9);
        static float a[67], g[67];
        k->unary(fn, 67, x, a);
        k->glu(fn, 67, x, z, g);
        for (int i = 0; i < 67; i++) CHECK(g[i] == a[i] * z[i], "glu %d: element %d is not act(gate) * up", fn, i);
    }
    if (getenv("ZL_SELFTEST_VERBOSE"))
        for (int fn = ZL_RELU; fn <= ZL_RELU_SQUARED; fn++) printf("  %s: activation %d within %.2f u\n", k->isa, fn, worst[fn]);
    for (float v = -20; v <= 20; v += 0.37f) {
        k->softcap(1, &v, 3.5f, y);
        CHECK(fabs(y[0] - 3.5 * tanh((double)v / 3.5)) <= 3.5 * 8 * U, "softcap of %g is %g", (double)v, (double)y[0]);
    }
}

static void test_arithmetic(const zl_kernels *k) {
    static float x[70], y[70], s[71], p[71], f[71];
    fill(x, 70, -3, 3), fill(y, 70, -3, 3);
    for (int n = 0; n <= 70; n++) {
        s[n] = p[n] = f[n] = 77;
        k->add(n, x, y, s), k->mul(n, x, y, p), k->scale(n, x, 1.7f, f);
        for (int i = 0; i < n; i++)
            CHECK(s[i] == x[i] + y[i] && p[i] == x[i] * y[i] && f[i] == x[i] * 1.7f, "add, mul or scale: %d of %d", i, n);
        CHECK(s[n] == 77 && p[n] == 77 && f[n] == 77, "add, mul or scale of %d wrote beyond", n);
    }
}

/* ---- norms and softmax ------------------------------------------------------------------------------------------------------- */

static void test_norms(const zl_kernels *k) {
    static float x[3 * 300], w[300], b[300], y[3 * 300], z[300];
    for (int m = 1; m <= 300; m += m < 70 ? 1 : 23) {
        fill(x, 3 * m, -2, 3), fill(w, m, -1, 2), fill(b, m, -1, 1);
        if (m == 40) for (int i = 0; i < m; i++) x[i] = 1000 + x[i]; /* a mean that dwarfs the variance */
        for (int layer = 0; layer < 2; layer++) {
            if (layer) k->layer_norm(3, m, x, w, b, 1e-5f, y);
            else k->rms_norm(3, m, x, w, 1e-5f, y);
            for (int t = 0; t < 3; t++) {
                const float *r = x + t * m;
                double mean = 0, ss = 0, top = 0;
                for (int i = 0; i < m; i++) mean += r[i], top = fmax(top, fabs(r[i]));
                mean = layer ? mean / m : 0;
                for (int i = 0; i < m; i++) ss += (r[i] - mean) * (r[i] - mean);
                double inv = 1 / sqrt(ss / m + 1e-5f);
                for (int i = 0; i < m; i++) {
                    double want = (r[i] - mean) * inv * w[i] + (layer ? b[i] : 0);
                    /* the sum of squares: m terms; the mean's own error, m u top, moves every difference */
                    double tol = U * ((m + 8) * fabs(want - (layer ? b[i] : 0)) + fabs(want) +
                                      (layer ? (m + 2) * top * inv * fabs(w[i]) * (1 + m * U * top * inv) + fabs(b[i]) : 0)) + TINY;
                    CHECK(fabs(y[t * m + i] - want) <= tol, "norm %d, m %d: %g, want %g", layer, m, (double)y[t * m + i], want);
                }
                if (layer) k->layer_norm(1, m, r, w, b, 1e-5f, z);
                else k->rms_norm(1, m, r, w, 1e-5f, z);
                CHECK(same_bits(y + t * m, z, m), "norm %d, m %d: row %d alone differs", layer, m, t);
            }
        }
    }
    const float zero[5] = {0};
    k->rms_norm(1, 5, zero, NULL, 1e-6f, y);
    for (int i = 0; i < 5; i++) CHECK(y[i] == 0, "rms_norm of zeros is %g", (double)y[i]);
}

static void test_softmax(const zl_kernels *k) {
    static float x[2 * 1400], y[2 * 1400], z[1400];
    for (int m = 1; m <= 1400; m += m < 70 ? 1 : 331) {
        fill(x, 2 * m, -30, 30);
        for (int i = 0; i < m; i++) x[i] = i % 3 ? -INFINITY : x[i];
        k->softmax(2, m, x, 0.5f, y);
        for (int t = 0; t < 2; t++) {
            double top = -INFINITY, sum = 0, total = 0;
            for (int i = 0; i < m; i++) top = fmax(top, x[t * m + i] * 0.5);
            for (int i = 0; i < m; i++) sum += exp(x[t * m + i] * 0.5 - top);
            for (int i = 0; i < m; i++) {
                double d = x[t * m + i] * 0.5 - top, want = exp(d) / sum;
                total += y[t * m + i];
                CHECK(fabs(y[t * m + i] - want) <= U * want * (m < 512 ? m + 44 : 600) + TINY, "softmax of %d: %g, want %g", m, (double)y[t * m + i], want);
            }
            CHECK(fabs(total - 1) <= U * 600, "softmax of %d sums to %.9g", m, total);
        }
        k->softmax(1, m, x + m, 0.5f, z);
        CHECK(same_bits(y + m, z, m), "softmax of %d: a row alone differs", m);
        k->softmax(2, m, x, 0.5f, x);
        CHECK(same_bits(x, y, 2 * m), "softmax of %d in place differs", m);
    }
    /* far from 0, on either side: less than the maximum must be taken off, and not something near it */
    for (int side = -1; side <= 1; side += 2) {
        for (int i = 0; i < 64; i++) x[i] = (float)side * 1000.0f + (i == 63 ? 3.0f : 0.0f);
        k->softmax(1, 64, x, 1.0f, y);
        const double want = exp(3.0) / (exp(3.0) + 63);
        CHECK(fabs(y[63] - want) <= 110 * U * want, "softmax around %d: %g, want %g", side * 1000, (double)y[63], want);
    }
}

/* ---- rope --------------------------------------------------------------------------------------------------------------------- */

static void test_rope(const zl_kernels *k) {
    static float inv[64], table[256], x[2 * 140], y[2 * 140], p[2 * 140], q[2 * 140], table1[256];
    const int32_t positions[] = {0, 1, 2, 31, 511, 2047, 32767, 131071, 1000003, -5};
    for (int half = 1; half <= 64; half += half < 12 ? 1 : 13) {
        for (int i = 0; i < half; i++) inv[i] = (float)pow(10000.0, -(double)i / half);
        for (unsigned n = 0; n < sizeof positions / sizeof *positions; n++) {
            k->rope_table(half, positions[n], inv, 1.0f, 0, table);
            k->rope_table(half, positions[n], inv, 1.0f, 1, table1);
            for (int i = 0; i < half; i++) {
                double a = (double)positions[n] * (double)inv[i];
                CHECK(fabs(table1[i] - cos(a)) <= 1.02 * U && fabs(table1[half + i] - sin(a)) <= 1.02 * U,
                      "rope table at %d * %g: %a %a, want %a %a", positions[n], (double)inv[i], (double)table1[i], (double)table1[half + i], cos(a), sin(a));
                CHECK(table[2 * i] == table1[i] && table[2 * i + 1] == table1[i] && table[2 * half + 2 * i] == -table1[half + i] &&
                      table[2 * half + 2 * i + 1] == table1[half + i], "rope table: the two modes differ at %d", i);
            }
            int d = 2 * half + 5;
            fill(x, 2 * d, -2, 2);
            k->rope(2, d, half, 1, table1, x, y);
            for (int h = 0; h < 2; h++) {
                for (int i = 0; i < half; i++) {
                    double a = x[h * d + i], b = x[h * d + half + i], c = table1[i], s = table1[half + i];
                    CHECK(fabs(y[h * d + i] - (a * c - b * s)) <= 6 * U && fabs(y[h * d + half + i] - (b * c + a * s)) <= 6 * U, "rope %d, pair %d", half, i);
                    p[h * d + 2 * i] = x[h * d + i], p[h * d + 2 * i + 1] = x[h * d + half + i];
                }
                CHECK(same_bits(x + h * d + 2 * half, y + h * d + 2 * half, 5), "rope %d changed the channels it leaves", half);
            }
            k->rope(2, d, half, 0, table, p, q);
            for (int h = 0; h < 2; h++)
                for (int i = 0; i < half; i++)
                    CHECK(q[h * d + 2 * i] == y[h * d + i] && q[h * d + 2 * i + 1] == y[h * d + half + i], "rope: the modes differ in bits at %d", i);
            k->rope(2, d, half, 1, table1, x, x);
            CHECK(same_bits(x, y, 2 * d), "rope in place differs");
        }
    }
}

/* ---- top-k -------------------------------------------------------------------------------------------------------------------- */

/* is (a, id i) taken before (b, id j)? the order written out, without rank words */
static int before(float a, int i, float b, int j) {
    if (isnan(a) || isnan(b)) return isnan(a) == isnan(b) ? i < j : isnan(a);
    return a == b ? i < j : a > b;
}
static void test_top_k(const zl_kernels *k) {
    static float x[700], v[700];
    static uint32_t mask[22];
    static uint64_t heap[700];
    static int ids[700];
    for (int round = 0; round < 60; round++) {
        int n = 1 + (int)(next() % 700), kk = 1 + (int)(next() % (unsigned)(n < 50 || round % 4 == 0 ? n : 50));
        for (int i = 0; i < n; i++) {
            x[i] = (float)((int)(next() % 41) - 20); /* many ties */
            if (round % 3 == 0) x[i] = uniform(-1, 1);
            if (round % 5 == 0 && next() % 4 == 0) x[i] = next() % 2 ? NAN : next() % 2 ? -INFINITY : INFINITY;
            if (x[i] == 0 && next() % 2) x[i] = -0.0f;
            if (round == 7) x[i] = (float)i; /* the worst order */
            if (round > 50 && i % (round - 40) == 3) x[i] = NAN; /* so many that from some place on even the worst held is one, or fewer */
        }
        int masked = round % 2;
        for (int i = 0; i < 22; i++) mask[i] = next() & next();
        for (int i = 0; i < n; i++) { /* the reference: insertion into a sorted list */
            v[i] = masked && !(mask[i / 32] >> (i % 32) & 1) ? -INFINITY : x[i];
            int at = i;
            for (; at > 0 && before(v[i], i, v[ids[at - 1]], ids[at - 1]); at--) ids[at] = ids[at - 1];
            ids[at] = i;
        }
        int64_t got = k->top_k(x, masked ? mask : NULL, 0, n, kk, heap);
        CHECK(got == kk, "top_k found %d of %d", (int)got, kk);
        zl_top_sort(heap, kk);
        for (int i = 0; i < kk; i++) CHECK(zl_top_id_of(heap[i]) == ids[i], "top_k %d of %d: place %d is id %d, want %d", kk, n, i, zl_top_id_of(heap[i]), ids[i]);
    }
}

/* ---- ops ---------------------------------------------------------------------------------------------------------------------- */

static zl_tensor external(float *data, int64_t rows, int64_t cols, int rows_kind) {
    zl_tensor t = {ZL_EXTERNAL, rows_kind, rows, cols, 0, data};
    return t;
}
static zl_op op_of(int code, int in0, int in1, int out0) {
    zl_op op = {0};
    op.code = code;
    for (int i = 0; i < 12; i++) op.in[i] = -1;
    for (int i = 0; i < 4; i++) op.out[i] = -1;
    op.in[0] = in0, op.in[1] = in1, op.out[0] = out0;
    return op;
}

static void test_ops(zl_ctx *ctx, const zl_kernels *k) {
    enum { T = 37, C = 1024, V = 70001, K = 50 };
    float *x = malloc(sizeof(float) * T * C), *y = malloc(sizeof(float) * T * C), *out = malloc(sizeof(float) * T * C), *logits = malloc(sizeof(float) * V);
    float value[K] = {0}, ids[K] = {0};
    int32_t positions[T], rows[3] = {36, 0, 7};
    zl_step step = {.n_rows = T, .n_out = 3, .n_seq = 1, .n_planes = 1, .positions = positions, .out_rows = rows};
    for (int i = 0; i < T; i++) positions[i] = 5 * i;
    fill(x, T * C, -3, 3), fill(y, T * C, -3, 3), fill(logits, V, -3, 3);
    zl_tensor t[] = {external(x, T, C, ZL_ROWS_STEP), external(y, T, C, ZL_ROWS_STEP), external(out, T, C, ZL_ROWS_STEP), external(out, T, C, ZL_ROWS_OUT)};

    zl_op op = op_of(ZL_OP_GLU, 0, 1, 2); /* large enough for several chunks: each must land in its place */
    op.ip[0] = ZL_SILU;
    CHECK(zl_run(ctx, &op, 1, t, 4, &step) == ZL_OK, "glu: %s", zl_error());
    float *want = malloc(sizeof(float) * T * C);
    k->glu(ZL_SILU, T * C, x, y, want);
    CHECK(same_bits(out, want, T * C), "glu in chunks differs");

    op = op_of(ZL_OP_RMS_NORM, 0, -1, 2);
    op.ip[0] = 64, op.fp[0] = 1e-6f;
    CHECK(zl_run(ctx, &op, 1, t, 4, &step) == ZL_OK, "rms_norm: %s", zl_error());
    k->rms_norm(T * C / 64, 64, x, NULL, 1e-6f, want);
    CHECK(same_bits(out, want, T * C), "rms_norm in chunks differs");
    op.ip[0] = 60;
    CHECK(zl_run(ctx, &op, 1, t, 4, &step) == ZL_E_SHAPE, "rms_norm over groups of 60 of 1024 was accepted");

    zl_tensor wide[] = {t[0], {ZL_CONST, 0, 1, C, 0, y}, t[2]}; /* one row for all of them */
    for (int code = ZL_OP_ADD; code <= ZL_OP_MUL; code++) {
        op = op_of(code, 0, 1, 2);
        wide[1].cols = C;
        CHECK(zl_run(ctx, &op, 1, wide, 3, &step) == ZL_OK, "a row for all: %s", zl_error());
        for (int i = 0; i < T * C; i++) want[i] = code == ZL_OP_ADD ? x[i] + y[i % C] : x[i] * y[i % C];
        CHECK(same_bits(out, want, T * C), "op %d with a row for all differs", code);
        wide[1].cols = C - 1;
        CHECK(zl_run(ctx, &op, 1, wide, 3, &step) == ZL_E_SHAPE, "op %d with a row of %d for %d was accepted", code, C - 1, C);
    }

    op = op_of(ZL_OP_GATHER, 0, -1, 3);
    CHECK(zl_run(ctx, &op, 1, t, 4, &step) == ZL_OK, "gather: %s", zl_error());
    for (int i = 0; i < 3; i++) CHECK(same_bits(out + i * C, x + rows[i] * C, C), "gather: row %d", i);
    rows[1] = T;
    CHECK(zl_run(ctx, &op, 1, t, 4, &step) == ZL_E_BOUNDS, "gather of row %d of %d was accepted", T, T);
    rows[1] = 0;

    /* rope on the second plane of positions, enough rows for several chunks */
    int32_t planes[2 * T];
    float inv[32], table[128];
    for (int i = 0; i < T; i++) planes[i] = 1, planes[T + i] = 3 * i + 1;
    for (int i = 0; i < 32; i++) inv[i] = 1.0f / (float)(1 + i * i);
    step.positions = planes, step.n_planes = 2;
    zl_tensor turned[] = {t[0], {ZL_CONST, 0, 1, 32, 0, inv}, t[2]};
    op = op_of(ZL_OP_ROPE, 0, 1, 2);
    op.ip[0] = 8, op.ip[1] = 128, op.ip[2] = 64, op.ip[3] = 1, op.ip[4] = 1, op.fp[0] = 1.5f;
    CHECK(zl_run(ctx, &op, 1, turned, 3, &step) == ZL_OK, "rope: %s", zl_error());
    for (int i = 0; i < T; i++) {
        k->rope_table(32, 3 * i + 1, inv, 1.5f, 1, table);
        k->rope(8, 128, 32, 1, table, x + i * C, want + i * C);
    }
    CHECK(same_bits(out, want, T * C), "rope in chunks differs");
    op.ip[4] = 2;
    CHECK(zl_run(ctx, &op, 1, turned, 3, &step) == ZL_E_BOUNDS, "rope on position plane 2 of 2 was accepted");
    step.n_rows = 0;
    CHECK(zl_run(ctx, &op, 1, turned, 3, &step) == ZL_OK, "rope of no rows: %s", zl_error());
    step.n_rows = T;
    step.positions = positions, step.n_planes = 1;

    zl_tensor one[] = {external(logits, 1, V, ZL_ROWS_STEP), external(value, 1, K, ZL_ROWS_STEP), external(ids, 1, K, ZL_ROWS_STEP)};
    static uint64_t heap[K];
    for (int i = 0; i < V; i += 97) logits[i] = 2.5f; /* ties across the pieces */
    op = op_of(ZL_OP_TOP_K, 0, -1, 1);
    op.out[1] = 2, op.ip[0] = K;
    step.n_rows = 1;
    CHECK(zl_run(ctx, &op, 1, one, 3, &step) == ZL_OK, "top_k: %s", zl_error());
    k->top_k(logits, NULL, 0, V, K, heap);
    zl_top_sort(heap, K);
    for (int i = 0; i < K; i++) {
        int32_t id;
        memcpy(&id, ids + i, 4);
        CHECK(id == zl_top_id_of(heap[i]) && value[i] == logits[id], "top_k in pieces: place %d is %d, want %d", i, id, zl_top_id_of(heap[i]));
    }
    uint32_t *mask = calloc(V / 32 + 1, sizeof *mask); /* three ids allowed: the others are -inf, by id */
    const uint32_t *const masks[] = {mask};
    mask[1] = 1u << 8, mask[70000 / 32] = 1u << 70000 % 32, mask[2000] = 1;
    logits[40] = -5, logits[70000] = -4, logits[64000] = NAN;
    step.mask = masks, step.n_out = 1;
    CHECK(zl_run(ctx, &op, 1, one, 3, &step) == ZL_OK, "top_k with a mask: %s", zl_error());
    const int32_t expected[] = {64000, 70000, 40, 0, 1};
    const float values[] = {NAN, -4, -5, -INFINITY, -INFINITY};
    for (int i = 0; i < 5; i++) {
        int32_t id;
        memcpy(&id, ids + i, 4);
        CHECK(id == expected[i] && (i ? value[i] == values[i] : isnan(value[i])), "top_k with a mask: place %d is %d (%g)", i, id, (double)value[i]);
    }
    step.skip_top_k = 1, value[0] = 77;
    CHECK(zl_run(ctx, &op, 1, one, 3, &step) == ZL_OK && value[0] == 77, "a step that skips top_k wrote");
    step.skip_top_k = 0;
    free(mask);
    free(x), free(y), free(out), free(logits), free(want);
}

static void test_embed(zl_ctx *ctx, const zl_kernels *k) {
    enum { V = 21, C = 70, T = 300 };
    static float table[V * C], inputs[T * C], out[T * C];
    static int32_t tokens[T];
    fill(table, V * C, -3, 3), fill(inputs, T * C, -3, 3);
    for (int i = 0; i < T; i++) tokens[i] = i % 11 == 5 ? -1 : (int32_t)(next() % V);
    zl_step step = {.n_rows = T, .n_seq = 1, .tokens = tokens, .inputs = inputs, .input_cols = C};
    for (int mapped = 0; mapped < 2; mapped++) {
        zl_weight *w = NULL;
        CHECK(zl_weight_new(ctx, ZL_TYPE_F32, V, C, table, sizeof table, mapped ? ZL_WEIGHT_MAPPED : 0, &w) == ZL_OK, "weight: %s", zl_error());
        if (!w) return;
        zl_tensor t[] = {{ZL_WEIGHT, 0, V, C, 0, w}, external(out, T, C, ZL_ROWS_STEP)};
        zl_op op = op_of(ZL_OP_EMBED, 0, -1, 1);
        op.fp[0] = 1.5f;
        CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_OK, "embed: %s", zl_error());
        for (int i = 0; i < T * C; i++) {
            float want = tokens[i / C] < 0 ? inputs[i] : 1.5f * table[tokens[i / C] * C + i % C];
            CHECK(out[i] == want, "embed (mapped %d): row %d, channel %d is %g, want %g", mapped, i / C, i % C, (double)out[i], (double)want);
        }
        int32_t kept = tokens[7];
        tokens[7] = V;
        CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_BOUNDS, "embed of token %d of %d was accepted", V, V);
        tokens[7] = -2;
        CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_BOUNDS, "embed of token -2 was accepted");
        tokens[7] = kept, step.inputs = NULL;
        CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_SHAPE, "embed without the inputs that rows need was accepted");
        step.inputs = inputs;
        zl_weight_free(w);
    }
}

static void test_lookup(zl_ctx *ctx, const zl_kernels *k) {
    enum { P = 21, C = 70, T = 300, OFFSET = 2 };
    static float table[P * C], out[T * C];
    static int32_t planes[2 * T];
    fill(table, P * C, -3, 3);
    for (int i = 0; i < T; i++) planes[i] = 5, planes[T + i] = (int32_t)(next() % P) - OFFSET;
    planes[T] = -OFFSET, planes[T + 1] = P - 1 - OFFSET;
    zl_step step = {.n_rows = T, .n_seq = 1, .n_planes = 2, .positions = planes};
    zl_weight *w = NULL;
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, P, C, table, sizeof table, 0, &w) == ZL_OK, "weight: %s", zl_error());
    if (!w) return;
    zl_tensor t[] = {{ZL_WEIGHT, 0, P, C, 0, w}, external(out, T, C, ZL_ROWS_STEP)};
    zl_op op = op_of(ZL_OP_LOOKUP, 0, -1, 1);
    op.ip[0] = 1, op.ip[1] = OFFSET;
    CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_OK, "lookup: %s", zl_error());
    for (int i = 0; i < T; i++) CHECK(same_bits(out + i * C, table + (planes[T + i] + OFFSET) * C, C), "lookup: row %d", i);
    const int32_t beyond[] = {P - OFFSET, -OFFSET - 1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        int32_t kept = planes[T + 7];
        planes[T + 7] = beyond[i];
        CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_BOUNDS, "lookup at %d was accepted", beyond[i]);
        planes[T + 7] = kept;
    }
    for (int plane = -1; plane < 3; plane += 3) { /* two are not there, two are */
        op.ip[0] = plane;
        CHECK(zl_run(ctx, &op, 1, t, 2, &step) == (plane < 0 ? ZL_E_ARG : ZL_E_BOUNDS), "lookup by plane %d of 2 was accepted", plane);
    }
    op.ip[0] = 1, step.n_planes = 1;
    CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_BOUNDS, "lookup by plane 1 of 1 was accepted");
    step.n_planes = 2, step.positions = NULL;
    CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_ARG, "lookup without positions was accepted");
    step.n_rows = step.n_planes = 0;
    CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_OK, "lookup of no rows: %s", zl_error());
    step.n_rows = T, step.n_planes = 2;
    step.positions = planes, t[1].rows_kind = ZL_ROWS_OUT;
    CHECK(zl_run(ctx, &op, 1, t, 2, &step) == ZL_E_SHAPE, "lookup into the wanted rows was accepted");
    zl_weight_free(w);
}

/* ---- the plain product -------------------------------------------------------------------------------------------------------- */

static void test_matmul(zl_ctx *ctx, const zl_kernels *k) {
    const int sizes[][3] = {{1, 1, 1}, {0, 3, 2}, {3, 0, 5}, {7, 5, 31}, {6, 129, 33}, {13, 1030, 65}, {5, 513, 97}};
    static float a[13 * 1030], b[1030 * 97], out[13 * 97 + 1], scalar[13 * 97];
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int m = sizes[s][0], d = sizes[s][1], n = sizes[s][2];
        fill(a, m * d, -2, 2), fill(b, d * n, -2, 2);
        out[m * n] = 77;
        CHECK(zl_matmul(ctx, m, d, n, a, b, out) == ZL_OK && zl_matmul_scalar(m, d, n, a, b, scalar) == ZL_OK, "matmul: %s", zl_error());
        CHECK(out[m * n] == 77, "matmul (%d, %d, %d) wrote beyond", m, d, n);
        for (int i = 0; i < m * n; i++) {
            double want = 0, size = 0;
            for (int q = 0; q < d; q++) {
                double p = (double)a[i / n * d + q] * (double)b[q * n + i % n];
                want += p, size += fabs(p);
            }
            CHECK(fabs(out[i] - want) <= (d + 1) * U * size && fabs(scalar[i] - want) <= (d + 1) * U * size,
                  "matmul (%d, %d, %d) element %d: %g and %g, want %g", m, d, n, i, (double)out[i], (double)scalar[i], want);
        }
    }
    CHECK(zl_matmul(ctx, -1, 2, 3, a, b, out) == ZL_E_SHAPE && zl_matmul(ctx, 1, 2, 3, NULL, b, out) == ZL_E_ARG, "matmul took a bad argument");
}

int selftest_rows(zl_ctx *ctx);
int selftest_rows(zl_ctx *ctx) {
    const zl_kernels *k = zl_ctx_kernels(ctx);
    failures = 0;
    test_unary(k), test_arithmetic(k), test_norms(k), test_softmax(k), test_rope(k), test_top_k(k);
    test_ops(ctx, k);
    test_embed(ctx, k);
    test_lookup(ctx, k);
    test_matmul(ctx, k);
    return failures;
}
