/* selftest_attention.c - checks of the family `attention` without Python: natively, under sanitizers, under qemu.
 *
 *      values   every row against softmax in double precision over the whole past, within a bound derived from the sums
 *      bits     one row per step on one thread = all rows in one step = chunks = several sequences in one step, on any threads
 *      pages    scattered over the pool, full of NaN before they are written; pages out of the window are taken away
 *      refusal  bad ops and steps give the status that belongs to them
 */
#include "selftest.h"
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#define U 5.9604644775390625e-08 /* 2^-24 */
enum { MAX_POS = 900, MAX_HEADS = 128, MAX_PAGES = 15, SEQS = 2, POOL = SEQS * MAX_PAGES + 3, LAYERS = 2, LAYER = 1 };

static int failures;
static uint64_t seed;
static uint32_t next(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static void fill(float *x, int64_t n, float size) {
    for (int64_t i = 0; i < n; i++) x[i] = size * ((float)(next() >> 8) / 8388608.0f - 1);
}
/* ---- one case: shapes, and the data of SEQS sequences of n positions ------------------------------------------------------------ */

typedef struct {
    int type, n_kv, group, dk, dv, window, n;
    float scale, softcap;
    float slope;                 /* 0: none; else each head has its own, see slope_of */
} shape;

typedef struct {
    shape s;
    float *q, *k, *v;            /* [SEQS][n][heads*dk], [SEQS][n][n_kv*dk], [SEQS][n][n_kv*dv]        */
    float *kept_k, *kept_v;      /* the same as the cache keeps them: rounded to its type              */
    int32_t see_to[SEQS][MAX_POS];
    zl_cache cache;
    int32_t table[SEQS][MAX_PAGES];
    size_t k_bytes, v_bytes;
} world;

/* Any sign: nothing in the arithmetic asks for one. */
static float slope_of(const shape *s, int head) { return head % 3 == 2 ? -0.01f : s->slope / (float)(head + 1); }

static void *need(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) fprintf(stderr, "selftest: out of memory\n"), exit(2);
    return p;
}

/* Fresh pages: every byte 0xff, which is NaN in every type (in Q8_0 it is the scale that is NaN); the pages of a sequence stand anywhere in the pool. */
static void reset_pages(world *w) {
    memset(w->cache.k, 0xff, w->k_bytes);
    memset(w->cache.v, 0xff, w->v_bytes);
    for (int i = 0; i < SEQS * MAX_PAGES; i++) w->table[i % SEQS][i / SEQS] = (i * 7 + 3) % POOL;
}

static double half(double x) {
    double a = fabs(x), step = ldexp(1, a < ldexp(1, -14) ? -24 : ilogb(a) - 10);
    return copysign(nearbyint(a / step) * step, x);
}

/* n values as a cache of that type gives them back. Q8_0: codes of max|x| / 127 in blocks of 32, the scale in half precision. */
static void keep(int type, int64_t n, const float *x, float *to) {
    for (int64_t b = 0; b < n; b += 32) {
        float most = 0;
        for (int64_t i = b; i < b + 32 && i < n; i++) most = fmaxf(most, fabsf(x[i]));
        double d = half((double)(most / 127.0f));
        for (int64_t i = b; i < b + 32 && i < n; i++) {
            if (type == ZL_TYPE_F32) to[i] = x[i];
            else if (type == ZL_TYPE_F16) to[i] = (float)half((double)x[i]);
            else to[i] = (float)(d * (double)nearbyintf(x[i] * (127.0f / most))); /* exact: 11 bits times 8 */
        }
    }
}

static world new_world(shape s) {
    world w = {.s = s};
    int64_t rows = (int64_t)SEQS * s.n;
    /* bytes of 32 values; heads that are no multiple of 32 have a type whose values stand alone */
    size_t size = s.type == ZL_TYPE_Q8_0 ? 34 : s.type == ZL_TYPE_F16 ? 64 : 128, pages = (size_t)POOL * LAYERS * (size_t)s.n_kv * 64;
    w.q = need((size_t)(rows * s.n_kv * s.group * s.dk) * 4);
    w.k = need((size_t)(rows * s.n_kv * s.dk) * 4);
    w.v = need((size_t)(rows * s.n_kv * s.dv) * 4);
    fill(w.q, rows * s.n_kv * s.group * s.dk, 2), fill(w.k, rows * s.n_kv * s.dk, 2), fill(w.v, rows * s.n_kv * s.dv, 3);
    w.k_bytes = pages * (size_t)s.dk * size / 32, w.v_bytes = pages * (size_t)s.dv * size / 32;
    w.kept_k = need((size_t)(rows * s.n_kv * s.dk) * 4), w.kept_v = need((size_t)(rows * s.n_kv * s.dv) * 4);
    keep(s.type, rows * s.n_kv * s.dk, w.k, w.kept_k), keep(s.type, rows * s.n_kv * s.dv, w.v, w.kept_v);
    w.cache = (zl_cache){s.type, 3, LAYERS, s.n_kv, s.dk, s.dv, POOL, 0, need(w.k_bytes), need(w.v_bytes)};
    for (int i = 0; i < SEQS; i++)
        for (int t = 0; t < s.n; t++) w.see_to[i][t] = t < 5 && s.n > 9 && i == 1 ? 4 : t; /* a bidirectional prefix in sequence 1 */
    return w;
}

static void free_world(world *w) {
    free(w->q), free(w->k), free(w->v), free(w->kept_k), free(w->kept_v), free(w->cache.k), free(w->cache.v);
}

/* ---- running ------------------------------------------------------------------------------------------------------------------- */

/* Store and attend in one step: rows from[i] .. to[i]-1 of each sequence i; out is [SEQS][n][heads*dv]. */
static int step(zl_ctx *ctx, world *w, const int *from, const int *to, float *out) {
    const shape *s = &w->s;
    int heads = s->n_kv * s->group, rows = 0;
    int64_t qc = (int64_t)heads * s->dk, kc = (int64_t)s->n_kv * s->dk, vc = (int64_t)s->n_kv * s->dv, oc = (int64_t)heads * s->dv;
    int32_t pos[SEQS * MAX_POS], see[SEQS * MAX_POS], seq[SEQS * MAX_POS];
    float slopes[MAX_HEADS];
    size_t most = SEQS * (size_t)s->n;
    float *q = need(most * (size_t)qc * 4), *k = need(most * (size_t)kc * 4), *v = need(most * (size_t)vc * 4), *o = need(most * (size_t)oc * 4);
    for (int i = 0; i < SEQS; i++)
        for (int t = from[i]; t < to[i]; t++, rows++) {
            int64_t at = (int64_t)i * s->n + t;
            pos[rows] = t, see[rows] = w->see_to[i][t], seq[rows] = i;
            memcpy(q + rows * qc, w->q + at * qc, (size_t)qc * 4);
            memcpy(k + rows * kc, w->k + at * kc, (size_t)kc * 4);
            memcpy(v + rows * vc, w->v + at * vc, (size_t)vc * 4);
        }
    zl_tensor t[] = {{.kind = ZL_EXTERNAL, .rows = rows, .cols = qc, .data = q},
                     {.kind = ZL_EXTERNAL, .rows = rows, .cols = kc, .data = k},
                     {.kind = ZL_EXTERNAL, .rows = rows, .cols = vc, .data = v},
                     {.kind = ZL_CACHE, .data = &w->cache},
                     {.kind = ZL_EXTERNAL, .rows = rows, .cols = oc, .data = o},
                     {.kind = ZL_CONST, .rows = 1, .cols = heads, .data = slopes}};
    for (int h = 0; h < heads; h++) slopes[h] = slope_of(s, h);
    zl_op ops[] = {{.code = ZL_OP_KV_STORE, .in = {1, 2, 3}, .out = {-1, -1, -1, -1}, .ip = {LAYER}},
                   {.code = ZL_OP_ATTENTION, .in = {0, 3}, .out = {4, -1, -1, -1}, .ip = {LAYER, heads, s->window}, .fp = {s->scale, s->softcap}}};
    for (int j = 2; j < 12; j++) ops[1].in[j] = -1;
    for (int j = 3; j < 12; j++) ops[0].in[j] = -1;
    if (s->slope != 0) ops[1].in[2] = 5;
    zl_step st = {.n_rows = rows, .n_seq = SEQS, .cache_pos = pos, .see_to = see, .seq = seq};
    st.tables[3] = &w->table[0][0], st.table_width[3] = MAX_PAGES;
    int status = zl_run(ctx, ops, 2, t, 6, &st);
    rows = 0;
    for (int i = 0; i < SEQS; i++)
        for (int r = from[i]; r < to[i]; r++, rows++) memcpy(out + ((int64_t)i * s->n + r) * oc, o + rows * oc, (size_t)oc * 4);
    free(q), free(k), free(v), free(o);
    return status;
}

/* All positions of both sequences in steps of `chunk` rows (0: everything at once), the sequences together or one after the other. */
static void run_all(zl_ctx *ctx, world *w, int chunk, int together, float *out) {
    int n = w->s.n;
    reset_pages(w);
    if (chunk == 0) chunk = n;
    for (int first = 0; first < (together ? 1 : SEQS); first++)
        for (int t = 0; t < n; t += chunk) {
            /* a row of the bidirectional prefix needs the keys of the whole prefix: it is one chunk */
            int from[SEQS] = {0}, to[SEQS] = {0};
            for (int i = 0; i < SEQS; i++) {
                if (!together && i != first) continue;
                from[i] = t, to[i] = t + chunk < n ? t + chunk : n;
                if (w->see_to[i][0] == 4 && to[i] <= 4) to[i] = from[i];
                else if (w->see_to[i][0] == 4 && from[i] <= 4) from[i] = 0;
            }
            for (int i = 0; i < SEQS && w->s.window; i++) /* what fell out of the window of every row has no page any more */
                for (int p = 0; p < (from[i] - w->s.window + 1) / 64; p++) w->table[i][p] = -1;
            int status = step(ctx, w, from, to, out);
            CHECK(status == ZL_OK, "rows %d..%d: status %d", t, t + chunk, status);
        }
}

/* ---- values --------------------------------------------------------------------------------------------------------------------- */

static void check_row(const world *w, int i, int t, int head, const float *out) {
    const shape *s = &w->s;
    int heads = s->n_kv * s->group, g = head / s->group, last = w->see_to[i][t];
    int first = s->window && t - s->window + 1 > 0 ? t - s->window + 1 : 0;
    const float *q = w->q + ((int64_t)i * s->n + t) * heads * s->dk + (int64_t)head * s->dk;
    double x[MAX_POS], top = -INFINITY, sum = 0, error = 0;
    for (int p = first; p <= last; p++) {
        const float *k = w->kept_k + (((int64_t)i * s->n + p) * s->n_kv + g) * s->dk;
        double size = 0;
        x[p] = 0;
        for (int c = 0; c < s->dk; c++) x[p] += (double)k[c] * (double)q[c], size += fabs((double)k[c] * (double)q[c]);
        x[p] *= (double)s->scale;
        /* dk products and sums (two roundings each where there is no fused instruction), scale, the difference to the maximum */
        error = fmax(error, (2 * s->dk + 4) * U * size * (double)s->scale);
        if (s->softcap > 0) x[p] = (double)s->softcap * tanh(x[p] / (double)s->softcap), error += 8 * U * (double)s->softcap;
        if (s->slope != 0) { /* log2(e) times the slope, and the sum, which may be larger than either */
            const double bias = (double)slope_of(s, head) * (p - t);
            error += 4 * U * (fabs(bias) + fabs(x[p])), x[p] += bias;
        }
        top = fmax(top, x[p]);
    }
    for (int p = first; p <= last; p++) x[p] = exp(x[p] - top), sum += x[p];
    int spans = last / 64 - first / 64 + 1;
    /* a weight is off by the errors of two scores, exp, the span's sum (64) and value (64 * 2), and 4 factors per merge */
    double off = expm1(2 * error) + (3 * 64 + 16 + 12 * spans) * U;
    for (int c = 0; c < s->dv; c++) {
        double want = 0, size = 0;
        for (int p = first; p <= last; p++) {
            double v = (double)w->kept_v[(((int64_t)i * s->n + p) * s->n_kv + g) * s->dv + c], a = x[p] / sum;
            want += a * v, size += a * fabs(v);
        }
        CHECK(fabs((double)out[c] - want) <= off * size + 1e-30, "type %d, %d x %d heads of %d and %d, window %d: sequence %d row %d head %d channel %d: %g, want %g",
              s->type, s->n_kv, s->group, s->dk, s->dv, s->window, i, t, head, c, (double)out[c], want);
    }
}

/* Pages are [page][layer][kv head]: of the layer that was written, something is in every page of the table, of the other nothing in any. */
static void check_layers(const world *w) {
    const shape *s = &w->s;
    for (int which = 0; which < 2; which++) {
        const uint8_t *base = which ? w->cache.v : w->cache.k;
        const size_t bytes = (which ? w->v_bytes : w->k_bytes) / (POOL * LAYERS); /* of a page's layer */
        for (int page = 0; page < POOL; page++) {
            size_t written[LAYERS] = {0}, used = 0;
            for (int layer = 0; layer < LAYERS; layer++)
                for (size_t b = 0; b < bytes; b++) written[layer] += base[((size_t)page * LAYERS + (size_t)layer) * bytes + b] != 0xff;
            for (int i = 0; i < SEQS * MAX_PAGES; i++) used += w->table[i % SEQS][i / SEQS] == page && i / SEQS <= (s->n - 1) / 64;
            CHECK(written[1 - LAYER] == 0 && (used == 0 || written[LAYER] > 0), "page %d of %s: %zu and %zu bytes of its layers are written", page,
                  which ? "values" : "keys", written[0], written[1]);
        }
    }
}

static void test_shape(zl_ctx *ctx, zl_ctx *alone, shape s, size_t number) {
    world w = new_world(s);
    size_t heads = (size_t)(s.n_kv * s.group), size = SEQS * (size_t)s.n * heads * (size_t)s.dv;
    float *want = need(size * 4), *out = need(size * 4);
    run_all(alone, &w, 1, 0, want);
    check_layers(&w);
    for (int i = 0; i < SEQS; i++)
        for (int t = 0; t < s.n; t += 1 + t % 7)
            for (size_t h = 0; h < heads; h++)
                check_row(&w, i, t, (int)h, want + (((size_t)i * (size_t)s.n + (size_t)t) * heads + h) * (size_t)s.dv);
    static const int chunks[] = {0, 1, 7, 11, 50, 64};
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
        for (int together = 0; together < 2; together++) {
            /* three ways of twelve: the other chunks with the next shape, one row of each sequence in one step among them */
            if (selftest_slow && (c % 2 != number % 2 || together != (int)(c + 1) / 2 % 2)) continue;
            memset(out, 0x55, size * 4);
            run_all(ctx, &w, chunks[c], together, out);
            for (size_t i = 0; i < size; i++)
                if (memcmp(want + i, out + i, 4)) {
                    CHECK(0, "type %d, %d x %d heads of %d and %d, window %d, chunks of %d, together %d: element %zu is %a, a row alone gives %a",
                          s.type, s.n_kv, s.group, s.dk, s.dv, s.window, chunks[c], together, i, (double)out[i], (double)want[i]);
                    break;
                }
        }
    free(want), free(out);
    free_world(&w);
}

/* Values on their way into a page and out of it: every half, and floats of every exponent, at ties and beside them, NaN of any payload. */
static uint16_t half_of(float x) {
    const double a = fabs((double)x);
    const int e = a < ldexp(1, -14) ? -14 : ilogb(a);
    const int m = isinf(x) || a >= 65520 ? 0 : (int)nearbyint(ldexp(a, 10 - e)); /* of 1/1024; 1024 begins the next exponent by itself */
    return (uint16_t)((signbit(x) ? 0x8000 : 0) | (a >= 65520 ? 0x7c00 : a < ldexp(1, -14) ? m : ((e + 14) << 10) + m));
}
static void test_halves(zl_ctx *ctx) {
    enum { N = 65536, STRIDE = 3 };
    static uint16_t all[N], page[STRIDE * 64];
    static float wide[N + 64], x[64];
    for (int i = 0; i < N; i++) all[i] = (uint16_t)i;
    zl_ctx_kernels(ctx)->kv_load(1, 1, N, all, wide, N);
    for (int i = 0; i < N; i++) {
        const int e = (i >> 10) & 31, m = i & 1023;
        const double size = e == 31 ? (m ? (double)NAN : (double)INFINITY) : e ? ldexp(m + 1024, e - 25) : ldexp(m, -24);
        CHECK(isnan(size) ? isnan(wide[i]) : fabs((double)wide[i]) == size && !signbit(wide[i]) == !(i & 0x8000), "half %#x is %a", i, (double)wide[i]);
    }
    for (int round = 0; round < 4000; round++) {
        for (int i = 0; i < 64; i++) {
            uint32_t bits = next();
            if (round % 4 == 1) bits = (bits & 0x8fffffff) | 0x38000000;                    /* sizes that halves have */
            if (round % 4 == 2) bits = (bits & 0x800fe000) | (0x33000000u + (next() % 40u << 23) + (bits & 1 ? 0x1000u : bits & 2 ? 0xfffu : 0x1001u));
            if (round % 4 == 3) bits = (bits & 0x80000000) | (i % 2 ? 0x7f800000u + (1u << next() % 23u) : 0x477fe000u + next() % 0x3000u);
            memcpy(&x[i], &bits, 4);
        }
        memset(page, 0x55, sizeof page);
        zl_ctx_kernels(ctx)->kv_store(1, 1 + round % 64, x, page, STRIDE);
        for (int i = 0; i < STRIDE * 64; i++) {
            const int stored_here = i % STRIDE == 0 && i / STRIDE <= round % 64;
            const float v = x[i / STRIDE];
            CHECK(!stored_here ? page[i] == 0x5555 : isnan(v) ? (page[i] & 0x7fff) > 0x7c00 : page[i] == half_of(v), "%a is stored as %#x at %d of %d", (double)v, page[i], i,
                  round % 64);
        }
    }
}

/* The last step alone: one division, no product with an inverse; a sum of 0 leaves the zeros; nothing beyond dv is touched. */
static void test_finish(zl_ctx *ctx) {
    float o[71], want[71];
    for (int dv = 1; dv <= 70; dv++) {
        const float l = 1 + (float)dv * 0.37f;
        fill(o, 71, 3);
        for (int c = 0; c < 71; c++) want[c] = c < dv ? o[c] / l : o[c];
        zl_ctx_kernels(ctx)->attention_finish(dv, l, o);
        CHECK(!memcmp(o, want, sizeof o), "the quotients of %d channels", dv);
        zl_ctx_kernels(ctx)->attention_finish(dv, 0, o);
        CHECK(!memcmp(o, want, sizeof o), "%d channels of a row that saw nothing", dv);
    }
}

/* ---- what is not finite ---------------------------------------------------------------------------------------------------------- */

/* A NaN or infinite value or key of a position reaches the rows that see it and no other. */
static void test_not_finite(zl_ctx *ctx) {
    for (int which = 0; which < 8; which++) {
            const int where = which & 1, inf = which >> 1 & 1, q8 = which >> 2;
            world w = new_world((shape){q8 ? ZL_TYPE_Q8_0 : ZL_TYPE_F32, 1, q8 ? 1 : 2, q8 ? 32 : 16, q8 ? 32 : 16, 0, 100, 0.25f, 0, 0});
            float *a = need(SEQS * 100 * 32 * 4), *b = need(SEQS * 100 * 32 * 4);
            run_all(ctx, &w, 0, 1, a);
            (where ? w.v : w.k)[70 * w.s.dk + 3] = inf ? INFINITY : NAN; /* position 70 of sequence 0 */
            run_all(ctx, &w, 0, 1, b);
            CHECK(!memcmp(a, b, 70 * 32 * 4), "a row before the %s saw it", inf ? "infinity" : "NaN");
            CHECK(!memcmp(a + 100 * 32, b + 100 * 32, 100 * 32 * 4), "another sequence saw it");
            for (int t = 70; t < 100; t++)
                for (int h = 0; h < w.s.group; h++) {
                    float seen = b[t * 32 + h * 16 + 3];
                    /* a key of +inf (-inf) times q: weight 0 where the score is -inf, NaN where it is +inf; Q8_0 makes either a NaN */
                    CHECK(q8 ? isnan(seen) : where ? !isfinite(seen) : inf || isnan(seen), "row %d head %d does not show it: %g", t, h, (double)seen);
                }
            free(a), free(b), free_world(&w);
        }
}

/* A row that sees nothing (its window ends before see_to begins) is zero. */
static void test_nothing_visible(zl_ctx *ctx) {
    world w = new_world((shape){ZL_TYPE_F16, 1, 3, 8, 12, 10, 150, 0.3f, 0, 0});
    float out[SEQS * 150 * 36];
    for (int t = 100; t < 150; t += 2) w.see_to[0][t] = t - 20;
    memset(out, 0x55, sizeof out);
    run_all(ctx, &w, 0, 1, out);
    for (int t = 100; t < 150; t++)
        for (int c = 0; c < 36; c++) CHECK((out[t * 36 + c] == 0) == (t % 2 == 0), "row %d channel %d is %g", t, c, (double)out[t * 36 + c]);
    free_world(&w);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------------------- */

static void test_refusals(zl_ctx *ctx) {
    float k[3 * 8] = {0}, v[3 * 8] = {0}, q[3 * 16] = {0}, o[3 * 16], pages[2 * 64 * 8] = {0};
    for (int i = 0; i < 26; i++) {
        float slopes[5] = {0};
        zl_cache c = {ZL_TYPE_F32, 0, 1, 2, 4, 4, 1, 0, pages, pages + 512};
        zl_tensor t[] = {{.kind = ZL_EXTERNAL, .rows = 3, .cols = 16, .data = q}, {.kind = ZL_EXTERNAL, .rows = 3, .cols = 8, .data = k},
                         {.kind = ZL_EXTERNAL, .rows = 3, .cols = 8, .data = v}, {.kind = ZL_CACHE, .data = &c},
                         {.kind = ZL_EXTERNAL, .rows = 3, .cols = 16, .data = o}, {.kind = ZL_CONST, .rows = 1, .cols = 4, .data = slopes}};
        zl_op ops[] = {{.code = ZL_OP_KV_STORE, .in = {1, 2, 3, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}},
                       {.code = ZL_OP_ATTENTION, .in = {0, 3, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {4, -1, -1, -1}, .ip = {0, 4, 0}, .fp = {0.5f}}};
        int32_t table[] = {0, -1}, pos[] = {3, 4, 9}, see[] = {3, 4, 9}, seq[] = {0, 0, 0};
        zl_step s = {.n_rows = 3, .n_seq = 1, .cache_pos = pos, .see_to = see, .seq = seq, .tables = {table}, .table_width = {2}};
        int want = ZL_E_SHAPE;
        switch (i) {
        case 0: want = ZL_OK; break;
        case 1: t[1].cols = 7; break;
        case 2: t[2].cols = 9; break;
        case 3: t[0].cols = 15; break;
        case 4: t[4].cols = 17; break;
        case 5: ops[1].ip[1] = 3, t[0].cols = t[4].cols = 12; break;  /* 3 heads over 2, all else fitting     */
        case 6: ops[1].ip[1] = 0; break;
        case 7: ops[1].ip[1] = -2; break;
        case 8: t[0].rows_kind = ZL_ROWS_OUT; break;
        case 9: ops[0].ip[0] = 1, want = ZL_E_BOUNDS; break;          /* layers                               */
        case 10: ops[1].ip[0] = -1, want = ZL_E_BOUNDS; break;
        case 11: ops[1].ip[2] = -1, want = ZL_E_ARG; break;           /* window                               */
        case 12: ops[1].fp[0] = NAN, want = ZL_E_ARG; break;
        case 13: ops[1].fp[1] = -1, want = ZL_E_ARG; break;
        case 14: ops[1].out[0] = 0, want = ZL_E_ARG; break;           /* result over the queries              */
        case 15: ops[1].in[1] = 0, want = ZL_E_ARG; break;            /* no cache                             */
        case 16: see[2] = 64, want = ZL_E_BOUNDS; break;              /* a page that is not there             */
        case 17: table[1] = 1, see[2] = 64, want = ZL_E_BOUNDS; break;/* beyond the pool                      */
        case 18: see[1] = 128, want = ZL_E_BOUNDS; break;             /* beyond the table                     */
        case 19: ops[0].in[2] = -1, want = ZL_E_ARG; break;
        case 20: c.type = ZL_TYPE_Q4_0, want = ZL_E_TYPE; break;      /* no type of a cache                   */
        case 21: c.type = ZL_TYPE_Q8_0; break;                        /* heads of 4 are no whole blocks       */
        case 22: c.type = ZL_TYPE_Q8_0, c.dk = 32, c.dv = 33; break;
        case 23: ops[1].in[2] = 5, want = ZL_OK; break;
        case 24: ops[1].in[2] = 5, t[5].cols = 5; break;              /* slopes of 5 heads, there are 4       */
        case 25: ops[1].in[2] = 0, want = ZL_E_ARG; break;            /* slopes that are rows                 */
        }
        int status = zl_run(ctx, ops, 2, t, 6, &s);
        CHECK(status == want, "case %d: status %d, want %d", i, status, want);
    }
}

/* Two rows far apart in one block, with a window: no row sees the spans between, which have no pages, and what lies before the pool
 * must not be read. As each row alone. */
static void test_gap(zl_ctx *alone) {
    enum { D = 16, GROUP = 8, W = 8, BEFORE = 1 << 16 };
    static float q[2 * GROUP * D], kv[2 * D], both[2 * GROUP * D], one[GROUP * D];
    uint8_t *memory[2];
    for (int i = 0; i < 2; i++) {
        memory[i] = mmap(NULL, 2 * BEFORE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory[i] == MAP_FAILED || mprotect(memory[i], BEFORE, PROT_NONE)) abort();
    }
    zl_cache cache = {.type = ZL_TYPE_F16, .cls = 3, .n_layer = 1, .n_kv = 1, .dk = D, .dv = D, .n_pages = 4, .k = memory[0] + BEFORE, .v = memory[1] + BEFORE};
    int32_t pos[2] = {19, 500}, see[2] = {19, 500}, seq[2] = {0, 0}, table[W] = {2, -1, -1, -1, -1, -1, -1, 1};
    fill(q, 2 * GROUP * D, 2), fill(kv, 2 * D, 2);
    for (int from = 0; from < 3; from++) { /* both, the first, the second */
        const int n = from ? 1 : 2, at = from == 2;
        zl_tensor t[] = {{.kind = ZL_EXTERNAL, .rows = n, .cols = GROUP * D, .data = q + at * GROUP * D}, {.kind = ZL_EXTERNAL, .rows = n, .cols = D, .data = kv + at * D},
                         {.kind = ZL_CACHE, .data = &cache}, {.kind = ZL_EXTERNAL, .rows = n, .cols = GROUP * D, .data = from ? one : both}};
        zl_op ops[] = {{.code = ZL_OP_KV_STORE, .in = {1, 1, 2, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}},
                       {.code = ZL_OP_ATTENTION, .in = {0, 2, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {3, -1, -1, -1}, .ip = {0, GROUP, 20}, .fp = {0.25f}}};
        zl_step st = {.n_rows = n, .n_seq = 1, .cache_pos = pos + at, .see_to = see + at, .seq = seq};
        st.tables[3] = table, st.table_width[3] = W;
        CHECK(zl_run(alone, ops, 2, t, 4, &st) == ZL_OK, "rows far apart");
        if (from) CHECK(!memcmp(one, both + at * GROUP * D, sizeof one), "row %d beside the other differs", at);
    }
    for (int i = 0; i < 2; i++) munmap(memory[i], 2 * BEFORE);
}

/* Rows that look at what another step has stored: as rows that stand at its end and see all of it, whatever positions they have themselves. */
static void test_memory(zl_ctx *ctx) {
    enum { M = 150, D = 16, GROUP = 3, T = 7, W = 3, PAGES = 5 };
    static float kv[M * D], q[T * GROUP * D], own[T * D], seen[T * GROUP * D], want[T * GROUP * D], slopes[GROUP];
    static uint16_t k[PAGES * 64 * D], v[PAGES * 64 * D], own_k[64 * D], own_v[64 * D];
    zl_cache memory = {ZL_TYPE_F16, 5, 1, 1, D, D, PAGES, 0, k, v}, self = {ZL_TYPE_F16, 2, 1, 1, D, D, 1, 0, own_k, own_v};
    int32_t pos[M], seq[M] = {0}, table[W] = {4, 0, 3}, own_table[1] = {0}, planes[2 * T], at[T], last = M - 1, end = M - 1;
    fill(kv, M * D, 2), fill(q, T * GROUP * D, 2), fill(own, T * D, 2);
    for (int i = 0; i < M; i++) pos[i] = i;
    for (int i = 0; i < T; i++) at[i] = planes[i] = i, planes[T + i] = M - 1;
    planes[T + 2] = 40, planes[T + 3] = -1;
    zl_step st = {.n_rows = M, .n_seq = 1, .cache_pos = pos, .see_to = pos, .seq = seq};
    st.tables[5] = table, st.table_width[5] = W;
    zl_tensor stored[] = {{.kind = ZL_EXTERNAL, .rows = M, .cols = D, .data = kv}, {.kind = ZL_CACHE, .data = &memory}};
    zl_op store = {.code = ZL_OP_KV_STORE, .in = {0, 0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}};
    CHECK(zl_run(ctx, &store, 1, stored, 2, &st) == ZL_OK, "storing: %s", zl_error());
    zl_tensor t[] = {{.kind = ZL_EXTERNAL, .rows = T, .cols = GROUP * D, .data = q}, {.kind = ZL_CACHE, .data = &memory},
                     {.kind = ZL_EXTERNAL, .rows = T, .cols = GROUP * D, .data = seen}, {.kind = ZL_EXTERNAL, .rows = T, .cols = D, .data = own},
                     {.kind = ZL_CACHE, .data = &self}, {.kind = ZL_CONST, .rows = 1, .cols = GROUP, .data = slopes}};
    zl_op ops[] = {{.code = ZL_OP_ATTENTION, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {0, GROUP}, .fp = {0.25f}},
                   {.code = ZL_OP_KV_STORE, .in = {3, 3, 4, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {-1, -1, -1, -1}}};
    for (int i = 0; i < T; i++) { /* each alone, at the end of the memory */
        last = planes[T + i], st.n_rows = 1, st.cache_pos = &end, st.see_to = &last;
        zl_tensor one[] = {{.kind = ZL_EXTERNAL, .rows = 1, .cols = GROUP * D, .data = q + i * GROUP * D}, t[1],
                           {.kind = ZL_EXTERNAL, .rows = 1, .cols = GROUP * D, .data = want + i * GROUP * D}};
        if (last < 0) memset(want + i * GROUP * D, 0, GROUP * D * 4);
        else CHECK(zl_run(ctx, ops, 1, one, 3, &st) == ZL_OK, "alone: %s", zl_error());
    }
    st.n_rows = T, st.cache_pos = st.see_to = at, st.positions = planes, st.n_planes = 2;
    st.tables[2] = own_table, st.table_width[2] = 1;
    ops[0].ip[3] = 2;
    CHECK(zl_run(ctx, ops, 2, t, 5, &st) == ZL_OK && !memcmp(seen, want, sizeof want), "rows that see a memory: %s", zl_error());
#define MEMORY_REFUSED(status, change, undo)                                                                   \
    do {                                                                                                       \
        change;                                                                                                \
        CHECK(zl_run(ctx, ops, 2, t, 6, &st) == (status) && *zl_error(), "not refused: %s", #change);          \
        undo;                                                                                                  \
    } while (0)
    MEMORY_REFUSED(ZL_E_BOUNDS, planes[T + 1] = 64 * W, planes[T + 1] = 3);
    MEMORY_REFUSED(ZL_E_BOUNDS, table[1] = PAGES, table[1] = 0);
    MEMORY_REFUSED(ZL_E_BOUNDS, ops[0].ip[3] = 3, ops[0].ip[3] = 2);
    MEMORY_REFUSED(ZL_E_ARG, ops[0].ip[3] = -1, ops[0].ip[3] = 2);
    MEMORY_REFUSED(ZL_E_ARG, ops[0].ip[2] = 9, ops[0].ip[2] = 0);
    MEMORY_REFUSED(ZL_E_ARG, ops[0].in[2] = 5, ops[0].in[2] = -1);
    MEMORY_REFUSED(ZL_E_ARG, st.positions = NULL, st.positions = planes);
    MEMORY_REFUSED(ZL_E_ARG, st.tables[5] = NULL, st.tables[5] = table);
    MEMORY_REFUSED(ZL_E_BOUNDS, at[T - 1] = 64, at[T - 1] = T - 1); /* the other class has room for 64 rows of the step */
#undef MEMORY_REFUSED
    ops[1].in[2] = 1, at[T - 1] = 64 * W; /* the memory's own class is written, and no other: the step's rows need a place in it */
    CHECK(zl_run(ctx, ops, 2, t, 4, &st) == ZL_E_BOUNDS, "a row beyond the memory's table was stored");
}

int selftest_attention(zl_ctx *ctx) {
    failures = 0;
    seed = 0x9e3779b97f4a7c15u;
    test_finish(ctx);
    test_halves(ctx);
    zl_ctx *alone;
    int status = zl_ctx_new(1, zl_ctx_isa(ctx), NULL, &alone);
    CHECK(status == ZL_OK, "a context of one thread: %d", status);
    if (status) return failures;
    const shape shapes[] = {
        /* type, kv heads, group, dk, dv, window, n, scale, softcap, slope */
        {ZL_TYPE_F16, 3, 3, 64, 64, 0, 200, 0.125f, 0, 0},  {ZL_TYPE_F16, 1, 4, 256, 256, 70, 150, 0.0625f, 0, 0},
        {ZL_TYPE_F32, 2, 1, 72, 80, 0, 150, 0.1f, 0, 0},    {ZL_TYPE_F32, 1, 5, 96, 112, 33, 140, 0.1f, 4, 0},
        {ZL_TYPE_F16, 1, 8, 128, 192, 0, 70, 0.09f, 0, 0},  {ZL_TYPE_F32, 2, 2, 1, 1, 0, 135, 1, 0, 0},
        {ZL_TYPE_F16, 2, 3, 5, 7, 1, 135, 0.5f, 0, 0},      {ZL_TYPE_F32, 1, 2, 12, 20, 64, 200, 0.3f, 0, 0},
        {ZL_TYPE_F16, 3, 1, 4, 33, 65, 200, 0.5f, 30, 0},   {ZL_TYPE_F32, 1, 1, 3, 17, 128, 190, 0.5f, 0, 0},
        {ZL_TYPE_F16, 1, 6, 16, 8, 0, 1, 0.25f, 0, 0},      {ZL_TYPE_Q8_0, 3, 3, 64, 64, 0, 200, 0.125f, 0, 0},
        {ZL_TYPE_Q8_0, 2, 2, 32, 96, 33, 140, 0.25f, 4, 0}, {ZL_TYPE_Q8_0, 1, 8, 128, 32, 0, 70, 0.09f, 0, 0},
        /* more heads to a kv head than a block has rows, and no whole tiles of them */
        {ZL_TYPE_F16, 1, 97, 256, 16, 0, 67, 0.06f, 0, 0},  {ZL_TYPE_F32, 1, 128, 128, 8, 0, 66, 0.09f, 0, 0},
        /* 11 rows on 3 threads: more spans than may wait to be merged at once */
        {ZL_TYPE_F16, 1, 2, 16, 16, 0, 900, 0.25f, 0, 0},
        /* slopes: several heads to a kv head and several of these, tails, a window, a cap before them, by spans */
        {ZL_TYPE_F16, 3, 3, 64, 64, 0, 200, 0.125f, 0, 0.5f}, {ZL_TYPE_F32, 2, 5, 12, 20, 33, 140, 0.3f, 4, 0.3f},
        {ZL_TYPE_Q8_0, 1, 8, 32, 32, 0, 90, 0.2f, 0, 0.1f},   {ZL_TYPE_F16, 1, 2, 16, 16, 0, 900, 0.25f, 0, 0.02f},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) test_shape(ctx, alone, shapes[i], i);
    test_not_finite(ctx);
    test_nothing_visible(ctx);
    test_gap(alone);
    test_memory(ctx);
    test_refusals(ctx);
    zl_ctx_free(alone);
    return failures;
}
