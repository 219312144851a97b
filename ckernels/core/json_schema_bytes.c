/* json_schema_bytes.c - which bytes can lead on from a state, before any is tried: between the tokens of JSON it is a few of the 256, and in a
 * list of names the few that a name goes on with. All others are entered as refused at once, when a state is stepped from for the first time;
 * a byte that is left open may still be refused.
 *
 * What it is not: the rules themselves, which are json_schema_places.c's.
 */
#include "json_schema.h"
#include <string.h>

static inline void leave(int32_t *row, int low, int high) {
    for (int b = low; b <= high; b++) row[b] = ZL_UNKNOWN;
}

static void leave_all(int32_t *row, const char *bytes) {
    for (; *bytes; bytes++) row[(uint8_t)*bytes] = ZL_UNKNOWN;
}

void zl_schema_rows(zl_schema *s) {
    for (int i = 0; i < FRESH_ROWS; i++)
        for (int b = 0; b < 256; b++) s->fresh[i][b] = ZL_DEAD;
    leave(s->fresh[IN_TEXT], 0x20, 0x7f);
    leave(s->fresh[IN_TEXT], 0xc2, 0xf4);
    leave(s->fresh[IN_CHARACTER], 0x80, 0xbf);
    leave_all(s->fresh[IN_ESCAPE], ESCAPES);
    leave_all(s->fresh[IN_ESCAPE], "u");
    leave_all(s->fresh[IN_DIGITS], "0123456789abcdefABCDEF");
    leave_all(s->fresh[IN_TOKENS], " \t\n\r\",:[]{}-0123456789tfn");
}

/* The text of a list that may be no other: its end, an escape, and what the list's texts go on with; NULL: any character may come. */
static const zl_text *listed(const zl_schema *s, int32_t l) {
    const zl_text *t = &s->texts[s->listeners.pairs[2 * (int64_t)l]];
    return t->list < 0 || s->listeners.pairs[2 * (int64_t)l + 1] < 0 || t->other >= 0 || t->first >= 0 ? NULL : t;
}

void zl_schema_fresh(zl_machine *m, int32_t state, int32_t *row) {
    zl_schema *s = (zl_schema *)(void *)m;
    int32_t place = s->states.pairs[2 * (int64_t)state];
    if (!(place & OWN)) {
        const int32_t *known = zl_schema_row_at(s, place); /* NULL: the step that follows says so */
        for (int b = 0; known && b < 256; b++) row[b] = known[b] == NONE ? ZL_DEAD : ZL_UNKNOWN;
        return;
    }
    const int32_t *own = s->own.pairs + 2 * (int64_t)(place & ~OWN);
    const int32_t subject = own[0], sort = own[1] & ((1 << KIND_BITS) - 1);
    const zl_text *t = sort == BETWEEN ? listed(s, subject) : NULL;
    const int of = sort == BETWEEN && !t ? IN_TEXT : sort < ESCAPE && sort != BETWEEN ? IN_CHARACTER : sort == ESCAPE ? IN_ESCAPE
        : sort == DIGITS || sort == PAIR_DIGITS ? IN_DIGITS : sort > LITERAL && sort != DOCUMENT_LAST ? IN_TOKENS : FRESH_ROWS;
    if (of < FRESH_ROWS) {
        memcpy(row, s->fresh[of], sizeof s->fresh[of]);
        return;
    }
    memset(row, 0xff, 256 * sizeof *row); /* ZL_DEAD */
    if (t) {
        const int32_t node = s->listeners.pairs[2 * (int64_t)subject + 1];
        const zl_text_node *nodes = s->lists[t->list].nodes;
        for (int32_t i = node + 1; i < nodes[node].end; i = nodes[i].end) row[nodes[i].byte] = ZL_UNKNOWN;
        leave_all(row, "\"\\");
    } else if (sort == LITERAL) {
        row[(uint8_t)WORDS[subject >> 3][subject & 7]] = ZL_UNKNOWN;
    } else if (sort == PAIR || sort == PAIR_ESCAPE) {
        leave_all(row, sort == PAIR ? "\\" : "u");
    }
}
