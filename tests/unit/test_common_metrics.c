#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "common/metrics.h"
#include "tests/support/suite.h"

struct values {
    uint64_t plain, applied, failed;
    double lag;
    struct hw_histogram times, others;
};

static const struct hw_metric table[] = {
    {HW_METRIC(struct values, plain, "x_plain_total", "Counts \"things\": C:\\x\nand more.")},
    {HW_METRIC(struct values, applied, "x_results_total", "Results."), .label = "result",
     .label_value = "applied"},
    {HW_METRIC(struct values, failed, "x_results_total", "Results."), .label = "result",
     .label_value = "a \"b\" \\c\nd \xC3\xA9"},
    {HW_METRIC(struct values, lag, "x_lag_seconds", "")},
    {HW_METRIC(struct values, times, "x_times_seconds", "Times.")},
    {0},
};

static void check_text(const struct hw_metric *rows, const struct values *values,
                       const char *expected)
{
    struct hw_buf out = {0};

    hw_metrics_write(&(struct hw_metrics){rows, values}, &out);
    ck_assert_str_eq(hw_buf_str(&out), expected);
    hw_buf_free(&out);
}

START_TEST(test_exact_text)
{
    struct values values = {.plain = UINT64_MAX, .failed = 7, .lag = 0.25};

    hw_histogram_observe(&values.times, 0.001); /* a bound belongs to its bucket */
    hw_histogram_observe(&values.times, 0.0015);
    hw_histogram_observe(&values.times, 0.5);
    hw_histogram_observe(&values.times, 60);
    hw_histogram_observe(&values.times, 61);
    hw_histogram_observe(&values.times, 1801);
    check_text(table, &values,
               "# HELP x_plain_total Counts \"things\": C:\\\\x\\nand more.\n"
               "# TYPE x_plain_total counter\n"
               "x_plain_total 18446744073709551615\n"
               "# HELP x_results_total Results.\n"
               "# TYPE x_results_total counter\n"
               "x_results_total{result=\"applied\"} 0\n"
               "x_results_total{result=\"a \\\"b\\\" \\\\c\\nd \xC3\xA9\"} 7\n"
               "# HELP x_lag_seconds \n"
               "# TYPE x_lag_seconds gauge\n"
               "x_lag_seconds 0.25\n"
               "# HELP x_times_seconds Times.\n"
               "# TYPE x_times_seconds histogram\n"
               "x_times_seconds_bucket{le=\"0.001\"} 1\n"
               "x_times_seconds_bucket{le=\"0.0025\"} 2\n"
               "x_times_seconds_bucket{le=\"0.005\"} 2\n"
               "x_times_seconds_bucket{le=\"0.01\"} 2\n"
               "x_times_seconds_bucket{le=\"0.025\"} 2\n"
               "x_times_seconds_bucket{le=\"0.05\"} 2\n"
               "x_times_seconds_bucket{le=\"0.1\"} 2\n"
               "x_times_seconds_bucket{le=\"0.25\"} 2\n"
               "x_times_seconds_bucket{le=\"0.5\"} 3\n"
               "x_times_seconds_bucket{le=\"1\"} 3\n"
               "x_times_seconds_bucket{le=\"2.5\"} 3\n"
               "x_times_seconds_bucket{le=\"5\"} 3\n"
               "x_times_seconds_bucket{le=\"10\"} 3\n"
               "x_times_seconds_bucket{le=\"30\"} 3\n"
               "x_times_seconds_bucket{le=\"60\"} 4\n"
               "x_times_seconds_bucket{le=\"300\"} 5\n"
               "x_times_seconds_bucket{le=\"1800\"} 5\n"
               "x_times_seconds_bucket{le=\"+Inf\"} 6\n"
               "x_times_seconds_sum 1922.5025\n"
               "x_times_seconds_count 6\n");
}
END_TEST

START_TEST(test_labelled_histograms)
{
    static const struct hw_metric rows[] = {
        {HW_METRIC(struct values, times, "x_s", "T."), .label = "of", .label_value = "one"},
        {HW_METRIC(struct values, others, "x_s", "T."), .label = "of", .label_value = "two"},
        {0}};
    struct values values = {0};
    struct hw_buf out = {0};

    hw_histogram_observe(&values.others, 3);
    hw_metrics_write(&(struct hw_metrics){rows, &values}, &out);
    ck_assert_ptr_nonnull(strstr(out.data, "\nx_s_bucket{of=\"one\",le=\"+Inf\"} 0\n"
                                           "x_s_sum{of=\"one\"} 0\nx_s_count{of=\"one\"} 0\n"
                                           "x_s_bucket{of=\"two\",le=\"0.001\"} 0\n"));
    ck_assert_ptr_nonnull(strstr(out.data, "\nx_s_bucket{of=\"two\",le=\"2.5\"} 0\n"
                                           "x_s_bucket{of=\"two\",le=\"5\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(out.data, "\nx_s_sum{of=\"two\"} 3\nx_s_count{of=\"two\"} 1\n"));
    ck_assert_ptr_eq(strstr(out.data, "# TYPE"), strrchr(out.data, '#'));
    hw_buf_free(&out);
}
END_TEST

START_TEST(test_series_without_a_table)
{
    const struct hw_label labels[] = {
        {"method", "GET"}, {"route", "/v1/\"{name}\"\\\n"}, {NULL, NULL}};
    const uint64_t count = 3;
    const double level = 0.5;
    struct hw_histogram times = {0};
    struct hw_buf out = {0};

    hw_metrics_family(&out, "x_total", HW_METRIC_COUNTER, "C.");
    hw_metrics_series(&out, "x_total", HW_METRIC_COUNTER, labels, &count);
    hw_metrics_family(&out, "x", HW_METRIC_GAUGE, "G.");
    hw_metrics_series(&out, "x", HW_METRIC_GAUGE, NULL, &level);
    ck_assert_str_eq(hw_buf_str(&out),
                     "# HELP x_total C.\n# TYPE x_total counter\n"
                     "x_total{method=\"GET\",route=\"/v1/\\\"{name}\\\"\\\\\\n\"} 3\n"
                     "# HELP x G.\n# TYPE x gauge\nx 0.5\n");
    hw_buf_free(&out);

    hw_histogram_observe(&times, 0.002);
    hw_metrics_series(&out, "x_s", HW_METRIC_HISTOGRAM, labels, &times);
    ck_assert_ptr_nonnull(strstr(out.data, "\nx_s_bucket{method=\"GET\",route=\"/v1/\\\"{name}\\\""
                                           "\\\\\\n\",le=\"0.0025\"} 1\n"));
    hw_buf_free(&out);
}
END_TEST

START_TEST(test_numbers)
{
    static const struct hw_metric rows[] = {{HW_METRIC(struct values, lag, "x", "X.")}, {0}};
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-1.5, "-1.5"},
                 {0.1, "0.1"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {1e300, "1e+300"},
                 {1764000000.125, "1764000000.125"},
                 {9007199254740991.0, "9007199254740991"},
                 {(double)NAN, "NaN"},
                 {(double)INFINITY, "+Inf"},
                 {(double)-INFINITY, "-Inf"}};

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        const struct values values = {.lag = cases[i].value};
        HW_AUTO_FREE char *expected =
            hw_sprintf("# HELP x X.\n# TYPE x gauge\nx %s\n", cases[i].text);

        check_text(rows, &values, expected);
    }
}
END_TEST

/* What makes no sense never takes a sum back. */
START_TEST(test_odd_observations)
{
    struct hw_histogram histogram = {0};

    hw_histogram_observe(&histogram, -5);
    hw_histogram_observe(&histogram, (double)NAN);
    hw_histogram_observe(&histogram, 0);
    ck_assert_uint_eq(histogram.counts[0], 3);
    ck_assert(histogram.sum == 0);
    hw_histogram_observe(&histogram, 1e9);
    ck_assert_uint_eq(histogram.counts[HW_HISTOGRAM_BOUNDS], 1);
    ck_assert(histogram.sum == 1e9);
}
END_TEST

TEST_MAIN("metrics", 10, test_exact_text, test_labelled_histograms, test_series_without_a_table,
          test_numbers, test_odd_observations)
