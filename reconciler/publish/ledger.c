#include "reconciler/publish/ledger.h"

#include <string.h>

static bool is_ours(const struct rec_ledger *ledger, uint64_t seq)
{
    return ledger->ours[seq % REC_LEDGER_SPAN / 8] >> (seq % 8) & 1;
}

static void set_ours(struct rec_ledger *ledger, uint64_t seq, bool ours)
{
    unsigned char *byte = &ledger->ours[seq % REC_LEDGER_SPAN / 8];

    *byte = (unsigned char)(ours ? *byte | 1U << (seq % 8) : *byte & ~(1U << (seq % 8)));
}

static void pass(struct rec_ledger *ledger)
{
    set_ours(ledger, ledger->next++, false);
}

/* Goes on as long as the next number is accounted for, or known to be foreign. */
static void settle(struct rec_ledger *ledger)
{
    for (;;) {
        while (is_ours(ledger, ledger->next)) {
            pass(ledger);
            ledger->suspect = 0;
        }
        if (ledger->next > ledger->highest)
            return;
        if (ledger->suspect == 0) {
            ledger->suspect = ledger->tickets;
            ledger->pending = ledger->flying;
        }
        if (ledger->pending > 0)
            return;
        const uint64_t seq = ledger->next;
        pass(ledger);
        ledger->suspect = 0;
        ledger->foreign(ledger->arg, seq);
    }
}

/* Someone wrote more messages than the ledger spans: they are told of as one. */
static void make_room(struct rec_ledger *ledger, uint64_t seq)
{
    if (seq < ledger->next + REC_LEDGER_SPAN)
        return;
    const uint64_t first = ledger->next;
    memset(ledger->ours, 0, sizeof(ledger->ours));
    ledger->next = seq;
    ledger->suspect = 0;
    ledger->foreign(ledger->arg, first);
}

static void hear(struct rec_ledger *ledger, uint64_t seq)
{
    make_room(ledger, seq);
    if (seq > ledger->highest)
        ledger->highest = seq;
}

void rec_ledger_open(struct rec_ledger *ledger, uint64_t claim)
{
    memset(ledger->ours, 0, sizeof(ledger->ours));
    ledger->open = true;
    ledger->next = claim + 1;
    ledger->highest = claim;
    ledger->flying = ledger->suspect = ledger->pending = 0;
}

void rec_ledger_close(struct rec_ledger *ledger)
{
    ledger->open = false;
}

uint64_t rec_ledger_publish(struct rec_ledger *ledger)
{
    ledger->flying++;
    return ++ledger->tickets;
}

void rec_ledger_own(struct rec_ledger *ledger, uint64_t seq)
{
    if (!ledger->open || seq < ledger->next)
        return;
    hear(ledger, seq);
    set_ours(ledger, seq, true);
}

void rec_ledger_end(struct rec_ledger *ledger, uint64_t ticket, uint64_t seq)
{
    if (!ledger->open)
        return;
    ledger->flying--;
    if (ledger->suspect != 0 && ticket <= ledger->suspect)
        ledger->pending--;
    if (seq != 0)
        rec_ledger_own(ledger, seq);
    settle(ledger);
}

void rec_ledger_told(struct rec_ledger *ledger, uint64_t last)
{
    if (!ledger->open || last + 1 < ledger->next)
        return;
    hear(ledger, last);
    settle(ledger);
}
