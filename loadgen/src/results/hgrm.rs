//! `*.hgrm`: percentile distributions as text, in the form that HdrHistogram's own tools write and
//! plotters of latency read. Values are milliseconds.

use hdrhistogram::Histogram;

/// The distribution of a histogram of nanoseconds.
pub fn render(values_ns: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>17} {:>10} {:>17}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in values_ns.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let value_ms = step.value_iterated_to() as f64 / NS_PER_MS;
        let quantile = step.quantile_iterated_to();
        let distance = if quantile < 1.0 {
            format!(" {:>17.2}", 1.0 / (1.0 - quantile))
        } else {
            String::new()
        };
        text += &format!("{value_ms:>12.6} {quantile:>17.12} {total:>10}{distance}\n");
    }
    let (mean, deviation) = (values_ns.mean(), values_ns.stdev());
    text + &format!(
        "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]\n\
         #[Max     = {:>12.6}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]\n",
        mean / NS_PER_MS,
        deviation / NS_PER_MS,
        values_ns.max() as f64 / NS_PER_MS,
        values_ns.len(),
        values_ns.buckets(),
        SUB_BUCKETS,
    )
}

const NS_PER_MS: f64 = 1e6;
/// Lines for each halving of the distance to 100 %, as the tools have it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Sub-buckets of a histogram with three significant digits.
const SUB_BUCKETS: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_counted_once_and_the_last_line_is_the_maximum() {
        let mut values_ns = Histogram::<u64>::new(3).unwrap();
        for ms in 1..=1000 {
            values_ns.record(ms * 1_000_000).unwrap();
        }
        let text = render(&values_ns);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|cell| cell.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1000.0));
        assert!((1000.0..1001.0).contains(&last[0]), "{last:?}");
        let median = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((500.0..500.5).contains(&median[0]), "{median:?}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
