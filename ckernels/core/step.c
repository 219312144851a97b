/* step.c - what must hold of every step, whatever the ops are: counts, room, where rows stand in their sequences, and that no two are
 * written to the same place.
 *
 * What a single op needs of the step (token ids, positions, visible pages, wanted rows) is that op's check_step.
 */
#include "program.h"
#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Numbers of a step that must differ. A step of few sequences asks for no memory. */
typedef struct {
    int32_t few[64], *at, n, rising;
} numbers;

static int make_room(numbers *l, int64_t n) {
    l->n = 0, l->rising = 1;
    l->at = n * (int64_t)sizeof *l->at <= (int64_t)sizeof l->few ? l->few : malloc((size_t)n * sizeof *l->at);
    return l->at ? ZL_OK : zl_fail(ZL_E_MEMORY, "the check of a step needs %zu bytes", (size_t)n * sizeof *l->at);
}

static void put(numbers *l, int32_t x) {
    if (l->n && x <= l->at[l->n - 1]) l->rising = 0;
    l->at[l->n++] = x;
}

/* Sorts them, unless they rise as they are. One that is there twice, or -1. */
static int32_t sort(numbers *l) {
    if (l->rising) return -1;
    qsort(l->at, (size_t)l->n, sizeof *l->at, ascending);
    for (int32_t i = 1; i < l->n; i++)
        if (l->at[i] == l->at[i - 1]) return l->at[i];
    return -1;
}

static void drop(numbers *l) {
    if (l->at != l->few) free(l->at);
}

static int begins_sequence(const zl_step *s, int32_t t) { return !t || s->seq[t] != s->seq[t - 1]; }

/* The rows of a sequence are adjacent: no sequence id begins twice. */
static int check_adjacent(const zl_step *s) {
    numbers ids;
    int32_t begun = 0;
    for (int32_t t = 0; t < s->n_rows; t++) begun += begins_sequence(s, t);
    int status = make_room(&ids, begun);
    if (status) return status;
    for (int32_t t = 0; t < s->n_rows; t++)
        if (begins_sequence(s, t)) put(&ids, s->seq[t]);
    const int32_t twice = sort(&ids);
    drop(&ids);
    return twice < 0 ? ZL_OK : zl_fail(ZL_E_ARG, "step: the rows of sequence %d are not adjacent", twice);
}

/* ---- what is written ------------------------------------------------------------------------------------------------------------ */

static int begins_page(const zl_step *s, int32_t t) {
    return begins_sequence(s, t) || s->cache_pos[t] / ZL_PAGE != s->cache_pos[t - 1] / ZL_PAGE;
}
static const int32_t *table_of(const zl_step *s, int c, int32_t t) { return s->tables[c] + (int64_t)s->seq[t] * s->table_width[c]; }
static int32_t page_of(const zl_step *s, int c, int32_t t) { return table_of(s, c, t)[s->cache_pos[t] / ZL_PAGE]; }

static int fail_shared(const zl_step *s, int c, int32_t page) {
    int32_t rows[2] = {0, 0}, n = 0;
    for (int32_t t = 0; t < s->n_rows && n < 2; t++)
        if (begins_page(s, t) && page_of(s, c, t) == page) rows[n++] = t;
    return zl_fail(ZL_E_ARG, "step: page %d of cache class %d is written at position %d of sequence %d and at position %d of sequence %d", page, c,
                   s->cache_pos[rows[0]], s->seq[rows[0]], s->cache_pos[rows[1]], s->seq[rows[1]]);
}

/* The pages of class c that rows are written to are as many pages: two places of one would be written by two threads at once. With states,
 * none of them is the page that a sequence goes on from, which is read meanwhile (ops_state.c). */
static int check_written(const zl_step *s, int c, int states) {
    numbers pages;
    int32_t n = 0;
    for (int32_t t = 0; t < s->n_rows; t++) n += begins_page(s, t);
    int status = make_room(&pages, n);
    if (status) return status;
    for (int32_t t = 0; t < s->n_rows; t++)
        if (begins_page(s, t)) put(&pages, page_of(s, c, t));
    const int32_t twice = sort(&pages);
    if (twice >= 0) status = fail_shared(s, c, twice);
    for (int32_t t = 0; t < s->n_rows && states && !status; t++) {
        const int32_t from = table_of(s, c, t)[s->table_width[c] - 1];
        if (begins_sequence(s, t) && bsearch(&from, pages.at, (size_t)pages.n, sizeof from, ascending))
            status = zl_fail(ZL_E_ARG, "step: sequence %d goes on from page %d of cache class %d, which the step writes", s->seq[t], from, c);
    }
    drop(&pages);
    return status;
}

/* ---- where rows stand ----------------------------------------------------------------------------------------------------------- */

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
            int32_t page = page_of(s, c, t);
            if (page < 0 || page >= limits->class_pages[c])
                return zl_fail(ZL_E_BOUNDS, "step: row %d at position %d of sequence %d has page %d, cache class %d has %d", t,
                               s->cache_pos[t], s->seq[t], page, c, limits->class_pages[c]);
        }
        if (limits->written & 1u << c) status = check_written(s, c, limits->states >> c & 1);
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
