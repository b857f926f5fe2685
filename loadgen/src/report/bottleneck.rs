//! What breaks first when the load grows.

use crate::units::format_count;

/// What is known of a server at its capacity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The highest rate that met the objective.
    pub rate_per_s: f64,
    /// Why the next higher did not.
    pub limit: Option<String>,
    /// Whether the loads above that say nothing of the server.
    pub is_unmeasured_above: bool,
    /// The rate at which the server's CPUs would be fully busy with calls.
    pub cpu_ceiling_per_s: Option<f64>,
    /// The hottest shard's share of requests over an even one.
    pub imbalance: Option<f64>,
    /// Share of the server's CPU time that is spent in the kernel.
    pub system_ratio: Option<f64>,
}

/// What breaks first, as sentences; the most important first.
pub fn what_breaks_first(facts: &Facts) -> Vec<String> {
    let mut sentences = vec![first(facts)];
    if let Some(limit) = &facts.limit {
        sentences.push(format!("What the next higher load showed: {limit}."));
    }
    if let Some(times) = facts.imbalance.filter(|times| *times > IMBALANCE_NOTED) {
        sentences.push(format!(
            "One shard gets {times:.2} times the mean: it is full when the others are not. More \
             connections, or their hand-over between shards, spread the load."
        ));
    }
    if let Some(ratio) = facts.system_ratio {
        let percent = ratio * 100.0;
        sentences.push(format!(
            "{percent:.0} % of the server's CPU time is spent in the kernel, mostly for the sockets: \
             fewer, larger batches of calls on fewer connections make each call cheaper."
        ));
    }
    sentences
}

fn first(facts: &Facts) -> String {
    if facts.is_unmeasured_above {
        return "Not the server, as far as it was measured: the loads at the next higher rate say nothing \
                of it, because the generator was late or others had the CPUs. It carries at least what \
                is said here; more generator threads or machines, or a machine that is not shared, show \
                how much more."
            .into();
    }
    let Some(ceiling) = facts.cpu_ceiling_per_s else {
        return "Unknown: the server's CPU time was not measured. `--server-pid` names its process."
            .into();
    };
    let busy = facts.rate_per_s / ceiling;
    let percent = busy * 100.0;
    let ceiling = format_count(ceiling.round() as u64);
    match busy {
        _ if facts.limit.is_none() => format!(
            "Nothing has yet: no load failed. Calls keep the server's CPUs {percent:.0} % busy here; \
             they would be full at about {ceiling} calls/s."
        ),
        busy if busy >= CPU_BOUND => format!(
            "The server's CPUs: calls keep them {percent:.0} % busy at this rate, and they are full at \
             about {ceiling} calls/s. More shards or cheaper calls raise the limit."
        ),
        _ => format!(
            "Waiting, not CPU: the objective is missed while calls keep the server's CPUs only \
             {percent:.0} % busy (full at about {ceiling} calls/s). Look at bursts, long calls before \
             short ones, wake-ups of idle shards, and other work on the machine."
        ),
    }
}

/// From here on more CPU is what helps.
const CPU_BOUND: f64 = 0.7;
const IMBALANCE_NOTED: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn first_of(facts: Facts) -> String {
        what_breaks_first(&facts).swap_remove(0)
    }

    #[test]
    fn the_reason_is_named() {
        let facts = Facts {
            rate_per_s: 90e3,
            limit: Some("p99 too long".into()),
            cpu_ceiling_per_s: Some(100e3),
            ..Facts::default()
        };
        assert!(first_of(facts.clone()).starts_with("The server's CPUs: calls keep them 90 %"));
        let idle = Facts {
            cpu_ceiling_per_s: Some(300e3),
            ..facts.clone()
        };
        assert!(first_of(idle).starts_with("Waiting, not CPU"));
        let generator = Facts {
            is_unmeasured_above: true,
            ..facts.clone()
        };
        assert!(first_of(generator).starts_with("Not the server"));
        let unknown = Facts {
            cpu_ceiling_per_s: None,
            ..facts.clone()
        };
        assert!(first_of(unknown).starts_with("Unknown"));
        let untried = Facts {
            limit: None,
            ..facts
        };
        assert!(first_of(untried).starts_with("Nothing has yet"));
    }

    #[test]
    fn an_uneven_server_is_told_so() {
        let facts = |imbalance| Facts {
            imbalance: Some(imbalance),
            ..Facts::default()
        };
        let is_told = |imbalance| {
            let sentences = what_breaks_first(&facts(imbalance));
            sentences
                .iter()
                .any(|sentence| sentence.starts_with("One shard"))
        };
        assert!(is_told(1.5) && !is_told(1.05));
    }
}
