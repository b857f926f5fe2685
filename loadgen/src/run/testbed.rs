//! Where the load and its server run.

use crate::environment;
use crate::failure::Failure;
use crate::fleet::coordinator::Fleet;
use crate::results::{Protocol, ShardRow};
use crate::samples::stats::StatsClient;
use crate::target::child::{ServerOptions, ServerProcess};
use crate::target::placement::{self, Placement, parse_list};

use super::args::LoadArgs;

/// The two sides of a measurement.
pub(crate) struct Testbed {
    pub(crate) address: String,
    pub(crate) generator_cpus: Vec<Option<usize>>,
    pub(crate) server_cpus: Option<Vec<usize>>,
    pub(crate) server_shards: Option<u32>,
    pub(crate) server_pid: Option<u32>,
    pub(crate) caveats: Vec<String>,
    protocol: Protocol,
    /// Who makes the calls, when it is not this machine.
    pub(crate) fleet: Option<Fleet>,
    /// The server, when this program has started it.
    server: Option<ServerProcess>,
}

impl Testbed {
    /// Chooses CPUs, and starts the sample server when no target was named.
    pub(crate) fn find(args: &LoadArgs) -> Result<Self, Failure> {
        let environment = ringcall::environment();
        let chosen = Placement::choose(&environment);
        let fleet = match &args.agents[..] {
            [] => None,
            addresses => Some(Fleet::connect(addresses)?),
        };
        let (generator_cpus, caveats) = match &fleet {
            Some(fleet) => (vec![None; fleet.threads()], vec![FLEET_CAVEAT.to_owned()]),
            None => {
                let mut caveats = placement::notes(&environment, chosen);
                caveats.extend(environment::caveats());
                (generator_cpus(args.pin.as_deref())?, caveats)
            }
        };
        let mut testbed = Self {
            address: String::new(),
            generator_cpus,
            server_cpus: None,
            server_shards: None,
            server_pid: args.server_pid,
            caveats,
            protocol: args.protocol,
            fleet,
            server: None,
        };
        match &args.target {
            Some(target) => testbed.address.clone_from(target),
            None => testbed.start_server(args, &environment.cpus)?,
        }
        if testbed.server_shards.is_none() {
            testbed.server_shards = testbed.shards(0).first().map(|_| testbed.shard_count());
        }
        Ok(testbed)
    }

    fn start_server(&mut self, args: &LoadArgs, cpus: &[usize]) -> Result<(), Failure> {
        let shards = args.shards as usize;
        let is_free = |cpu: &&usize| !self.generator_cpus.contains(&Some(**cpu));
        let free: Vec<usize> = cpus.iter().filter(is_free).copied().take(shards).collect();
        let is_pinned = self.generator_cpus.iter().all(Option::is_some) && free.len() == shards;
        if !is_pinned {
            self.caveats.push(format!(
                "there is no CPU for each of the server's {shards} shards beside the load: they are not pinned, and \
                 take time from each other"
            ));
        }
        let options = ServerOptions {
            protocol: args.protocol,
            shards,
            cpus: is_pinned.then_some(free),
            idle: args.idle.clone(),
        };
        let server = ServerProcess::start(&["tcp://127.0.0.1:0".to_owned()], &options)
            .map_err(|error| Failure::Other(format!("the server's process: {error}")))?;
        self.address.clone_from(&server.addresses()[0]);
        self.server_pid = Some(server.pid());
        self.server_cpus = options.cpus;
        self.server_shards = Some(args.shards);
        self.caveats.push(
            "server and load are on one machine and speak over loopback: no network is in these figures".into(),
        );
        self.server = Some(server);
        Ok(())
    }

    /// The CPUs of generator and server; where they are not pinned, all that this process may use.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        let generator: Option<Vec<usize>> = self.generator_cpus.iter().copied().collect();
        match (generator, &self.server_cpus) {
            (Some(generator), Some(server)) => [&generator[..], server].concat(),
            (Some(generator), None) if self.server_pid.is_none() => generator,
            _ => ringcall::environment().cpus,
        }
    }

    /// `tcp` or `unix`.
    pub(crate) fn transport(&self) -> &'static str {
        if self.address.starts_with("unix:") {
            "unix"
        } else {
            "tcp"
        }
    }

    /// Whether the server that was started here has ended.
    pub(crate) fn has_server_ended(&mut self) -> bool {
        let server = self.server.as_mut();
        server.is_some_and(|server| !matches!(server.has_ended(), Ok(None)))
    }

    /// What the server's shards have counted, as far as connections come to them; empty when the
    /// server does not tell.
    pub(crate) fn shards(&self, point: u32) -> Vec<ShardRow> {
        let mut rows: Vec<ShardRow> = Vec::new();
        if self.protocol != Protocol::Ringcall {
            return rows;
        }
        // The kernel chooses the shard of a connection: some are tried, and all of them seen often.
        for _ in 0..SHARD_LOOKS_MAX {
            let read = || StatsClient::connect_blocking(&self.address)?.read().wait();
            let Ok(stats) = read() else {
                break;
            };
            let stats = stats.to_owned();
            let count = stats.shards as usize;
            if rows.iter().all(|row| row.shard != stats.shard) {
                rows.push(ShardRow {
                    point,
                    shard: stats.shard,
                    cpu: stats.cpu,
                    connections: stats.connections,
                    requests: stats.requests,
                    in_place: stats.in_place,
                    copied: stats.copied,
                    direct: stats.direct,
                });
            }
            if rows.len() == count {
                break;
            }
        }
        rows.sort_by_key(|row| row.shard);
        rows
    }

    fn shard_count(&self) -> u32 {
        let read = || StatsClient::connect_blocking(&self.address)?.read().wait();
        read().map_or(0, |stats| stats.to_owned().shards)
    }
}

/// A CPU for each thread of a generator, as `--pin` says.
///
/// # Errors
/// When it names CPUs that this process may not use.
pub(crate) fn generator_cpus(pin: Option<&str>) -> Result<Vec<Option<usize>>, Failure> {
    let environment = ringcall::environment();
    match pin {
        None => {
            let chosen = Placement::choose(&environment);
            Ok(vec![chosen.map(|placement| placement.client)])
        }
        Some("none") => Ok(vec![None]),
        Some(list) => pinned(list, &environment.cpus),
    }
}

fn pinned(list: &str, allowed: &[usize]) -> Result<Vec<Option<usize>>, Failure> {
    let cpus = parse_list(list);
    if cpus.is_empty() {
        let why = format!("--pin {list}: use CPU numbers such as 1 or 2-3,5, or none");
        return Err(Failure::Usage(why));
    }
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(Failure::Usage(format!(
            "--pin {list}: CPU {cpu} is not among those that this process may use, {allowed:?}"
        )));
    }
    Ok(cpus.into_iter().map(Some).collect())
}

const FLEET_CAVEAT: &str = "several agents made the calls: counts and histograms are added up, clocks of different \
    hosts were never compared";
/// Connections made to see all shards.
const SHARD_LOOKS_MAX: usize = 64;
