/* selftest_experts.c - mixtures of experts against `linear` with each expert's matrix, bit for bit, and the router against a plain loop. */
#include "guarded.h"
#include "selftest.h"
#include <math.h>

static int failures;

static uint64_t seed = 0x2545f4914f6cdd1du;
static float uniform(void) { /* -1 to 1 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

static zl_tensor rows_tensor(int64_t rows, int64_t cols, void *data) { return (zl_tensor){ZL_EXTERNAL, ZL_ROWS_STEP, rows, cols, 0, data}; }
static zl_tensor weight_tensor(zl_weight *w) { return (zl_tensor){ZL_WEIGHT, 0, 0, 0, 0, w}; }
static float *floats(int64_t n) { return calloc((size_t)(n ? n : 1), sizeof(float)); }
static int same(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, 4) && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

enum { E = 5, LENGTHS = 5 };

/* Random file bytes of a stack, which end at a page that faults. */
static guarded make_stack(zl_ctx *ctx, int type, int64_t rows, int64_t cols, int64_t *bytes) {
    const zl_format *f = zl_format_of(type);
    float *x = floats(E * rows * cols);
    for (int64_t i = 0; i < E * rows * cols; i++) x[i] = uniform();
    *bytes = E * rows * cols / f->cols * f->bytes;
    guarded to = guard(*bytes);
    CHECK(zl_quantize_rows(ctx, type, E * rows, cols, x, NULL, to.p, *bytes) == ZL_OK, "type %d", type);
    free(x);
    return to;
}

/* y (n, rows) = x W_e^T by `linear` */
static void by_linear(zl_ctx *ctx, int type, const guarded *file, int64_t bytes, int e, int64_t rows, int64_t cols, int64_t n, float *x, float *y) {
    zl_weight *w;
    CHECK(zl_weight_new(ctx, type, rows, cols, (uint8_t *)file->p + bytes / E * e, bytes / E, 0, &w) == ZL_OK, "expert %d", e);
    zl_tensor t[3] = {rows_tensor(n, cols, x), weight_tensor(w), rows_tensor(n, rows, y)};
    zl_op op = {.code = ZL_OP_LINEAR, .ip = {1}};
    memset(op.in, -1, sizeof op.in), memset(op.out, -1, sizeof op.out);
    op.in[0] = 0, op.in[1] = 1, op.out[0] = 2;
    zl_step step = {.n_rows = (int32_t)n};
    CHECK(zl_run(ctx, &op, 1, t, 3, &step) == ZL_OK, "linear");
    zl_weight_free(w);
}

/* choices: 0 random, 1 all rows to the last expert, 2 each row another; an id that no expert has where `wild` */
static void test_products(zl_ctx *ctx, int type, int64_t f, int64_t c, int k, int mapped) {
    static const int64_t lengths[LENGTHS] = {1, 3, 9, 70, 421};
    const int64_t most = lengths[LENGTHS - 1];
    int64_t wide, narrow;
    guarded gate = make_stack(ctx, type, f, c, &wide), up = make_stack(ctx, type, f, c, &wide), down = make_stack(ctx, type, c, f, &narrow);
    zl_weight *w[3];
    CHECK(zl_weight_new_stack(ctx, type, E, f, c, gate.p, wide, mapped, &w[0]) == ZL_OK, "gate");
    CHECK(zl_weight_new_stack(ctx, type, E, f, c, up.p, wide, mapped, &w[1]) == ZL_OK, "up");
    CHECK(zl_weight_new_stack(ctx, type, E, c, f, down.p, narrow, mapped, &w[2]) == ZL_OK, "down");
    const int64_t lanes = zl_ctx_kernels(ctx)->lanes, panels = (f + lanes - 1) / lanes;
    CHECK(zl_weight_bytes(w[0]) == (mapped ? 0 : E * panels * lanes * (wide / E / f)), "each expert has whole panels");
    float *x = floats(most * c), *weights = floats(most * k), *h = floats(most * k * f), *y = floats(most * c);
    float *g = floats(most * f), *u = floats(most * f), *want_h = floats(most * k * f), *want = floats(most * c), *part = floats(most * k * c);
    int32_t *ids = calloc((size_t)(most * k), 4);
    for (int l = 0; l < LENGTHS; l++) {
        const int64_t n = lengths[l];
        const int choice = l % 3, wild = l == 3;
        int chosen[E] = {0};
        for (int64_t i = 0; i < n * c; i++) x[i] = uniform();
        for (int64_t i = 0; i < n * k; i++) {
            weights[i] = uniform();
            ids[i] = choice == 1 ? E - 1 : choice == 2 ? (int32_t)(i % E) : (int32_t)(fabsf(uniform()) * 0.999f * E);
            if (wild && i % 50 == 7) ids[i] = i % 100 == 7 ? -1 : E;
            else chosen[ids[i]] = 1;
        }
        for (int e = 0; e < E; e++) { /* every expert on every row; what was chosen is picked out */
            by_linear(ctx, type, &gate, wide, e, f, c, n, x, g), by_linear(ctx, type, &up, wide, e, f, c, n, x, u);
            for (int64_t i = 0; i < n * k; i++)
                if (ids[i] == e) zl_ctx_kernels(ctx)->glu(ZL_SILU, f, g + i / k * f, u + i / k * f, want_h + i * f);
                else if (ids[i] < 0 || ids[i] >= E) want_h[i * f] = NAN;
        }
        zl_tensor t[8] = {rows_tensor(n, c, x), rows_tensor(n, k, ids), weight_tensor(w[0]), weight_tensor(w[1]),
                          rows_tensor(n, k * f, h), rows_tensor(n, k, weights), weight_tensor(w[2]), rows_tensor(n, c, y)};
        zl_op ops[2] = {{.code = ZL_OP_EXPERTS_GATED, .ip = {ZL_SILU}}, {.code = ZL_OP_EXPERTS_DOWN}};
        for (int i = 0; i < 2; i++) memset(ops[i].in, -1, sizeof ops[i].in), memset(ops[i].out, -1, sizeof ops[i].out);
        for (int i = 0; i < 4; i++) ops[0].in[i] = i;
        ops[0].out[0] = 4, ops[1].in[0] = 4, ops[1].in[1] = 1, ops[1].in[2] = 5, ops[1].in[3] = 6, ops[1].out[0] = 7;
        zl_step step = {.n_rows = (int32_t)n};
        zl_counters before, after;
        zl_ctx_counters(ctx, &before);
        CHECK(zl_run(ctx, ops, 2, t, 8, &step) == ZL_OK, "type %d, %d rows", type, (int)n);
        zl_ctx_counters(ctx, &after);
        int64_t touched = 0, one = w[0]->panel_bytes * 2 * panels + w[2]->panel_bytes * ((c + lanes - 1) / lanes);
        for (int e = 0; e < E; e++) touched += chosen[e] * one;
        CHECK(after.expert_bytes - before.expert_bytes == touched, "%d rows read %lld bytes, want %lld", (int)n,
              (long long)(after.expert_bytes - before.expert_bytes), (long long)touched);
        int wrong = 0;
        for (int64_t i = 0; i < n * k; i++) wrong += isnan(want_h[i * f]) ? !isnan(h[i * f]) || !isnan(h[i * f + f - 1]) : !same(h + i * f, want_h + i * f, f);
        CHECK(!wrong, "type %d (%d, %d), k %d, %d rows, mapped %d: %d of gate and up", type, (int)f, (int)c, k, (int)n, mapped, wrong);
        for (int e = 0; e < E; e++) {
            float *all = floats(n * k * c);
            by_linear(ctx, type, &down, narrow, e, c, f, n * k, h, all);
            for (int64_t i = 0; i < n * k; i++)
                if (ids[i] == e) memcpy(part + i * c, all + i * c, (size_t)c * 4);
            free(all);
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t o = 0; o < c; o++) {
                float sum = 0;
                for (int64_t j = i * k; j < (i + 1) * k; j++) {
                    const float term = ids[j] < 0 || ids[j] >= E ? NAN : weights[j] * part[j * c + o];
                    sum = j == i * k ? term : sum + term;
                }
                want[i * c + o] = sum;
            }
        CHECK(same(y, want, n * c), "type %d (%d, %d), k %d, %d rows, mapped %d: the sum", type, (int)c, (int)f, k, (int)n, mapped);
    }
    for (int i = 0; i < 3; i++) zl_weight_free(w[i]);
    free(x), free(weights), free(h), free(y), free(g), free(u), free(want_h), free(want), free(part), free(ids);
    release(&gate), release(&up), release(&down);
}

static int route(zl_ctx *ctx, int64_t n, int64_t e, int k, int gating, float *x, float *weights, int32_t *ids) {
    zl_tensor t[3] = {rows_tensor(n, e, x), rows_tensor(n, k ? k : 1, weights), rows_tensor(n, k ? k : 1, ids)};
    zl_op op = {.code = ZL_OP_ROUTE, .ip = {k, gating}};
    memset(op.in, -1, sizeof op.in), memset(op.out, -1, sizeof op.out);
    op.in[0] = 0, op.out[0] = 1, op.out[1] = 2;
    zl_step step = {.n_rows = (int32_t)n};
    return zl_run(ctx, &op, 1, t, 3, &step);
}

static void test_route(zl_ctx *ctx) {
    enum { N = 300, WIDE = 37 };
    float *x = floats(N * WIDE), *weights = floats(N * WIDE);
    int32_t *ids = calloc(N * WIDE, 4);
    for (int k = 1; k <= WIDE; k += k < 4 ? 1 : 11)
        for (int gating = 0; gating < 4; gating++) {
            for (int i = 0; i < N * WIDE; i++) x[i] = floorf(uniform() * 6) * 0.5f; /* many are equal */
            x[5] = x[9] = NAN, x[WIDE + 3] = -INFINITY;
            CHECK(route(ctx, N, WIDE, k, gating, x, weights, ids) == ZL_OK, "k %d", k);
            CHECK(ids[0] == 5 && (k == 1 || ids[1] == 9) && (isnan(weights[0])), "NaN comes first");
            int wrong = 0;
            for (int t = 1; t < N; t++) {
                const float *row = x + t * WIDE, *w = weights + t * k;
                double all = 0, chosen = 0, each = 0;
                for (int i = 0; i < WIDE; i++) all += exp((double)row[i]);
                for (int j = 0; j < k; j++) {
                    const int id = ids[t * k + j];
                    int rank = 0; /* how many come before it */
                    for (int i = 0; i < WIDE; i++) rank += row[i] > row[id] || (i < id && row[i] == row[id]);
                    wrong += rank != j;
                    chosen += exp((double)row[id]), each += 1 / (1 + exp(-(double)row[id]));
                }
                for (int j = 0; j < k; j++) {
                    const double v = row[ids[t * k + j]], s = 1 / (1 + exp(-v));
                    const double want = gating == ZL_SOFTMAX_ALL ? exp(v) / all : gating == ZL_SOFTMAX_CHOSEN ? exp(v) / chosen : gating == ZL_SIGMOID_EACH ? s : s / each;
                    wrong += !(fabs((double)w[j] - want) <= 1e-5);
                }
            }
            CHECK(!wrong, "k %d, gating %d: %d are wrong", k, gating, wrong);
        }
    CHECK(route(ctx, 1, WIDE, 0, 0, x, weights, ids) == ZL_E_ARG && route(ctx, 1, WIDE, WIDE + 1, 0, x, weights, ids) == ZL_E_ARG, "k");
    CHECK(route(ctx, 1, WIDE, 2, 4, x, weights, ids) == ZL_E_ARG && route(ctx, 1, WIDE, 2, -1, x, weights, ids) == ZL_E_ARG, "gating");
    CHECK(route(ctx, 0, WIDE, 2, 0, x, weights, ids) == ZL_OK, "no rows");
    free(x), free(weights), free(ids);
}

/* Shapes that do not fit, and a stack where one matrix is wanted. */
static void test_refused(zl_ctx *ctx) {
    float data[2 * 3 * 4] = {0}, x[4 * 4] = {0}, y[4 * 12] = {0}, weights[2 * 256] = {0};
    zl_weight *w, *other;
    CHECK(zl_weight_new_stack(ctx, ZL_TYPE_F32, 0, 3, 4, data, sizeof data, 0, &w) == ZL_E_SHAPE, "no matrix");
    CHECK(zl_weight_new_stack(ctx, ZL_TYPE_F32, ZL_MOST, 3, 4, data, sizeof data, 0, &w) == ZL_E_SHAPE, "too many");
    CHECK(zl_weight_new_stack(ctx, ZL_TYPE_F32, 3, 3, 4, data, sizeof data, 0, &w) == ZL_E_SHAPE, "other bytes");
    CHECK(zl_weight_new_stack(ctx, ZL_TYPE_F32, 2, 3, 4, data, sizeof data, 0, &w) == ZL_OK, "a stack");
    CHECK(zl_weight_new_stack(ctx, ZL_TYPE_F32, 3, 2, 4, data, sizeof data, 0, &other) == ZL_OK, "a stack");
    zl_tensor t[8] = {rows_tensor(2, 4, x), rows_tensor(2, 2, weights), weight_tensor(w), weight_tensor(other), rows_tensor(2, 6, y),
                      rows_tensor(2, 257, weights), rows_tensor(2, 8, y), rows_tensor(2, 3, y)};
    static const struct { int code, ip, in[4], out, want; } cases[] = {
        {ZL_OP_EXPERTS_GATED, ZL_SILU, {0, 1, 2, 2}, 4, ZL_OK},
        {ZL_OP_EXPERTS_GATED, 0, {0, 1, 2, 2}, 4, ZL_E_ARG},         {ZL_OP_EXPERTS_GATED, 10, {0, 1, 2, 2}, 4, ZL_E_ARG},
        {ZL_OP_EXPERTS_GATED, ZL_SILU, {0, 1, 2, 3}, 4, ZL_E_SHAPE}, {ZL_OP_EXPERTS_GATED, ZL_SILU, {0, 5, 2, 2}, 4, ZL_E_SHAPE},
        {ZL_OP_EXPERTS_GATED, ZL_SILU, {4, 1, 2, 2}, 4, ZL_E_SHAPE}, {ZL_OP_EXPERTS_GATED, ZL_SILU, {0, 1, 2, 2}, 6, ZL_E_SHAPE},
        {ZL_OP_EXPERTS_GATED, ZL_SILU, {0, 1, 2, 0}, 4, ZL_E_ARG},   {ZL_OP_EXPERTS_DOWN, 0, {6, 1, 1, 2}, 7, ZL_OK},
        {ZL_OP_EXPERTS_DOWN, 0, {6, 1, 5, 2}, 7, ZL_E_SHAPE},        {ZL_OP_EXPERTS_DOWN, 0, {4, 1, 1, 2}, 7, ZL_E_SHAPE},
        {ZL_OP_EXPERTS_DOWN, 0, {6, 1, 1, 2}, 4, ZL_E_SHAPE},        {ZL_OP_LINEAR, 0, {0, 2, -1, -1}, 7, ZL_E_SHAPE},
        {ZL_OP_EMBED, 0, {2, -1, -1, -1}, 0, ZL_E_SHAPE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zl_op op = {.code = cases[i].code, .ip = {cases[i].code == ZL_OP_LINEAR ? 1 : cases[i].ip}};
        memset(op.in, -1, sizeof op.in), memset(op.out, -1, sizeof op.out);
        memcpy(op.in, cases[i].in, sizeof cases[i].in);
        op.out[0] = cases[i].out;
        int32_t tokens[2] = {0, 1};
        zl_step step = {.n_rows = 2, .tokens = tokens};
        const int status = zl_run(ctx, &op, 1, t, 8, &step);
        CHECK(status == cases[i].want, "case %d: %d, want %d", (int)i, status, cases[i].want);
    }
    zl_weight_free(w), zl_weight_free(other);
}

int selftest_experts(zl_ctx *ctx) {
    failures = 0;
    for (int mapped = 0; mapped < 2; mapped++) {
        test_products(ctx, ZL_TYPE_F32, 37, 50, 2, mapped);
        test_products(ctx, ZL_TYPE_Q8_0, 96, 64, 3, mapped);
        test_products(ctx, ZL_TYPE_Q4_0, 32, 96, 1, mapped);
        test_products(ctx, ZL_TYPE_Q4_K, 256, 256, E, mapped);
        test_products(ctx, ZL_TYPE_Q6_K, 256, 512, 2, mapped);
    }
    test_products(ctx, ZL_TYPE_F16, 64, 33, 2, 0);
    test_products(ctx, ZL_TYPE_IQ4_NL, 64, 32, 2, 0);
    test_route(ctx);
    test_refused(ctx);
    return failures;
}
