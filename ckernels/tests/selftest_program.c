/* selftest_program.c - the validator and the tape: every status it can give, and that a program and eager ops give the same bits.
 *
 * tools/fuzz_validator.c feeds it random numbers; here each check is named.
 */
#include "../core/program.h"
#include "selftest.h"
#include <stdlib.h>

static int failures;

enum { T = 5, C = 48 };
static float x[T * C], y[T * C], out[T * C], weights[C];
static zl_tensor rows_of(float *data, int64_t rows, int64_t cols, int rows_kind) {
    return (zl_tensor){.kind = ZL_EXTERNAL, .rows_kind = rows_kind, .rows = rows, .cols = cols, .data = data};
}
static zl_tensor constant(float *data, int64_t rows, int64_t cols) { return (zl_tensor){.kind = ZL_CONST, .rows = rows, .cols = cols, .data = data}; }
static zl_op op_of(int code, int in0, int in1, int out0) {
    zl_op op = {.code = code};
    for (int i = 0; i < 12; i++) op.in[i] = -1;
    for (int i = 0; i < 4; i++) op.out[i] = -1;
    op.in[0] = in0, op.in[1] = in1, op.out[0] = out0;
    return op;
}

/* One ADD over three external tensors, with one thing wrong. */
typedef struct {
    zl_tensor t[4];
    zl_op op;
    zl_step step;
} add_case;
static add_case good(void) {
    return (add_case){{rows_of(x, T, C, 0), rows_of(y, T, C, 0), rows_of(out, T, C, 0), constant(weights, 1, C)},
                      op_of(ZL_OP_ADD, 0, 1, 2), {.n_rows = T, .n_out = 0, .n_seq = 1}};
}
static int try(zl_ctx *ctx, const add_case *c) { return zl_run(ctx, &c->op, 1, c->t, 4, &c->step); }

#define REJECT(status, change, text)                                                                             \
    do {                                                                                                         \
        add_case c = good();                                                                                     \
        change;                                                                                                  \
        int got = try(ctx, &c);                                                                                  \
        CHECK(got == (status), "status %d, want %d, after %s", got, (status), #change);                          \
        CHECK(strstr(zl_error(), text), "the text does not say '%s' after %s", text, #change);                   \
    } while (0)

static void test_rejections(zl_ctx *ctx) {
    add_case fine = good();
    CHECK(try(ctx, &fine) == ZL_OK, "the good case");
    /* ops */
    REJECT(ZL_E_ARG, c.op.code = 0, "opcode 0");
    REJECT(ZL_E_ARG, c.op.code = 999, "op 0: unknown opcode 999");
    REJECT(ZL_E_ARG, c.op.code = INT32_MIN, "unknown opcode");
    REJECT(ZL_E_BOUNDS, c.op.in[0] = 4, "op 0 (add): in[0] is tensor 4 of 4");
    REJECT(ZL_E_BOUNDS, c.op.in[11] = INT32_MAX, "in[11]");
    REJECT(ZL_E_BOUNDS, c.op.in[1] = -2, "in[1] is tensor -2");
    REJECT(ZL_E_BOUNDS, c.op.out[3] = INT32_MIN, "out[3]");
    REJECT(ZL_E_BOUNDS, c.op.out[1] = 4, "op 0 (add): out[1] is tensor 4 of 4");
    REJECT(ZL_E_ARG, c.op.out[0] = 3, "only read");
    REJECT(ZL_E_ARG, c.op.in[0] = -1, "missing");
    REJECT(ZL_E_ARG, c.op.in[0] = 3, "constant");
    REJECT(ZL_E_ARG, (c.op.code = ZL_OP_GLU, c.op.ip[0] = ZL_SILU, c.op.in[1] = 3), "constant"); /* of sums and products one row will do */
    /* tensors */
    REJECT(ZL_E_ARG, c.t[3].kind = 5, "tensor 3: unknown kind 5");
    REJECT(ZL_E_ARG, c.t[3].kind = -1, "unknown kind -1");
    REJECT(ZL_E_ARG, c.t[0].data = NULL, "tensor 0 (external): data is a null pointer");
    REJECT(ZL_E_ARG, c.t[0].rows_kind = 2, "unknown kind of rows 2");
    REJECT(ZL_E_ARG, c.t[0].kind = ZL_ARENA, "there is no arena");
    REJECT(ZL_E_SHAPE, c.t[0].cols = 0, "0 columns");
    REJECT(ZL_E_SHAPE, c.t[0].cols = INT64_MAX, "columns");
    REJECT(ZL_E_SHAPE, c.t[0].cols = C - 1, "47");
    REJECT(ZL_E_SHAPE, c.t[0].rows = -1, "room for -1 rows");
    REJECT(ZL_E_SHAPE, c.t[2].rows = T - 1, "5 rows, there is room for 4");
    REJECT(ZL_E_SHAPE, c.t[3].rows = 0, "a constant of (0, 48)");
    REJECT(ZL_E_SHAPE, c.t[3].rows = INT64_MAX, "a constant of");
    REJECT(ZL_E_SHAPE, (c.t[2].rows_kind = ZL_ROWS_OUT), "differently");
    REJECT(ZL_E_SHAPE, (c.op = op_of(ZL_OP_RMS_NORM, 0, 3, 2), c.op.ip[0] = C, c.t[3].rows = 2), "constant 3 has 96 values, want 48");
    REJECT(ZL_E_SHAPE, (c.op = op_of(ZL_OP_RMS_NORM, 0, 3, 2), c.op.ip[0] = C, c.t[3].cols = C - 1), "constant 3 has 47 values, want 48");
    /* steps */
    REJECT(ZL_E_ARG, c.step.n_rows = -1, "n_rows -1");
    REJECT(ZL_E_ARG, c.step.n_out = INT32_MIN, "negative count");
    REJECT(ZL_E_ARG, c.step.n_seq = -1, "n_seq -1");
    REJECT(ZL_E_ARG, c.step.n_planes = -1, "n_planes -1");
    REJECT(ZL_E_ARG, c.step.input_cols = -1, "input_cols -1");
    REJECT(ZL_E_SHAPE, c.step.n_rows = T + 1, "6 rows, there is room for 5");
    REJECT(ZL_E_SHAPE, (c.t[0].rows_kind = c.t[1].rows_kind = c.t[2].rows_kind = ZL_ROWS_OUT, c.step.n_out = T + 1), "6 wanted rows, there is room for 5");
    REJECT(ZL_E_SHAPE, c.step.n_rows = INT32_MAX, "there is room for 5");
    /* lists */
    CHECK(zl_run(NULL, &fine.op, 1, fine.t, 4, &fine.step) == ZL_E_ARG, "no context");
    CHECK(zl_run(ctx, NULL, 1, fine.t, 4, &fine.step) == ZL_E_ARG, "no ops");
    CHECK(zl_run(ctx, &fine.op, 1, NULL, 4, &fine.step) == ZL_E_ARG, "no tensors");
    CHECK(zl_run(ctx, &fine.op, 1, fine.t, 4, NULL) == ZL_E_ARG, "no step");
    CHECK(zl_run(ctx, &fine.op, -1, fine.t, 4, &fine.step) == ZL_E_ARG && zl_run(ctx, &fine.op, INT32_MAX, fine.t, 4, &fine.step) == ZL_E_ARG,
          "a number of ops that is none");
    CHECK(zl_run(ctx, &fine.op, 1, fine.t, -4, &fine.step) == ZL_E_ARG, "-4 tensors");
    CHECK(zl_run(ctx, NULL, 0, NULL, 0, &fine.step) == ZL_OK, "nothing to do is fine");
}

/* ---- caches and the rows' places ------------------------------------------------------------------------------------------------- */

static void test_places(zl_ctx *ctx) {
    enum { R = 6, W = 3, PAGES = 4 };
    static uint16_t k[PAGES * 64 * 8], v[PAGES * 64 * 8];
    zl_cache cache = {.type = ZL_TYPE_F16, .cls = 1, .n_layer = 1, .n_kv = 1, .dk = 8, .dv = 8, .n_pages = PAGES, .k = k, .v = v};
    zl_tensor t = {.kind = ZL_CACHE, .data = &cache};
    int32_t seq[R] = {2, 2, 2, 0, 0, 1}, pos[R] = {62, 63, 64, 0, 1, 130}, see[R] = {62, 63, 64, 1, 1, 130};
    int32_t table[3 * W] = {3, -1, -1, -1, -1, 1, 0, 2, -1};
    zl_step step = {.n_rows = R, .n_seq = 3, .seq = seq, .cache_pos = pos, .see_to = see};
    step.tables[1] = table, step.table_width[1] = W;
#define STEP(status, change, undo, text)                                                                                      \
    do {                                                                                                                      \
        change;                                                                                                               \
        int got = zl_run(ctx, NULL, 0, &t, 1, &step);                                                                         \
        CHECK(got == (status), "status %d, want %d, after %s", got, (status), #change);                                       \
        CHECK(!got || strstr(zl_error(), text), "the text does not say '%s' after %s", text, #change);                        \
        undo;                                                                                                                 \
    } while (0)
    STEP(ZL_OK, , , "");
    STEP(ZL_E_ARG, step.seq = NULL, step.seq = seq, "seq");
    STEP(ZL_E_ARG, step.cache_pos = NULL, step.cache_pos = pos, "cache_pos");
    STEP(ZL_E_ARG, step.see_to = NULL, step.see_to = see, "see_to");
    STEP(ZL_E_BOUNDS, seq[5] = 3, seq[5] = 1, "row 5 belongs to sequence 3 of 3");
    STEP(ZL_E_BOUNDS, seq[0] = -1, seq[0] = 2, "sequence -1");
    STEP(ZL_E_BOUNDS, pos[3] = -1, pos[3] = 0, "cache position -1");
    STEP(ZL_E_BOUNDS, see[3] = -1, see[3] = 1, "up to position -1");
    STEP(ZL_E_ARG, pos[1] = 62, pos[1] = 63, "do not ascend: 62, then 62 in row 1");
    STEP(ZL_E_ARG, seq[5] = 2, seq[5] = 1, "sequence 2 are not adjacent");
    STEP(ZL_E_BOUNDS, pos[5] = see[5] = 192, pos[5] = see[5] = 130, "row 5 needs position 192");
    STEP(ZL_E_BOUNDS, see[0] = INT32_MAX, see[0] = 62, "needs position 2147483647");
    STEP(ZL_E_BOUNDS, table[2 * W + 1] = -1, table[2 * W + 1] = 2, "has page -1");
    STEP(ZL_E_BOUNDS, table[0] = PAGES, table[0] = 3, "has page 4, cache class 1 has 4");
    STEP(ZL_E_ARG, step.tables[1] = NULL, step.tables[1] = table, "no page table for cache class 1");
    STEP(ZL_E_ARG, step.table_width[1] = 0, step.table_width[1] = W, "no page table");
    STEP(ZL_E_ARG, step.table_width[1] = INT32_MIN, step.table_width[1] = W, "no page table");
    STEP(ZL_OK, step.n_rows = 0, step.n_rows = R, "");
    STEP(ZL_E_TYPE, cache.type = ZL_TYPE_Q4_0, cache.type = ZL_TYPE_F16, "type 2");
    STEP(ZL_E_SHAPE, cache.type = ZL_TYPE_Q8_0, cache.type = ZL_TYPE_F16, "blocks of 32 channels, its heads have 8 and 8");
    STEP(ZL_E_SHAPE, (cache.type = ZL_TYPE_Q8_0, cache.dk = 32), (cache.type = ZL_TYPE_F16, cache.dk = 8), "its heads have 32 and 8");
    STEP(ZL_E_ARG, cache.cls = 8, cache.cls = 1, "class 8");
    STEP(ZL_E_ARG, cache.cls = -1, cache.cls = 1, "class -1");
    STEP(ZL_E_SHAPE, cache.n_kv = 0, cache.n_kv = 1, "0 heads");
    STEP(ZL_E_SHAPE, cache.n_pages = -1, cache.n_pages = PAGES, "-1 pages");
    STEP(ZL_E_SHAPE, cache.dk = cache.n_layer = cache.n_pages = INT32_MAX, (cache.dk = 8, cache.n_layer = 1, cache.n_pages = PAGES), "values");
    STEP(ZL_E_ARG, cache.v = NULL, cache.v = v, "without memory");
    STEP(ZL_OK, , , "");
#undef STEP
    /* Two caches of a class: a page must be in both, whichever comes first. */
    zl_cache small = cache;
    small.n_pages = PAGES - 1;
    for (int order = 0; order < 2; order++) {
        zl_tensor both[] = {{.kind = ZL_CACHE, .data = order ? &small : &cache}, {.kind = ZL_CACHE, .data = order ? &cache : &small}};
        CHECK(zl_run(ctx, NULL, 0, both, 2, &step) == ZL_E_BOUNDS && strstr(zl_error(), "has page 3, cache class 1 has 3"), "two caches, order %d", order);
    }
}

/* One row of each of `n` sequences, and one more of the last sequence that begins its next page: what is written are n + 1 pages. `swap`: the
 * sequences come in falling order. */
static void test_written_by(zl_ctx *ctx, int n, int swap) {
    enum { MANY = 100, D = 4, W = 2 };
    static float k[(MANY + 1) * 64 * D], v[(MANY + 1) * 64 * D], rows[(MANY + 1) * D], seen[(MANY + 1) * D];
    static int32_t table[MANY * W], seq[MANY + 1], at[MANY + 1];
    zl_cache cache = {.type = ZL_TYPE_F32, .cls = 2, .n_layer = 1, .n_kv = 1, .dk = D, .dv = D, .n_pages = MANY + 1, .k = k, .v = v};
    zl_tensor t[] = {rows_of(rows, n + 1, D, 0), {.kind = ZL_CACHE, .data = &cache}, rows_of(seen, n + 1, D, 0)};
    zl_op store = op_of(ZL_OP_KV_STORE, 0, 0, -1), see = op_of(ZL_OP_ATTENTION, 0, 1, 2);
    store.in[2] = 1, see.ip[1] = 1, see.fp[0] = 1;
    memset(table, 0xff, sizeof table);
    for (int i = 0; i < n; i++) seq[i] = swap ? n - 1 - i : i, table[seq[i] * W] = i, at[i] = i % 64;
    const int last = seq[n - 1];
    seq[n] = last, at[n - 1] = 63, at[n] = 64, table[last * W + 1] = n;
    zl_step step = {.n_rows = n + 1, .n_seq = n, .seq = seq, .cache_pos = at, .see_to = at};
    step.tables[2] = table, step.table_width[2] = W;
    CHECK(zl_run(ctx, &store, 1, t, 3, &step) == ZL_OK, "%d sequences: %s", n, zl_error());
    for (int i = 0; i < n; i++) { /* the new page is sequence i's too */
        const int kept = table[seq[i] * W];
        char want[200];
        table[seq[i] * W] = n;
        snprintf(want, sizeof want, "page %d of cache class 2 is written at position %d of sequence %d and at position 64 of sequence %d", n, at[i], seq[i], last);
        CHECK(zl_run(ctx, &store, 1, t, 3, &step) == ZL_E_ARG && strstr(zl_error(), want), "sequence %d of %d: %s", i, n, zl_error());
        CHECK(zl_run(ctx, &see, 1, t, 3, &step) == ZL_OK, "a page may be read by two: %s", zl_error());
        table[seq[i] * W] = kept;
    }
    table[last * W + 1] = 0; /* no longer the highest: the list is sorted */
    CHECK(zl_run(ctx, &store, 1, t, 3, &step) == ZL_E_ARG, "the first sequence's page, of %d", n);
}
static void test_written(zl_ctx *ctx) {
    for (int swap = 0; swap < 2; swap++) test_written_by(ctx, 1, swap), test_written_by(ctx, 2, swap), test_written_by(ctx, 63, swap), test_written_by(ctx, 100, swap);
}

/* ---- programs -------------------------------------------------------------------------------------------------------------------- */

static void test_program(zl_ctx *ctx) {
    zl_counters before, after;
    /* norm(x) + y: the norm goes through the arena */
    zl_tensor t[] = {rows_of(x, T, C, 0), rows_of(y, T, C, 0), {.kind = ZL_ARENA, .cols = C, .offset = 3}, rows_of(out, T, C, 0),
                     constant(weights, 1, C), rows_of(out, T, C, 0)};
    zl_op ops[2] = {op_of(ZL_OP_RMS_NORM, 0, 4, 2), op_of(ZL_OP_ADD, 2, 1, 3)};
    ops[0].ip[0] = C, ops[0].fp[0] = 1e-5f;
    zl_step step = {.n_rows = T, .n_seq = 1};
    zl_program *p = NULL;
    for (int i = 0; i < T * C; i++) x[i] = (float)(i % 17) - 8, y[i] = (float)i;
    for (int i = 0; i < C; i++) weights[i] = 1 + 0.01f * (float)i;

    CHECK(zl_program_new(ctx, ops, 2, t, 5, C + 3, T, &p) == ZL_OK && p, "build");
    if (!p) return;
    float *arena = zl_program_tensor(p, 2);
    CHECK(arena && zl_program_tensor(p, 0) == x && zl_program_tensor(p, 4) == weights, "where tensors are");
    CHECK(!zl_program_tensor(p, 5) && !zl_program_tensor(p, -1) && !zl_program_tensor(NULL, 0), "tensors that are not there");
    zl_ctx_counters(ctx, &before);
    for (int i = 0; i < 3; i++) CHECK(zl_program_run(p, &step) == ZL_OK, "run");
    zl_ctx_counters(ctx, &after);
    CHECK(after.runs - before.runs == 3 && after.program_runs - before.program_runs == 3 && after.ops - before.ops == 6, "counters");
    static float kept[T * C], middle[T * C];
    memcpy(kept, out, sizeof out);
    memset(out, 0, sizeof out);

    /* eager, op by op: the same bits */
    zl_tensor e[] = {t[0], t[1], rows_of(middle, T, C, 0), t[3], t[4]};
    CHECK(zl_run(ctx, &ops[0], 1, e, 5, &step) == ZL_OK && zl_run(ctx, &ops[1], 1, e, 5, &step) == ZL_OK, "eager");
    CHECK(!memcmp(kept, out, sizeof out) && !memcmp(middle, arena, sizeof middle), "a program and eager ops differ");
    zl_ctx_counters(ctx, &before);
    CHECK(before.runs - after.runs == 2 && before.program_runs == after.program_runs, "eager runs are no program runs");

    /* the program keeps copies: what the caller does to its arrays afterwards changes nothing */
    memset(ops, 0xff, sizeof ops), memset(t, 0xff, sizeof t[0] * 3);
    CHECK(zl_program_run(p, &step) == ZL_OK, "run after the caller's arrays are gone");
    step.n_rows = 2;
    CHECK(zl_program_run(p, &step) == ZL_OK, "fewer rows");
    CHECK(zl_program_tensor(p, 2) == arena - 3 * (T - 2) && !memcmp(zl_program_tensor(p, 2), middle, 2 * C * sizeof *middle),
          "the arena is packed by the rows of the step");

    /* time per op: nothing until it is switched on, then calls and time of both ops, and nothing more after it is off */
    zl_op_time times[2] = {{9, 9}, {9, 9}}, more[2];
    CHECK(zl_program_times(p, times, 2) == ZL_OK && !times[0].calls && !times[1].calls && !times[0].nanoseconds, "timed while it was off");
    CHECK(zl_ctx_time_ops(ctx, 1) == ZL_OK, "on");
    for (int i = 0; i < 50; i++) CHECK(zl_program_run(p, &step) == ZL_OK, "a timed run");
    CHECK(zl_run(ctx, &(zl_op){.code = 0}, 0, NULL, 0, &step) == ZL_OK, "an eager run while it is on");
    CHECK(zl_ctx_time_ops(ctx, 0) == ZL_OK && zl_program_times(p, times, 2) == ZL_OK, "off");
    CHECK(times[0].calls == 50 && times[1].calls == 50, "%lld and %lld calls", (long long)times[0].calls, (long long)times[1].calls);
    CHECK(times[0].nanoseconds > 0 && times[1].nanoseconds > 0, "ops that took no time");
    CHECK(zl_program_run(p, &step) == ZL_OK && zl_program_times(p, more, 2) == ZL_OK && !memcmp(times, more, sizeof times), "still on");
    CHECK(!memcmp(zl_program_tensor(p, 2), middle, 2 * C * sizeof *middle), "timed runs give other values");
    CHECK(zl_program_times(p, times, 3) == ZL_E_SHAPE && strstr(zl_error(), "has 2"), "room for too many");
    CHECK(zl_program_times(NULL, times, 2) == ZL_E_ARG && zl_program_times(p, NULL, 2) == ZL_E_ARG && zl_ctx_time_ops(NULL, 1) == ZL_E_ARG, "nothing");
    step.n_rows = T + 1;
    CHECK(zl_program_run(p, &step) == ZL_E_SHAPE, "too many rows");
    CHECK(zl_program_run(p, NULL) == ZL_E_ARG && zl_program_run(NULL, &step) == ZL_E_ARG, "no step, no program");
    zl_program_free(p);
    zl_program_free(NULL);

    add_case c = good();
    p = (zl_program *)&c;
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, 0, 0, &p) == ZL_E_ARG && !p, "0 rows");
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, 0, INT32_MAX, &p) == ZL_E_ARG && !p, "2^31 rows");
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, -1, 1, &p) == ZL_E_ARG, "-1 arena columns");
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, INT64_MAX, 1, &p) == ZL_E_ARG, "2^63 arena columns");
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, ((int64_t)1 << 36) + 1, 1, &p) == ZL_E_ARG && !p && strstr(zl_error(), "an arena of 68719476737"),
          "an arena of one column too many");
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, (int64_t)1 << 36, 1 << 20, &p) == ZL_E_MEMORY && !p, "an arena of 2^58 bytes");
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, 0, 1, NULL) == ZL_E_ARG && zl_program_new(NULL, &c.op, 1, c.t, 4, 0, 1, &p) == ZL_E_ARG &&
              zl_program_new(ctx, NULL, 1, c.t, 4, 0, 1, &p) == ZL_E_ARG, "null pointers");
    static const struct { int64_t offset, cols; int status; } arena_cases[] = {
        {0, C, ZL_OK}, {16, C, ZL_OK}, {17, C, ZL_E_BOUNDS}, {-1, C, ZL_E_BOUNDS}, {INT64_MAX, C, ZL_E_BOUNDS}, {INT64_MIN, C, ZL_E_BOUNDS}};
    for (size_t i = 0; i < sizeof arena_cases / sizeof arena_cases[0]; i++) {
        c = good();
        c.t[2] = (zl_tensor){.kind = ZL_ARENA, .cols = arena_cases[i].cols, .offset = arena_cases[i].offset};
        int status = zl_program_new(ctx, &c.op, 1, c.t, 4, C + 16, T, &p);
        CHECK(status == arena_cases[i].status, "arena case %d: status %d", (int)i, status);
        zl_program_free(p), p = NULL;
    }
    c = good();
    c.op.in[0] = 77;
    CHECK(zl_program_new(ctx, &c.op, 1, c.t, 4, 0, T, &p) == ZL_E_BOUNDS && !p, "validated when built");
}

/* An arena of 2 MiB, which is a mapping of its own: whole, and not a page more. Large rows of another op do not move it. */
static void test_large_arena(zl_ctx *ctx) {
    enum { ROWS = 128, COLS = 4096 };
    static float large[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) large[i] = (float)(i % 1001);
    zl_tensor t[] = {rows_of(large, ROWS, COLS, 0), {.kind = ZL_ARENA, .cols = COLS}};
    zl_op op = op_of(ZL_OP_ADD, 0, 0, 1);
    zl_step step = {.n_rows = ROWS, .n_seq = 1};
    zl_program *p = NULL;
    CHECK(zl_program_new(ctx, &op, 1, t, 2, COLS, ROWS, &p) == ZL_OK && zl_program_run(p, &step) == ZL_OK, "a large arena");
    const float *sums = zl_program_tensor(p, 1);
    int wrong = 0;
    for (int i = 0; i < ROWS * COLS && sums; i++) wrong += sums[i] != 2 * large[i];
    CHECK(sums && !wrong, "%d sums differ", wrong);
    zl_program_free(p);
}

/* More ops in one eager call than the list on the stack holds. */
static void test_many_ops(zl_ctx *ctx) {
    enum { N = 100 };
    static zl_op ops[N];
    add_case c = good();
    for (int i = 0; i < T * C; i++) out[i] = 0, y[i] = 1;
    for (int i = 0; i < N; i++) ops[i] = op_of(ZL_OP_ADD, 2, 1, 2);
    CHECK(zl_run(ctx, ops, N, c.t, 4, &c.step) == ZL_OK, "100 ops");
    int wrong = 0;
    for (int i = 0; i < T * C; i++) wrong += out[i] != N;
    CHECK(!wrong, "%d of %d sums differ", wrong, T * C);
}

/* A weight belongs to the ISA variant of the context that made it: another one's x stands in other groups. */
static void test_other_variant(zl_ctx *ctx) {
    static uint8_t data[128];
    static float f[64];
    zl_ctx *other = NULL;
    zl_weight *w = NULL;
    for (int v = 0; v < zl_isa_count() && !other; v++)
        if (zl_isa_usable(v) && strcmp(zl_isa_name(v), zl_ctx_isa(ctx))) CHECK(zl_ctx_new(1, zl_isa_name(v), NULL, &other) == ZL_OK, "another variant");
    if (!other) return; /* this machine has one */
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, 4, 8, data, 128, 0, &w) == ZL_OK, "weight");
    zl_tensor t[] = {rows_of(f, 1, 8, ZL_ROWS_STEP), {.kind = ZL_WEIGHT, .data = w}, rows_of(f + 32, 1, 4, ZL_ROWS_STEP)};
    zl_op op = {.code = ZL_OP_LINEAR, .in = {0, 1, -1, -1}, .out = {2, -1, -1, -1}, .ip = {1}};
    zl_step step = {.n_rows = 1, .n_seq = 1};
    CHECK(zl_run(other, &op, 1, t, 3, &step) == ZL_E_ARG && strstr(zl_error(), zl_ctx_isa(ctx)) && strstr(zl_error(), zl_ctx_isa(other)), "refused");
    CHECK(zl_run(ctx, &op, 1, t, 3, &step) == ZL_OK, "its own");
    zl_weight_free(w);
    zl_ctx_free(other);
}

/* ---- several runs in a row: what single runs give, each fed what the one before it found best --------------------------------------- */

enum { VOCAB = 32, AHEAD = 6, SEQS = 2 };

static void test_ahead(zl_ctx *ctx) {
    static float table[VOCAB * VOCAB];
    static uint16_t k[SEQS * 64 * VOCAB], v[SEQS * 64 * VOCAB];
    float inv_freq[VOCAB / 2];
    zl_weight *w = NULL;
    zl_program *p = NULL, *no_top = NULL;
    for (int i = 0; i < VOCAB * VOCAB; i++) table[i] = (float)((i * 7919 + 13) % 101 - 50) / 20;
    for (int i = 0; i < VOCAB / 2; i++) inv_freq[i] = 1.0f / (float)(1 + i);
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, VOCAB, VOCAB, table, sizeof table, ZL_WEIGHT_MAPPED, &w) == ZL_OK, "weight");
    zl_cache cache = {.type = ZL_TYPE_F16, .n_layer = 1, .n_kv = 1, .dk = VOCAB, .dv = VOCAB, .n_pages = SEQS, .k = k, .v = v};
    enum { EMBED, ROPED, SEEN, BEST, IDS, WEIGHT, CACHE, FREQ };
    zl_tensor t[9] = {{.cols = VOCAB}, {.cols = VOCAB, .offset = VOCAB}, {.cols = VOCAB, .offset = 2 * VOCAB}, {.cols = 2, .offset = 3 * VOCAB},
                     {.cols = 2, .offset = 3 * VOCAB + 2}, {.kind = ZL_WEIGHT, .data = w}, {.kind = ZL_CACHE, .data = &cache},
                     constant(inv_freq, 1, VOCAB / 2)};
    zl_op ops[] = {op_of(ZL_OP_EMBED, WEIGHT, -1, EMBED), op_of(ZL_OP_ROPE, EMBED, FREQ, ROPED), op_of(ZL_OP_KV_STORE, ROPED, ROPED, -1),
                   op_of(ZL_OP_ATTENTION, ROPED, CACHE, SEEN), op_of(ZL_OP_TOP_K, SEEN, -1, BEST)};
    ops[0].fp[0] = 1, ops[1].fp[0] = 1, ops[2].in[2] = CACHE, ops[3].fp[0] = 0.3f, ops[4].out[1] = IDS, ops[4].ip[0] = 2;
    ops[1].ip[0] = 1, ops[1].ip[1] = ops[1].ip[2] = VOCAB, ops[3].ip[1] = 1;
    CHECK(zl_program_new(ctx, ops, 5, t, 8, 3 * VOCAB + 4, 8, &p) == ZL_OK, "program");
    CHECK(zl_program_new(ctx, ops, 4, t, 8, 3 * VOCAB + 4, 8, &no_top) == ZL_OK, "a program without top_k");

    int32_t tokens[SEQS] = {0, 2}, at[SEQS] = {3, 9}, seq[SEQS] = {0, 1}, rows[SEQS] = {0, 1}, pages[SEQS] = {0, 1};
    int32_t want[AHEAD][SEQS], ids[AHEAD * SEQS], kept[SEQS];
    zl_step step = {.n_rows = SEQS, .n_out = SEQS, .n_seq = SEQS, .n_planes = 1, .tokens = tokens, .positions = at, .cache_pos = at, .see_to = at,
                    .seq = seq, .out_rows = rows, .tables = {pages}, .table_width = {1}};
    int ran = -1, end = 0, poison = 3;
    for (int i = 0; i < AHEAD; i++) {
        CHECK(zl_program_run(p, &step) == ZL_OK, "a single run");
        for (int s = 0; s < SEQS; s++) memcpy(&want[i][s], zl_program_tensor(p, IDS) + 2 * s, 4), tokens[s] = want[i][s], at[s]++;
    }
    while (end < AHEAD - 1 && !(want[end][1] != want[0][1] && want[end][1] != want[0][0])) end++; /* a token that the first run does not give */
    for (int i = 0; i < AHEAD * SEQS; i++) /* a token that none of them gives */
        if (want[i / SEQS][i % SEQS] == poison) poison++, i = -1;
    tokens[0] = 0, tokens[1] = 2, at[0] = 3, at[1] = 9;
    memset(k, 0, sizeof k), memset(v, 0, sizeof v);
    CHECK(zl_program_run_ahead(p, &step, AHEAD, NULL, 0, ids, &ran) == ZL_OK && ran == AHEAD, "%d runs", ran);
    CHECK(!memcmp(ids, want, sizeof want), "other tokens than in single runs");
    CHECK(tokens[0] == 0 && tokens[1] == 2 && at[0] == 3 && at[1] == 9, "the step was written to");
    const int32_t ends[2] = {VOCAB, want[end][1]};
    CHECK(end > 0 && zl_program_run_ahead(p, &step, AHEAD, ends, 2, ids, &ran) == ZL_OK && ran > 1 && ran <= end + 1, "%d runs, end token in run %d", ran, end);
    CHECK(ids[(ran - 1) * SEQS] == ends[1] || ids[(ran - 1) * SEQS + 1] == ends[1], "it ended without an end token");
    memcpy(kept, tokens, sizeof kept), tokens[1] = poison, table[poison * VOCAB + 3] = __builtin_nanf("");
    CHECK(zl_program_run_ahead(p, &step, AHEAD, NULL, 0, ids, &ran) == ZL_OK && ran == 0, "%d runs from a NaN", ran);
    memset(k, 0, sizeof k), memset(v, 0, sizeof v);
    memcpy(tokens, kept, sizeof kept), at[1] = 62; /* the page holds two more positions */
    CHECK(zl_program_run_ahead(p, &step, AHEAD, NULL, 0, ids, &ran) == ZL_E_BOUNDS && ran == 2, "%d runs up to the end of the page", ran);
    at[1] = 9;
#define AHEAD_REFUSED(status, change, undo)                                                                                              \
    do {                                                                                                                                 \
        change;                                                                                                                          \
        CHECK(zl_program_run_ahead(p, &step, AHEAD, NULL, 0, ids, &ran) == (status) && *zl_error(), "not refused: %s", #change);            \
        undo;                                                                                                                            \
    } while (0)
    AHEAD_REFUSED(ZL_E_ARG, step.skip_top_k = 1, step.skip_top_k = 0);
    AHEAD_REFUSED(ZL_E_SHAPE, step.n_out = 1, step.n_out = SEQS);
    AHEAD_REFUSED(ZL_E_SHAPE, step.n_rows = step.n_out = 0, step.n_rows = step.n_out = SEQS);
    AHEAD_REFUSED(ZL_E_SHAPE, step.out_rows = NULL, step.out_rows = rows);
    AHEAD_REFUSED(ZL_E_SHAPE, step.tokens = NULL, step.tokens = tokens);
    AHEAD_REFUSED(ZL_E_SHAPE, step.positions = NULL, step.positions = at);
    AHEAD_REFUSED(ZL_E_ARG, rows[0] = 1, rows[0] = 0);
    AHEAD_REFUSED(ZL_E_ARG, (seq[1] = 0, at[1] = 4), (seq[1] = 1, at[1] = 9));
    const uint32_t *mask[SEQS] = {NULL};
    AHEAD_REFUSED(ZL_E_ARG, step.mask = mask, step.mask = NULL);
#undef AHEAD_REFUSED
    CHECK(zl_program_run_ahead(no_top, &step, 2, NULL, 0, ids, &ran) == ZL_E_ARG && strstr(zl_error(), "top_k"), "no top_k");
    CHECK(zl_program_run_ahead(p, &step, 0, NULL, 0, ids, &ran) == ZL_E_ARG && zl_program_run_ahead(p, &step, 1, NULL, -1, ids, &ran) == ZL_E_ARG, "counts");
    CHECK(zl_program_run_ahead(p, &step, 1, NULL, 1, ids, &ran) == ZL_E_ARG && zl_program_run_ahead(NULL, &step, 1, NULL, 0, ids, &ran) == ZL_E_ARG &&
              zl_program_run_ahead(p, NULL, 1, NULL, 0, ids, &ran) == ZL_E_ARG && zl_program_run_ahead(p, &step, 1, NULL, 0, NULL, &ran) == ZL_E_ARG &&
              zl_program_run_ahead(p, &step, 1, NULL, 0, ids, NULL) == ZL_E_ARG,
          "null pointers");
    zl_program *memory;
    ops[2].code = ZL_OP_ADD, ops[2].out[0] = SEEN, ops[2].in[2] = -1, ops[3].ip[3] = 1; /* nothing is stored; seen is what a plane says */
    CHECK(zl_program_new(ctx, ops, 5, t, 8, 3 * VOCAB + 4, 8, &memory) == ZL_OK, "a program with a memory: %s", zl_error());
    CHECK(zl_program_run_ahead(memory, &step, 2, NULL, 0, ids, &ran) == ZL_E_ARG && strstr(zl_error(), "memory"), "its plane moved on");
    zl_program *states;
    zl_cache state = {.type = ZL_TYPE_F32, .cls = 2, .n_layer = 1, .n_kv = 1, .dk = 1, .dv = 1, .n_pages = 1, .state = 1, .k = k, .v = v};
    t[8] = (zl_tensor){.kind = ZL_CACHE, .data = &state}, ops[3].ip[3] = 0;
    CHECK(zl_program_new(ctx, ops, 5, t, 9, 3 * VOCAB + 4, 8, &states) == ZL_OK, "a program with states: %s", zl_error());
    CHECK(zl_program_run_ahead(states, &step, 2, NULL, 0, ids, &ran) == ZL_E_ARG && strstr(zl_error(), "state"), "it went on from the first run's page");
    zl_program_free(p), zl_program_free(no_top), zl_program_free(memory), zl_program_free(states);
    zl_weight_free(w);
}

int selftest_program(zl_ctx *ctx) {
    failures = 0;
    test_rejections(ctx);
    test_other_variant(ctx);
    test_places(ctx);
    test_written(ctx);
    test_program(ctx);
    test_large_arena(ctx);
    test_many_ops(ctx);
    test_ahead(ctx);
    return failures;
}
