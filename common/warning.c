#include "common/warning.h"

#include <stdio.h>
#include <string.h>

#include "base/map.h"

enum { FIELDS_MOST = 12 };

static struct hw_warnings all;
static struct hw_loop *teller;
static struct hw_timer timer;

/* ---- what decides ---- */

/* Its own place, otherwise a free one, otherwise that of the warning which is quiet longest. */
static struct hw_warned *place_of(struct hw_warned *set, const char *name, const char *msg)
{
    struct hw_warned *place = set;

    for (int i = 0; i < HW_WARNING_WAYS; i++) {
        if (set[i].msg != NULL && strcmp(set[i].msg, msg) == 0 && strcmp(set[i].name, name) == 0)
            return &set[i];
        if (place->msg != NULL && (set[i].msg == NULL || set[i].pace.until < place->pace.until))
            place = &set[i];
    }
    return place;
}

static bool take(struct hw_warnings *warnings, struct hw_warned *place, int64_t now,
                 uint64_t *left_out)
{
    if (hw_pace_wait(&place->pace, HW_WARNING_EACH_MS, HW_WARNING_MOST, now) > 0 ||
        !hw_pace_take(&warnings->pace, HW_WARNINGS_EACH_MS, HW_WARNINGS_MOST, now))
        return false;
    hw_pace_spend(&place->pace, HW_WARNING_EACH_MS, now);
    *left_out = place->left_out;
    warnings->waiting -= place->left_out;
    place->left_out = 0;
    return true;
}

bool hw_warning_due(struct hw_warnings *warnings, const char *name, const char *msg, int64_t now,
                    uint64_t *left_out)
{
    struct hw_warned wanted = {.msg = msg};
    struct hw_warned *place;

    snprintf(wanted.name, sizeof(wanted.name), "%s", name);
    place = place_of(
        warnings->sets[hw_hash(hw_hash(HW_HASH_START, wanted.name), msg) % HW_WARNING_SETS],
        wanted.name, msg);
    if (place->msg == NULL || strcmp(place->msg, msg) != 0 ||
        strcmp(place->name, wanted.name) != 0) {
        warnings->left_out += place->left_out;
        *place = wanted;
    }
    if (take(warnings, place, now, left_out))
        return true;
    place->left_out++;
    warnings->waiting++;
    return false;
}

uint64_t hw_warnings_tell(struct hw_warnings *warnings, int64_t now, hw_warning_tell_fn *tell,
                          void *arg)
{
    for (size_t i = 0; i < HW_WARNING_SETS; i++)
        for (size_t k = 0; k < HW_WARNING_WAYS; k++) {
            struct hw_warned *place = &warnings->sets[i][k];
            uint64_t left_out;

            if (place->left_out > 0 && take(warnings, place, now, &left_out))
                tell(arg, place->name, place->msg, left_out);
        }
    if (warnings->left_out > 0) {
        tell(arg, "", "", warnings->left_out);
        warnings->waiting -= warnings->left_out;
        warnings->left_out = 0;
    }
    return warnings->waiting;
}

/* ---- logging ---- */

static void tell_left_out(void *arg, const char *name, const char *msg, uint64_t left_out)
{
    (void)arg;
    if (*msg == '\0')
        hw_log_warn("warnings about others were left out", HW_I("left_out", (int64_t)left_out));
    else
        hw_log_warn("warnings were left out", HW_S("about", name), HW_S("warning", msg),
                    HW_I("left_out", (int64_t)left_out));
}

static void tell(void *arg)
{
    (void)arg;
    if (hw_warnings_tell(&all, hw_loop_now(), tell_left_out, NULL) > 0 && teller != NULL)
        hw_timer_start(teller, &timer, HW_WARNING_EACH_MS, tell, NULL);
}

void hw_warnings_attach(struct hw_loop *loop)
{
    hw_timer_stop(&timer);
    teller = loop;
}

void hw_warning_log(const char *name, const char *msg, const struct hw_field *fields, size_t count)
{
    struct hw_field told[FIELDS_MOST + 1];
    uint64_t left_out;

    if (hw_log_level() < HW_LOG_WARN)
        return;
    if (!hw_warning_due(&all, name, msg, hw_loop_now(), &left_out)) {
        if (teller != NULL && !hw_timer_running(&timer))
            hw_timer_start(teller, &timer, HW_WARNING_EACH_MS, tell, NULL);
        return;
    }
    if (count > FIELDS_MOST)
        count = FIELDS_MOST;
    for (size_t i = 0; i < count; i++)
        told[i] = fields[i];
    if (left_out > 0)
        told[count++] = HW_I("left_out", (int64_t)left_out);
    hw_log_fields(HW_LOG_WARN, msg, told, count);
}
