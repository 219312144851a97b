/* grammar_machine.c - what all machines share: memory that is counted, and transitions that are kept. grammar_machine.h says what a
 * machine is. */
#include "grammar_machine.h"
#include <stdlib.h>
#include <string.h>

enum { LIMIT_BYTES = 64 << 20, LIMIT_WORK = 20000000 };

void zl_machine_init(zl_machine *m, int32_t (*step)(zl_machine *, int32_t, uint8_t), int (*finished)(zl_machine *, int32_t),
                     void (*release)(zl_machine *), const uint8_t *class_of, int n_classes) {
    memset(m, 0, sizeof *m);
    m->step = step;
    m->finished = finished;
    m->release = release;
    m->n_classes = class_of ? n_classes : 256;
    for (int b = 0; b < 256; b++) m->class_of[b] = class_of ? class_of[b] : (uint8_t)b;
    m->limit = LIMIT_BYTES;
    m->work_limit = LIMIT_WORK;
}

int zl_machine_grow(zl_machine *m, void *p, int64_t *had, int64_t need) {
    if (need <= *had) return 0;
    int64_t bytes = *had * 2 > need ? *had * 2 : need;
    if (bytes < 256) bytes = 256;
    if (m->bytes + bytes - *had > m->limit) bytes = need; /* the last of it without the doubling */
    if (m->bytes + bytes - *had > m->limit) {
        m->over = ZL_OVER_BYTES;
        return -1;
    }
    void *old;
    memcpy(&old, p, sizeof old); /* *p is a pointer to something, which has not the type void * */
    void *grown = realloc(old, (size_t)bytes);
    if (!grown) {
        m->over = ZL_OVER_MEMORY;
        return -1;
    }
    memcpy(p, &grown, sizeof grown);
    m->bytes += bytes - *had;
    *had = bytes;
    return 0;
}

int32_t zl_machine_step_new(zl_machine *m, int32_t state, uint8_t byte) {
    if (++m->work > m->work_limit) {
        m->over = ZL_OVER_WORK;
        return ZL_BUDGET;
    }
    if (state >= m->room) {
        int64_t row = (int64_t)m->n_classes * (int64_t)sizeof *m->next, had = m->room * row;
        if (zl_machine_grow(m, &m->next, &had, (state + 1) * row)) return ZL_BUDGET;
        int64_t room = had / row;
        for (int64_t i = (int64_t)m->room * m->n_classes; i < room * m->n_classes; i++) m->next[i] = ZL_UNKNOWN;
        m->room = (int32_t)room;
        m->bytes -= had - room * row; /* what is no whole row is not counted, or the next time would count it again */
    }
    int32_t *cell = m->next + (int64_t)state * m->n_classes + m->class_of[byte];
    if (m->fresh && cell[-m->class_of[byte]] == ZL_UNKNOWN) {
        m->fresh(m, state, cell - m->class_of[byte]);
        if (*cell != ZL_UNKNOWN) return *cell;
    }
    int32_t next = m->step(m, state, byte);
    return next == ZL_BUDGET ? next : (*cell = next);
}

int zl_machine_fail(const zl_machine *m) {
    if (m->over == ZL_OVER_BYTES)
        return zl_fail(ZL_E_BUDGET, "bytes of memory: %lld of %lld", (long long)m->bytes, (long long)m->limit);
    if (m->over == ZL_OVER_WORK) return zl_fail(ZL_E_BUDGET, "steps: %lld of %lld", (long long)m->work, (long long)m->work_limit);
    if (m->over == ZL_OVER_ASKED) return zl_fail(ZL_E_BUDGET, "places: %d of %d", m->n_states, m->n_states);
    return zl_fail(ZL_E_MEMORY, "a grammar's machine of %lld bytes needs more", (long long)m->bytes);
}

int zl_machine_check(const zl_machine *m, int32_t state) {
    if (!m) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    if (state < 0 || state >= m->n_states) return zl_fail(ZL_E_BOUNDS, "grammar: state %d of %d", state, m->n_states);
    return ZL_OK;
}

/* ---- what Python calls --------------------------------------------------------------------------------------------------- */

void zl_machine_free(zl_machine *m) {
    if (!m) return;
    m->release(m);
    free(m->next);
    free(m->uniform);
    free(m);
}

int zl_machine_start(const zl_machine *m, int32_t *state) {
    if (!m || !state) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    *state = m->start;
    return ZL_OK;
}

int zl_machine_finished(zl_machine *m, int32_t state, int *finished) {
    int status = zl_machine_check(m, state);
    if (status) return status;
    if (!finished) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    int found = m->finished(m, state);
    if (found < 0) return zl_machine_fail(m);
    *finished = found != 0;
    return ZL_OK;
}

int zl_machine_read(zl_machine *m, int32_t state, const uint8_t *text, int64_t n, int64_t *n_read, int32_t *after) {
    int status = zl_machine_check(m, state);
    if (status) return status;
    if ((n && !text) || !n_read || !after) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    int64_t i = 0;
    for (; i < n; i++) {
        if (i % 4096 == 0) m->work = 0; /* the limit is on the work for a piece, not on how long a text may be */
        int32_t next = zl_machine_step(m, state, text[i]);
        if (next == ZL_BUDGET) return zl_machine_fail(m);
        if (next == ZL_DEAD) break;
        state = next;
    }
    *n_read = i;
    *after = state;
    return ZL_OK;
}

int zl_machine_next(zl_machine *m, int32_t state, int32_t *next) {
    int status = zl_machine_check(m, state);
    if (status) return status;
    if (!next) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    m->work = 0;
    for (int b = 0; b < 256; b++) {
        next[b] = zl_machine_step(m, state, (uint8_t)b);
        if (next[b] == ZL_BUDGET) return zl_machine_fail(m);
    }
    return ZL_OK;
}

int zl_machine_forced(zl_machine *m, int32_t state, uint8_t *out, int64_t room, int64_t *n, int32_t *after) {
    int status = zl_machine_check(m, state);
    if (status) return status;
    if ((room && !out) || !n || !after) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    m->work = 0;
    int64_t i = 0;
    for (; i < room; i++) {
        int end = m->finished(m, state);
        if (end < 0) return zl_machine_fail(m);
        if (end) break;
        int32_t only = ZL_DEAD;
        uint8_t byte = 0;
        for (int b = 0; b < 256; b++) {
            int32_t next = zl_machine_step(m, state, (uint8_t)b);
            if (next == ZL_BUDGET) return zl_machine_fail(m);
            if (next == ZL_DEAD) continue;
            if (only != ZL_DEAD) goto several;
            only = next;
            byte = (uint8_t)b;
        }
        if (only == ZL_DEAD) break;
        out[i] = byte;
        state = only;
    }
several:
    *n = i;
    *after = state;
    return ZL_OK;
}

int zl_machine_limit(zl_machine *m, int64_t bytes, int64_t work, int64_t *used, int64_t *n_states) {
    if (!m || !used || !n_states) return zl_fail(ZL_E_ARG, "grammar: a null pointer");
    if (bytes < 0 || work < 0) return zl_fail(ZL_E_ARG, "grammar: limits of %lld bytes, %lld steps", (long long)bytes, (long long)work);
    if (bytes) m->limit = bytes;
    if (work) m->work_limit = work;
    *used = m->bytes;
    *n_states = m->n_states;
    return ZL_OK;
}
