//! Medians, spreads and intervals.

use serde_json::{Value, json};

/// What is told of a series of measurements.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// A quarter of the measurements is below.
    pub lower_quartile: f64,
    /// A quarter of the measurements is above.
    pub upper_quartile: f64,
    /// 95 % interval of the median, by bootstrap.
    pub interval: (f64, f64),
}

impl Summary {
    /// Of measurements in any order; zeros where there are none.
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

    /// For the JSON file.
    pub fn json(&self) -> Value {
        json!({
            "median": self.median,
            "quartiles": [self.lower_quartile, self.upper_quartile],
            "interval_95": [self.interval.0, self.interval.1],
        })
    }
}

/// The value below which `share` of the values are, interpolated.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    at(below) + (at(above) - at(below)) * place.fract()
}

/// The 95 % interval of a statistic over `rounds` rounds, which are drawn again with replacement. Rounds are drawn
/// whole, so that what was measured in the same round stays together.
pub fn bootstrap(rounds: usize, statistic: impl Fn(&[usize]) -> f64) -> (f64, f64) {
    const RESAMPLES: usize = 2_000;
    // The same draws each time: the interval belongs to the measurements, not to this calculation.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % rounds.max(1) as u64) as usize
    };
    let resampled: Vec<f64> =
        (0..RESAMPLES).map(|_| statistic(&(0..rounds).map(|_| draw()).collect::<Vec<_>>())).collect();
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
