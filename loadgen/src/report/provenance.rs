//! The part of a report that says where the figures come from: machine, caveats, commands.

use super::document::{Block, Section};
use super::evidence::{Evidence, Folder};
use crate::results::LoopKind;
use crate::results::{LimitPair, LoadSettings, Manifest, Protocol, Uring};
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

/// A command that would measure something else with the same load.
pub(super) fn command(evidence: &Evidence, subcommand: &str, flags: &str) -> String {
    let load = &evidence.folders[0].manifest.load;
    let mut command = format!("loadgen {subcommand} {flags}");
    if !load.is_own_server {
        command += " --target ADDRESS";
    }
    let methods: Vec<String> = load
        .methods
        .iter()
        .map(|share| format!("{}={}", share.method, share.share_ratio))
        .collect();
    command += &format!(
        " --method {} --conns {} --depth {} --payload {}",
        quote(&methods.join(",")),
        load.conns,
        load.depth,
        quote(&load.payload)
    );
    if load.protocol != Protocol::default() {
        command += &format!(" --protocol {}", load.protocol);
    }
    if let Some(times) = &load.service_time {
        command += &format!(" --service-time {}", quote(times));
    }
    command
}

/// For a shell.
fn quote(text: &str) -> String {
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
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quote("--rate=20k"), "--rate=20k");
        assert_eq!(quote("p99<1ms"), "'p99<1ms'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
