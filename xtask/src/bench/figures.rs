//! From samples to ratios, with what the specification asks for beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bed::{Crowd, Half, Sample};
use super::gate::Gated;
use super::{Beside, Pipes, Samples, Traffic};

const MIB: f64 = 1_048_576.0;

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread {
            median,
            least,
            greatest,
        })
    }

    /// The rounds' figures, nothing between them.
    fn range(&self, decimals: usize) -> String {
        format!("{:.decimals$} … {:.decimals$}", self.least, self.greatest)
    }
}

/// What the specification asks of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Target::AtMost(limit) => format!("≤ {limit}"),
            Target::AtLeast(limit) => format!("≥ {limit}"),
        }
    }

    /// No stronger a word than what was measured.
    fn judge(self, spread: &Spread) -> &'static str {
        let rounds = [spread.least, spread.greatest].map(|value| self.is_met(value));
        match (self.is_met(spread.median), rounds) {
            (true, [true, true]) => "met in every round",
            (true, _) => "met by the median, not in every round",
            (false, [false, false]) => "missed in every round",
            (false, _) => "missed by the median",
        }
    }
}

struct Row {
    part: &'static str,
    what: &'static str,
    unit: &'static str,
    decimals: usize,
    spread: Spread,
    target: Option<Target>,
}

/// Everything that is printed.
pub struct Figures {
    rows: Vec<Row>,
    losses: BTreeMap<String, u64>,
    calls: u64,
    requests: u64,
    /// Open connections in clear and over TLS beside which memory was measured.
    crowd: Option<[usize; 2]>,
}

/// Round by round, `a` over `b`.
fn ratio<T>(a: &[T], b: &[T], of: impl Fn(&T) -> f64) -> Option<Spread> {
    Spread::of(a.iter().zip(b).map(|(a, b)| of(a) / of(b)).collect())
}

fn each<T>(all: &[T], of: impl Fn(&T) -> f64) -> Option<Spread> {
    Spread::of(all.iter().map(of).collect())
}

/// At half load, round by round, `observed` over or beside `alone`.
fn halves(alone: &[Sample], observed: &[Sample], of: impl Fn(&Half, &Half) -> f64) -> Option<Spread> {
    let pairs = alone.iter().zip(observed);
    Spread::of(
        pairs
            .filter_map(|(a, o)| Some(of(a.half.as_ref()?, o.half.as_ref()?)))
            .collect(),
    )
}

/// Collects rows; a figure of nothing is left out.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn add(
        &mut self,
        part: &'static str,
        what: &'static str,
        (unit, decimals): (&'static str, usize),
        spread: Option<Spread>,
        target: Option<Target>,
    ) {
        self.0.extend(spread.map(|spread| Row {
            part,
            what,
            unit,
            decimals,
            spread,
            target,
        }));
    }

    /// What is measured in clear and over TLS alike.
    fn add_traffic(
        &mut self,
        traffic: Traffic,
        [alone, observed, functions]: [&[Sample]; 3],
        nginx_max: f64,
    ) {
        let part = traffic.name();
        let ratios = ("", 2);
        self.add(
            part,
            "requests/s, alone",
            ("", 0),
            each(alone, |s| s.requests_per_s),
            None,
        );
        let slower = ratio(observed, alone, |s| s.requests_per_s);
        self.add(part, "requests/s, observing : alone", ratios, slower, None);
        self.add(
            part,
            "nginx CPU/request, alone",
            ("µs", 2),
            each(alone, |s| s.nginx_us),
            None,
        );
        let nginx = ratio(observed, alone, |s| s.nginx_us);
        self.add(
            part,
            "nginx CPU/request, observing : alone",
            ratios,
            nginx,
            Some(Target::AtMost(nginx_max)),
        );
        let with_functions = ratio(functions, alone, |s| s.nginx_us);
        self.add(
            part,
            "nginx CPU/request, entry + return : alone",
            ratios,
            with_functions,
            None,
        );
        let added = alone
            .iter()
            .zip(observed)
            .zip(functions)
            .map(|((alone, observed), functions)| {
                (functions.nginx_us - alone.nginx_us) / (observed.nginx_us - alone.nginx_us)
            });
        self.add(
            part,
            "added time, entry + return : observing",
            ratios,
            Spread::of(added.collect()),
            Some(Target::AtLeast(2.5)),
        );
        self.add(
            part,
            "agent CPU/call",
            ("µs", 1),
            each(observed, Sample::agent_call_us),
            Some(Target::AtMost(12.0)),
        );
        let collector = each(observed, Sample::collector_call_us);
        self.add(part, "collector CPU/call", ("µs", 1), collector, None);
        let told = each(observed, |s| s.calls as f64 / s.requests as f64);
        self.add(part, "calls told per request (both sides)", ("", 3), told, None);
        self.add(
            part,
            "p50 at saturation, alone",
            ("µs", 0),
            each(alone, |s| s.p50_us),
            None,
        );
        let p50 = ratio(observed, alone, |s| s.p50_us);
        self.add(part, "p50 at saturation, observing : alone", ratios, p50, None);
        let p99 = ratio(observed, alone, |s| s.p99_us);
        self.add(part, "p99 at saturation, observing : alone", ratios, p99, None);
        let mut half = |what, unit, of: fn(&Half, &Half) -> f64, target| {
            self.add(part, what, unit, halves(alone, observed, of), target);
        };
        half("half load reached, observing", ratios, |_, o| o.reached, None);
        half("p50 at half load, alone", ("µs", 0), |a, _| a.p50_us, None);
        half(
            "p50 at half load, added",
            ("µs", 0),
            |a, o| o.p50_us - a.p50_us,
            None,
        );
        half("p99 at half load, alone", ("µs", 0), |a, _| a.p99_us, None);
        half(
            "p99 at half load, added",
            ("µs", 0),
            |a, o| o.p99_us - a.p99_us,
            Some(Target::AtMost(100.0)),
        );
        half(
            "agent CPU/call at half load",
            ("µs", 1),
            |_, o| o.agent_call_us,
            None,
        );
    }

    fn add_pipe(&mut self, pipes: &Pipes) {
        let none = Vec::new();
        let [alone, observed] =
            [Beside::Nothing, Beside::Observing].map(|beside| pipes.get(&beside).unwrap_or(&none));
        let part = "dd bs=1";
        self.add(
            part,
            "CPU per byte, alone",
            ("ns", 0),
            each(alone, |p| p.cpu_ns),
            None,
        );
        let cpu = ratio(observed, alone, |p| p.cpu_ns);
        self.add(part, "CPU per byte, observing : alone", ("", 2), cpu, None);
        let elapsed = ratio(observed, alone, |p| p.elapsed_ns);
        self.add(part, "time per byte, observing : alone", ("", 2), elapsed, None);
    }

    fn add_crowd(&mut self, crowd: &Crowd) {
        let part = "crowd";
        let memory = crowd.memory;
        let mut one = |what, bytes: u64, target| {
            let spread = Spread::of(vec![bytes as f64 / MIB]);
            self.add(part, what, ("MiB", 1), spread, target);
        };
        one(
            "agent's resident memory (RSS)",
            memory.rss,
            Some(Target::AtMost(64.0)),
        );
        one("agent's resident memory, highest ever", memory.peak, None);
        one("kernel memory of its maps and rings", memory.maps, None);
        one(
            "RSS with maps and rings",
            memory.rss + memory.maps,
            Some(Target::AtMost(128.0)),
        );
    }

    fn add_gate(&mut self, gated: &Gated) {
        let part = "gate";
        let (ratios, micros) = (("", 2), ("µs", 0));
        let (cheap, quick) = (Some(Target::AtMost(1.05)), Some(Target::AtLeast(0.95)));
        let names = [
            [
                "short paths: nginx CPU, enforcing : observing",
                "short paths: requests/s, enforcing : observing",
                "short paths: requests/s, enforcing : alone",
                "short paths: requests/s, HAProxy : alone",
            ],
            [
                "long paths: nginx CPU, enforcing : observing",
                "long paths: requests/s, enforcing : observing",
                "long paths: requests/s, enforcing : alone",
                "long paths: requests/s, HAProxy : alone",
            ],
        ];
        for ([cpu, rate, alone, haproxy], shape) in names.into_iter().zip([&gated.short, &gated.long]) {
            let [enforcing, observing] = [&shape.enforcing, &shape.observing];
            let per_s = |sample: &Sample| sample.requests_per_s;
            self.add(
                part,
                cpu,
                ratios,
                ratio(enforcing, observing, |s| s.nginx_us),
                cheap,
            );
            self.add(part, rate, ratios, ratio(enforcing, observing, per_s), quick);
            self.add(part, alone, ratios, ratio(enforcing, &shape.alone, per_s), None);
            self.add(
                part,
                haproxy,
                ratios,
                ratio(&shape.haproxy, &shape.alone, per_s),
                None,
            );
        }
        let some = ratio(&gated.denied, &gated.short.observing, |s| s.requests_per_s);
        self.add(
            part,
            "1 % denied: requests/s, enforcing : observing",
            ratios,
            some,
            None,
        );
        self.add(
            part,
            "from the forbidden head to the 403",
            micros,
            each(&gated.refusal_us, |us| *us),
            Some(Target::AtMost(2000.0)),
        );
    }
}

impl Figures {
    /// Works them out.
    pub fn of(samples: &Samples, pipes: &Pipes, crowd: Option<&Crowd>, gated: Option<&Gated>) -> Figures {
        let none: Vec<Sample> = Vec::new();
        let mut rows = Rows::default();
        for (traffic, nginx_max) in [(Traffic::Clear, 1.20), (Traffic::Tls, 1.45)] {
            let of = [Beside::Nothing, Beside::Observing, Beside::Functions]
                .map(|beside| samples.get(&(traffic, beside)).unwrap_or(&none).as_slice());
            rows.add_traffic(traffic, of, nginx_max);
        }
        rows.add_pipe(pipes);
        if let Some(crowd) = crowd {
            rows.add_crowd(crowd);
        }
        if let Some(gated) = gated {
            rows.add_gate(gated);
        }
        let with_agent: Vec<&Sample> = samples
            .iter()
            .filter(|((_, beside), _)| *beside != Beside::Nothing)
            .flat_map(|(_, all)| all)
            .collect();
        let mut losses = BTreeMap::new();
        let all = with_agent.iter().map(|sample| &sample.losses);
        for (name, count) in all.chain(crowd.map(|crowd| &crowd.losses)).flatten() {
            *losses.entry(name.clone()).or_default() += count;
        }
        Figures {
            rows: rows.0,
            losses,
            calls: with_agent.iter().map(|s| s.calls).sum(),
            requests: with_agent.iter().map(|s| s.requests).sum(),
            crowd: crowd.map(|crowd| crowd.connections),
        }
    }

    /// For people.
    pub fn print(&self) {
        println!("Events go to JSON lines and to a collector. Ratios are of neighbours within a round.");
        if let Some([clear, tls]) = self.crowd {
            println!(
                "Crowd: {clear} connections in clear and {tls} over TLS, both ends in scope, under full load."
            );
        }
        println!(
            "\n{:<8} {:<46} {:>9}  {:<19} target",
            "", "", "median", "least … greatest"
        );
        let mut part = "";
        for row in &self.rows {
            if std::mem::replace(&mut part, row.part) != row.part {
                println!("{}", row.part);
            }
            let what = match row.unit {
                "" => row.what.to_owned(),
                unit => format!("{}, {unit}", row.what),
            };
            let target = row.target.map_or_else(String::new, |target| {
                format!("{}: {}", target.text(), target.judge(&row.spread))
            });
            let (decimals, median) = (row.decimals, row.spread.median);
            let line = format!(
                "{:<8} {what:<46} {median:>9.decimals$}  {:<19} {target}",
                "",
                row.spread.range(decimals)
            );
            println!("{}", line.trim_end());
        }
        println!(
            "\n{} requests beside an agent, {} calls told at both sides of them",
            self.requests, self.calls
        );
        match self.losses.is_empty() {
            true => println!("loss counters: all 0"),
            false => println!("loss counters gained: {:?}", self.losses),
        }
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "part": row.part,
                    "what": row.what,
                    "unit": row.unit,
                    "median": row.spread.median,
                    "least": row.spread.least,
                    "greatest": row.spread.greatest,
                    "target": row.target.map(Target::text),
                    "met": row.target.map(|target| target.is_met(row.spread.median)),
                    "judged": row.target.map(|target| target.judge(&row.spread)),
                })
            })
            .collect();
        json!({
            "figures": rows,
            "requests": self.requests,
            "calls": self.calls,
            "losses": self.losses,
            "crowd": self.crowd,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Option<Spread> {
        Spread::of(values.to_vec())
    }

    #[test]
    fn a_spread_is_of_sorted_values() {
        let found = spread(&[3.0, 1.0, 2.0]);
        assert_eq!(
            found.map(|s| (s.median, s.range(1))),
            Some((2.0, "1.0 … 3.0".to_owned()))
        );
        assert_eq!(spread(&[4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_within_a_round() {
        let found = ratio(&[50.0, 90.0], &[100.0, 100.0], |value| *value);
        assert_eq!(found, spread(&[0.5, 0.9]));
    }

    #[test]
    fn a_target_is_said_to_be_met_as_far_as_it_is() {
        let judged = |values: &[f64]| spread(values).map(|spread| Target::AtMost(1.2).judge(&spread));
        assert_eq!(judged(&[1.1, 1.15, 1.2]), Some("met in every round"));
        assert_eq!(
            judged(&[1.1, 1.15, 1.3]),
            Some("met by the median, not in every round")
        );
        assert_eq!(judged(&[1.1, 1.25, 1.3]), Some("missed by the median"));
        assert_eq!(judged(&[1.21, 1.25, 1.3]), Some("missed in every round"));
        assert!(Target::AtLeast(2.5).is_met(2.5) && !Target::AtLeast(2.5).is_met(2.4));
    }
}
