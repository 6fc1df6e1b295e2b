//! From samples to ratios, with what the specification asks for beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bed::Sample;
use super::{Beside, Samples, Traffic};

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

    fn show(&self, decimals: usize) -> String {
        format!(
            "{:.decimals$} ({:.decimals$} … {:.decimals$})",
            self.median, self.least, self.greatest
        )
    }
}

struct Row {
    what: String,
    spread: Spread,
    decimals: usize,
    target: Option<(&'static str, bool)>,
}

/// Everything that is printed.
pub struct Figures {
    rows: Vec<Row>,
    losses: u64,
    calls: u64,
    requests: u64,
}

/// Round by round, `a` over `b`.
fn ratio(a: &[Sample], b: &[Sample], of: impl Fn(&Sample) -> f64) -> Option<Spread> {
    Spread::of(a.iter().zip(b).map(|(a, b)| of(a) / of(b)).collect())
}

impl Figures {
    /// Works them out.
    pub fn of(samples: &Samples, pipes: &BTreeMap<Beside, Vec<f64>>) -> Figures {
        let none: Vec<Sample> = Vec::new();
        let all = |traffic, beside| samples.get(&(traffic, beside)).unwrap_or(&none);
        let mut rows = Vec::new();
        let mut row = |what: String,
                       spread: Option<Spread>,
                       decimals,
                       target: Option<(&'static str, &dyn Fn(f64) -> bool)>| {
            if let Some(spread) = spread {
                let target = target.map(|(text, holds)| (text, holds(spread.median)));
                rows.push(Row {
                    what,
                    spread,
                    decimals,
                    target,
                });
            }
        };
        for (traffic, limit, text) in [(Traffic::Clear, 1.20, "≤ 1.20"), (Traffic::Tls, 1.45, "≤ 1.45")] {
            let name = traffic.name();
            let (alone, observed) = (all(traffic, Beside::Nothing), all(traffic, Beside::Observing));
            row(
                format!("{name}: requests/s alone"),
                Spread::of(alone.iter().map(|s| s.requests_per_s).collect()),
                0,
                None,
            );
            row(
                format!("{name}: requests/s, observing : alone"),
                ratio(observed, alone, |s| s.requests_per_s),
                2,
                None,
            );
            row(
                format!("{name}: nginx CPU/request alone, µs"),
                Spread::of(alone.iter().map(|s| s.nginx_us).collect()),
                2,
                None,
            );
            row(
                format!("{name}: nginx CPU/request, observing : alone"),
                ratio(observed, alone, |s| s.nginx_us),
                2,
                Some((text, &|value| value <= limit)),
            );
            let per_call = |s: &Sample| s.agent_us * s.requests as f64 / s.calls.max(1) as f64;
            row(
                format!("{name}: agent CPU/call, µs"),
                Spread::of(observed.iter().map(per_call).collect()),
                1,
                Some(("≤ 12", &|value| value <= 12.0)),
            );
            row(
                format!("{name}: calls told : requests (client and server side)"),
                Spread::of(
                    observed
                        .iter()
                        .map(|s| s.calls as f64 / s.requests as f64)
                        .collect(),
                ),
                3,
                None,
            );
            let half = |which: fn(&(f64, f64, f64)) -> f64| {
                Spread::of(
                    alone
                        .iter()
                        .zip(observed)
                        .filter_map(|(a, o)| {
                            Some(which(o.half_load.as_ref()?) - which(a.half_load.as_ref()?))
                        })
                        .collect(),
                )
            };
            row(
                format!("{name}: p50 at half load, added µs"),
                half(|h| h.0),
                0,
                None,
            );
            row(
                format!("{name}: p99 at half load, added µs"),
                half(|h| h.1),
                0,
                Some(("≤ 100", &|value| value <= 100.0)),
            );
            row(
                format!("{name}: half load reached, observing"),
                Spread::of(observed.iter().filter_map(|s| Some(s.half_load?.2)).collect()),
                2,
                None,
            );
        }
        let (alone, observed, functions) = (
            all(Traffic::Tls, Beside::Nothing),
            all(Traffic::Tls, Beside::Observing),
            all(Traffic::Tls, Beside::Functions),
        );
        row(
            "TLS: nginx CPU/request, entry + return probes : alone".to_owned(),
            ratio(functions, alone, |s| s.nginx_us),
            2,
            None,
        );
        let added = alone
            .iter()
            .zip(observed)
            .zip(functions)
            .map(|((alone, observed), functions)| {
                (functions.nginx_us - alone.nginx_us) / (observed.nginx_us - alone.nginx_us)
            });
        row(
            "TLS: added time, entry + return probes : observing".to_owned(),
            Spread::of(added.collect()),
            2,
            Some(("≥ 2.5", &|value| value >= 2.5)),
        );
        if let (Some(alone), Some(observed)) = (pipes.get(&Beside::Nothing), pipes.get(&Beside::Observing)) {
            let ratios = alone
                .iter()
                .zip(observed)
                .map(|(alone, observed)| observed / alone);
            row(
                "dd bs=1 through a pipe, observing : alone".to_owned(),
                Spread::of(ratios.collect()),
                2,
                None,
            );
        }
        let with_agent: Vec<&Sample> = samples
            .iter()
            .filter(|((_, beside), _)| *beside != Beside::Nothing)
            .flat_map(|(_, all)| all)
            .collect();
        row(
            "agent's resident memory, MiB".to_owned(),
            Spread::of(
                with_agent
                    .iter()
                    .map(|s| s.agent_rss as f64 / 1_048_576.0)
                    .collect(),
            ),
            0,
            Some(("≤ 64", &|value| value <= 64.0)),
        );
        Figures {
            losses: with_agent.iter().map(|s| s.losses).sum(),
            calls: with_agent.iter().map(|s| s.calls).sum(),
            requests: with_agent.iter().map(|s| s.requests).sum(),
            rows,
        }
    }

    /// For people.
    pub fn print(&self) {
        println!("\nMedian (least … greatest) over the rounds; ratios are of neighbours within a round.\n");
        for row in &self.rows {
            let target = match row.target {
                Some((text, true)) => format!("  {text}: holds"),
                Some((text, false)) => format!("  {text}: MISSED"),
                None => String::new(),
            };
            println!("{:<60} {:>26}{target}", row.what, row.spread.show(row.decimals));
        }
        println!(
            "\n{} requests beside an agent, {} calls told, loss counters +{}",
            self.requests, self.calls, self.losses
        );
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what,
                    "median": row.spread.median,
                    "least": row.spread.least,
                    "greatest": row.spread.greatest,
                    "target": row.target.map(|(text, _)| text),
                    "holds": row.target.map(|(_, holds)| holds),
                })
            })
            .collect();
        json!({ "figures": rows, "requests": self.requests, "calls": self.calls, "losses": self.losses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_sorted_values() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).map(|s| s.show(1));
        assert_eq!(spread.as_deref(), Some("2.0 (1.0 … 3.0)"));
        assert_eq!(Spread::of(vec![4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_within_a_round() {
        let sample = |requests_per_s| Sample {
            requests_per_s,
            ..Sample::default()
        };
        let found = ratio(
            &[sample(50.0), sample(90.0)],
            &[sample(100.0), sample(100.0)],
            |s| s.requests_per_s,
        );
        assert_eq!(found, Spread::of(vec![0.5, 0.9]));
    }
}
