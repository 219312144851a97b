/* selftest_bounds.c - how far the kernels of weights reach: to the last byte of a panel, of a chunk, of the scratch that was announced, and
 * not one further; and what a mapped weight gives when its file shrinks.
 *
 * Values are selftest_linear.c's business. Here weights are random bytes, infinities and NaN among them, and results are compared as bits.
 */
#include "guarded.h"
#include "linear_reference.h"
#include "selftest.h"
#include "../core/ctx.h"

static int failures;

static uint64_t seed = 0x2545f4914f6cdd1du;
static uint32_t next(void) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static void fill(void *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i++) ((uint8_t *)p)[i] = (uint8_t)next();
}
static void fill_floats(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)(next() >> 8) / 8388608.0f - 1;
}
static int same(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, 4) && (a[i] == a[i] || b[i] == b[i])) return 0;
    return 1;
}

/* ---- packing: one panel ------------------------------------------------------------------------------------------------------------ */

/* Rows that a last panel lacks are zeros, whatever its memory held; no byte beyond the panel is written, none beyond the rows is read. */
static void test_padding(zl_ctx *ctx) {
    const zl_kernels *k = zl_ctx_kernels(ctx);
    const int64_t lanes = k->lanes;
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i];
        const int64_t cols = is_quantised(type) ? 256 : 9, bytes = row_bytes_of(type, cols);
        for (int64_t n = 1; n <= lanes; n++) {
            guarded rows = guard(n * bytes), panel = guard(lanes * bytes), row = guard(cols * 4), want = guard(cols * 4);
            fill(rows.p, n * bytes);
            memset(panel.p, 0xff, (size_t)(lanes * bytes));
            k->pack(type, n, 0, cols, rows.p, bytes, panel.p);
            for (int lane = 0; lane < lanes; lane++) {
                k->unpack_row(type, cols, panel.p, lane, row.p);
                if (lane < n) k->dequantize(type, cols, (uint8_t *)rows.p + lane * bytes, want.p);
                int zeros = 0;
                for (int64_t c = 0; c < cols; c++) zeros += ((float *)row.p)[c] == 0;
                CHECK(lane < n ? same(row.p, want.p, cols) : zeros == cols, "type %d, %d rows in a panel: lane %d", type, (int)n, lane);
            }
            release(&rows), release(&panel), release(&row), release(&want);
        }
    }
}

/* A strip of a panel: columns from a quant block in the middle on, as if the rows began there. */
static void test_strips(zl_ctx *ctx) {
    const zl_kernels *k = zl_ctx_kernels(ctx);
    const int64_t lanes = k->lanes;
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i];
        const int64_t from = is_quantised(type) ? 256 : 7, cols = 2 * from, all = 4 * from, bytes = row_bytes_of(type, all), strip = row_bytes_of(type, cols);
        guarded rows = guard(lanes * bytes), panel = guard(lanes * strip), row = guard(cols * 4), want = guard(cols * 4);
        fill(rows.p, lanes * bytes);
        k->pack(type, lanes, from, cols, rows.p, bytes, panel.p);
        for (int lane = 0; lane < lanes; lane++) {
            k->unpack_row(type, cols, panel.p, lane, row.p);
            k->dequantize(type, cols, (uint8_t *)rows.p + lane * bytes + row_bytes_of(type, from), want.p);
            CHECK(same(row.p, want.p, cols), "type %d: columns %d to %d of row %d", type, (int)from, (int)(from + cols), lane);
        }
        release(&rows), release(&panel), release(&row), release(&want);
    }
}

/* ---- products: panels that end where memory ends -------------------------------------------------------------------------------------- */

static zl_op linear_op(void) {
    return (zl_op){.code = ZL_OP_LINEAR, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {1}};
}
static zl_tensor rows_of(void *p, int64_t t, int64_t cols) { return (zl_tensor){.kind = ZL_EXTERNAL, .rows = t, .cols = cols, .data = p}; }

static void test_panels(zl_ctx *ctx) {
    static const int batches[] = {1, 2, 5, 9, 20};
    const int64_t lanes = zl_ctx_kernels(ctx)->lanes;
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i];
        const int64_t cols = is_quantised(type) ? 512 : 20;
        for (int64_t panels = 1; panels <= 5; panels++) { /* odd numbers and even ones */
            const int64_t n = panels * lanes - 1, bytes = n * row_bytes_of(type, cols);
            uint8_t *file = malloc((size_t)bytes);
            zl_weight *w;
            fill(file, bytes);
            CHECK(zl_weight_new(ctx, type, n, cols, file, bytes, 0, &w) == ZL_OK, "type %d", type);
            if (!w) return;
            zl_weight moved = *w;
            guarded memory = guard(w->own_bytes);
            memcpy(moved.panels = memory.p, w->panels, (size_t)w->own_bytes);
            for (int b = 0; b < (int)(sizeof batches / sizeof batches[0]); b++) {
                const int t = batches[b];
                guarded x = guard(t * cols * 4), y = guard(t * n * 4), z = guard(t * n * 4);
                fill_floats(x.p, t * cols);
                zl_tensor tensors[] = {rows_of(x.p, t, cols), {.kind = ZL_WEIGHT, .data = w}, rows_of(y.p, t, n)};
                zl_step step = {.n_rows = t, .n_seq = 1};
                zl_op op = linear_op();
                CHECK(zl_run(ctx, &op, 1, tensors, 3, &step) == ZL_OK, "linear");
                tensors[1].data = &moved, tensors[2].data = z.p;
                CHECK(zl_run(ctx, &op, 1, tensors, 3, &step) == ZL_OK, "linear");
                CHECK(same(y.p, z.p, t * n), "type %d: %d rows of x, %d panels, elsewhere in memory", type, t, (int)panels);
                release(&x), release(&y), release(&z);
            }
            release(&memory);
            zl_weight_free(w);
            free(file);
        }
    }
}

/* ---- many chunks ------------------------------------------------------------------------------------------------------------------------ */

static void test_chunks(zl_ctx *ctx) {
    enum { N = 2 * 64 * 1024 + 256 };
    const zl_kernels *k = zl_ctx_kernels(ctx);
    for (int i = 0; i < N_TYPES; i++) {
        const int type = all_types[i];
        const int64_t bytes = row_bytes_of(type, N);
        guarded file = guard(bytes), got = guard(N * 4), want = guard(N * 4);
        fill(file.p, bytes);
        k->dequantize(type, N, file.p, want.p);
        CHECK(zl_dequantize(ctx, type, N, file.p, bytes, got.p) == ZL_OK && same(got.p, want.p, N), "type %d: %d values", type, N);

        /* The same bytes as rows of 256: a weight that is packed in several chunks, and read back. */
        zl_weight *w;
        const int64_t rows = N / 256;
        CHECK(zl_weight_new(ctx, type, rows, 256, file.p, bytes, 0, &w) == ZL_OK, "type %d", type);
        memset(got.p, 0, N * 4);
        for (int64_t r = 0; w && r < rows; r++) zl_weight_row(w, r, (float *)got.p + 256 * r);
        CHECK(same(got.p, want.p, N), "type %d: rows of a weight", type);
        zl_weight_free(w);
        release(&file), release(&got), release(&want);
    }
    /* A weight of several chunks of 256 KiB. */
    enum { ROWS = 701, COLS = 512 };
    guarded file = guard(ROWS * COLS * 4);
    float row[COLS];
    zl_weight *w;
    fill_floats(file.p, ROWS * COLS);
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, ROWS, COLS, file.p, ROWS * COLS * 4, 0, &w) == ZL_OK, "a large weight");
    int wrong = 0;
    for (int64_t r = 0; w && r < ROWS; r++) zl_weight_row(w, r, row), wrong += memcmp(row, (float *)file.p + r * COLS, sizeof row) != 0;
    CHECK(wrong == 0, "%d of %d rows", wrong, ROWS);
    zl_weight_free(w);
    release(&file);

    enum { T = 700, C = 96 };
    guarded x = guard(T * C * 4), q = guard(T * C), d = guard(T * C / 32 * 4), s = guard(T * C / 16 * 2);
    fill_floats(x.p, T * C);
    CHECK(zl_quantize_activation(ctx, T, C, 32, x.p, q.p, d.p, s.p) == ZL_OK, "quantise");
    wrong = 0;
    for (int b = 0; b < T * C / 32; b++) {
        int8_t codes[32];
        float scale;
        int sum;
        quantize_block(32, x.p, b, codes, &scale, &sum);
        wrong += memcmp(codes, (int8_t *)q.p + 32 * b, 32) || scale != ((float *)d.p)[b] || sum != ((int16_t *)s.p)[2 * b] + ((int16_t *)s.p)[2 * b + 1];
    }
    CHECK(wrong == 0, "%d of %d quant blocks", wrong, T * C / 32);
    release(&x), release(&q), release(&d), release(&s);
}

/* ---- scratch: what an op announces is what it uses -------------------------------------------------------------------------------------- */

/* On one thread, with more scratch than the op asks for: what lies behind its own stays as it was. */
static void check_scratch(zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int n, const zl_step *step, const char *what) {
    enum { MORE = 1 << 20 };
    int64_t shared = 0, own = 0, touched = 0;
    zl_op_find(op->code)->scratch(ctx, op, t, step->n_rows, &shared, &own);
    CHECK(zl_ctx_scratch(ctx, shared, own + MORE) == ZL_OK, "scratch");
    memset(ctx->scratch, 0x5a, (size_t)ctx->scratch_bytes);
    CHECK(zl_run(ctx, op, 1, t, n, step) == ZL_OK, "%s", what);
    for (int64_t i = ctx->private_[0] - ctx->scratch + own; i < ctx->scratch_bytes; i++) touched += ctx->scratch[i] != 0x5a;
    CHECK(touched == 0, "%s, %d rows: %d bytes behind its %d of scratch", what, step->n_rows, (int)touched, (int)own);
}

static void test_scratch(const char *isa) {
    static const int batches[] = {1, 4, 5, 9, 70};
    enum { COLS = 512, ROWS = 70 };
    static float x[70 * COLS], y[70 * ROWS], ids[70], shares[70]; /* ids of expert 0 */
    zl_ctx *ctx;
    CHECK(zl_ctx_new(1, isa, NULL, &ctx) == ZL_OK, "context");
    if (!ctx) return;
    fill_floats(x, 70 * COLS);
    for (int i = 0; i < N_TYPES; i++) {
        const int64_t bytes = ROWS * row_bytes_of(all_types[i], COLS);
        uint8_t *file = malloc((size_t)bytes);
        fill(file, bytes);
        for (int b = 0; b < 10; b++) {
            char what[40];
            zl_weight *w;
            CHECK(zl_weight_new(ctx, all_types[i], ROWS, COLS, file, bytes, b % 2 ? ZL_WEIGHT_MAPPED : 0, &w) == ZL_OK, "weight");
            zl_tensor t[] = {rows_of(x, 70, COLS), {.kind = ZL_WEIGHT, .data = w}, rows_of(y, 70, ROWS)};
            zl_step step = {.n_rows = batches[b / 2], .n_seq = 1};
            zl_op op = linear_op();
            snprintf(what, sizeof what, "type %d, mapped %d", all_types[i], b % 2);
            check_scratch(ctx, &op, t, 3, &step, what);
            /* the same as a mixture of one expert: all rows are its */
            zl_tensor mixed[] = {t[0], t[1], t[2], rows_of(ids, 70, 1), rows_of(shares, 70, 1)};
            zl_op down = {.code = ZL_OP_EXPERTS_DOWN, .in = {0, 3, 4, 1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}};
            check_scratch(ctx, &down, mixed, 5, &step, what);
            zl_weight_free(w);
        }
        free(file);
    }
    int32_t positions[70] = {0};
    zl_step step = {.n_rows = 70, .n_seq = 1, .n_planes = 1, .positions = positions};
    zl_tensor t[] = {rows_of(x, 70, COLS), {.kind = ZL_CONST, .rows = 1, .cols = 32, .data = x}, rows_of(x, 70, COLS)};
    zl_op rope = {.code = ZL_OP_ROPE, .in = {0, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {8, 64, 64}, .fp = {1}};
    check_scratch(ctx, &rope, t, 3, &step, "rope");
    zl_tensor found[] = {rows_of(x, 70, COLS), rows_of(y, 70, 20), rows_of(y + 70 * 20, 70, 20)};
    zl_op top = {.code = ZL_OP_TOP_K, .in = {0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .out = {1, 2, -1, -1}, .ip = {20}};
    check_scratch(ctx, &top, found, 3, &step, "top_k");
    zl_ctx_free(ctx);
}

/* Several ops: the greediest decides, wherever it stands. */
static void test_reserve(const char *isa) {
    enum { COLS = 4096 };
    static float x[9 * COLS], y[9 * 4], z[9 * 4];
    static uint8_t file[2][4 * COLS / 32 * 34];
    int64_t have[3] = {0};
    for (int order = 0; order < 3; order++) { /* the large one alone, first, last */
        zl_ctx *ctx;
        zl_weight *large, *small;
        CHECK(zl_ctx_new(1, isa, NULL, &ctx) == ZL_OK, "context");
        if (!ctx) return;
        CHECK(zl_weight_new(ctx, ZL_TYPE_Q8_0, 4, COLS, file[0], sizeof file[0], ZL_WEIGHT_MAPPED, &large) == ZL_OK, "weight");
        CHECK(zl_weight_new(ctx, ZL_TYPE_Q8_0, 4, 32, file[1], 4 * 34, ZL_WEIGHT_MAPPED, &small) == ZL_OK, "weight");
        zl_tensor t[] = {rows_of(x, 9, COLS), {.kind = ZL_WEIGHT, .data = large}, rows_of(y, 9, 4),
                         rows_of(x, 9, 32),   {.kind = ZL_WEIGHT, .data = small}, rows_of(z, 9, 4)};
        zl_op ops[2] = {linear_op(), linear_op()}, *other = &ops[order == 2 ? 0 : 1];
        other->in[0] = 3, other->in[1] = 4, other->out[0] = 5;
        zl_step step = {.n_rows = 9, .n_seq = 1};
        CHECK(zl_run(ctx, ops, order ? 2 : 1, t, 6, &step) == ZL_OK, "two products");
        have[order] = ctx->scratch_bytes;
        zl_weight_free(large), zl_weight_free(small);
        zl_ctx_free(ctx);
    }
    CHECK(have[0] > 0 && have[1] == have[0] && have[2] == have[0], "scratch of %d, %d and %d bytes", (int)have[0], (int)have[1], (int)have[2]);
}

/* ---- files that shrink -------------------------------------------------------------------------------------------------------------------- */

/* A run that reads a mapping whose file has shrunk, as a weight or as a constant, ends in an error; one that does not read it does not. */
static void test_shrinking(zl_ctx *ctx) {
    const int64_t page = sysconf(_SC_PAGESIZE), bytes = 4 * page, cols = page / 4, rows = 4;
    const int fd = temporary_file();
    static float x[1 << 16], y[1 << 16];
    if (fd < 0 || ftruncate(fd, bytes) || cols > 1 << 14) {
        CHECK(0, "no file can be made in the temporary folder");
        return;
    }
    float *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && zl_guard_add(map, bytes) == ZL_OK, "map");
    zl_weight *w;
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, rows, cols, map, bytes, ZL_WEIGHT_MAPPED, &w) == ZL_OK, "weight");
    zl_tensor product[] = {rows_of(x, 2, cols), {.kind = ZL_WEIGHT, .data = w}, rows_of(y, 2, rows)};
    zl_tensor norm[] = {rows_of(x, 2, bytes / 4), {.kind = ZL_CONST, .rows = 1, .cols = bytes / 4, .data = map}, rows_of(y, 2, bytes / 4)};
    zl_tensor sum[] = {rows_of(x, 2, cols), rows_of(x, 2, cols), rows_of(y, 2, cols)};
    zl_op multiply = linear_op(), scale = linear_op(), add = linear_op();
    scale.code = ZL_OP_RMS_NORM, scale.ip[0] = (int32_t)(bytes / 4), scale.fp[0] = 1e-5f;
    add.code = ZL_OP_ADD;
    zl_step step = {.n_rows = 2, .n_seq = 1};
    for (int shrunk = 0; shrunk < 2; shrunk++) {
        const int want = shrunk ? ZL_E_FAULT : ZL_OK;
        if (shrunk) CHECK(ftruncate(fd, page) == 0, "truncate");
        CHECK(zl_run(ctx, &multiply, 1, product, 3, &step) == want, "a product, shrunk %d", shrunk);
        CHECK(zl_run(ctx, &scale, 1, norm, 3, &step) == want, "a norm, shrunk %d", shrunk);
        CHECK(zl_run(ctx, &add, 1, sum, 3, &step) == ZL_OK, "a sum, shrunk %d", shrunk);
    }
    zl_weight *other;
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, rows, cols, map, bytes, 0, &other) == ZL_E_FAULT && !other, "packing a file that shrank");
    zl_weight_free(w);
    CHECK(zl_guard_remove(map) == ZL_OK, "remove");
    munmap(map, (size_t)bytes);
    close(fd);
}

int selftest_bounds(zl_ctx *ctx) {
    failures = 0;
    test_padding(ctx);
    test_strips(ctx);
    test_panels(ctx);
    test_chunks(ctx);
    test_scratch(zl_ctx_isa(ctx));
    test_reserve(zl_ctx_isa(ctx));
    test_shrinking(ctx);
    return failures;
}
