/* selftest_numa.c - the placement plan for 1, 2 and 4 nodes, the masks that are handed to mbind, and that bits do not depend on any of it;
 * memory that weights share, made ready ahead or not. */
#include "../core/ctx.h"
#include "selftest.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>

static int failures;

/* ---- the plan ---------------------------------------------------------------------------------------------------------------------- */

/* Spans follow each other from 0 to the last page's end, on whole pages; every panel's first byte lies on its reader's node, but for those
 * on the page of a border. */
static void check_plan(const int *nodes, int n_threads, int64_t panels, int64_t bytes, int64_t page, int want) {
    zl_node_span spans[16];
    int n = -1;
    CHECK(zl_numa_plan(nodes, n_threads, panels, bytes, page, spans, &n) == ZL_OK, "plan");
    CHECK(want < 0 || n == want, "%d spans, want %d", n, want);
    int64_t at = 0, total = panels * bytes;
    for (int i = 0; i < n; i++) {
        CHECK(spans[i].begin == at && spans[i].end > at && spans[i].begin % page == 0 && spans[i].end % page == 0, "span %d", i);
        CHECK(spans[i].node == nodes[spans[i].first_thread], "node of span %d", i);
        at = spans[i].end;
    }
    CHECK(at == (total + page - 1) / page * page, "the plan ends at %lld of %lld bytes", (long long)at, (long long)total);
    for (int t = 0; t < n_threads; t++)
        for (int64_t p = zl_share_begin(panels, t, n_threads); p < zl_share_begin(panels, t + 1, n_threads); p++) {
            int64_t byte = p * bytes, far = 1;
            for (int i = 0; i < n; i++)
                if (spans[i].begin <= byte && byte < spans[i].end) far = spans[i].node != nodes[t] && byte - spans[i].begin >= page && spans[i].end - byte > page;
            CHECK(!far, "panel %lld of thread %d lies on another node", (long long)p, t);
        }
}

static void test_plans(void) {
    static const int one[8] = {0}, two[8] = {0, 0, 0, 0, 1, 1, 1, 1}, four[8] = {0, 0, 1, 1, 2, 2, 3, 3}, odd[3] = {5, 9, 9}, apart[4] = {0, 1, 0, 1};
    for (int64_t panels = 0; panels < 70; panels++) {
        const int some = panels >= 32 ? 1 : -1; /* fewer may leave a node without a page of its own */
        check_plan(one, 8, panels, 4096, 4096, panels ? 1 : 0);
        check_plan(two, 8, panels, 4096, 4096, some > 0 ? 2 : -1);
        check_plan(four, 8, panels, 4096, 4096, some > 0 ? 4 : -1);
        check_plan(odd, 3, panels, 9216, 4096, some > 0 ? 2 : -1);
        check_plan(apart, 4, panels, 9000, 65536, -1);
        check_plan(four, 8, panels, 1000, 4096, -1);
    }
    zl_node_span s[8];
    int n;
    CHECK(zl_numa_plan(two, 8, 16, 8192, 4096, s, &n) == ZL_OK && n == 2, "two nodes");
    CHECK(s[0].node == 0 && s[0].first_thread == 0 && s[0].n_threads == 4 && s[0].begin == 0 && s[0].end == 65536, "node 0 has panels 0 to 7");
    CHECK(s[1].node == 1 && s[1].first_thread == 4 && s[1].n_threads == 4 && s[1].begin == 65536 && s[1].end == 131072, "node 1 has 8 to 15");
    CHECK(zl_numa_plan(NULL, 1, 1, 1, 4096, s, &n) == ZL_E_ARG && zl_numa_plan(one, 1, 1, 1, 4096, NULL, &n) == ZL_E_ARG, "null pointers");
    CHECK(zl_numa_plan(one, 0, 1, 1, 4096, s, &n) == ZL_E_ARG && zl_numa_plan(one, 1, -1, 1, 4096, s, &n) == ZL_E_ARG, "counts");
    CHECK(zl_numa_plan(one, 1, 1, 0, 4096, s, &n) == ZL_E_ARG && zl_numa_plan(one, 1, 1, 1, 3000, s, &n) == ZL_E_ARG, "bytes");
    CHECK(zl_numa_plan(one, 1, INT64_MAX / 4096, 1 << 20, 4096, s, &n) == ZL_E_ARG, "2^71 bytes");
}

/* ---- what mbind is asked ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    int n, error;
    int64_t bytes[16], node[16];
    uint8_t *start[16];
} seen;

static int record(void *arg, void *start, int64_t bytes, int mode, const uint64_t *mask, int64_t max_node) {
    seen *s = arg;
    int64_t node = -1;
    for (int64_t i = 0; i < max_node; i++)
        if (mask[i / 64] >> i % 64 & 1) node = node < 0 ? i : -2; /* one bit, or -2 */
    if (s->n < 16) s->start[s->n] = start, s->bytes[s->n] = bytes, s->node[s->n] = mode == 1 ? node : -3;
    s->n++;
    return s->error;
}

enum { ROWS = 1040, COLS = 1024, BATCH = 12 };

static zl_weight *make(zl_ctx *ctx, const float *values) {
    zl_weight *w = NULL;
    CHECK(zl_weight_new(ctx, ZL_TYPE_F32, ROWS, COLS, values, (int64_t)ROWS * COLS * 4, 0, &w) == ZL_OK && w, "weight");
    return w;
}

/* y = x W^T by three weights at once, for a few and for many rows */
static void multiply(zl_ctx *ctx, zl_weight *w, float *x, float *y, int rows) {
    zl_op op = {.code = ZL_OP_LINEAR, .in = {0, 1, -1, -1, 1, -1, -1, 1, -1, -1, -1, -1}, .out = {2, 3, 4, -1}, .ip = {3}};
    zl_tensor t[5] = {{.kind = ZL_EXTERNAL, .rows = BATCH, .cols = COLS, .data = x}, {.kind = ZL_WEIGHT, .data = w}};
    for (int i = 0; i < 3; i++) t[2 + i] = (zl_tensor){.kind = ZL_EXTERNAL, .rows = BATCH, .cols = ROWS, .data = y + (int64_t)i * BATCH * ROWS};
    for (int i = 0; i < 3 * BATCH * ROWS; i++) y[i] = NAN; /* what no chunk writes stays so */
    zl_step step = {.n_rows = rows, .n_seq = 1};
    CHECK(zl_run(ctx, &op, 1, t, 5, &step) == ZL_OK, "linear");
}

static void test_masks(zl_ctx *ctx) {
    const int threads = zl_ctx_threads(ctx);
    const int nodes[3] = {3, 70, 70}, same[3] = {1, 1, 1};
    static float y[2][2][3 * BATCH * ROWS];
    float *values = malloc(sizeof(float) * ROWS * COLS), *x = malloc(sizeof(float) * BATCH * COLS);
    if (!values || !x) return;
    for (int i = 0; i < ROWS * COLS; i++) values[i] = (float)(i % 31 - 15);
    for (int i = 0; i < BATCH * COLS; i++) x[i] = (float)(i % 17 - 8);
    seen s = {.n = 0};
    zl_counters before, after;
    zl_ctx_counters(ctx, &before);
    CHECK(zl_ctx_set_mbind(ctx, record, &s) == ZL_OK, "hook");

    zl_weight *plain = make(ctx, values);
    CHECK(zl_ctx_set_nodes(ctx, same) == ZL_OK, "all on node 1");
    zl_weight_free(make(ctx, values));
    CHECK(s.n == 0, "mbind was called %d times on one node", s.n);

    CHECK(zl_ctx_set_nodes(ctx, nodes) == ZL_OK, "nodes 3 and 70");
    zl_weight *spread = make(ctx, values);
    CHECK(s.n == (threads > 1 ? 2 : 0), "%d calls of mbind with %d threads", s.n, threads);
    if (threads > 1) {
        const int64_t bytes = zl_weight_bytes(spread);
        CHECK(s.node[0] == 3 && s.node[1] == 70, "nodes %lld and %lld", (long long)s.node[0], (long long)s.node[1]);
        CHECK(s.start[0] == spread->panels && s.start[1] == spread->panels + s.bytes[0], "where the ranges begin");
        CHECK(s.bytes[0] + s.bytes[1] == (bytes + 4095) / 4096 * 4096, "%lld and %lld of %lld bytes", (long long)s.bytes[0],
              (long long)s.bytes[1], (long long)bytes);
        const int64_t panel_share = zl_share_begin((ROWS + spread->k->lanes - 1) / spread->k->lanes, 1, threads) * spread->panel_bytes;
        CHECK(s.bytes[0] == (panel_share & -4096), "node 3 has %lld bytes, thread 0 reads %lld", (long long)s.bytes[0], (long long)panel_share);
        zl_ctx_counters(ctx, &after);
        CHECK(after.bound_ranges - before.bound_ranges == 2 && after.bind_failures == before.bind_failures, "counters");
        s.n = 0, s.error = EPERM;
        zl_weight_free(make(ctx, values)); /* refused: no error */
        zl_ctx_counters(ctx, &after);
        CHECK(s.n == 2 && after.bind_failures - before.bind_failures == 2 && after.bound_ranges - before.bound_ranges == 2, "failures are counted");
        /* weights that come together would share huge pages: each has its own here */
        zl_weight *together = NULL;
        s.n = 0, s.error = 0;
        CHECK(zl_weight_new(ctx, ZL_TYPE_F32, ROWS, COLS, values, (int64_t)ROWS * COLS * 4, ZL_WEIGHT_TOGETHER, &together) == ZL_OK && s.n == 2 &&
                  !together->mapping && (uintptr_t)together->panels % (2 << 20) == 0, "%d parts of a weight among others were bound", s.n);
        zl_weight_free(together);
        /* small blocks share pages with others: they stay where they are */
        zl_weight *small = NULL;
        s.n = 0;
        CHECK(zl_weight_new(ctx, ZL_TYPE_F32, 16, 64, values, 16 * 64 * 4, 0, &small) == ZL_OK && s.n == 0, "a small weight was bound");
        zl_weight_free(small);
    }
    /* chunks are numbered by shares now: the same bits, and every output written */
    for (int many = 0; many < 2; many++) {
        multiply(ctx, spread, x, y[1][many], many ? BATCH : 1);
        CHECK(zl_ctx_set_nodes(ctx, NULL) == ZL_OK, "off");
        multiply(ctx, plain, x, y[0][many], many ? BATCH : 1);
        CHECK(!memcmp(y[0][many], y[1][many], sizeof y[0][many]), "bits depend on nodes, %d rows", many ? BATCH : 1);
        CHECK(!isnan(y[1][many][ROWS - 1]), "outputs that nobody wrote");
        CHECK(zl_ctx_set_nodes(ctx, nodes) == ZL_OK, "on");
    }
    zl_weight_free(plain), zl_weight_free(spread);
    free(values), free(x);
    const int wrong[3] = {0, -1, ZL_MAX_NODES};
    if (threads > 1) CHECK(zl_ctx_set_nodes(ctx, wrong) == ZL_E_ARG && strstr(zl_error(), "thread 1 on node -1"), "node -1");
    else CHECK(zl_ctx_set_nodes(ctx, wrong + 2) == ZL_E_ARG && strstr(zl_error(), "node 1024"), "node 1024");
    CHECK(zl_ctx_set_nodes(NULL, nodes) == ZL_E_ARG && zl_ctx_set_mbind(NULL, record, &s) == ZL_E_ARG, "no context");
    CHECK(zl_ctx_set_nodes(ctx, NULL) == ZL_OK && zl_ctx_set_mbind(ctx, NULL, NULL) == ZL_OK, "off");
}

/* ---- memory that is shared ------------------------------------------------------------------------------------------------------------- */

static void test_together(zl_ctx *ctx) {
    static uint8_t data[128];
    float row[8];
    memset(data, 0x3f, sizeof data);
    /* Memory made ready is cut from by the context that it was given to. */
    zl_mapping *ready = NULL;
    CHECK(zl_memory_ready(-1, &ready) == ZL_E_ARG && zl_memory_ready(0, &ready) == ZL_E_ARG && zl_memory_ready(1, NULL) == ZL_E_ARG && !ready, "no bytes");
    CHECK(zl_ctx_give_memory(ctx, NULL) == ZL_E_ARG && zl_ctx_spare_memory(NULL) == ZL_E_ARG, "nothing");
    zl_memory_drop(NULL);
    CHECK(zl_memory_ready(1 << 20, &ready) == ZL_OK && ready, "for nobody");
    zl_memory_drop(ready);
    CHECK(zl_memory_ready(9 << 20, &ready) == ZL_OK && ready && zl_ctx_give_memory(NULL, ready) == ZL_E_ARG, "no context");
    zl_ctx *fresh = NULL;
    zl_weight *first = NULL, *second = NULL;
    CHECK(zl_ctx_new(1, zl_ctx_isa(ctx), NULL, &fresh) == ZL_OK && zl_ctx_spare_memory(fresh) == ZL_OK && zl_ctx_give_memory(fresh, ready) == ZL_OK, "given");
    CHECK(zl_weight_new(fresh, ZL_TYPE_F32, 4, 8, data, 128, ZL_WEIGHT_TOGETHER, &first) == ZL_OK && first->mapping == ready && zl_mapping_ready(ready) == 9 << 20, "it is cut from");
    CHECK(zl_ctx_spare_memory(fresh) == ZL_OK && zl_mapping_ready(ready) == 4096, "the rest goes back");
    zl_weight_row(first, 3, row);
    CHECK(!memcmp(row, data, sizeof row), "a weight has changed");
    CHECK(zl_weight_new(fresh, ZL_TYPE_F32, 4, 8, data, 128, ZL_WEIGHT_TOGETHER, &second) == ZL_OK && second->mapping == ready && zl_ctx_spare_memory(fresh) == ZL_OK, "and cut again");
    zl_weight_free(first), zl_weight_free(second), zl_ctx_free(fresh);
    zl_matrix many[2] = {{ZL_TYPE_F32, 0, 1, 4, 8, 128, data}, {ZL_TYPE_F32, 0, 1, 4, 8, 127, data}};
    zl_weight *made[2] = {(zl_weight *)(void *)data, (zl_weight *)(void *)data};
    CHECK(zl_weights_new(ctx, 2, many, made) == ZL_E_SHAPE && !made[0] && !made[1], "the second of two: none is left");
    CHECK(zl_weights_new(ctx, 2, many, NULL) == ZL_E_ARG && zl_weights_new(ctx, 2, NULL, made) == ZL_E_ARG, "many of nothing");
    CHECK(zl_weights_new(ctx, 1, many, made) == ZL_OK && zl_weight_bytes(made[0]) >= 128, "one of one");
    zl_weight_free(made[0]);
}

int selftest_numa(zl_ctx *ctx) {
    failures = 0;
    test_plans();
    test_masks(ctx);
    test_together(ctx);
    return failures;
}
