//! Medians, spreads and intervals.

use serde_json::{Value, json};

/// A summary of a series of measurements.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The first quartile: a quarter of the measurements lies below it.
    pub lower_quartile: f64,
    /// The third quartile: a quarter of the measurements lies above it.
    pub upper_quartile: f64,
    /// The 95 % confidence interval of the median, by bootstrap.
    pub interval: (f64, f64),
}

impl Summary {
    /// Summarizes measurements in any order. Without measurements all fields are zero.
    pub fn of(values: &[f64]) -> Self {
        Self {
            median: quantile(values, 0.5),
            lower_quartile: quantile(values, 0.25),
            upper_quartile: quantile(values, 0.75),
            interval: bootstrap(values.len(), |rounds| {
                quantile(&rounds.iter().filter_map(|round| values.get(*round).copied()).collect::<Vec<_>>(), 0.5)
            }),
        }
    }

    /// Returns the summary as it is written to the JSON file.
    pub fn json(&self) -> Value {
        json!({
            "median": self.median,
            "quartiles": [self.lower_quartile, self.upper_quartile],
            "interval_95": [self.interval.0, self.interval.1],
        })
    }
}

/// Returns the quantile `share` (0 to 1) of the values, interpolated linearly. Without values it is zero.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    at(below) + (at(above) - at(below)) * place.fract()
}

/// Returns the 95 % bootstrap interval of a statistic over `rounds` rounds, which are resampled with replacement.
/// Whole rounds are resampled, so that values of the same round stay together.
pub fn bootstrap(rounds: usize, statistic: impl Fn(&[usize]) -> f64) -> (f64, f64) {
    const RESAMPLES: usize = 2_000;
    // The generator starts from a fixed seed, so that the same measurements always give the same interval.
    let mut generator = fastrand::Rng::with_seed(0);
    let mut resample = || (0..rounds).map(|_| generator.usize(..rounds)).collect::<Vec<_>>();
    let resampled: Vec<f64> = (0..RESAMPLES).map(|_| statistic(&resample())).collect();
    (quantile(&resampled, 0.025), quantile(&resampled, 0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), 3.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn the_interval_holds_the_median_and_shrinks_with_the_spread() {
        let wide: Vec<f64> = (0..40).map(f64::from).collect();
        let narrow: Vec<f64> = wide.iter().map(|value| 20.0 + value / 100.0).collect();
        let (wide, narrow) = (Summary::of(&wide), Summary::of(&narrow));
        assert!(wide.interval.0 < wide.median && wide.median < wide.interval.1);
        assert!(narrow.interval.1 - narrow.interval.0 < wide.interval.1 - wide.interval.0);
    }
}
