/* selftest_linear.c - weights and products against linear_reference.h, with no Python: natively, under sanitizers, and under qemu for the
 * ISA variants of other machines. All results are compared bit by bit; arrays end at a page that faults.
 */
#include "guarded.h"
#include "linear_reference.h"
#include "selftest.h"
#include <stdlib.h>

static int failures;

static uint64_t seed = 0x9e3779b97f4a7c15u;
static uint32_t next(void) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static float uniform(float lo, float hi) { return lo + (hi - lo) * ((float)(next() >> 8) / 16777216.0f); }

/* Equal bits; any NaN equals any other, since its payload is nobody's promise. */
static int same(float a, float b) { return (a != a && b != b) || memcmp(&a, &b, 4) == 0; }
static int64_t first_difference(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!same(a[i], b[i])) return i;
    return -1;
}

/* ---- weights: any codes; scales of ordinary size, or whatever the bits say ---------------------------------------------------------- */

static void put_half(uint8_t *p, int wild) {
    uint16_t h = (uint16_t)next();
    if (!wild) h = (uint16_t)((h & 0x83ffu) | (8u + next() % 5u) << 10); /* +- 2^-7 to 2^-3 */
    memcpy(p, &h, 2);
}
static void fill_weight(int type, uint8_t *p, int64_t rows, int64_t cols, int wild) {
    const geometry g = geometry_of(type);
    int64_t blocks = rows * cols / g.cols;
    for (int64_t b = 0; b < blocks; b++, p += g.bytes) {
        for (int i = 0; i < g.bytes; i++) p[i] = (uint8_t)next();
        if (type == ZL_TYPE_F32 || type == ZL_TYPE_BF16) {
            float f = uniform(-1, 1);
            memcpy(p, (const uint8_t *)&f + (type == ZL_TYPE_F32 ? 0 : 2), type == ZL_TYPE_F32 ? 4 : 2);
        } else if (type == ZL_TYPE_Q6_K) {
            put_half(p + 208, wild);
        } else {
            put_half(p, wild);
            if (type == ZL_TYPE_Q4_1 || type == ZL_TYPE_Q5_1 || type == ZL_TYPE_Q4_K || type == ZL_TYPE_Q5_K) put_half(p + 2, wild);
        }
    }
}

/* ---- number formats ---------------------------------------------------------------------------------------------------------------- */

static void test_formats(zl_ctx *ctx) {
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i];
        const int64_t cols = is_quantised(type) ? 512 : 77, rows = 19, bytes = rows * row_bytes_of(type, cols);
        guarded file = guard(bytes), values = guard(rows * cols * 4), row = guard(cols * 4);
        for (int wild = 0; wild < 2; wild++) {
            fill_weight(type, file.p, rows, cols, wild);
            float *y = values.p;
            CHECK(zl_dequantize(ctx, type, rows * cols, file.p, bytes, y) == ZL_OK, "type %d", type);
            int wrong = 0;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t k = 0; k < cols; k++)
                    wrong += !same(y[r * cols + k], weight_value(type, (uint8_t *)file.p + r * row_bytes_of(type, cols), k));
            CHECK(wrong == 0, "type %d: %d values are not ggml's", type, wrong);
            for (int form = 0; form < 3; form++) {
                const int mapped = form == ZL_WEIGHT_MAPPED;
                zl_weight *w;
                CHECK(zl_weight_new(ctx, type, rows, cols, file.p, bytes, form < 2 ? form : ZL_WEIGHT_TOGETHER, &w) == ZL_OK, "type %d", type);
                if (!w) continue;
                const int64_t lanes = zl_ctx_kernels(ctx)->lanes;
                CHECK(zl_weight_bytes(w) == (mapped ? 0 : (rows + lanes - 1) / lanes * lanes * row_bytes_of(type, cols)), "type %d", type);
                for (int64_t r = 0; r < rows; r++) {
                    zl_weight_row(w, r, row.p);
                    CHECK(first_difference(row.p, y + r * cols, cols) < 0, "type %d: row %d, mapped %d", type, (int)r, mapped);
                }
                zl_weight_free(w);
            }
        }
        release(&file), release(&values), release(&row);
    }
}

static void test_quantize(zl_ctx *ctx, int per) {
    enum { ROWS = 60 };
    const int COLS = per == 32 ? 96 : 512;
    static const float special[] = {0, -0.0f, 1, -1, 0x1p-119f, 0x1.fffffep-120f, 0x1p-149f, 0x1p-126f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN, 0.5f};
    guarded x = guard(ROWS * COLS * 4), q = guard(ROWS * COLS), d = guard(ROWS * COLS / 32 * 4), s = guard(ROWS * COLS / 16 * 2);
    float *v = x.p;
    for (int r = 0; r < ROWS; r++) {
        const float size = ldexpf(1, (int)(next() % 270) - 143);
        for (int k = 0; k < COLS; k++) {
            v[r * COLS + k] = uniform(-1, 1) * size;
            if (r % 4 == 1) v[r * COLS + k] = (float)((int)(next() % 509) - 254) * 0.5f; /* amax 127: halves are ties */
        }
        if (r % 4 == 1) v[r * COLS + 3] = v[r * COLS + 40] = v[r * COLS + 70] = 127;
        if (r % 4 == 2) v[r * COLS + next() % COLS] = special[next() % (sizeof special / 4)];
        if (r % 4 == 3) for (int k = 0; k < 32; k++) v[r * COLS + k] = special[(r / 4) % (sizeof special / 4)];
    }
    CHECK(zl_quantize_activation(ctx, ROWS, COLS, per, v, q.p, d.p, s.p) == ZL_OK, "quantise");
    for (int b = 0; b < ROWS * COLS / 32; b++) {
        int8_t want[32], *got = (int8_t *)q.p + b * 32;
        float scale;
        int total, half = 0;
        quantize_block(per, v, b, want, &scale, &total);
        for (int i = 0; i < 16; i++) half += want[i];
        CHECK(memcmp(got, want, 32) == 0 && same(((float *)d.p)[b], scale), "block %d: scale %g, want %g", b, (double)((float *)d.p)[b], (double)scale);
        CHECK(((int16_t *)s.p)[2 * b] == half && ((int16_t *)s.p)[2 * b + 1] == total - half, "block %d: sums", b);
    }
    CHECK(zl_quantize_activation(ctx, 1, per * 3 / 2, per, v, q.p, d.p, s.p) == ZL_E_SHAPE &&
              zl_quantize_activation(ctx, 1, per, per, NULL, q.p, d.p, s.p) == ZL_E_ARG && zl_quantize_activation(ctx, 1, 256, 64, v, q.p, d.p, s.p) == ZL_E_ARG &&
              zl_quantize_activation(ctx, 0, per, per, NULL, NULL, NULL, NULL) == ZL_OK, "what is refused");
    release(&x), release(&q), release(&d), release(&s);
}

/* Groups of g rows, as products read them: every g up to the variant's own, columns that fill its steps and that do not. */
static void test_groups(zl_ctx *ctx, int per) {
    enum { MOST = 8, WORDS = 12 };
    static const float special[] = {NAN, INFINITY, -INFINITY, 0x1p-119f, 0x1.fffffep-120f, 0, 3.4e38f};
    const zl_kernels *k = zl_ctx_kernels(ctx);
    CHECK(k->group <= MOST, "a group of %d rows", k->group);
    for (int g = 1; g <= k->group; g++) {
        for (int cols = per; cols <= (per == 32 ? 160 : 512); cols += per) {
            guarded x = guard(g * cols * 4), to = guard(cols / 32 * WORDS * g * 4);
            float *v = x.p;
            for (int i = 0; i < g * cols; i++) v[i] = next() % (uint32_t)(3 * per + 1) ? uniform(-3, 3) : special[next() % 7];
            for (int n = 0; n < g; n++) v[n * cols + (int)(next() % 32)] = n % 3 == 1 ? 127.5f : -50 - 10.0f * (float)n;
            if (g > 1) for (int i = 0; i < 32; i++) v[cols + i] = (float)(i % 2 ? 127 : -127); /* the largest sums, and ties below */
            if (cols > 32) { /* just below the smallest that is kept, and that one */
                for (int i = 32; i < 64; i++) v[i] = (float)(i % 5) * 0x1p-123f;
                v[40] = cols % 64 ? 0x1p-119f : -0x1.fffffep-120f;
            }
            k->quantize_group(g, cols, per, v, to.p);
            int wrong = 0;
            for (int b = 0; b < cols / 32; b++) {
                for (int n = 0; n < g; n++) {
                    const int32_t *words = (int32_t *)to.p + b * WORDS * g;
                    const int all = per / 32;
                    activation a[8], *own = &a[b % all];
                    int half = 0, shift = 0; /* long: scales are unit * 2^shift */
                    for (int j = 0; j < all; j++) quantize_block(per, v + n * cols, b / all * all + j, a[j].q, &a[j].d, &a[j].sum);
                    const float scale = all == 1 ? own->d : unit_of(a);
                    while (all > 1 && shift < 4 && !(scale * (float)(1 << shift) >= own->d && scale > 0)) shift++;
                    for (int i = 0; i < 16; i++) half += own->q[i];
                    for (int w = 0; w < 8; w++) wrong += memcmp(&words[w * g + n], own->q + 4 * w, 4) != 0;
                    const int sums = all == 1 ? -own->sum : (int)(((uint32_t)-half << shift & 0xffffu) | (uint32_t)(half - own->sum) << shift << 16);
                    wrong += !same(float_of((const uint8_t *)&words[8 * g + n]), scale) || words[9 * g + n] != sums;
                    wrong += words[10 * g + n] != (all == 1 ? -half : shift) || words[11 * g + n] != half - own->sum;
                }
            }
            CHECK(wrong == 0, "a group of %d rows by %d columns: %d words are wrong", g, cols, wrong);
            release(&x), release(&to);
        }
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------------------------- */

enum { MAX_W = 3 };
typedef struct {
    int type;
    int64_t rows;
    guarded file;
    zl_weight *w[2];           /* panels, mapped         */
    float *want;               /* (T, rows)              */
} part;

static int fused(zl_ctx *ctx) { return strcmp(zl_ctx_isa(ctx), "generic") != 0; }

static part make_part(zl_ctx *ctx, int type, int64_t rows, int64_t cols) {
    const int64_t bytes = rows * row_bytes_of(type, cols);
    part p = {.type = type, .rows = rows, .file = guard(bytes)};
    fill_weight(type, p.file.p, rows, cols, 0);
    for (int m = 0; m < 2; m++) CHECK(zl_weight_new(ctx, type, rows, cols, p.file.p, bytes, m, &p.w[m]) == ZL_OK, "type %d", type);
    return p;
}
static void expect(zl_ctx *ctx, part *p, const float *x, int64_t t, int64_t cols, const float *bias, const float *residual) {
    p->want = malloc((size_t)(t * p->rows) * 4 + 4);
    outputs(p->type, p->file.p, p->rows, x, t, cols, fused(ctx), p->want);
    for (int64_t i = 0; i < t * p->rows; i++) {
        if (bias) p->want[i] += bias[i % p->rows];
        if (residual) p->want[i] += residual[i];
    }
}
static void drop_part(part *p) {
    zl_weight_free(p->w[0]), zl_weight_free(p->w[1]);
    release(&p->file);
    free(p->want);
}

static zl_tensor rows_tensor(float *p, int64_t t, int64_t cols) { return (zl_tensor){.kind = ZL_EXTERNAL, .rows = t, .cols = cols, .data = p}; }

/* The op with n parts, T rows of x; residuals, when given, are in the outputs (in place). */
static void run_parts(zl_ctx *ctx, part *p, int n, int mapped, float *x, int64_t t, int64_t cols, float *const *bias, float *const *out, int residual) {
    zl_tensor tensors[1 + 3 * MAX_W] = {rows_tensor(x, t, cols)};
    zl_op op = {.code = ZL_OP_LINEAR, .in = {0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}, .ip = {n}};
    for (int i = 0; i < n; i++) {
        tensors[1 + 3 * i] = (zl_tensor){.kind = ZL_WEIGHT, .data = p[i].w[mapped]};
        tensors[2 + 3 * i] = rows_tensor(out[i], t, p[i].rows);
        tensors[3 + 3 * i] = (zl_tensor){.kind = ZL_CONST, .rows = 1, .cols = p[i].rows, .data = bias && bias[i] ? bias[i] : x};
        op.in[1 + 3 * i] = 1 + 3 * i;
        op.in[2 + 3 * i] = bias && bias[i] ? 3 + 3 * i : -1;
        op.in[3 + 3 * i] = residual ? 2 + 3 * i : -1;
        op.out[i] = 2 + 3 * i;
    }
    zl_step step = {.n_rows = (int32_t)t, .n_seq = 1};
    CHECK(zl_run(ctx, &op, 1, tensors, 1 + 3 * n, &step) == ZL_OK, "linear");
}

/* One weight: every way to run it gives the reference's bits. */
static void test_product(zl_ctx *ctx, int type, int64_t rows, int64_t cols, int64_t most, const float *fixed) {
    static const int batches[] = {1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 33, 150, 600};
    guarded x = guard(most * cols * 4), bias = guard(rows * 4);
    float *v = x.p, *b = bias.p;
    for (int64_t i = 0; i < most * cols; i++) v[i] = fixed ? fixed[i % 2] : uniform(-2, 2) * (i / 40 % 3 ? 1.0f : 30.0f);
    for (int64_t i = 0; i < rows; i++) b[i] = uniform(-1, 1);
    part p = make_part(ctx, type, rows, cols);
    expect(ctx, &p, v, most, cols, NULL, NULL);
    for (int mapped = 0; mapped < 2 && p.w[mapped]; mapped++) {
        for (int i = 0; i < (int)(sizeof batches / sizeof batches[0]) && batches[i] <= most; i++) {
            const int64_t t = batches[i];
            guarded xs = guard(t * cols * 4), out = guard(t * rows * 4);
            float *y = out.p;
            memcpy(xs.p, v, (size_t)(t * cols) * 4);
            run_parts(ctx, &p, 1, mapped, xs.p, t, cols, NULL, &y, 0);
            int64_t at = first_difference(y, p.want, t * rows);
            CHECK(at < 0, "type %d (%d x %d), %d rows, mapped %d: [%d] is %.9g, want %.9g", type, (int)rows, (int)cols, (int)t, mapped, (int)at,
                  (double)y[at], (double)p.want[at]);
            /* Bias, then the residual that lies where the output goes. */
            for (int64_t j = 0; j < t * rows; j++) y[j] = (float)(j % 11) - 5.25f;
            run_parts(ctx, &p, 1, mapped, xs.p, t, cols, &b, &y, 1);
            int wrong = 0;
            for (int64_t j = 0; j < t * rows; j++) wrong += !same(y[j], (p.want[j] + b[j % rows]) + ((float)(j % 11) - 5.25f));
            CHECK(wrong == 0, "type %d (%d x %d), %d rows, mapped %d: bias and residual, %d wrong", type, (int)rows, (int)cols, (int)t, mapped, wrong);
            release(&xs), release(&out);
        }
    }
    drop_part(&p);
    release(&x), release(&bias);
}

static void test_products(zl_ctx *ctx) {
    static const float extremes[] = {1, 1}, signs[] = {-1, 1};
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i], q = is_quantised(type), block = geometry_of(type).cols;
        test_product(ctx, type, 1, q ? block : 1, 9, NULL);
        test_product(ctx, type, 21, q ? 3 * block : 37, 33, NULL);
        test_product(ctx, type, 67, q ? (block > 512 / 3 ? 768 : 544) : 300, 13, NULL); /* many blocks of K, several panels */
        test_product(ctx, type, 8, q ? 256 : 64, 13, extremes);                            /* all codes of x at 127 */
        test_product(ctx, type, 8, q ? 256 : 64, 13, signs);
    }
    test_product(ctx, ZL_TYPE_Q4_1, 130, 64, 600, NULL); /* more rows of x than one chunk takes */
    test_product(ctx, ZL_TYPE_F16, 70, 20, 600, NULL);
}

/* Codes at their ends: the largest integer sums there are. */
static void test_extreme_codes(zl_ctx *ctx) {
    enum { ROWS = 5, COLS = 256, T = 40 };
    static const uint8_t bytes[] = {0xff, 0x80, 0x7f, 0x00};
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i];
        if (!is_quantised(type)) continue;
        part p = make_part(ctx, type, ROWS, COLS);
        const int64_t n = ROWS * row_bytes_of(type, COLS), size = geometry_of(type).bytes;
        for (int c = 0; c < 4; c++) {
            for (int64_t b = 0; b < n; b++) ((uint8_t *)p.file.p)[b] = bytes[c];
            for (int64_t b = 0; b < n; b += size) {
                uint8_t *at = (uint8_t *)p.file.p + b;
                put_half(type == ZL_TYPE_Q6_K ? at + 208 : at, 0);
                if (quant_value(type, at, 0).has_offset) put_half(at + 2, 0);
            }
            float x[T * COLS], y[T * ROWS], *out = y;
            for (int j = 0; j < T * COLS; j++) x[j] = j / COLS % 2 ? -1 : j % 3 == 1 && j / COLS > 5 ? -1 : 1;
            expect(ctx, &p, x, T, COLS, NULL, NULL);
            run_parts(ctx, &p, 1, 1, x, T, COLS, NULL, &out, 0);
            CHECK(first_difference(y, p.want, T * ROWS) < 0, "type %d, bytes %#x, many rows", type, bytes[c]);
            run_parts(ctx, &p, 1, 1, x, 3, COLS, NULL, &out, 0);
            CHECK(first_difference(y, p.want, 3 * ROWS) < 0, "type %d, bytes %#x, three rows", type, bytes[c]);
            free(p.want), p.want = NULL;
        }
        drop_part(&p);
    }
}

/* Three weights of different types share x: as each alone. Large enough for chunks to be stolen. */
static void test_shared_x(zl_ctx *ctx, int first, int second, int third) {
    enum { COLS = 512, T = 40 };
    static float x[T * COLS], bias[300];
    for (int i = 0; i < T * COLS; i++) x[i] = uniform(-1, 1);
    for (int i = 0; i < 300; i++) bias[i] = uniform(-1, 1);
    part p[3] = {make_part(ctx, first, 300, COLS), make_part(ctx, second, 65, COLS), make_part(ctx, third, 129, COLS)};
    float *b[3] = {bias, NULL, bias}, *out[3];
    for (int i = 0; i < 3; i++) expect(ctx, &p[i], x, T, COLS, b[i], NULL), out[i] = malloc((size_t)(T * p[i].rows) * 4);
    static const int batches[] = {1, 4, 6, T};
    for (int m = 0; m < 2; m++) {
        for (int k = 0; k < 4; k++) {
            for (int i = 0; i < 3; i++) memset(out[i], 0x7f, (size_t)(T * p[i].rows) * 4);
            run_parts(ctx, p, 3, m, x, batches[k], COLS, b, out, 0);
            for (int i = 0; i < 3; i++)
                CHECK(first_difference(out[i], p[i].want, batches[k] * p[i].rows) < 0, "weight %d of 3, %d rows, mapped %d", i, batches[k], m);
        }
    }
    /* No rows: nothing is touched. */
    memset(out[0], 0x55, 4);
    run_parts(ctx, p, 3, 0, x, 0, COLS, b, out, 0);
    CHECK(((uint8_t *)out[0])[0] == 0x55, "a step of no rows wrote");
    for (int i = 0; i < 3; i++) drop_part(&p[i]), free(out[i]);
}

/* Gate and up in one op: what two products and a glu give, bit by bit. */
static void test_gated(zl_ctx *ctx) {
    enum { COLS = 256, T = 20, ROWS = 333, N = T * ROWS };
    static float x[T * COLS], bias[ROWS], y[2][N], joined[N];
    static const int types[][2] = {{ZL_TYPE_Q4_1, ZL_TYPE_Q4_1}, {ZL_TYPE_Q6_K, ZL_TYPE_F16}}, batches[] = {0, 1, 4, 6, 20}, acts[] = {ZL_SILU, ZL_GELU_TANH};
    for (int i = 0; i < T * COLS; i++) x[i] = uniform(-1, 1);
    for (int i = 0; i < ROWS; i++) bias[i] = uniform(-1, 1);
    for (int k = 0; k < 2; k++) {
        part p[2] = {make_part(ctx, types[k][0], ROWS, COLS), make_part(ctx, types[k][1], ROWS, COLS)};
        expect(ctx, &p[0], x, T, COLS, bias, NULL), expect(ctx, &p[1], x, T, COLS, NULL, NULL);
        zl_tensor two[] = {rows_tensor(p[0].want, T, ROWS), rows_tensor(p[1].want, T, ROWS), rows_tensor(joined, T, ROWS)};
        zl_op glu = {.code = ZL_OP_GLU, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {acts[k]}};
        zl_step step = {.n_rows = T, .n_seq = 1};
        CHECK(zl_run(ctx, &glu, 1, two, 3, &step) == ZL_OK, "glu");
        for (int b = 0; b < 10; b++) {
            const int t = batches[b / 2], mapped = b % 2;
            zl_tensor tensors[] = {rows_tensor(x, T, COLS), {.kind = ZL_WEIGHT, .data = p[0].w[mapped]}, {.kind = ZL_CONST, .rows = 1, .cols = ROWS, .data = bias},
                                   {.kind = ZL_WEIGHT, .data = p[1].w[mapped]}, rows_tensor(y[0], T, ROWS), rows_tensor(y[1], T, ROWS)};
            zl_op op = {.code = ZL_OP_LINEAR, .in = {0, 1, 2, -1, 3, -1, -1, -1, -1, -1, -1, -1}, .out = {4, 5, -1, -1}, .ip = {2, acts[k]}};
            memset(y, 0x7f, sizeof y);
            step.n_rows = t;
            CHECK(zl_run(ctx, &op, 1, tensors, 6, &step) == ZL_OK, "gated: %s", zl_error());
            int64_t at = first_difference(y[0], joined, t * ROWS);
            CHECK(at < 0, "gated, types %d and %d, %d rows, mapped %d: [%d] is %.9g, want %.9g", types[k][0], types[k][1], t, mapped, (int)at,
                  (double)y[0][at], (double)joined[at]);
            CHECK(((uint8_t *)y[0])[t * ROWS * 4] == 0x7f || t == T, "gated: wrote past row %d", t);
        }
        drop_part(&p[0]), drop_part(&p[1]);
    }
}

/* A value that is not finite makes its own row NaN and leaves the others as they are. */
static void test_not_finite(zl_ctx *ctx) {
    enum { COLS = 256, T = 12, ROWS = 20 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < N_TYPES; i++) {
        float x[T * COLS], y[T * ROWS], *out = y;
        if (!is_quantised(all_types[i])) continue;
        part p = make_part(ctx, all_types[i], ROWS, COLS);
        for (int j = 0; j < T * COLS; j++) x[j] = uniform(-1, 1);
        x[2 * COLS + 200] = bad[i % 3], x[11 * COLS] = bad[(i + 1) % 3];
        expect(ctx, &p, x, T, COLS, NULL, NULL);
        for (int t = 3; t <= T; t += T - 3) {
            run_parts(ctx, &p, 1, 0, x, t, COLS, NULL, &out, 0);
            CHECK(first_difference(y, p.want, t * ROWS) < 0 && y[2 * ROWS] != y[2 * ROWS] && y[ROWS] == y[ROWS], "type %d, %d rows", all_types[i], t);
        }
        drop_part(&p);
    }
}

/* ---- products in bf16 ----------------------------------------------------------------------------------------------------------------- */

static void test_bf16(zl_ctx *ctx) {
    static const int types[] = {ZL_TYPE_F16, ZL_TYPE_BF16}, batches[] = {1, 2, 3, 4, 5, 11, 12, 13, 33};
    static const int64_t shapes[][2] = {{1, 1}, {21, 37}, {67, 300}, {40, 7}};
    for (int i = 0; i < 8; i++) {
        const int type = types[i % 2];
        const int64_t rows = shapes[i / 2][0], cols = shapes[i / 2][1], bytes = rows * row_bytes_of(type, cols);
        guarded file = guard(bytes), row = guard(cols * 4);
        fill_weight(type, file.p, rows, cols, i == 4); /* F16 of any bits: denormals, infinities, NaN */
        float *want = malloc((size_t)(33 * rows) * 4), *x = malloc((size_t)(33 * cols) * 4);
        for (int64_t k = 0; k < 33 * cols; k++) x[k] = k % 7 == 3 ? tie(k) : k % 17 ? uniform(-2, 2) : ldexpf(uniform(-1, 1), -124 - (int)(next() % 12));
        for (int64_t t = 0; t < 33; t++)
            for (int64_t r = 0; r < rows; r++) want[t * rows + r] = output_bf16(type, (uint8_t *)file.p + r * row_bytes_of(type, cols), x + t * cols, cols);
        for (int mapped = 0; mapped < 2; mapped++) {
            zl_weight *w;
            const int status = zl_weight_new(ctx, type, rows, cols, file.p, bytes, mapped | ZL_WEIGHT_BF16, &w);
            if (!zl_ctx_kernels(ctx)->bf16) {
                CHECK(status == ZL_E_ISA_CPU && !w, "bf16 where no instruction has it");
                continue;
            }
            CHECK(status == ZL_OK, "bf16");
            if (!w) continue;
            for (int64_t r = 0; r < rows; r++) {
                int wrong = 0;
                zl_weight_row(w, r, row.p);
                for (int64_t k = 0; k < cols; k++) wrong += !same(((float *)row.p)[k], weight_value(type, (uint8_t *)file.p + r * row_bytes_of(type, cols), k));
                CHECK(wrong == 0, "type %d in pairs: row %d, mapped %d", type, (int)r, mapped);
            }
            part p = {.type = type, .rows = rows, .w = {w, w}};
            for (int b = 0; b < (int)(sizeof batches / sizeof batches[0]); b++) {
                const int64_t t = batches[b];
                guarded xs = guard(t * cols * 4), out = guard(t * rows * 4);
                float *y = out.p;
                memcpy(xs.p, x, (size_t)(t * cols) * 4);
                run_parts(ctx, &p, 1, 0, xs.p, t, cols, NULL, &y, 0);
                const int64_t at = first_difference(y, want, t * rows);
                CHECK(at < 0, "bf16, type %d (%d x %d), %d rows, mapped %d: [%d] is %.9g, want %.9g", type, (int)rows, (int)cols, (int)t, mapped,
                      (int)at, (double)y[at], (double)want[at]);
                release(&xs), release(&out);
            }
            zl_weight_free(w);
        }
        free(want), free(x);
        release(&file), release(&row);
    }
    /* the half of a pair that an odd last column leaves is 0, whatever was there */
    uint16_t columns[3 * 16], panel[2 * 16 * 2];
    for (int i = 0; i < 48; i++) columns[i] = 0x3f80;
    memset(panel, 0xff, sizeof panel);
    const int lanes = zl_ctx_kernels(ctx)->lanes;
    zl_ctx_kernels(ctx)->pack(ZL_PAIRS, lanes, 0, 3, (const uint8_t *)columns, 6, (uint8_t *)panel);
    for (int i = 0; i < 2 * lanes; i++)
        CHECK(panel[2 * i] == 0x3f80 && panel[2 * i + 1] == (i < lanes ? 0x3f80 : 0), "pair %d: %04x %04x", i, panel[2 * i], panel[2 * i + 1]);
    static uint8_t q4[36];
    zl_weight *w;
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, q4, 36, ZL_WEIGHT_BF16, &w) == ZL_E_TYPE && !w, "Q4_0 in bf16");
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------------------ */

static void test_refused(zl_ctx *ctx) {
    static uint8_t data[1024];
    static float f[1024];
    zl_weight *w = (zl_weight *)(void *)data;
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, data, 36, 0, NULL) == ZL_E_ARG, "out");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, NULL, 36, 0, &w) == ZL_E_ARG && !w, "data");
    CHECK(zl_weight_new(NULL, ZL_TYPE_Q4_0, 2, 32, data, 36, 0, &w) == ZL_E_ARG, "context");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, data, 36, 16, &w) == ZL_E_ARG, "flags");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, data, 36, ZL_WEIGHT_RELEASE, &w) == ZL_E_ARG, "releasing what no guard knows");
    CHECK(zl_weight_new(ctx, 9, 2, 32, data, 36, 0, &w) == ZL_E_TYPE && zl_weight_new(ctx, -1, 2, 32, data, 36, 0, &w) == ZL_E_TYPE, "types");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 31, data, 36, 0, &w) == ZL_E_SHAPE, "a cut block");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 48, data, 36, 0, &w) == ZL_E_SHAPE, "a cut block after a whole one, whose bytes are right");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_K, 2, 32, data, 36, 0, &w) == ZL_E_SHAPE, "a cut superblock");
    CHECK(zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, data, 35, 0, &w) == ZL_E_SHAPE && zl_weight_new(ctx, ZL_TYPE_Q4_0, 2, 32, data, 37, 0, &w) == ZL_E_SHAPE, "bytes");
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, 0, 4, data, 0, 0, &w) == ZL_E_SHAPE && zl_weight_new(ctx, ZL_TYPE_F32, 4, 0, data, 0, 0, &w) == ZL_E_SHAPE &&
              zl_weight_new(ctx, ZL_TYPE_F32, -4, -4, data, 64, 0, &w) == ZL_E_SHAPE, "no rows, no columns");
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, INT64_C(1) << 31, INT64_C(1) << 31, data, 0, 0, &w) == ZL_E_SHAPE &&
              zl_weight_new(ctx, ZL_TYPE_F32, INT64_MAX, 4, data, -16, 0, &w) == ZL_E_SHAPE &&
              zl_weight_new(ctx, ZL_TYPE_Q8_0, INT64_C(1) << 32, INT64_C(1) << 32, data, 0, 0, &w) == ZL_E_SHAPE, "products that wrap");
    CHECK(zl_weight_bytes(NULL) == 0, "bytes of no weight");
    zl_weight_free(NULL);
    CHECK(zl_dequantize(ctx, ZL_TYPE_Q4_0, 32, data, 17, f) == ZL_E_SHAPE && zl_dequantize(ctx, ZL_TYPE_Q4_0, 32, data, 19, f) == ZL_E_SHAPE &&
              zl_dequantize(ctx, ZL_TYPE_Q4_0, 48, data, 18, f) == ZL_E_SHAPE && zl_dequantize(ctx, ZL_TYPE_Q4_0, 33, data, 18, f) == ZL_E_SHAPE &&
              zl_dequantize(ctx, ZL_TYPE_Q4_0, -32, data, -18, f) == ZL_E_SHAPE && zl_dequantize(ctx, 4, 32, data, 36, f) == ZL_E_TYPE &&
              zl_dequantize(ctx, ZL_TYPE_Q4_0, 32, NULL, 18, f) == ZL_E_ARG && zl_dequantize(ctx, ZL_TYPE_Q4_0, 0, NULL, 0, NULL) == ZL_OK, "dequantize");

    zl_weight *other = NULL;
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, 4, 8, data, 128, 0, &w) == ZL_OK && zl_weight_new(ctx, ZL_TYPE_F32, 3, 8, data, 96, 0, &other) == ZL_OK, "good ones");
    zl_tensor t[] = {rows_tensor(f, 2, 8), {.kind = ZL_WEIGHT, .data = w}, rows_tensor(f + 64, 2, 4), {.kind = ZL_CONST, .rows = 1, .cols = 3, .data = f},
                     rows_tensor(f + 128, 2, 7), rows_tensor(f + 256, 2, 4), rows_tensor(f + 320, 2, 4), {.kind = ZL_WEIGHT, .data = other},
                     rows_tensor(f + 384, 2, 3)};
    t[5].rows_kind = ZL_ROWS_OUT;
    const zl_op good = {.code = ZL_OP_LINEAR, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {1}};
    zl_step step = {.n_rows = 2, .n_seq = 1};
#define REFUSED(status, change) \
    do { \
        zl_op op = good; \
        change; \
        CHECK(zl_run(ctx, &op, 1, t, 9, &step) == status, #change); \
    } while (0)
    REFUSED(ZL_OK, (void)op);
    REFUSED(ZL_E_ARG, op.ip[0] = 0);
    REFUSED(ZL_E_ARG, op.ip[0] = 4);
    REFUSED(ZL_E_ARG, op.ip[0] = 2);       /* the second weight is missing */
    REFUSED(ZL_E_ARG, op.in[1] = 0);       /* rows instead of a weight     */
    REFUSED(ZL_E_SHAPE, op.in[0] = 4);     /* 7 columns of 8               */
    REFUSED(ZL_E_SHAPE, op.out[0] = 4);    /* 7 outputs of 4               */
    REFUSED(ZL_E_ARG, op.out[0] = -1);
    REFUSED(ZL_E_SHAPE, op.in[2] = 3);     /* a bias of 3                  */
    REFUSED(ZL_E_SHAPE, op.in[3] = 0);     /* a residual of 8 columns      */
    REFUSED(ZL_E_SHAPE, op.out[0] = 5);    /* other rows than x            */
    REFUSED(ZL_E_ARG, (op.ip[0] = 2, op.in[4] = 1, op.out[1] = 2)); /* one output twice */
    REFUSED(ZL_E_ARG, op.ip[1] = ZL_SILU);  /* a gate without its up        */
#define GATED(op) (op.ip[0] = 2, op.in[4] = 1, op.out[1] = 6, op.ip[1] = ZL_SILU)
    REFUSED(ZL_OK, GATED(op));
    REFUSED(ZL_E_ARG, (GATED(op), op.ip[1] = ZL_RELU_SQUARED + 1));
    REFUSED(ZL_E_ARG, (GATED(op), op.ip[1] = -1));
    REFUSED(ZL_E_ARG, (GATED(op), op.in[3] = 2)); /* a residual    */
    REFUSED(ZL_E_ARG, (GATED(op), op.in[6] = 2));
    REFUSED(ZL_E_SHAPE, (GATED(op), op.in[4] = 7, op.out[1] = 8)); /* up has 3 rows */
    zl_weight_free(other);
    zl_weight_free(w);
}

int selftest_linear(zl_ctx *ctx) {
    failures = 0;
    test_formats(ctx);
    test_quantize(ctx, 32);
    test_quantize(ctx, 256);
    test_groups(ctx, 32);
    test_groups(ctx, 256);
    test_products(ctx);
    test_extreme_codes(ctx);
    test_shared_x(ctx, ZL_TYPE_Q4_K, ZL_TYPE_F16, ZL_TYPE_Q5_0), test_shared_x(ctx, ZL_TYPE_Q8_0, ZL_TYPE_Q6_K, ZL_TYPE_Q5_K);
    test_gated(ctx);
    test_not_finite(ctx);
    test_bf16(ctx);
    test_refused(ctx);
    return failures;
}
