//! What a call asks for: a method of the sample services and the size or time that it carries.

use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, LogNormal};

use crate::units::parse_time;

/// A method of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Sends the payload back.
    Echo,
    /// Greets by a name as long as the payload.
    Hello,
    /// Adds two numbers.
    Add,
    /// Adds as many reals as the payload has room for.
    Sum,
    /// Reads a key.
    Get,
    /// Writes the payload to a key.
    Put,
    /// Keeps the server's CPU busy for the service time.
    Spin,
    /// Waits at the server for the service time.
    Sleep,
}

impl Method {
    /// All of them, with their names on the command line.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Echo, "echo"),
        (Self::Hello, "hello"),
        (Self::Add, "add"),
        (Self::Sum, "sum"),
        (Self::Get, "get"),
        (Self::Put, "put"),
        (Self::Spin, "spin"),
        (Self::Sleep, "sleep"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(method, _)| *method == self);
        found.map_or("", |(_, name)| name)
    }

    fn takes_time(self) -> bool {
        matches!(self, Self::Spin | Self::Sleep)
    }
}

/// What one call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Place of its method in the workload.
    pub method: u8,
    /// Bytes of payload, or nanoseconds of service time for the methods that take time.
    pub amount: u32,
}

/// What the calls of a load ask for, as distributions.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The methods, each with its share; the shares add up to 1.
    pub methods: Vec<(Method, f64)>,
    /// Sizes of payloads.
    pub payload: Payload,
    /// Service times.
    pub service_time: Option<ServiceTime>,
}

/// Sizes of payloads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Payload {
    /// All alike.
    Fixed(u32),
    /// Log-normally distributed.
    LogNormal {
        /// Half of them are smaller.
        median_bytes: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Of two sizes.
    Bimodal {
        /// The usual one.
        small_bytes: u32,
        /// The other.
        large_bytes: u32,
        /// Share of the other.
        large_ratio: f64,
    },
}

/// Service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// All alike.
    Fixed(Duration),
    /// Exponentially distributed, with this mean.
    Exponential(Duration),
}

impl Workload {
    /// Echoes of one size.
    pub fn echo(bytes: u32) -> Self {
        Self {
            methods: vec![(Method::Echo, 1.0)],
            payload: Payload::Fixed(bytes),
            service_time: None,
        }
    }

    /// Reads what the command line says.
    ///
    /// # Errors
    /// In words for the user.
    pub fn parse(methods: &str, payload: &str, service_time: Option<&str>) -> Result<Self, String> {
        let methods = parse_methods(methods)?;
        let service_time = service_time.map(str::parse).transpose()?;
        let takes_time = methods.iter().find(|(method, _)| method.takes_time());
        match (takes_time, service_time) {
            (Some((method, _)), None) => Err(format!(
                "--method {} needs to know how long: add --service-time exp:200us or fixed:200us",
                method.name()
            )),
            (None, Some(_)) => Err(
                "--service-time is for --method spin and sleep; the others take the time they take"
                    .into(),
            ),
            _ => Ok(Self {
                methods,
                payload: payload.parse()?,
                service_time,
            }),
        }
    }

    /// Whether a method is in the mix.
    pub fn calls(&self, method: Method) -> bool {
        self.methods.iter().any(|(other, _)| *other == method)
    }

    /// What all calls ask for, if they ask for the same.
    pub fn constant(&self) -> Option<Work> {
        let [(method, _)] = self.methods[..] else {
            return None;
        };
        let amount = match (method.takes_time(), self.payload, self.service_time) {
            (true, _, Some(ServiceTime::Fixed(time))) => nanos(time),
            (false, Payload::Fixed(bytes), _) => bytes,
            _ => return None,
        };
        Some(Work { method: 0, amount })
    }

    /// Draws what the next call asks for.
    pub fn draw(&self, random: &mut impl Rng) -> Work {
        if let Some(work) = self.constant() {
            return work;
        }
        let mut rest: f64 = random.random();
        let last = self.methods.len() - 1;
        let method = self.methods[..last]
            .iter()
            .position(|(_, share)| {
                rest -= share;
                rest < 0.0
            })
            .unwrap_or(last);
        let amount = match self.service_time {
            Some(time) if self.methods[method].0.takes_time() => time.draw(random),
            _ => self.payload.draw(random),
        };
        Work {
            method: method as u8,
            amount,
        }
    }
}

impl Payload {
    fn draw(self, random: &mut impl Rng) -> u32 {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::LogNormal {
                median_bytes,
                sigma,
            } => {
                let sizes = LogNormal::new(median_bytes.ln(), sigma);
                let bytes = sizes.expect("sigma was checked").sample(random);
                bytes.round().clamp(1.0, f64::from(PAYLOAD_BYTES_MAX)) as u32
            }
            Self::Bimodal {
                small_bytes,
                large_bytes,
                large_ratio,
            } => {
                if random.random::<f64>() < large_ratio {
                    large_bytes
                } else {
                    small_bytes
                }
            }
        }
    }

    /// The largest that is drawn.
    pub fn bytes_max(self) -> u32 {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::LogNormal { .. } => PAYLOAD_BYTES_MAX,
            Self::Bimodal {
                small_bytes,
                large_bytes,
                ..
            } => small_bytes.max(large_bytes),
        }
    }
}

impl ServiceTime {
    fn draw(self, random: &mut impl Rng) -> u32 {
        match self {
            Self::Fixed(time) => nanos(time),
            Self::Exponential(mean) => {
                let time: f64 = Exp1.sample(random);
                (time * mean.as_nanos() as f64).min(f64::from(u32::MAX)) as u32
            }
        }
    }
}

fn nanos(time: Duration) -> u32 {
    time.as_nanos().min(u128::from(u32::MAX)) as u32
}

fn parse_methods(text: &str) -> Result<Vec<(Method, f64)>, String> {
    let mut methods: Vec<(Method, f64)> = Vec::new();
    for part in text.split(',') {
        let (name, share) = part.split_once('=').unwrap_or((part, "1"));
        let known = Method::ALL.iter().find(|(_, known)| *known == name.trim());
        let Some(&(method, _)) = known else {
            let names = Method::ALL.map(|(_, name)| name).join(", ");
            return Err(format!(
                "`{name}` is no method of the samples; there are {names}"
            ));
        };
        let share: Option<f64> = share.trim().parse().ok();
        let share = share
            .filter(|share| *share > 0.0 && *share <= 1e9)
            .ok_or_else(|| {
                format!("`{part}`: a share is a number above 0, as in echo=0.9,put=0.1")
            })?;
        if methods.iter().any(|(other, _)| *other == method) {
            return Err(format!("`{name}` stands twice in the mix"));
        }
        methods.push((method, share));
    }
    let sum: f64 = methods.iter().map(|(_, share)| share).sum();
    for (_, share) in &mut methods {
        *share /= sum;
    }
    Ok(methods)
}

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let bytes = |text: &str| {
            text.parse()
                .ok()
                .filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX)
        };
        let real = |text: &str, range: std::ops::RangeInclusive<f64>| {
            text.parse().ok().filter(|number| range.contains(number))
        };
        let read = || match parts[..] {
            ["fixed", size] => bytes(size).map(Self::Fixed),
            ["lognormal", median, sigma] => Some(Self::LogNormal {
                median_bytes: real(median, 1.0..=f64::from(PAYLOAD_BYTES_MAX))?,
                sigma: real(sigma, 0.0..=5.0)?,
            }),
            ["bimodal", small, large, ratio] => Some(Self::Bimodal {
                small_bytes: bytes(small)?,
                large_bytes: bytes(large)?,
                large_ratio: real(ratio, 0.0..=1.0)?,
            }),
            _ => None,
        };
        read().ok_or_else(|| {
            format!(
                "use fixed:BYTES, lognormal:MEDIAN:SIGMA or bimodal:SMALL:LARGE:SHARE_OF_LARGE, such as fixed:64, \
                 lognormal:256:1 or bimodal:64:4096:0.1, with at most {PAYLOAD_BYTES_MAX} bytes"
            )
        })
    }
}

impl FromStr for ServiceTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_kind = |kind: &str| {
            let time = parse_time(text.strip_prefix(kind)?)?;
            (time <= SERVICE_TIME_MAX && !time.is_zero()).then_some(time)
        };
        let fixed = of_kind("fixed:").map(Self::Fixed);
        fixed
            .or_else(|| of_kind("exp:").map(Self::Exponential))
            .ok_or_else(|| "use exp:MEAN or fixed:TIME up to 1s, such as exp:200us".into())
    }
}

/// Largest payload that is sent.
pub const PAYLOAD_BYTES_MAX: u32 = 1 << 20;
/// Longest service time that may be asked for; an exponential one draws up to 4.3 s.
const SERVICE_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    fn mean_amount(workload: &Workload) -> f64 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let amounts = (0..100_000).map(|_| f64::from(workload.draw(&mut random).amount));
        amounts.sum::<f64>() / 1e5
    }

    #[test]
    fn amounts_have_the_distribution_that_was_asked_for() {
        let exponential = Workload::parse("spin", "fixed:0", Some("exp:200us")).unwrap();
        assert!((mean_amount(&exponential) / 200_000.0 - 1.0).abs() < 0.02);
        let bimodal = Workload::parse("echo", "bimodal:0:1000:0.25", None).unwrap();
        assert!((mean_amount(&bimodal) / 250.0 - 1.0).abs() < 0.02);
        // The mean of a log-normal is its median × exp(σ²/2).
        let log_normal = Workload::parse("echo", "lognormal:1000:0.5", None).unwrap();
        assert!((mean_amount(&log_normal) / (1000.0 * 0.125_f64.exp()) - 1.0).abs() < 0.02);
        assert_eq!(
            Workload::echo(64).constant(),
            Some(Work {
                method: 0,
                amount: 64
            })
        );
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for (methods, payload, time) in [
            ("", "fixed:1", None),
            ("echo=x", "fixed:1", None),
            ("echo=-1", "fixed:1", None),
            ("echo,echo", "fixed:1", None),
            ("nothing", "fixed:1", None),
            ("spin", "fixed:1", None),
            ("echo", "fixed:1", Some("exp:1us")),
            ("echo", "fixed", None),
            ("echo", "fixed:99999999", None),
            ("echo", "lognormal:0:1", None),
            ("echo", "bimodal:1:2:3", None),
            ("spin", "fixed:1", Some("exp:2s")),
            ("spin", "fixed:1", Some("200us")),
        ] {
            let refused = Workload::parse(methods, payload, time);
            assert!(refused.is_err(), "{methods} {payload} {time:?}");
        }
    }
}
