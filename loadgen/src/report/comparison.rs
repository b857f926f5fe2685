//! What a comparison has found, in words and figures.

use super::document::{Block, Table};
use crate::study::Side;
use crate::study::compare::{ComparisonRecord, Discarded};
use crate::units::several;

/// The blocks that say it.
pub(super) fn blocks(record: &ComparisonRecord) -> Vec<Block> {
    let (a, b) = (&record.a, &record.b);
    let worse = record.findings.iter();
    let worse = worse.filter(|finding| finding.is_regression);
    let worse: Vec<String> = worse
        .map(|finding| {
            let percent = (finding.ratio.value - 1.0) * 100.0;
            format!("{} by {percent:.1} %", finding.measure.name())
        })
        .collect();
    let headline = if record.rounds.is_empty() && record.findings.is_empty() {
        "No round was valid: there is nothing to compare.".to_owned()
    } else if let Some(wanted) = record.rounds_missing() {
        format!(
            "Whether B ({b}) is worse than A ({a}) is not known: {} can't tell, it takes {wanted}.",
            several(record.rounds.len(), "valid round")
        )
    } else if worse.is_empty() {
        format!("B ({b}) is not found worse than A ({a}).")
    } else {
        format!("B ({b}) is worse than A ({a}): {}.", worse.join(", "))
    };
    let mut blocks = vec![Block::Headline(headline), Block::Table(table(record))];
    let percent = record.level * 100.0;
    blocks.push(Block::Text(format!(
        "{} rounds of two loads on either side. *p*: how likely so high a ratio is without any \
         difference, by an exact sign-flip test, corrected for the number of measures; a regression is \
         found at up to {percent} %. *Noise floor*: what the same arithmetic shows, with 95 % confidence, \
         when each side is compared with itself.",
        record.rounds.len()
    )));
    if record.late != [0, 0] {
        let [a, b] = record.late;
        blocks.push(Block::Text(format!(
            "The generator was late in {} of A and {} of B. Its own lag is taken out of the means; \
             percentiles are compared only in rounds without such a load.",
            several(a, "load"),
            several(b, "load")
        )));
    }
    if !record.discarded.is_empty() {
        let of = |side| {
            record
                .discarded
                .iter()
                .filter(|load| load.side == side)
                .count()
        };
        blocks.push(Block::Text(format!(
            "Loads that were no measurement, and whose rounds are left out (A: {}, B: {}):",
            of(Side::A),
            of(Side::B)
        )));
        let lines = record.discarded.iter();
        let line =
            |load: &Discarded| format!("{:?}, point {}: {}", load.side, load.point, load.why);
        blocks.push(Block::List(lines.map(line).collect()));
    }
    if !record.is_randomised {
        blocks.push(Block::Warning(
            "A and B were measured one after the other, not in turns: whatever changed on the machine \
             in between counts as their difference."
                .into(),
        ));
    }
    blocks
}

fn table(record: &ComparisonRecord) -> Table {
    let head = [
        "",
        "B ÷ A",
        "95 % confidence",
        "p",
        "noise floor",
        "rounds",
        "regression",
    ];
    let rows = record.findings.iter().map(|finding| {
        let ratio = finding.ratio;
        vec![
            finding.measure.name().to_owned(),
            format!("{:.3}", ratio.value),
            format!("{:.3} – {:.3}", ratio.lower, ratio.upper),
            format!("{:.4}", finding.p_value),
            format!("± {:.1} %", finding.noise_floor * 100.0),
            finding.rounds.to_string(),
            if finding.is_regression { "YES" } else { "no" }.to_owned(),
        ]
    });
    Table::new(&head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Document;
    use crate::report::markdown;
    use crate::study::compare::{ComparisonFinding, Measure, Round};
    use crate::study::record::Interval;

    fn text(is_regression: bool, is_randomised: bool) -> String {
        let record = ComparisonRecord {
            a: "old".into(),
            b: "new".into(),
            level: 0.05,
            is_randomised,
            rounds: vec![
                Round {
                    a: [0, 3],
                    b: [1, 2],
                };
                8
            ],
            discarded: vec![Discarded {
                side: Side::B,
                point: 7,
                why: "the counts do not balance".into(),
            }],
            late: [0, 2],
            points_of_b: vec![7],
            findings: vec![ComparisonFinding {
                measure: Measure::P99,
                ratio: Interval {
                    value: 1.031,
                    lower: 1.02,
                    upper: 1.04,
                },
                p_value: 0.0078,
                noise_floor: 0.012,
                rounds: 8,
                is_regression,
            }],
        };
        let mut document: Document = crate::report::comparison(&record);
        document.sections[0].title.clear();
        markdown::render(&document)
    }

    #[test]
    fn the_verdict_names_what_is_worse() {
        let found = text(true, true);
        let headline = "B (new) is worse than A (old): p99 response time by 3.1 %.";
        assert!(found.contains(headline), "{found}");
        // Whatever the widths of the columns are.
        let row = found.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            row.contains("| 1.031 | 1.020 – 1.040 | 0.0078 | ± 1.2 % | 8 | YES |"),
            "{found}"
        );
        assert!(!found.contains("not in turns"));
        assert!(
            found.contains("- B, point 7: the counts do not balance"),
            "{found}"
        );
        assert!(found.contains("A: 0, B: 1"), "{found}");
        assert!(
            found.contains("late in 0 loads of A and 2 loads of B"),
            "{found}"
        );
    }

    #[test]
    fn an_order_without_a_coin_is_warned_of() {
        let found = text(false, false);
        assert!(
            found.contains("not found worse") && found.contains("not in turns"),
            "{found}"
        );
    }
}
