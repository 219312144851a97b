/* step.c - what must hold of every step, whatever the ops are: counts, room, and where rows stand in their sequences.
 *
 * What a single op needs of the step (token ids, positions, visible pages, wanted rows) is that op's check_step.
 */
#include "program.h"
#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The rows of a sequence are adjacent: no sequence id begins twice. Ids that only rise need no memory; others are sorted. */
static int check_adjacent(const zl_step *s) {
    int32_t begun = 0, rising = 1;
    for (int32_t t = 0; t < s->n_rows; t++) {
        if (t && s->seq[t] == s->seq[t - 1]) continue;
        if (t && s->seq[t] < s->seq[t - 1]) rising = 0;
        begun++;
    }
    if (rising) return ZL_OK;
    int32_t *ids = malloc((size_t)begun * sizeof *ids);
    if (!ids) return zl_fail(ZL_E_MEMORY, "a list of sequences needs %zu bytes", (size_t)begun * sizeof *ids);
    int32_t n = 0, twice = -1;
    for (int32_t t = 0; t < s->n_rows; t++)
        if (!t || s->seq[t] != s->seq[t - 1]) ids[n++] = s->seq[t];
    qsort(ids, (size_t)n, sizeof *ids, ascending);
    for (int32_t i = 1; i < n && twice < 0; i++)
        if (ids[i] == ids[i - 1]) twice = ids[i];
    free(ids);
    return twice < 0 ? ZL_OK : zl_fail(ZL_E_ARG, "step: the rows of sequence %d are not adjacent", twice);
}

/* Rows that read or write a cache: known sequences, ascending positions, and a page to store each row in. */
static int check_places(const zl_limits *limits, const zl_step *s) {
    if (s->n_rows == 0) return ZL_OK;
    if (!s->seq || !s->cache_pos || !s->see_to) return zl_fail(ZL_E_ARG, "step: seq, cache_pos and see_to are needed for a cache");
    for (int32_t t = 0; t < s->n_rows; t++) {
        if (s->seq[t] < 0 || s->seq[t] >= s->n_seq)
            return zl_fail(ZL_E_BOUNDS, "step: row %d belongs to sequence %d of %d", t, s->seq[t], s->n_seq);
        if (s->cache_pos[t] < 0) return zl_fail(ZL_E_BOUNDS, "step: row %d has cache position %d", t, s->cache_pos[t]);
        if (s->see_to[t] < 0) return zl_fail(ZL_E_BOUNDS, "step: row %d sees up to position %d", t, s->see_to[t]);
        if (t && s->seq[t] == s->seq[t - 1] && s->cache_pos[t] <= s->cache_pos[t - 1])
            return zl_fail(ZL_E_ARG, "step: cache positions of sequence %d do not ascend: %d, then %d in row %d", s->seq[t],
                           s->cache_pos[t - 1], s->cache_pos[t], t);
    }
    int status = check_adjacent(s);
    for (int c = 0; c < ZL_CLASSES && !status; c++) {
        if (limits->class_pages[c] < 0) continue;
        int64_t width = s->table_width[c];
        if (width <= 0 || !s->tables[c]) return zl_fail(ZL_E_ARG, "step: no page table for cache class %d", c);
        for (int32_t t = 0; t < s->n_rows; t++) {
            int32_t last = s->cache_pos[t] > s->see_to[t] ? s->cache_pos[t] : s->see_to[t];
            if (last / ZL_PAGE >= width)
                return zl_fail(ZL_E_BOUNDS, "step: row %d needs position %d, the table of cache class %d has %lld pages of %d", t, last, c,
                               (long long)width, ZL_PAGE);
            int32_t page = s->tables[c][s->seq[t] * width + s->cache_pos[t] / ZL_PAGE];
            if (page < 0 || page >= limits->class_pages[c])
                return zl_fail(ZL_E_BOUNDS, "step: row %d at position %d of sequence %d has page %d, cache class %d has %d", t,
                               s->cache_pos[t], s->seq[t], page, c, limits->class_pages[c]);
        }
    }
    return status;
}

int zl_check_step(const zl_limits *limits, const zl_step *s) {
    if (!s) return zl_fail(ZL_E_ARG, "step is a null pointer");
    if (s->n_rows < 0 || s->n_out < 0 || s->n_seq < 0 || s->n_planes < 0 || s->input_cols < 0)
        return zl_fail(ZL_E_ARG, "step: a negative count: n_rows %d, n_out %d, n_seq %d, n_planes %d, input_cols %d", s->n_rows, s->n_out,
                       s->n_seq, s->n_planes, s->input_cols);
    if (s->n_rows > limits->capacity[ZL_ROWS_STEP])
        return zl_fail(ZL_E_SHAPE, "step: %d rows, there is room for %lld", s->n_rows, (long long)limits->capacity[ZL_ROWS_STEP]);
    if (s->n_out > limits->capacity[ZL_ROWS_OUT])
        return zl_fail(ZL_E_SHAPE, "step: %d wanted rows, there is room for %lld", s->n_out, (long long)limits->capacity[ZL_ROWS_OUT]);
    return limits->uses_cache ? check_places(limits, s) : ZL_OK;
}
