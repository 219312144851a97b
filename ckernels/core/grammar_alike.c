/* grammar_alike.c - states that treat all characters of a class alike, so that a mask needs no walk of the class's tokens (grammar_mask.c). They
 * are found by trying, and what was found is kept in the machine.
 *
 * What it is not: it knows no grammar; a machine may say by itself that all characters are alike (zl_machine.alike).
 */
#include "grammar_alike.h"

/* The state that each character of the class leads to from `state`, ZL_DEAD where none may follow; ZL_MIXED where they do not agree. */
static int32_t uniform_new(zl_machine *m, int32_t state, int class) {
    int32_t to = ZL_UNKNOWN, at[8];
    uint8_t before[256] = {0}; /* classes of the machine that were tried; n_classes <= 256 */
    for (int b = ' '; b < 0x7f; b++) {
        if (class_of((uint8_t)b) > class || before[m->class_of[b]]) continue;
        before[m->class_of[b]] = 1;
        int32_t next = zl_machine_step(m, state, (uint8_t)b);
        if (next == ZL_BUDGET) return next;
        if (to == ZL_UNKNOWN) to = next;
        if (next != to) return ZL_MIXED;
    }
    if (class < TEXT) return to;
    for (int row = 0; row < 8; row++) at[row] = ZL_UNKNOWN;
    at[0] = state;
    static const int rows[] = {0, 7, 6, 5, 4, 3, 2, 1}; /* each after all that lead to it */
    for (int i = 0; i < 8; i++)
        for (const utf8_edge *e = utf8[rows[i]]; e->high; e++)
            for (int b = e->low; b <= e->high; b++) {
                if (b > e->low && m->class_of[b] == m->class_of[b - 1]) continue;
                int32_t from = at[rows[i]], next = from == ZL_DEAD ? ZL_DEAD : zl_machine_step(m, from, (uint8_t)b);
                if (next == ZL_BUDGET) return next;
                int32_t *then = e->then ? &at[e->then] : &to;
                if (*then == ZL_UNKNOWN) *then = next;
                if (next != *then) return ZL_MIXED;
            }
    return to;
}

/* Cell i of what is kept of a state; NULL: budget. */
static int32_t *kept(zl_machine *m, int32_t state, int i) {
    if (state >= m->uniform_room) {
        int64_t row = ZL_N_UNIFORM * (int64_t)sizeof *m->uniform, had = m->uniform_room * row;
        if (zl_machine_grow(m, &m->uniform, &had, (m->n_states > state ? m->n_states : state + 1) * row)) return NULL;
        int64_t room = had / row;
        m->bytes -= had - room * row;
        for (int64_t i = m->uniform_room * ZL_N_UNIFORM; i < room * ZL_N_UNIFORM; i++) m->uniform[i] = ZL_UNKNOWN;
        m->uniform_room = (int32_t)room;
    }
    return m->uniform + (int64_t)state * ZL_N_UNIFORM + i;
}

int32_t zl_alike_uniform(zl_machine *m, int32_t state, int class) {
    const int32_t *cell = kept(m, state, class);
    if (!cell) return ZL_BUDGET;
    int32_t to = *cell;
    if (to != ZL_UNKNOWN) return to;
    if (m->alike) to = m->alike(m, state);
    if (to == ZL_UNKNOWN) to = uniform_new(m, state, class);
    if (to != ZL_BUDGET) *kept(m, state, class) = to;
    return to;
}

/* Places that texts of a class come to: a state, and a row of `utf8`; `far` characters from where they began. */
enum { LOOKED = 256, TIRED = 4, SLOTS = 1024 };
typedef struct {
    int32_t state;
    int16_t row, far;
} looked;

/* One more place, if it is new. 0: too many. */
static int look(looked *list, int *n, int16_t *slots, looked at) {
    uint32_t slot = ((uint32_t)at.state * 8u + (uint32_t)at.row) * 2654435761u >> 22;
    for (; slots[slot]; slot = (slot + 1) % SLOTS)
        if (list[slots[slot] - 1].state == at.state && list[slots[slot] - 1].row == at.row) return 1;
    if (*n == LOOKED) return 0;
    list[*n] = at;
    slots[slot] = (int16_t)++*n;
    return 1;
}

/* Whether no text of the class's characters, `most` of them, is refused after `state`; -1 budget. What they lead to is followed as far as it
 * is few states: within a name of which it matters what it has come to, or in a text in which something must yet be found. 0 also where it
 * cannot be said. */
int zl_alike_closed(zl_machine *m, int32_t state, int class, int most) {
    const int32_t *cell = kept(m, state, ZL_N_CLASSES + class);
    if (!cell) return -1;
    if (*cell != ZL_UNKNOWN) return *cell;
    if (m->tired[class] >= TIRED) return 0;
    looked list[LOOKED] = {{.state = state}};
    int16_t slots[SLOTS] = {0};
    int n = 0, all = look(list, &n, slots, (looked){.state = state}), cut = 0;
    for (int i = 0; i < n && all; i++) {
        looked at = list[i];
        if (at.far >= most) {
            cut = 1; /* they were not followed to their end: nothing is said of the other states */
            continue;
        }
        for (int b = ' '; b < 0x7f && all && !at.row; b++) {
            if (class_of((uint8_t)b) > class) continue;
            int32_t next = zl_machine_step(m, at.state, (uint8_t)b);
            if (next == ZL_BUDGET) return -1;
            all = next != ZL_DEAD && look(list, &n, slots, (looked){.state = next, .far = (int16_t)(at.far + 1)});
            m->tired[class] += next != ZL_DEAD && !all;
        }
        for (const utf8_edge *e = utf8[at.row]; class == TEXT && e->high && all; e++)
            for (int b = e->low; b <= e->high && all; b++) {
                int32_t next = zl_machine_step(m, at.state, (uint8_t)b);
                if (next == ZL_BUDGET) return -1;
                all = next != ZL_DEAD && look(list, &n, slots, (looked){next, e->then, (int16_t)(at.far + !at.row)});
                m->tired[class] += next != ZL_DEAD && !all;
            }
    }
    for (int i = 0; i < (all && !cut ? n : 1); i++) {
        int32_t *to = list[i].row ? NULL : kept(m, list[i].state, ZL_N_CLASSES + class);
        if (!list[i].row && !to) return -1;
        if (to) *to = all;
    }
    return all;
}

/* How many characters of the class may follow one another, whichever they are, `most` at most; then another state than at the last may not
 * take any: 0 where that is not so, -1 budget. */
int zl_alike_run_of(zl_machine *m, int32_t state, int class, int most) {
    for (int n = 0; n < most; n++) {
        int32_t to = zl_alike_uniform(m, state, class);
        if (to == ZL_BUDGET) return -1;
        if (to == ZL_DEAD) return n;
        if (to == ZL_MIXED) return 0;
        if (to == state) return most;
        state = to;
    }
    return most;
}

/* A state that all of the class lead back to, and most of its bytes, whose states are `next`; ZL_DEAD: none. */
int32_t zl_alike_usual(zl_machine *m, const int32_t *next, int class) {
    int32_t to = ZL_DEAD;
    int votes = 0;
    for (int b = ' '; b < 0x7f; b++) { /* a majority, if there is one (Boyer and Moore, 1981) */
        if (class_of((uint8_t)b) > class) continue;
        if (!votes) to = next[b];
        votes += next[b] == to ? 1 : -1;
    }
    if (to == ZL_DEAD) return to;
    int32_t back = zl_alike_uniform(m, to, class);
    return back == ZL_BUDGET ? back : back == to ? to : ZL_DEAD;
}
