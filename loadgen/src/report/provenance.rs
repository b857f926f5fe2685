//! The part of a report that says where the figures come from: machine, caveats, commands.

use clap::Args;

use super::document::{Block, Section};
use super::evidence::{Evidence, Folder};
use crate::results::LoopKind;
use crate::results::{LimitPair, LoadSettings, Manifest, Uring};
use crate::run::args::LoadArgs;
use crate::units::{format_count, several};

/// Environment, caveats and the exact commands.
pub(super) fn section(evidence: &Evidence) -> Section {
    let manifest = &evidence.folders[0].manifest;
    let mut blocks = vec![
        Block::Text("The machine and the load, as they were found and asked for:".into()),
        Block::Facts(environment(&evidence.folders[0])),
        Block::Text("What a reader of the figures must know:".into()),
        Block::List(caveats(evidence)),
    ];
    let invalid: Vec<String> = evidence
        .points
        .iter()
        .filter(|point| !point.summary.validity.is_valid)
        .map(|point| {
            let reasons = point.summary.validity.reasons.join("; ");
            format!("Point {} ({}): {reasons}", point.row.point, point.row.label)
        })
        .collect();
    if !invalid.is_empty() {
        blocks.push(Block::Text(
            "Loads that measured something else than they say:".into(),
        ));
        blocks.push(Block::List(invalid));
    }
    let commands = if evidence.folders.len() > 1 {
        "The exact commands:"
    } else {
        "The exact command:"
    };
    blocks.push(Block::Text(commands.into()));
    let lines = evidence
        .folders
        .iter()
        .map(|folder| exact(&folder.manifest));
    blocks.push(Block::Code(lines.collect::<Vec<_>>().join("\n")));
    blocks.push(Block::Text(format!(
        "Seed {}; the same seed gives the same schedule.",
        manifest.seed
    )));
    Section {
        title: "Environment, caveats, commands".into(),
        blocks,
    }
}

fn environment(folder: &Folder) -> Vec<(String, String)> {
    let (machine, load) = (&folder.manifest.machine, &folder.manifest.load);
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let list = |numbers: &[usize]| {
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        if numbers.is_empty() {
            "none".into()
        } else {
            numbers.join(", ")
        }
    };
    let pinning = &folder.manifest.pinning;
    let generator: Vec<usize> = pinning.generator_cpus.iter().flatten().copied().collect();
    let server = pinning.server_cpus.as_deref().map(list);
    let ceiling = folder.ceiling.map(|ceiling| ceiling.to_string());
    let rows = [
        ("Processor", known(&machine.cpu_model)),
        ("CPUs allowed", list(&machine.cpus_allowed)),
        (
            "CPU quota",
            machine
                .quota_cpus
                .map_or("none".into(), |cpus| format!("{cpus} CPUs")),
        ),
        (
            "Server pinned to",
            server.unwrap_or_else(|| "not known".into()),
        ),
        ("Generator pinned to", list(&generator)),
        ("Isolated CPUs", list(&machine.isolation.isolated_cpus)),
        (
            "Virtual machine",
            if machine.isolation.is_virtual {
                "yes"
            } else {
                "no"
            }
            .into(),
        ),
        ("Governor", known(&machine.governor)),
        ("Clock", known(&machine.clock_source)),
        ("Kernel", known(&machine.kernel)),
        ("io_uring", uring(&machine.io_uring)),
        ("Memory lock limit", limit(machine.memlock_bytes, "bytes")),
        ("Descriptor limit", limit(machine.nofile, "")),
        (
            "Build",
            format!(
                "{} ({})",
                folder.manifest.build.commit, folder.manifest.build.profile
            ),
        ),
        ("Load", describe(load)),
        (
            "Generator's ceiling",
            ceiling.unwrap_or_else(|| "not measured; `loadgen selftest` does".into()),
        ),
    ];
    rows.map(|(name, value)| (name.to_owned(), value)).into()
}

fn uring(uring: &Uring) -> String {
    match uring {
        Uring::Usable { features } => format!("usable: {}", features.join(", ")),
        Uring::Refused { failure, cause, .. } => format!("refused: {failure}, {cause}"),
    }
}

fn limit(pair: LimitPair, unit: &str) -> String {
    match pair.soft {
        Some(soft) => format!("{} {unit}", format_count(soft))
            .trim_end()
            .to_owned(),
        None => "unlimited".into(),
    }
}

fn describe(load: &LoadSettings) -> String {
    let methods = load.methods.iter().map(|share| {
        let percent = share.share_ratio * 100.0;
        format!("{} {percent:.0} %", share.method)
    });
    let arrivals = match load.loop_kind {
        LoopKind::Open => format!("open loop, {} arrivals", load.arrival),
        LoopKind::Closed => "closed loop".into(),
    };
    format!(
        "{}; {arrivals}; {} × {} in flight, unless a load says otherwise; payload {}; \
         warm-up {} s (left out), window {} s, time-out {} s; {}",
        methods.collect::<Vec<_>>().join(", "),
        several(load.conns as usize, "connection"),
        load.depth,
        load.payload,
        load.warmup_s,
        load.duration_s,
        load.timeout_s,
        several(load.threads as usize, "generator thread")
    )
}

fn caveats(evidence: &Evidence) -> Vec<String> {
    let mut caveats: Vec<String> = Vec::new();
    let mut add = |text: String| {
        if !caveats.contains(&text) {
            caveats.push(text);
        }
    };
    for folder in &evidence.folders {
        folder.manifest.caveats.iter().cloned().for_each(&mut add);
        if folder.manifest.machine != evidence.folders[0].manifest.machine {
            add(format!(
                "`{}` was measured on another machine than `{}`.",
                folder.name, evidence.folders[0].name
            ));
        }
        if folder.manifest.build.profile != "release" {
            let profile = &folder.manifest.build.profile;
            add(format!("Built as {profile}: not the speed that users get."));
        }
    }
    add(
        "Calls that were not answered in time are in the latencies with the time that they had \
         waited, and in the share of errors."
            .into(),
    );
    caveats
}

/// The command that made a folder.
fn exact(manifest: &Manifest) -> String {
    let arguments = manifest.arguments.iter().map(|argument| quote(argument));
    format!("loadgen {}", arguments.collect::<Vec<_>>().join(" "))
}

/// A command that measures something else with the same load: as it was asked for, but for what a
/// study decides itself.
pub(super) fn command(evidence: &Evidence, subcommand: &str, flags: &str) -> String {
    let arguments = &evidence.folders[0].manifest.arguments;
    let load = load_arguments(arguments);
    let load = load.iter().map(|argument| format!(" {}", quote(argument)));
    format!("loadgen {subcommand} {flags}{}", load.collect::<String>())
}

/// Those of the arguments that say what the load is and where it goes.
fn load_arguments(arguments: &[String]) -> Vec<String> {
    let known = LoadArgs::augment_args(clap::Command::new("load"));
    let takes_value = |name: &str| {
        let mut options = known.get_arguments();
        let option = options.find(|option| option.get_long() == Some(name))?;
        Some(option.get_action().takes_values())
    };
    let mut kept = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(long) = argument.strip_prefix("--") else {
            continue;
        };
        let (name, is_joined) = match long.split_once('=') {
            Some((name, _)) => (name, true),
            None => (long, false),
        };
        let Some(takes_value) = takes_value(name) else {
            // Of a study: its value, if it has one, does not begin with a dash and is passed over.
            continue;
        };
        let value = if takes_value && !is_joined {
            arguments.next()
        } else {
            None
        };
        if !DECIDED_BY_STUDIES.contains(&name) {
            kept.push(argument.clone());
            kept.extend(value.cloned());
        }
    }
    kept
}

/// Options of a load that a study sets, or that say where its results go.
const DECIDED_BY_STUDIES: [&str; 8] = [
    "rate", "arrival", "closed", "slo", "tui", "shards", "name", "out",
];

/// For a shell.
pub(super) fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_what_the_load_is_and_nothing_else() {
        let arguments = "search --slo p99<1ms --method get=0.9,put=0.1 --tui --max 2M --duration=3s --rate 5 --conns 4";
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        assert_eq!(
            load_arguments(&arguments),
            [
                "--method",
                "get=0.9,put=0.1",
                "--duration=3s",
                "--conns",
                "4"
            ]
        );
    }

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quote("--rate=20k"), "--rate=20k");
        assert_eq!(quote("p99<1ms"), "'p99<1ms'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
