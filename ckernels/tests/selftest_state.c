/* selftest_state.c - checks of the family `state` without Python: natively, under sanitizers, under qemu.
 *
 *      values   every row against the formula in double precision, within a bound that is carried on with the state
 *      bits     one row per step = all rows in one step = chunks that cross pages = two sequences in a step
 *      pages    full of NaN before they are written; what a step goes on from stays as it was, so that a step can be run twice
 *      refusal  bad ops and steps give the status that belongs to them
 */
#include "selftest.h"
#include <math.h>

#define U 5.9604644775390625e-08 /* 2^-24 */
enum { N = 150, SEQS = 2, WIDTH = 4, LAYERS = 2, LAYER = 1, POOL = 8 * N };
enum { CONV, SELECTIVE, DUAL };

static int failures;
static uint64_t seed;
static float uniform(float low, float high) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return low + (high - low) * ((float)(seed >> 40) / 16777216.0f);
}
static float *zeros(int64_t n) {
    const size_t bytes = ((size_t)n * 4 + 63) / 64 * 64;
    float *x = aligned_alloc(64, bytes); /* at a line, as a cache's memory is */
    if (!x) fprintf(stderr, "selftest: out of memory\n"), exit(2);
    return memset(x, 0, bytes);
}
static float *values(int64_t n, float low, float high) {
    float *x = zeros(n);
    for (int64_t i = 0; i < n; i++) x[i] = uniform(low, high);
    return x;
}

/* A layer: channels in all, heads, channels of a head, states (or taps), groups. Of the selective scan each channel is a head of one. `shift`:
 * floats from a cache line to where the states begin. */
typedef struct { int kind, channels, heads, d, n, groups, shift; } shape;
typedef struct {
    shape s;
    int64_t x_cols, dt_cols, bc_cols, out_cols;
    float *x, *dt, *b, *c;      /* [SEQS][N][cols]                         */
    float *w, *a, *pass;        /* taps and bias, or A and D               */
    zl_cache cache;
    size_t k_bytes, v_bytes;
    int32_t table[SEQS][WIDTH], next_page;
} world;

static world new_world(shape s) {
    world w = {.s = s, .x_cols = s.channels, .dt_cols = s.kind == DUAL ? s.heads : s.channels, .bc_cols = s.n, .out_cols = s.channels};
    if (s.kind == DUAL) w.x_cols += 2 * s.groups * s.n;
    const int64_t rows = SEQS * N;
    w.x = values(rows * w.x_cols, -1, 1), w.dt = values(rows * w.dt_cols, -6, 2);
    w.b = values(rows * w.bc_cols, -1, 1), w.c = values(rows * w.bc_cols, -1, 1);
    w.w = values((int64_t)s.n * s.channels, -1, 1);
    w.a = values((int64_t)(s.kind == DUAL ? 1 : s.n) * w.dt_cols, -2, -0.05f);
    w.pass = values(s.channels, -1, 1);
    const int dk = s.kind == CONV ? (s.n - 1) * s.channels : 1, dv = s.kind == CONV ? 1 : s.n * s.channels;
    w.cache = (zl_cache){.type = ZL_TYPE_F32, .cls = 3, .n_layer = LAYERS, .n_kv = 1, .dk = dk, .dv = dv, .n_pages = POOL, .state = 1};
    w.k_bytes = (size_t)POOL * LAYERS * (size_t)dk * 4, w.v_bytes = (size_t)POOL * LAYERS * (size_t)dv * 4;
    w.cache.k = zeros((int64_t)w.k_bytes / 4), w.cache.v = zeros((int64_t)w.v_bytes / 4 + s.shift) + s.shift;
    return w;
}
static void free_world(world *w) {
    free(w->x), free(w->dt), free(w->b), free(w->c), free(w->w), free(w->a), free(w->pass), free(w->cache.k), free((float *)w->cache.v - w->s.shift);
}
static void fresh(world *w) {
    memset(w->cache.k, 0xff, w->k_bytes), memset(w->cache.v, 0xff, w->v_bytes); /* NaN */
    memset(w->table, 0xff, sizeof w->table);
    w->next_page = 3;
}

typedef struct { int seq, from, to; } part;

/* One step of these parts: new pages for all that it writes, the page that it goes on from in the last column. */
static void plan(world *w, const part *p, int n) {
    for (int i = 0; i < n; i++) {
        int32_t *table = w->table[p[i].seq];
        table[WIDTH - 1] = p[i].from ? table[(p[i].from - 1) / ZL_PAGE] : -1;
        for (int page = p[i].from / ZL_PAGE; page <= (p[i].to - 1) / ZL_PAGE; page++) table[page] = (w->next_page += 7, w->next_page % POOL);
    }
}

static zl_op op_of(const world *w, zl_tensor *t, float *out, int64_t rows, const float *x, const float *dt, const float *b, const float *c) {
    const shape s = w->s;
#define ROWS(i, p, n) t[i] = (zl_tensor){.kind = ZL_EXTERNAL, .rows = rows, .cols = n, .data = (void *)(uintptr_t)(p)}
#define FIXED(i, p, n) t[i] = (zl_tensor){.kind = ZL_CONST, .rows = 1, .cols = n, .data = p}
    ROWS(0, x, w->x_cols), ROWS(1, out, w->out_cols), ROWS(2, dt, w->dt_cols), ROWS(3, b, w->bc_cols), ROWS(4, c, w->bc_cols);
    t[5] = (zl_tensor){.kind = ZL_CACHE, .data = (void *)(uintptr_t)&w->cache};
    FIXED(6, w->w, (int64_t)s.n * s.channels), FIXED(7, w->pass, s.kind == DUAL ? s.heads : s.channels);
    FIXED(8, w->a, s.kind == DUAL ? s.heads : (int64_t)s.n * s.channels);
    if (s.kind == CONV) return (zl_op){.code = ZL_OP_SHORT_CONV, .in = {0, 6, 7, 5, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {1, -1, -1, -1}, .ip = {LAYER, s.n}};
    if (s.kind == SELECTIVE)
        return (zl_op){.code = ZL_OP_SELECTIVE_SCAN, .in = {0, 2, 3, 4, 8, 7, 5, -1, -1, -1, -1, -1}, .out = {1, -1, -1, -1}, .ip = {LAYER, s.n}};
    return (zl_op){.code = ZL_OP_DUAL_SCAN, .in = {0, 2, 8, 7, 5, -1, -1, -1, -1, -1, -1, -1}, .out = {1, -1, -1, -1}, .ip = {LAYER, s.heads, s.d, s.n, s.groups}};
}

/* Runs one step of the parts; results to their places in out [SEQS][N][cols]. `twice`: it is taken back and run again. */
static int step_of(zl_ctx *ctx, world *w, const part *p, int n, int twice, float *out) {
    static int32_t at[SEQS * N], seq[SEQS * N], none[SEQS * N];
    int64_t rows = 0;
    float *x = zeros(SEQS * N * w->x_cols), *dt = zeros(SEQS * N * w->dt_cols), *y = zeros(SEQS * N * w->out_cols);
    float *b = zeros(SEQS * N * w->bc_cols), *c = zeros(SEQS * N * w->bc_cols);
    for (int i = 0; i < n; i++)
        for (int t = p[i].from; t < p[i].to; t++, rows++) {
            const int64_t from = (int64_t)p[i].seq * N + t;
            memcpy(x + rows * w->x_cols, w->x + from * w->x_cols, (size_t)w->x_cols * 4);
            memcpy(dt + rows * w->dt_cols, w->dt + from * w->dt_cols, (size_t)w->dt_cols * 4);
            memcpy(b + rows * w->bc_cols, w->b + from * w->bc_cols, (size_t)w->bc_cols * 4);
            memcpy(c + rows * w->bc_cols, w->c + from * w->bc_cols, (size_t)w->bc_cols * 4);
            at[rows] = t, seq[rows] = p[i].seq;
        }
    zl_step step = {.n_rows = (int32_t)rows, .n_seq = SEQS, .n_planes = 1, .tokens = none, .positions = at, .cache_pos = at, .see_to = at, .seq = seq};
    step.tables[3] = w->table[0], step.table_width[3] = WIDTH;
    zl_tensor t[9];
    zl_op op = op_of(w, t, y, rows, x, dt, b, c);
    plan(w, p, n);
    int status = zl_run(ctx, &op, 1, t, 9, &step);
    if (!status && twice) status = zl_run(ctx, &op, 1, t, 9, &step);
    const float *row = y;
    for (int i = 0; i < n && !status; i++)
        for (int k = p[i].from; k < p[i].to; k++, row += w->out_cols) memcpy(out + ((int64_t)p[i].seq * N + k) * w->out_cols, row, (size_t)w->out_cols * 4);
    free(x), free(dt), free(y), free(b), free(c);
    return status;
}

/* ---- values --------------------------------------------------------------------------------------------------------------------------- */

static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }

static void check_conv(const world *w, const float *out, const char *isa) {
    const shape s = w->s;
    for (int64_t q = 0; q < SEQS; q++)
        for (int64_t t = 0; t < N; t++)
            for (int64_t i = 0; i < s.channels; i++) {
                double sum = (double)w->pass[i], size = fabs(sum);
                for (int k = 0; k < s.n; k++) {
                    const int64_t row = t - s.n + 1 + k;
                    const double term = row < 0 ? 0 : (double)w->w[k * s.channels + i] * (double)w->x[(q * N + row) * s.channels + i];
                    sum += term, size += fabs(term);
                }
                const double want = sum / (1 + exp(-sum)), got = (double)out[(q * N + t) * s.channels + i];
                CHECK(fabs(got - want) <= (1.1 * (s.n + 1) + 9) * U * size + 1e-37, "%s conv: row %d channel %d: %g, want %g", isa, (int)t, (int)i, got, want);
            }
}

/* One channel of one sequence through all rows. `wrong`: by how much the state may be off. */
static void check_channel(const world *w, const float *out, int64_t q, int64_t i, const char *isa) {
    const shape s = w->s;
    double h[128] = {0}, wrong[128] = {0};
    const int64_t head = s.kind == DUAL ? i / s.d : i, group = s.kind == DUAL ? head / (s.heads / s.groups) : 0;
    for (int64_t t = 0; t < N; t++) {
        const int64_t row = q * N + t;
        const double delta = softplus((double)w->dt[row * w->dt_cols + head]), x = (double)w->x[row * w->x_cols + i], pass = (double)w->pass[head];
        double y = pass * x, off = 4 * U * fabs(y), size = 0;
        for (int64_t k = 0; k < s.n; k++) {
            const float *inside = w->x + row * w->x_cols + s.channels + group * s.n + k;
            const double b = (double)(s.kind == DUAL ? *inside : w->b[row * s.n + k]), c = (double)(s.kind == DUAL ? inside[s.groups * s.n] : w->c[row * s.n + k]);
            const double a = (double)w->a[s.kind == DUAL ? head : k * s.channels + i], decay = exp(delta * a), u = delta * x * b;
            const double rough = decay * expm1(fabs(delta * a) * 5 * U + 3 * U);
            wrong[k] = (decay + rough) * wrong[k] + rough * fabs(h[k]) + 7 * U * fabs(u) + 2 * U * fabs(decay * h[k]);
            h[k] = decay * h[k] + u;
            wrong[k] += 2 * U * fabs(h[k]) + 1e-37;
            y += h[k] * c, off += fabs(c) * wrong[k], size += fabs(h[k] * c);
        }
        const double got = (double)out[row * w->out_cols + i];
        CHECK(fabs(got - y) <= off + (double)(s.n + 3) * U * 1.1 * size + 1e-37, "%s scan %d: row %d channel %d: %g, want %g +- %g", isa, s.kind, (int)t, (int)i, got, y, off);
    }
}

/* The selective scan's own exp, seen through a state of 1 with nothing added: h = e^(100 a), where softplus(100) is 100. */
static void check_decays(zl_ctx *ctx) {
    enum { M = 1000 };
    const float ends[] = {0.0f, -87.6f, -87.8f, -200.0f, -1e30f, -INFINITY, 88.3f, 88.4f, 200.0f, INFINITY};
    float a[M], h[M], from[M], dt[M], x[M] = {0}, d[M] = {0}, out[M];
    const float one = 1;
    zl_scan s = {.rows = 1, .n = M, .states = 1, .stride = M, .x_row = M, .dt_row = M, .bc_row = 1, .out_row = M,
                 .x = x, .dt = dt, .b = &one, .c = &one, .a = a, .d = d, .from = from, .h = h, .out = out};
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < M; i++) dt[i] = 100, from[i] = 1, a[i] = round ? uniform(-0.876f, 0.883f) : i % 11 < 10 ? ends[i % 11] / 100 : NAN;
        zl_ctx_kernels(ctx)->selective_scan(&s);
        for (int i = 0; i < M; i++) {
            const double at = (double)(100 * a[i]), want = exp(at), got = (double)h[i];
            if (isnan(a[i])) CHECK(isnan(h[i]), "%s decay of NaN: %g", zl_ctx_isa(ctx), got);
            else if (at < -87.69) CHECK(got == 0, "%s decay of %g: %g", zl_ctx_isa(ctx), at, got);
            else if (at > 88.37) CHECK(isinf(h[i]) && got > 0, "%s decay of %g: %g", zl_ctx_isa(ctx), at, got);
            else CHECK(at == 0 ? got == 1 : fabs(got - want) <= 3 * U * want + 1e-38, "%s decay of %g: %.9g, want %.9g", zl_ctx_isa(ctx), at, got, want);
        }
    }
}

static int run_parts(zl_ctx *ctx, world *w, int n_steps, const part (*p)[2], const int *n, int twice, float *out) {
    fresh(w);
    for (int i = 0; i < n_steps; i++) {
        int status = step_of(ctx, w, p[i], n[i], twice, out);
        if (status) return status;
    }
    return ZL_OK;
}

static void check_shape(zl_ctx *ctx, shape s) {
    world w = new_world(s);
    const size_t bytes = SEQS * N * (size_t)w.out_cols * 4;
    float *first = zeros((int64_t)bytes / 4), *other = zeros((int64_t)bytes / 4);
    const part whole[1][2] = {{{0, 0, N}, {1, 0, N}}};
    CHECK(run_parts(ctx, &w, 1, whole, (const int[]){2}, 0, first) == ZL_OK, "kind %d", s.kind);
    if (s.kind == CONV) check_conv(&w, first, zl_ctx_isa(ctx));
    else
        for (int64_t q = 0; q < SEQS; q++)
            for (int64_t i = 0; i < s.channels; i++) check_channel(&w, first, q, i, zl_ctx_isa(ctx));
    const part cut[5][2] = {{{0, 0, 1}, {1, 0, 64}}, {{0, 1, 3}, {1, 64, 66}}, {{1, 66, 149}, {0, 3, 130}}, {{0, 130, 150}}, {{1, 149, 150}}};
    CHECK(run_parts(ctx, &w, 5, cut, (const int[]){2, 2, 2, 1, 1}, 1, other) == ZL_OK, "kind %d", s.kind);
    CHECK(!memcmp(first, other, bytes), "kind %d: cut and run twice, other bits", s.kind);
    fresh(&w);
    memset(other, 0, bytes);
    for (int q = 0; q < SEQS; q++)
        for (int t = 0; t < N; t++) CHECK(step_of(ctx, &w, &(part){q, t, t + 1}, 1, 0, other) == ZL_OK, "row %d", t);
    CHECK(!memcmp(first, other, bytes), "kind %d: row by row, other bits", s.kind);
    int64_t written = 0; /* the other layer's states are as they were */
    for (int64_t p = 0; p < POOL; p++) {
        const float *k = (const float *)w.cache.k + p * LAYERS * w.cache.dk, *v = (const float *)w.cache.v + p * LAYERS * w.cache.dv;
        for (int64_t i = 0; i < (int64_t)w.cache.dk; i++) written += k[i] == k[i];
        for (int64_t i = 0; i < (int64_t)w.cache.dv; i++) written += v[i] == v[i];
    }
    CHECK(written == 0, "kind %d: %d values of another layer were written", s.kind, (int)written);
    free(first), free(other);
    free_world(&w);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------------------------------- */

/* Attention that only sees a memory asks for no place in its class; states in the same class do, wherever the ops stand. */
static void check_beside_memory(zl_ctx *ctx, const zl_op *good, const zl_tensor *t, const zl_step *own) {
    static float q[2], seen[2], k[POOL * 64], v[POOL * 64];
    zl_cache memory = {.type = ZL_TYPE_F32, .cls = 3, .n_layer = 1, .n_kv = 1, .dk = 1, .dv = 1, .n_pages = POOL, .k = k, .v = v};
    zl_tensor all[12];
    memcpy(all, t, 9 * sizeof *t);
    all[9] = (zl_tensor){.kind = ZL_EXTERNAL, .rows = 2, .cols = 1, .data = q}, all[10] = all[9], all[10].data = seen;
    all[11] = (zl_tensor){.kind = ZL_CACHE, .data = &memory};
    zl_op ops[2] = {{.code = ZL_OP_ATTENTION, .in = {9, 11, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {10, -1, -1, -1}, .ip = {0, 1, 0, 1}, .fp = {1}}, *good};
    int32_t nothing[2] = {-1, -1}, table[WIDTH];
    zl_step step = *own;
    memcpy(table, own->tables[3], sizeof table);
    table[1] = 5, table[WIDTH - 1] = 4, step.tables[3] = table, step.positions = nothing;
    CHECK(zl_run(ctx, ops, 2, all, 12, &step) == ZL_OK, "states beside a memory: %s", zl_error());
    const int32_t wrong[] = {-1, POOL};
    for (int i = 0; i < 2; i++) {
        table[1] = wrong[i];
        CHECK(zl_run(ctx, ops, 2, all, 12, &step) == ZL_E_BOUNDS, "a state beside a memory is written to page %d", wrong[i]);
    }
}

static void check_refusals(zl_ctx *ctx) {
    const shape shapes[] = {{CONV, 20, 0, 0, 4, 1, 0}, {SELECTIVE, 20, 0, 0, 3, 1, 0}, {DUAL, 20, 4, 5, 3, 2, 0}};
    static float out[4 * 64];
    static int32_t at[2] = {70, 71}, seq[2], none[2];
    for (int kind = 0; kind < 3; kind++) {
        world w = new_world(shapes[kind]);
        fresh(&w);
        zl_tensor t[9];
        zl_op good = op_of(&w, t, out, 2, w.x, w.dt, w.b, w.c), op = good;
        zl_step step = {.n_rows = 2, .n_seq = 1, .n_planes = 1, .tokens = none, .positions = at, .cache_pos = at, .see_to = at, .seq = seq};
        step.tables[3] = w.table[0], step.table_width[3] = WIDTH;
        int32_t *table = w.table[0];
        table[1] = 5, table[WIDTH - 1] = 4;
        at[0] = 70, at[1] = 71;
        CHECK(zl_run(ctx, &op, 1, t, 9, &step) == ZL_OK, "kind %d", kind);
#define REFUSED(status, what) CHECK(zl_run(ctx, &op, 1, t, 9, &step) == (status), "kind %d: %s", kind, what)
        at[1] = 72;
        REFUSED(ZL_E_ARG, "a position left out");
        at[1] = 71, table[WIDTH - 1] = -1;
        REFUSED(ZL_E_BOUNDS, "nothing to go on from");
        table[WIDTH - 1] = POOL;
        REFUSED(ZL_E_BOUNDS, "a page that is not there");
        table[WIDTH - 1] = 5;
        REFUSED(ZL_E_ARG, "the page that is written");
        at[0] = 0, at[1] = 1, table[0] = 6, table[WIDTH - 1] = 4;
        REFUSED(ZL_E_BOUNDS, "a state before position 0");
        at[0] = 3 * ZL_PAGE, at[1] = at[0] + 1;
        REFUSED(ZL_E_ARG, "the last column as a page");
        at[0] = at[1] = 70, seq[1] = 1, step.n_seq = 2;
        int32_t *other = w.table[1];
        other[1] = 7, other[WIDTH - 1] = 4;
        REFUSED(ZL_OK, "two sequences that go on from one page");
        other[1] = 5;
        REFUSED(ZL_E_ARG, "a page that another sequence writes too");
        CHECK(strstr(zl_error(), "page 5 of cache class 3 is written at position 70 of sequence 0 and at position 70 of sequence 1"), "%s", zl_error());
        other[1] = 7, other[WIDTH - 1] = 5;
        REFUSED(ZL_E_ARG, "to go on from what another sequence writes");
        CHECK(strstr(zl_error(), "sequence 1 goes on from page 5 of cache class 3"), "%s", zl_error());
        seq[1] = 0, step.n_seq = 1;
        at[0] = 70, at[1] = 71;
        w.cache.state = 0;
        REFUSED(ZL_E_TYPE, "keys and values");
        w.cache.state = 1, w.cache.type = ZL_TYPE_F16;
        REFUSED(ZL_E_TYPE, "states in half precision");
        w.cache.type = ZL_TYPE_F32, w.cache.n_kv = 2;
        REFUSED(ZL_E_TYPE, "states of heads");
        w.cache.n_kv = 1, op.ip[0] = LAYERS;
        REFUSED(ZL_E_BOUNDS, "a layer that is not there");
        op = good, *(kind == CONV ? &w.cache.dk : &w.cache.dv) += 1;
        REFUSED(ZL_E_SHAPE, "a state of another size");
        *(kind == CONV ? &w.cache.dk : &w.cache.dv) -= 1, op.ip[kind == DUAL ? 3 : 1] = 0;
        REFUSED(kind == DUAL ? ZL_E_SHAPE : ZL_E_ARG, "no states, no taps");
        op = good, op.out[0] = op.in[0];
        if (kind != DUAL) REFUSED(ZL_E_ARG, "in place");
        op = (zl_op){.code = ZL_OP_ATTENTION, .in = {0, 5, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {1, -1, -1, -1}, .ip = {0, 1}};
        REFUSED(ZL_E_TYPE, "attention over states");
        op = good;
        if (kind == CONV) {
            op.ip[1] = 17;
            REFUSED(ZL_E_ARG, "17 taps");
        }
        if (kind == DUAL) {
            op.ip[4] = 3;
            REFUSED(ZL_E_SHAPE, "4 heads in 3 groups");
        }
        if (kind == DUAL) { /* heads * d + 2 * groups * n does not fit 63 bits */
            op.ip[1] = op.ip[2] = op.ip[3] = op.ip[4] = INT32_MAX;
            REFUSED(ZL_E_SHAPE, "more heads than columns");
        }
        check_beside_memory(ctx, &good, t, &step);
        step.n_rows = 0;
        op = good;
        REFUSED(ZL_OK, "no rows");
        free_world(&w);
    }
}

/* Groups with a scale of their own, as Mamba 2 has them: every group as if it were alone. */
static void check_group_norm(zl_ctx *ctx) {
    enum { ROWS_ = 3, GROUPS = 5, M = 37 };
    float *x = values(ROWS_ * GROUPS * M, -1, 1), *w = values(GROUPS * M, 0.5f, 1.5f), out[ROWS_ * GROUPS * M], alone[M];
    zl_step step = {.n_rows = ROWS_, .n_seq = 1, .n_planes = 1};
    zl_tensor t[3] = {{.kind = ZL_EXTERNAL, .rows = ROWS_, .cols = GROUPS * M, .data = x}, {.kind = ZL_CONST, .rows = 1, .cols = GROUPS * M, .data = w},
                      {.kind = ZL_EXTERNAL, .rows = ROWS_, .cols = GROUPS * M, .data = out}};
    zl_op op = {.code = ZL_OP_RMS_NORM, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {M, GROUPS}, .fp = {1e-5f}};
    CHECK(zl_run(ctx, &op, 1, t, 3, &step) == ZL_OK, "norm of groups");
    for (int i = 0; i < ROWS_ * GROUPS; i++) {
        zl_ctx_kernels(ctx)->rms_norm(1, M, x + i * M, w + i % GROUPS * M, 1e-5f, alone);
        CHECK(!memcmp(alone, out + i * M, sizeof alone), "group %d", i);
    }
    op.ip[1] = GROUPS - 1;
    CHECK(zl_run(ctx, &op, 1, t, 3, &step) == ZL_E_SHAPE, "weights for a group too few");
    op.ip[1] = 1;
    CHECK(zl_run(ctx, &op, 1, t, 3, &step) == ZL_E_SHAPE, "one weight, too long");
    t[1].cols = M;
    for (int i = 0; i < 8; i++) { /* with a weight and without one */
        const int own = i / 2 - 2;
        op.ip[1] = own, op.in[1] = i % 2 ? 1 : -1;
        CHECK(zl_run(ctx, &op, 1, t, 3, &step) == (own < 0 ? ZL_E_SHAPE : ZL_OK), "one weight for %d groups", own);
    }
    free(x), free(w);
}

int selftest_state(zl_ctx *ctx) {
    static const shape shapes[] = {{CONV, 37, 0, 0, 4, 1, 0}, {CONV, 600, 0, 0, 2, 1, 0}, {CONV, 5, 0, 0, 16, 1, 0}, {SELECTIVE, 37, 0, 0, 16, 1, 0},
                                   {SELECTIVE, 150, 0, 0, 3, 1, 0}, {SELECTIVE, 3, 0, 0, 1, 1, 0}, {SELECTIVE, 29, 0, 0, 70, 1, 0},
                                   {DUAL, 6 * 37, 6, 37, 24, 3, 0}, {DUAL, 2 * 64, 2, 64, 31, 1, 0}, {DUAL, 4 * 80, 4, 80, 7, 4, 0},
                                   {SELECTIVE, 48, 0, 0, 5, 1, 0}, {SELECTIVE, 48, 0, 0, 5, 1, 4}, {SELECTIVE, 68, 0, 0, 4, 1, 0},
                                   {DUAL, 4 * 40, 4, 40, 6, 2, 0}};
    failures = 0, seed = 88172645463325252u;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_shape(ctx, shapes[i]);
    check_decays(ctx);
    check_refusals(ctx);
    check_group_norm(ctx);
    return failures;
}
