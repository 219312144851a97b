/* grammar_pushdown.c - the machine of a context-free grammar: automata that call each other, all their runs at once.
 *
 * A rule is an automaton whose edges read a byte or call a rule. While a text is read there may be many ways to understand it; the machine
 * follows all of them. One way is an item: a node, and on a stack the nodes to go on at when the rule ends. Stacks share what they have in
 * common (Tomita, 1986): a stack is a number, and stands for a set of (node to go on at, stack below).
 *
 *      rule list:  n0 -'['-> n1 -item-> n2 -']'-> n3*        text "[["        items (n1, 2)
 *      rule item:  n4 -list-> n5*                            stack 1 = {(n2, 0)}   stack 2 = {(n2, 1)}, for the call of list ends item
 *
 * A step reads a byte on all edges that take it (move), then follows ends of rules (leave) and calls (enter). Nullable calls were made edges
 * that read nothing before, so whatever is called here ends at a later byte: ends come first, and then each rule that is called gets one
 * stack of all who call it, made once. A rule that calls itself before it has read a byte (left recursion) is in its own stack; since its
 * number is known only afterwards, such parents are written relative to the stack itself, and rules that call each other so (a group) get
 * their stacks together. Groups are numbered so that who calls comes before who is called.
 *
 * A call that is the last thing in a rule passes on its caller's stack in place of one on top of it, so that lists that end in themselves
 * do not grow. A state is the sorted list of its items and whether the text may end; equal ones are one. Every node can reach the end of its
 * rule (compile.py sees to it), so a state that has an item can reach the end of a text.
 */
#include "grammar_machine.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t node, stack;
} item;

typedef struct { /* a list of items that can be found by what it holds: a stack's, or a state's */
    int64_t at;
    int32_t n;
    int32_t extra; /* of a state whether it is finished, of a stack its place in its group */
} span;

typedef struct { /* spans over items, and a hash table over them: slots hold number + 1 */
    span *spans;
    item *items;
    int32_t *slots;
    int64_t spans_bytes, items_bytes, slots_bytes, n_items;
    int32_t n, n_slots;
} table;

typedef struct {
    item to; /* where the caller goes on, and its stack; below 0: LOCAL(rule), whose stack is not made yet */
    int32_t next;
} call;

typedef struct {
    zl_machine base;
    zl_pushdown_rules r;
    void *copy;           /* the arrays of r */
    uint8_t *only_ends;   /* [n_nodes] nothing but the end of its rule follows */
    table stacks, states;
    /* scratch of a step */
    item *found;          /* items of the state that is being made; before `n_left` they were left for others already */
    int64_t found_bytes;
    int32_t n_found;
    int32_t *seen;        /* a hash table over `found`: index + 1, valid where it is below n_found and equal */
    int64_t seen_bytes;
    int32_t n_seen;
    call *calls;
    int64_t calls_bytes;
    int32_t n_calls;
    int32_t *head;        /* [n_rules] the last of the calls of a rule, -1: none */
    int32_t *heap;        /* [n_rules] rules that are called, the lowest first */
    int32_t n_heap;
    item *made;           /* the stacks of a group, one after the other */
    int64_t made_bytes;
    int32_t *member;      /* [n_rules] rules of the group that is being made */
    int32_t *n_made;      /* [n_rules] how many items each of their stacks has */
} pushdown;

static inline int32_t local(int32_t rule) { return -2 - rule; } /* its own inverse */

static uint64_t hash_of(const item *items, int64_t n, uint64_t h) {
    for (int64_t i = 0; i < n; i++) {
        h ^= (uint64_t)(uint32_t)items[i].node << 32 | (uint32_t)items[i].stack;
        h *= 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

/* ---- the two tables --------------------------------------------------------------------------------------------------------- */

static int grow_slots(pushdown *p, table *t) {
    int32_t n = t->n_slots ? t->n_slots * 2 : 64;
    if (zl_machine_grow(&p->base, &t->slots, &t->slots_bytes, (int64_t)n * 4)) return -1;
    memset(t->slots, 0, (size_t)n * 4);
    t->n_slots = n;
    for (int32_t i = 0, k; i < t->n; i += k) { /* a group is found by its first stack */
        uint64_t h = 0;
        const span *s = &t->spans[i];
        for (k = 1; t == &p->stacks && i + k < t->n && t->spans[i + k].extra == k; k++) {}
        for (int32_t j = 0; j < k; j++) h = hash_of(t->items + s[j].at, s[j].n, h + (uint64_t)s[j].n);
        if (t == &p->states) h += (uint64_t)s->extra * 77;
        uint32_t slot = (uint32_t)(h >> 7) & (uint32_t)(n - 1);
        while (t->slots[slot]) slot = (slot + 1) & (uint32_t)(n - 1);
        t->slots[slot] = i + 1;
    }
    return 0;
}

/* The number of the first of k lists that lie one behind the other, of counts[j] items; with `extra` for states, whose k is 1. -1: budget. */
static int32_t intern(pushdown *p, table *t, const item *items, const int32_t *counts, int32_t k, int32_t extra) {
    int64_t total = 0;
    uint64_t h = 0;
    int is_state = t == &p->states;
    for (int32_t j = 0; j < k; j++) {
        h = hash_of(items + total, counts[j], h + (uint64_t)counts[j]);
        total += counts[j];
    }
    if (is_state) h += (uint64_t)extra * 77;
    if ((t->n + k) * 2 > t->n_slots && grow_slots(p, t)) return -1;
    uint32_t slot = (uint32_t)(h >> 7) & (uint32_t)(t->n_slots - 1);
    for (; t->slots[slot]; slot = (slot + 1) & (uint32_t)(t->n_slots - 1)) {
        int32_t i = t->slots[slot] - 1, j = 0;
        if (is_state && t->spans[i].extra != extra) continue;
        for (; j < k && i + j < t->n && t->spans[i + j].n == counts[j] && (is_state || t->spans[i + j].extra == j); j++) {}
        if (j < k || (!is_state && i + k < t->n && t->spans[i + k].extra == k)) continue;
        if (!total || !memcmp(t->items + t->spans[i].at, items, (size_t)total * sizeof *items)) return i;
    }
    if (zl_machine_grow(&p->base, &t->spans, &t->spans_bytes, (int64_t)(t->n + k) * (int64_t)sizeof *t->spans)) return -1;
    if (zl_machine_grow(&p->base, &t->items, &t->items_bytes, (t->n_items + total) * (int64_t)sizeof *t->items)) return -1;
    if (total) memcpy(t->items + t->n_items, items, (size_t)total * sizeof *items);
    t->slots[slot] = t->n + 1;
    for (int32_t j = 0; j < k; j++) {
        t->spans[t->n + j] = (span){.at = t->n_items, .n = counts[j], .extra = is_state ? extra : j};
        t->n_items += counts[j];
    }
    t->n += k;
    return t->n - k;
}

/* ---- one step --------------------------------------------------------------------------------------------------------------- */

static int work(pushdown *p) {
    if (++p->base.work <= p->base.work_limit) return 0;
    p->base.over = ZL_OVER_WORK;
    return -1;
}

/* An item more, unless it is there. 1 added, 0 not, -1 budget. */
static int add(pushdown *p, int32_t node, int32_t stack) {
    if (work(p)) return -1;
    item it = {.node = node, .stack = stack};
    if ((p->n_found + 1) * 2 > p->n_seen) {
        int32_t n = p->n_seen ? p->n_seen * 2 : 32;
        if (zl_machine_grow(&p->base, &p->seen, &p->seen_bytes, (int64_t)n * 4)) return -1;
        memset(p->seen, 0, (size_t)n * 4);
        p->n_seen = n;
        for (int32_t i = 0; i < p->n_found; i++) {
            uint32_t slot = (uint32_t)(hash_of(&p->found[i], 1, 0) >> 7) & (uint32_t)(n - 1);
            while (p->seen[slot]) slot = (slot + 1) & (uint32_t)(n - 1);
            p->seen[slot] = i + 1;
        }
    }
    uint32_t slot = (uint32_t)(hash_of(&it, 1, 0) >> 7) & (uint32_t)(p->n_seen - 1);
    for (int32_t i; (i = p->seen[slot]) != 0; slot = (slot + 1) & (uint32_t)(p->n_seen - 1))
        if (p->found[i - 1].node == node && p->found[i - 1].stack == stack) return 0;
    if (zl_machine_grow(&p->base, &p->found, &p->found_bytes, (int64_t)(p->n_found + 1) * (int64_t)sizeof it)) return -1;
    p->found[p->n_found++] = it;
    p->seen[slot] = p->n_found;
    return 1;
}

static void forget(pushdown *p) { /* all items: their slots are cleared one by one, for the table may be much larger */
    if (p->n_found * 4 > p->n_seen) {
        memset(p->seen, 0, (size_t)p->n_seen * 4);
    } else {
        for (int32_t i = 0; i < p->n_found; i++) {
            uint32_t slot = (uint32_t)(hash_of(&p->found[i], 1, 0) >> 7) & (uint32_t)(p->n_seen - 1);
            for (; p->seen[slot]; slot = (slot + 1) & (uint32_t)(p->n_seen - 1)) p->seen[slot] = 0; /* the whole run: all go */
        }
    }
    p->n_found = 0;
}

/* A parent that is written relative to its stack, as a number. */
static inline int32_t below(const pushdown *p, int32_t stack, int32_t parent) {
    return parent >= 0 ? parent : stack - p->stacks.spans[stack].extra + local(parent);
}

static int call_rule(pushdown *p, int32_t rule, int32_t node, int32_t stack) {
    if (work(p) || zl_machine_grow(&p->base, &p->calls, &p->calls_bytes, (int64_t)(p->n_calls + 1) * (int64_t)sizeof *p->calls)) return -1;
    if (p->head[rule] < 0) { /* onto the heap */
        int32_t i = p->n_heap++;
        for (int32_t up; i > 0 && p->heap[up = (i - 1) / 2] > rule; i = up) p->heap[i] = p->heap[up];
        p->heap[i] = rule;
    }
    p->calls[p->n_calls] = (call){.to = {.node = node, .stack = stack}, .next = p->head[rule]};
    p->head[rule] = p->n_calls++;
    return 0;
}

/* Whoever calls from this node, standing on this stack. */
static int call_all(pushdown *p, int32_t node, int32_t stack) {
    for (int32_t c = p->r.call_first[node]; c < p->r.call_first[node + 1]; c++)
        if (call_rule(p, p->r.call_rule[c], p->r.call_next[c], stack)) return -1;
    return 0;
}

static int32_t pop(pushdown *p) {
    int32_t top = p->heap[0], rule = p->heap[--p->n_heap], i = 0;
    for (int32_t down; (down = 2 * i + 1) < p->n_heap; i = down) {
        if (down + 1 < p->n_heap && p->heap[down + 1] < p->heap[down]) down++;
        if (p->heap[down] >= rule) break;
        p->heap[i] = p->heap[down];
    }
    p->heap[i] = rule;
    return top;
}

static int order(const void *a, const void *b) {
    const item *x = a, *y = b;
    return x->node != y->node ? (x->node < y->node ? -1 : 1) : x->stack < y->stack ? -1 : x->stack > y->stack;
}

static int32_t sort_unique(item *items, int32_t n) {
    if (n < 2) return n;
    qsort(items, (size_t)n, sizeof *items, order);
    int32_t k = 1;
    for (int32_t i = 1; i < n; i++)
        if (order(&items[k - 1], &items[i])) items[k++] = items[i];
    return k;
}

static int by_number(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* The stack of a rule of the group, whose members are known: its items go behind the `at` that are made already. */
static int make_stack(pushdown *p, int32_t rule, int32_t n_members, int32_t at, int32_t *n) {
    int32_t k = at;
    for (int32_t c = p->head[rule]; c >= 0; c = p->calls[c].next) {
        item to = p->calls[c].to;
        int64_t more = 1;
        int pass_on = to.stack > 0 && p->only_ends[to.node];
        if (pass_on) more = p->stacks.spans[to.stack].n;
        p->base.work += more;
        if (zl_machine_grow(&p->base, &p->made, &p->made_bytes, (k + more) * (int64_t)sizeof to)) return -1;
        if (pass_on) {
            const span *s = &p->stacks.spans[to.stack];
            for (int32_t i = 0; i < s->n; i++) {
                item it = p->stacks.items[s->at + i];
                it.stack = below(p, to.stack, it.stack);
                p->made[k++] = it;
            }
            continue;
        }
        if (to.stack < 0) { /* a member of the group, by its place in it */
            int32_t low = 0, high = n_members - 1, rule_ = local(to.stack);
            while (low < high) {
                int32_t middle = (low + high) / 2;
                if (p->member[middle] < rule_) low = middle + 1;
                else high = middle;
            }
            to.stack = local(low);
        }
        p->made[k++] = to;
    }
    *n = sort_unique(p->made + at, k - at);
    return 0;
}

/* Enter all rules of the group that `rule`, the lowest that is called, belongs to. */
static int enter(pushdown *p, int32_t rule) {
    int32_t n = 0, group = p->r.rule_group[rule];
    p->member[n++] = rule;
    for (int32_t i = 0;; i++) { /* who is called by members is a member */
        while (p->n_heap && p->r.rule_group[p->heap[0]] == group) p->member[n++] = pop(p);
        if (i == n) break;
        int32_t node = p->r.rule_node[p->member[i]];
        for (int32_t c = p->r.call_first[node]; c < p->r.call_first[node + 1]; c++)
            if (p->r.rule_group[p->r.call_rule[c]] == group && call_rule(p, p->r.call_rule[c], p->r.call_next[c], local(p->member[i])))
                return -1;
    }
    if (n > 1) qsort(p->member, (size_t)n, sizeof *p->member, by_number); /* whoever was called first */
    int32_t total = 0;
    for (int32_t i = 0; i < n; total += p->n_made[i++])
        if (make_stack(p, p->member[i], n, total, &p->n_made[i])) return -1;
    int32_t first = intern(p, &p->stacks, p->made, p->n_made, n, 0);
    if (first < 0) return -1;
    for (int32_t i = 0; i < n; i++) {
        int32_t node = p->r.rule_node[p->member[i]];
        p->head[p->member[i]] = -1;
        if (add(p, node, first + i) < 0) return -1;
        for (int32_t c = p->r.call_first[node]; c < p->r.call_first[node + 1]; c++)
            if (p->r.rule_group[p->r.call_rule[c]] != group && call_rule(p, p->r.call_rule[c], p->r.call_next[c], first + i)) return -1;
    }
    return 0;
}

/* From the items that were found: ends of rules, calls, and the state that all of them make. */
static int32_t close_state(pushdown *p) {
    int finished = 0;
    for (int32_t i = 0; i < p->n_found; i++) {
        item it = p->found[i];
        if (!p->r.final[it.node]) continue;
        finished |= it.stack == 0;
        for (int32_t j = 0; j < p->stacks.spans[it.stack].n; j++) {
            item to = p->stacks.items[p->stacks.spans[it.stack].at + j];
            if (add(p, to.node, below(p, it.stack, to.stack)) < 0) return ZL_BUDGET;
        }
    }
    p->n_calls = 0;
    for (int32_t i = 0, n = p->n_found; i < n; i++)
        if (call_all(p, p->found[i].node, p->found[i].stack)) return ZL_BUDGET;
    while (p->n_heap)
        if (enter(p, pop(p))) return ZL_BUDGET;
    int32_t n = 0, all = p->n_found;
    forget(p);
    for (int32_t i = 0; i < all; i++) /* what reads no byte has done what it can */
        if (p->r.edge_first[p->found[i].node] < p->r.edge_first[p->found[i].node + 1]) p->found[n++] = p->found[i];
    if (!n && !finished) return ZL_DEAD;
    if (n > 1) qsort(p->found, (size_t)n, sizeof *p->found, order);
    int32_t state = intern(p, &p->states, p->found, &n, 1, finished);
    p->base.n_states = p->states.n;
    return state < 0 ? ZL_BUDGET : state;
}

static void tidy(pushdown *p) { /* after a step that was given up */
    if (p->n_found) forget(p);
    memset(p->seen, 0, (size_t)p->n_seen * 4);
    for (int64_t i = 0; i < p->r.n_rules; i++) p->head[i] = -1;
    p->n_heap = 0;
}

static int32_t step(zl_machine *m, int32_t state, uint8_t byte) {
    pushdown *p = (pushdown *)(void *)m;
    span s = p->states.spans[state];
    int32_t next = ZL_DEAD;
    for (int32_t i = 0; i < s.n && next != ZL_BUDGET; i++) {
        item it = p->states.items[s.at + i];
        for (int32_t e = p->r.edge_first[it.node]; e < p->r.edge_first[it.node + 1]; e++)
            if (p->r.edge_low[e] <= byte && byte <= p->r.edge_high[e] && add(p, p->r.edge_next[e], it.stack) < 0) next = ZL_BUDGET;
    }
    if (p->n_found && next != ZL_BUDGET) next = close_state(p);
    if (next == ZL_BUDGET) tidy(p);
    return next;
}

static int finished(zl_machine *m, int32_t state) { return ((pushdown *)(void *)m)->states.spans[state].extra; }

/* ---- making one ------------------------------------------------------------------------------------------------------------- */

static void release(zl_machine *m) {
    pushdown *p = (pushdown *)(void *)m;
    free(p->stacks.spans);
    free(p->stacks.items);
    free(p->stacks.slots);
    free(p->states.spans);
    free(p->states.items);
    free(p->states.slots);
    free(p->found);
    free(p->seen);
    free(p->calls);
    free(p->made);
    free(p->copy);
}

static int check_list(const char *what, const int32_t *first, const int32_t *value, int64_t n, int64_t below_) {
    if (first[0] != 0) return zl_fail(ZL_E_BOUNDS, "rules: the first %s is %d, not 0", what, first[0]);
    for (int64_t i = 0; i < n; i++)
        if (first[i + 1] < first[i]) return zl_fail(ZL_E_BOUNDS, "rules: %ss of node %lld end at %d, before %d", what, (long long)i, first[i + 1], first[i]);
    for (int32_t i = 0; i < first[n]; i++)
        if (value[i] < 0 || value[i] >= below_)
            return zl_fail(ZL_E_BOUNDS, "rules: %s %d leads to %d of %lld", what, i, value[i], (long long)below_);
    return ZL_OK;
}

static int check(const zl_pushdown_rules *r) {
    if (!r->edge_first || !r->call_first || !r->final || !r->class_of) return zl_fail(ZL_E_ARG, "rules: a null pointer");
    if (r->n_nodes < 1 || r->n_nodes > 1 << 24 || r->n_rules < 0 || r->n_rules > r->n_nodes)
        return zl_fail(ZL_E_SHAPE, "rules: %lld rules of %lld nodes", (long long)r->n_rules, (long long)r->n_nodes);
    if (r->n_rules && (!r->rule_node || !r->rule_group)) return zl_fail(ZL_E_ARG, "rules: a null pointer");
    if (r->edge_first[r->n_nodes] && (!r->edge_low || !r->edge_high || !r->edge_next)) return zl_fail(ZL_E_ARG, "rules: a null pointer");
    if (r->call_first[r->n_nodes] && (!r->call_rule || !r->call_next)) return zl_fail(ZL_E_ARG, "rules: a null pointer");
    if (r->start < 0 || r->start >= r->n_nodes) return zl_fail(ZL_E_BOUNDS, "rules: start %d of %lld nodes", r->start, (long long)r->n_nodes);
    int status = check_list("edge", r->edge_first, r->edge_next, r->n_nodes, r->n_nodes);
    if (!status) status = check_list("call", r->call_first, r->call_rule, r->n_nodes, r->n_rules);
    if (!status) status = check_list("call", r->call_first, r->call_next, r->n_nodes, r->n_nodes);
    for (int64_t i = 0; !status && i < r->n_rules; i++) {
        int32_t node = r->rule_node[i];
        if (node < 0 || node >= r->n_nodes || r->final[node])
            return zl_fail(ZL_E_BOUNDS, "rules: rule %lld begins at node %d, which is none or final", (long long)i, node);
        if (i && r->rule_group[i] < r->rule_group[i - 1]) return zl_fail(ZL_E_ARG, "rules: group %d after %d", r->rule_group[i], r->rule_group[i - 1]);
        for (int32_t c = r->call_first[node]; c < r->call_first[node + 1]; c++)
            if (r->rule_group[r->call_rule[c]] < r->rule_group[i])
                return zl_fail(ZL_E_ARG, "rules: rule %lld calls rule %d of an earlier group first", (long long)i, r->call_rule[c]);
    }
    if (!status && (r->n_classes < 1 || r->n_classes > 256)) return zl_fail(ZL_E_SHAPE, "rules: %d classes of bytes", r->n_classes);
    for (int b = 0; !status && b < 256; b++)
        if (r->class_of[b] >= r->n_classes) return zl_fail(ZL_E_BOUNDS, "rules: byte %d is of class %d of %d", b, r->class_of[b], r->n_classes);
    return status;
}

/* Room for an array in the copy, and the array copied into it (`from` NULL: zeros). */
static void *put(uint8_t **at, const void *from, int64_t bytes) {
    void *to = *at;
    if (from && bytes) memcpy(to, from, (size_t)bytes);
    *at += (bytes + 7) & ~(int64_t)7;
    return to;
}

int zl_pushdown_new(const zl_pushdown_rules *r, zl_machine **out) {
    if (!r || !out) return zl_fail(ZL_E_ARG, "rules: a null pointer");
    *out = NULL;
    int status = check(r);
    if (status) return status;
    int64_t n = r->n_nodes, e = r->edge_first[n], c = r->call_first[n], k = r->n_rules;
    int64_t bytes = 8 * (n + 1) + 4 * e + 2 * e + 8 * c + 2 * n + 8 * k + 16 * k + 16 * 8;
    pushdown *p = calloc(1, sizeof *p);
    uint8_t *at = calloc(1, (size_t)bytes);
    if (!p || !at) {
        free(p);
        free(at);
        return zl_fail(ZL_E_MEMORY, "a grammar of %lld nodes needs %lld bytes", (long long)n, (long long)bytes);
    }
    zl_machine_init(&p->base, step, finished, release, r->class_of, r->n_classes);
    p->base.bytes = bytes;
    p->copy = at;
    p->r = *r;
    p->r.class_of = NULL; /* the base has them */
    p->r.edge_first = put(&at, r->edge_first, 4 * (n + 1));
    p->r.call_first = put(&at, r->call_first, 4 * (n + 1));
    p->r.edge_next = put(&at, r->edge_next, 4 * e);
    p->r.edge_low = put(&at, r->edge_low, e);
    p->r.edge_high = put(&at, r->edge_high, e);
    p->r.call_rule = put(&at, r->call_rule, 4 * c);
    p->r.call_next = put(&at, r->call_next, 4 * c);
    p->r.final = put(&at, r->final, n);
    p->r.rule_node = put(&at, r->rule_node, 4 * k);
    p->r.rule_group = put(&at, r->rule_group, 4 * k);
    p->only_ends = put(&at, NULL, n);
    p->head = put(&at, NULL, 4 * k);
    p->heap = put(&at, NULL, 4 * k);
    p->member = put(&at, NULL, 4 * k);
    p->n_made = put(&at, NULL, 4 * k);
    for (int64_t i = 0; i < n; i++)
        p->only_ends[i] = r->final[i] && r->edge_first[i] == r->edge_first[i + 1] && r->call_first[i] == r->call_first[i + 1];
    for (int64_t i = 0; i < k; i++) p->head[i] = -1;
    item nothing = {0};
    int32_t none = 0, start = intern(p, &p->stacks, &nothing, &none, 1, 0); /* stack 0: below it is nothing */
    if (start == 0) start = add(p, r->start, 0) < 0 ? ZL_BUDGET : close_state(p);
    if (start < 0) {
        status = start == ZL_DEAD ? zl_fail(ZL_E_ARG, "rules: nothing follows the start") : zl_machine_fail(&p->base);
        zl_machine_free(&p->base);
        return status;
    }
    p->base.start = start;
    *out = &p->base;
    return ZL_OK;
}
