//! Sizes and durations by logarithmic buckets: DDSketch's mapping with a relative error of 9 %, kept sparse.
//!
//! An endpoint has three of them and there may be thousands of endpoints, on many hosts, which are added up: so it is a
//! sorted list of the buckets that were hit, typically a dozen, and adding two is adding bucket by bucket.
//!
//! Source: Masson, Rim, Lee, "DDSketch" (VLDB 2019), §2.1, with γ = 2^(1/4).

/// Buckets to a doubling.
const STEPS: f64 = 4.0;
/// The last bucket: 2^64 is in it.
const BUCKET_MAX: u16 = 256;

/// Counts by bucket. Bucket 0 is the value 0; bucket `b` holds values up to 2^((b-1)/4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    pub buckets: Vec<(u16, u64)>,
    pub sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value);
        self.put(bucket(value), 1);
    }

    fn put(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket.min(BUCKET_MAX), count)),
        }
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Histogram) {
        self.sum = self.sum.saturating_add(other.sum);
        for (bucket, count) in &other.buckets {
            self.put((*bucket).min(BUCKET_MAX), *count);
        }
    }
}

fn bucket(value: u64) -> u16 {
    match value {
        0 => 0,
        // The logarithm's rounding may miss a border; that is within the error.
        value => ((value as f64).log2() * STEPS).ceil() as u16 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_within_the_error() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 1000, 1001, u64::MAX] {
            histogram.add(value);
        }
        let counts: u64 = histogram.buckets.iter().map(|(_, count)| count).sum();
        assert_eq!(counts, 6);
        let of = bucket(1000);
        let upper = 2f64.powf((f64::from(of) - 1.0) / STEPS);
        assert!((1000.0..1190.0).contains(&upper), "{upper}");
        let mut other = Histogram::default();
        other.add(1000);
        other.merge(&histogram);
        assert_eq!(other.buckets.iter().map(|(_, count)| count).sum::<u64>(), 7);
    }

    #[test]
    fn it_stays_small() {
        let mut histogram = Histogram::default();
        for power in 0..64 {
            for part in 0..32u64 {
                histogram.add((1u64 << power).saturating_add((part << power) / 32));
            }
        }
        assert!(histogram.buckets.len() <= usize::from(BUCKET_MAX) + 1);
    }
}
