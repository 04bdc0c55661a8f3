#include "nats/flights.h"

#include <stdlib.h>

#include "base/memory.h"
#include "nats/error.h"
#include "nats/mailbox.h"

void hw_flights_init(struct hw_flights *flights, size_t most)
{
    size_t places = 64;

    while (places < 2 * most)
        places *= 2;
    *flights = (struct hw_flights){.places = hw_alloc(places * sizeof(*flights->places)),
                                   .mask = places - 1};
}

void hw_flights_free(struct hw_flights *flights)
{
    free(flights->places);
    *flights = (struct hw_flights){0};
}

/* Fibonacci hashing: an allocator's addresses differ in a few bits in the middle, and the
 * multiplication spreads these over all. */
static size_t home_of(const struct hw_flights *flights, const natsMsg *msg)
{
    return (size_t)(((uintptr_t)msg >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & flights->mask;
}

void hw_flights_add(struct hw_flights *flights, struct hw_flight flight)
{
    size_t place = home_of(flights, flight.msg);

    while (flights->places[place].msg != NULL)
        place = (place + 1) & flights->mask;
    flights->places[place] = flight;
    flights->count++;
}

bool hw_flights_take(struct hw_flights *flights, const natsMsg *msg, struct hw_flight *flight)
{
    size_t place = home_of(flights, msg);
    size_t hole;

    while (flights->places[place].msg != msg) {
        if (flights->places[place].msg == NULL)
            return false;
        place = (place + 1) & flights->mask;
    }
    *flight = flights->places[place];
    flights->count--;
    /* A search ends at the first free place, so the hole must not cut off those behind it: each
     * that is further from its home than the hole is moves into the hole, and leaves a new one. */
    hole = place;
    for (;;) {
        place = (place + 1) & flights->mask;
        if (flights->places[place].msg == NULL)
            break;
        const size_t home = home_of(flights, flights->places[place].msg);
        if (((place - home) & flights->mask) >= ((place - hole) & flights->mask)) {
            flights->places[hole] = flights->places[place];
            hole = place;
        }
    }
    flights->places[hole] = (struct hw_flight){0};
    return true;
}

void hw_flights_land(struct hw_flights *flights, const struct hw_mail *mail, const char *trouble)
{
    struct hw_flight flight;
    struct hw_ack ack = {.seq = mail->seq};

    if (!hw_flights_take(flights, mail->msg, &flight))
        return;
    if (mail->s != NATS_OK) {
        const char *subject = natsMsg_GetSubject(mail->msg);

        ack.status = hw_nats_fail(&ack.err, mail->s, mail->code, "publishing to %s", subject);
        if (mail->text[0] != '\0' && mail->code != 0)
            hw_fail(&ack.err, ack.status, "publishing to %s: %s (JetStream error %d)", subject,
                    mail->text, (int)mail->code);
        hw_nats_fail_also(&ack.err, trouble);
    }
    flight.done(flight.arg, &ack);
}

void hw_flights_end_all(struct hw_flights *flights, enum hw_status status)
{
    struct hw_flight *places = flights->places;
    const size_t count = flights->mask + 1;
    struct hw_ack ack = {.status = status};

    hw_fail(&ack.err, status, "the connection to NATS was closed before an acknowledgement");
    flights->places = hw_alloc(count * sizeof(*places));
    flights->count = 0;
    for (size_t i = 0; i < count; i++)
        if (places[i].msg != NULL)
            places[i].done(places[i].arg, &ack);
    free(places);
}
